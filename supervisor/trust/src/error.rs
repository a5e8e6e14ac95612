//! Why metadata is not believed, in words an owner can act on.

use crate::role::Role;
use crate::time::UnixSeconds;

/// The sort of trouble, for programs that act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// Nobody renewed the metadata in time, or somebody withholds the renewed ones.
    Expired,
    /// This computer's clock is the likely cause.
    ClockWrong,
    /// Not enough trusted keys signed it.
    Signature,
    /// Older than what was seen before.
    Rollback,
    /// The parts do not belong together.
    MixUp,
    /// Not metadata at all, or more than a client will read.
    Malformed,
    /// Something that must be there is not.
    Missing,
}

/// Why metadata is not believed.
///
/// `Display` is the fact in one line; [`TrustError::remedy`] what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// The role's metadata expired and the clock is plausible.
    #[error("the depot's {role} metadata expired on {expires} (it is {now} now)")]
    Expired {
        /// Whose metadata.
        role: Role,
        /// When it expired.
        expires: UnixSeconds,
        /// What was taken for the present.
        now: UnixSeconds,
    },
    /// The metadata seems expired, but only because the clock is decades ahead.
    #[error("this computer's clock says {now}: the depot's {role} metadata ended on {expires}")]
    ClockWrong {
        /// Whose metadata.
        role: Role,
        /// When it expires.
        expires: UnixSeconds,
        /// What the clock says.
        now: UnixSeconds,
    },
    /// Fewer distinct keys than needed signed it.
    #[error(
        "the depot's {role} metadata is signed by {valid} of the {threshold} trusted keys it \
             needs"
    )]
    Signature {
        /// Whose metadata.
        role: Role,
        /// Distinct trusted keys with a good signature.
        valid: usize,
        /// How many there must be.
        threshold: usize,
    },
    /// An older version than one seen before.
    #[error("the depot offers {name} version {offered}, but version {known} was seen before")]
    Rollback {
        /// The file that went back.
        name: String,
        /// The version offered now.
        offered: u64,
        /// The version known.
        known: u64,
    },
    /// A file does not have the version, hash, length or presence that a signed list gives it.
    #[error("the depot's {name} is not the one that was signed for: {what}")]
    MixUp {
        /// The file.
        name: String,
        /// What differs.
        what: String,
    },
    /// Not metadata of the expected form.
    #[error("{name} is not sound metadata: {what}")]
    Malformed {
        /// The file or role.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// More bytes than a client will read.
    #[error("{name} is longer than the {bytes_max} bytes a client will read")]
    TooLong {
        /// The file.
        name: String,
        /// The limit.
        bytes_max: u32,
    },
    /// A file that must be there is missing.
    #[error("the depot has no {name}")]
    Missing {
        /// The file.
        name: String,
    },
    /// A text that is no key file.
    #[error("not a signing key file: {what}")]
    KeyFile {
        /// What is wrong.
        what: String,
    },
    /// The metadata is sound, but lists nothing that fits.
    #[error("the depot's signed list has no {what}")]
    NoSuchTarget {
        /// What was looked for.
        what: String,
    },
}

impl TrustError {
    /// The sort of trouble this is.
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::Expired { .. } => Trouble::Expired,
            Self::ClockWrong { .. } => Trouble::ClockWrong,
            Self::Signature { .. } => Trouble::Signature,
            Self::Rollback { .. } => Trouble::Rollback,
            Self::MixUp { .. } => Trouble::MixUp,
            Self::Malformed { .. } | Self::TooLong { .. } | Self::KeyFile { .. } => {
                Trouble::Malformed
            }
            Self::Missing { .. } | Self::NoSuchTarget { .. } => Trouble::Missing,
        }
    }

    /// What to do about it, in one or two sentences.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Expired { .. } => {
                "Nothing stops working; only updates wait. If the clock of this computer is right, \
                 ask the depot's keeper to run `holdfast-supervisor depot renew`."
            }
            Self::ClockWrong { .. } => {
                "Set the clock of this computer (Control Panel, Regional Options, Time), then try \
                 again."
            }
            Self::Signature { .. } => {
                "Do not install anything from it. Either the depot's keys were changed without the \
                 old ones' signature, or somebody between you and the depot replaced it: ask its \
                 keeper for the present root.json over another way."
            }
            Self::Rollback { .. } => {
                "Somebody, or a cache on the way, is handing out an old state of the depot. Try \
                 again later; if it stays, tell the depot's keeper."
            }
            Self::MixUp { .. } => {
                "The depot was being changed while it was read, or a cache on the way mixes old \
                 with new. Try again in a minute; if it stays, tell the depot's keeper."
            }
            Self::Malformed { .. } | Self::TooLong { .. } => {
                "Check that the address is a depot's; a login page of a network, or a proxy, may \
                 have answered in its place."
            }
            Self::Missing { .. } => {
                "Check the depot's address; if it is right, its publication is incomplete: ask its \
                 keeper to publish again."
            }
            Self::KeyFile { .. } => "Restore the key file from its backup.",
            Self::NoSuchTarget { .. } => {
                "Check the package's name and that the depot has it for this NAS and this DSM."
            }
        }
    }

    pub(crate) fn malformed(name: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Malformed { name: name.into(), what: what.into() }
    }

    pub(crate) fn mix_up(name: impl Into<String>, what: impl Into<String>) -> Self {
        Self::MixUp { name: name.into(), what: what.into() }
    }
}
