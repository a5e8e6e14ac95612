//! What can go wrong with a depot, and what its keeper should do about it.

use std::io;
use std::path::{Path, PathBuf};
use supervisor_trust::TrustError;

/// Why the depot could not do what was asked.
///
/// `Display` is the fact in one line; [`DepotError::remedy`] what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DepotError {
    /// A file or folder could not be read or written.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was tried: `read`, `write`, …
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// The folder holds no depot.
    #[error("{} is no depot", path.display())]
    NoDepot {
        /// The folder.
        path: PathBuf,
    },
    /// The folder holds a depot already.
    #[error("{} is a depot already", path.display())]
    AlreadyThere {
        /// The folder.
        path: PathBuf,
    },
    /// Another program is publishing.
    #[error("somebody else is publishing in {}", path.display())]
    Busy {
        /// The depot's folder.
        path: PathBuf,
    },
    /// A file of the depot makes no sense.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The file is no package.
    #[error("{} is no package a NAS would take", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: spk::read::ReadError,
    },
    /// `spk check` found errors in it.
    #[error("{} would not install: {}", path.display(), first(findings))]
    Unsound {
        /// The file.
        path: PathBuf,
        /// Everything that was found.
        findings: Vec<String>,
    },
    /// Its INFO does not say for which DSM it is.
    #[error("{} does not say for which DSM it is", path.display())]
    NoDsm {
        /// The file.
        path: PathBuf,
    },
    /// Other bytes were published under this version before.
    #[error("{package} {version} was published before with other bytes, as {file}")]
    BytesChanged {
        /// The package.
        package: String,
        /// The version.
        version: String,
        /// The name of the published file.
        file: String,
    },
    /// The version is lower than one on the shelf.
    #[error("{package} {version} is lower than {newest}, which is on the shelf for {arch}")]
    GoesBack {
        /// The package.
        package: String,
        /// The version offered.
        version: String,
        /// The version on the shelf.
        newest: String,
        /// A platform both are for.
        arch: String,
    },
    /// Nothing of that name and version is on the shelves.
    #[error("no {package} {version} is on the shelves")]
    NotThere {
        /// The package.
        package: String,
        /// The version.
        version: String,
    },
    /// A maintainer's token is for other packages.
    #[error("{name}'s token is not for the package {package}")]
    NotTheirs {
        /// Whose token it is.
        name: String,
        /// The package offered.
        package: String,
    },
    /// No token can have that name.
    #[error("no new token can be named `{name}`")]
    TokenName {
        /// The name.
        name: String,
    },
    /// Nobody of that name has a token.
    #[error("nobody named `{name}` has a token")]
    NoSuchToken {
        /// The name.
        name: String,
    },
    /// The certificate or its key cannot be used.
    #[error("{} cannot be used for TLS: {what}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The file is no key with which packages for DSM 5.1 to 6.2 are signed.
    #[error("{} is no key to hand to boxes: {what}", path.display())]
    PublisherKey {
        /// The file.
        path: PathBuf,
        /// Why not.
        what: &'static str,
    },
    /// No publisher's key, or more than one, has an id that ends like that.
    #[error("no one publisher's key has an id that ends in `{id}`")]
    NoSuchPublisher {
        /// What was given.
        id: String,
    },
    /// The base URL is not one.
    #[error("`{url}` cannot be the depot's address")]
    BaseUrl {
        /// What was given.
        url: String,
    },
    /// A signing key that is needed is not there.
    #[error("the {role} key is not in {}", path.display())]
    NoKey {
        /// The role.
        role: supervisor_trust::Role,
        /// Where it should be.
        path: PathBuf,
    },
    /// Some of the keys that must sign are not there.
    #[error("{threshold} {role} keys must sign, and {have} of them are at hand")]
    TooFewKeys {
        /// The role.
        role: supervisor_trust::Role,
        /// How many are at hand.
        have: usize,
        /// How many must sign.
        threshold: usize,
    },
    /// No key, or more than one, has an id that begins like that.
    #[error("no one {role} key has an id that begins with `{keyid}`")]
    NoSuchKey {
        /// The role.
        role: supervisor_trust::Role,
        /// What was given.
        keyid: String,
    },
    /// There is no spare root.
    #[error("no spare root lies in the depot")]
    NoSpare,
    /// The change would leave a time without a valid signature.
    #[error("that would leave a gap: {gap}")]
    Gap {
        /// The first of them.
        gap: supervisor_trust::coverage::Gap,
    },
    /// What an object store says is in force was signed by nobody who may.
    #[error("what the object store says is in force is signed by none of the keys here")]
    Unsealed,
    /// What was published did not come into force in the object store.
    #[error("{fact}")]
    Store {
        /// What went wrong.
        fact: String,
        /// What to do about it.
        remedy: String,
    },
    /// What is to be named is being deleted in the object store.
    #[error("the store's {key} was just deleted, because nothing had named it for a month")]
    JustDeleted {
        /// The object.
        key: String,
        /// Until it may be put there again.
        minutes: u64,
    },
    /// There are no random bytes for a new key.
    #[error("the system has no random numbers")]
    NoDice(#[source] io::Error),
    /// Metadata or a key is unsound.
    #[error("the depot's signed metadata cannot be used")]
    Trust(#[source] TrustError),
    /// The network failed.
    #[error("the depot cannot listen any longer")]
    Listen(#[source] io::Error),
}

const UNSEALED: &str = "Bring the depot's newest timestamp key into the folder of keys; if it is \
                        there, somebody else wrote into the bucket: see who can.";
const NO_SPARE: &str = "Make one while the root keys are at hand: `depot keys spare`.";

fn first(findings: &[String]) -> &str {
    findings.first().map_or("spk check refuses it", String::as_str)
}

/// What helps when a file could not be read or written.
fn file_remedy(kind: io::ErrorKind) -> Option<&'static str> {
    Some(match kind {
        io::ErrorKind::PermissionDenied => "Run it as the user who owns the depot's folder.",
        io::ErrorKind::StorageFull => {
            "Make room on the disk, then run it again; what was published stays in force."
        }
        io::ErrorKind::NotFound => "Check the name.",
        io::ErrorKind::AlreadyExists => "Choose a name that is free.",
        _ => return None,
    })
}

impl DepotError {
    /// What to do about it, if anything is known to help.
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::File { cause, .. } => return file_remedy(cause.kind()).map(str::to_owned),
            Self::NoDepot { path } => {
                format!("Make one: `holdfast-supervisor depot init --root {}`.", path.display())
            }
            Self::AlreadyThere { .. } => {
                "Use it as it is. To start again with new keys, choose another folder: whoever \
                 trusts the old keys would not believe the new ones."
                    .to_owned()
            }
            Self::Busy { .. } => "Wait until it is done, then run it again.".to_owned(),
            Self::Damaged { .. } => {
                "Restore the depot's folder from its backup, or point `current` at the tree before \
                 (trees/N) and publish again."
                    .to_owned()
            }
            Self::Unreadable { cause, .. } => sentence(cause.remedy()),
            Self::Unsound { .. } => "Run `spk check` on it and repair what it names.".to_owned(),
            Self::NoDsm { .. } => {
                "Say os_min_ver=\"7.0-40000\" (or the DSM it is for) in its INFO.".to_owned()
            }
            Self::BytesChanged { .. } => {
                "Raise the package's version: a version that was published is never changed."
                    .to_owned()
            }
            Self::GoesBack { .. } => {
                "Raise the package's version, or withdraw the higher one first.".to_owned()
            }
            Self::NotThere { .. } => "Look at what is there on the depot's /web page.".to_owned(),
            Self::BaseUrl { .. } => "Give it as http://NAME[:PORT][/PATH] or https://….".to_owned(),
            Self::NotTheirs { .. } => {
                "Ask the depot's keeper for a token for it: `depot token add --package`.".to_owned()
            }
            Self::TokenName { .. } => {
                "Take a name of 1 to 64 letters that nobody has; `depot token list` shows them."
                    .to_owned()
            }
            Self::NoSuchToken { .. } => "See `depot token list`.".to_owned(),
            Self::Certificate { .. } => {
                "Give the whole chain and its key, both in PEM; the old ones stay in use."
                    .to_owned()
            }
            Self::NoKey { role, .. } => {
                format!("Put {role}.key back in its place for as long as the work takes.")
            }
            Self::TooFewKeys { role, .. } => {
                format!("Bring {role} keys from where they are kept: --key FILE for each.")
            }
            Self::NoSuchKey { .. } => {
                "See `depot keys show` for the ids; give enough of one to tell it apart.".to_owned()
            }
            Self::Unsealed => UNSEALED.to_owned(),
            Self::Store { remedy, .. } => remedy.clone(),
            Self::JustDeleted { minutes, .. } => {
                format!("Publish it again in {minutes} minutes.")
            }
            Self::NoSpare => NO_SPARE.to_owned(),
            Self::Gap { gap } => gap_remedy(gap),
            Self::Trust(cause) => cause.remedy().to_owned(),
            Self::PublisherKey { .. } | Self::NoSuchPublisher { .. } => self.publisher_remedy(),
            Self::NoDice(_) | Self::Listen(_) => return None,
        })
    }

    fn publisher_remedy(&self) -> String {
        match self {
            Self::NoSuchPublisher { .. } => "See `depot publisher list`.",
            _ => {
                "Export the public half of one RSA key: `gpg --armor --export NAME > public.asc`, \
                 or `spk sign --public-key-into public.asc`."
            }
        }
        .to_owned()
    }

    pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::File { what, path, cause }
    }

    pub(crate) fn damaged(path: &Path, what: impl ToString) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.to_string() }
    }
}

impl From<TrustError> for DepotError {
    fn from(cause: TrustError) -> Self {
        Self::Trust(cause)
    }
}

fn gap_remedy(gap: &supervisor_trust::coverage::Gap) -> String {
    use supervisor_trust::coverage::Cause;
    let role = gap.role;
    match gap.cause {
        Cause::NeverEnough { .. } => {
            format!("Add {role} keys first (`depot keys add {role}`), or say a lower --threshold.")
        }
        Cause::KeysElsewhere { .. } => format!(
            "Keep as many {role} keys in the depot's folder as must sign, or replace the key \
             instead: `depot keys rotate {role}`."
        ),
        Cause::RootEnds => "Rotate the root first: `depot keys rotate root`.".to_owned(),
        Cause::RunsTooLate => "Renew first: `depot keys renew`.".to_owned(),
    }
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), letters.as_str())
}
