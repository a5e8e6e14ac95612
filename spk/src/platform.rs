//! The platforms Synology builds boxes on, and which of our builds runs on which.
//!
//! A *platform* is DSM's codename (`apollolake`); a *family* is what INFO's `arch` may say instead
//! of a list of codenames (`x86_64`); a *target* is one build of a program. The table was compiled
//! from Synology's toolkit and guide, and from SynoCommunity's toolchains.
//!
//! Two traps it knows: the family `armv7` reaches only Alpine, every other ARMv7 platform must be
//! named; and the same box may need another build under an older DSM (`armada370` had a soft-float
//! userland up to DSM 5).
//!
//! **Not here:** routers (SRM), which read the same packages but are no destination of ours.

use crate::dsm::Dsm;
use std::fmt;
use std::str::FromStr;

/// One build of a program: what `dist/<target>/` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Intel and AMD, 64 bit.
    X86_64,
    /// ARMv8, 64 bit.
    Aarch64,
    /// ARMv7 with hardware floating point.
    Armhf,
    /// ARMv7 with a soft-float userland.
    Armv7,
    /// ARMv5, no floating point, kernel 2.6.32.
    Armv5,
    /// Intel Atom, 32 bit.
    I686,
    /// Scripts and data only: runs everywhere.
    Noarch,
}

impl Target {
    /// Every target, in the order they are listed to people.
    pub const ALL: [Self; 7] = [
        Self::X86_64,
        Self::Aarch64,
        Self::Armhf,
        Self::Armv7,
        Self::Armv5,
        Self::I686,
        Self::Noarch,
    ];

    /// The target's name, which is also its folder below `dist/`.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
            Self::Armhf => "armhf",
            Self::Armv7 => "armv7",
            Self::Armv5 => "armv5",
            Self::I686 => "i686",
            Self::Noarch => "noarch",
        }
    }

    /// What INFO's `arch` says for this target under `dsm`; empty when no box is left or was there
    /// yet. Family names first, then the platforms no family reaches.
    pub fn archs(self, dsm: Dsm) -> Vec<&'static str> {
        if self == Self::Noarch {
            return vec!["noarch"];
        }
        let ours = || PLATFORMS.iter().filter(move |platform| platform.target(dsm) == Ok(self));
        // DSM 5 knew codenames only; later versions have platforms no table lists yet.
        let families_count = dsm != Dsm::Five;
        let mut archs: Vec<&'static str> = Vec::new();
        for family in ours().filter_map(|platform| platform.family.filter(|_| families_count)) {
            if !archs.contains(&family) {
                archs.push(family);
            }
        }
        for platform in ours() {
            if platform.family.is_none() || !families_count || !platform.aliases.is_empty() {
                archs.push(platform.codename);
                for alias in platform.aliases {
                    if !archs.contains(alias) {
                        archs.push(alias);
                    }
                }
            }
        }
        archs
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        if let Some(target) = Self::ALL.into_iter().find(|target| target.name() == text) {
            return Ok(target);
        }
        match Platform::find(text) {
            Some(platform) => match platform.build {
                Build::None(why) => Err(TargetError::Unbuildable { platform: text.into(), why }),
                _ => Err(TargetError::IsPlatform {
                    platform: text.into(),
                    target: platform.target(platform.dsm.1.dsm()).unwrap_or(Self::Noarch),
                }),
            },
            None => Err(TargetError::Unknown { text: text.chars().take(40).collect() }),
        }
    }
}

/// Why a word is not a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Neither a target nor a platform.
    #[error("`{text}` is no target")]
    Unknown {
        /// The word.
        text: String,
    },
    /// A platform, which has a target.
    #[error("`{platform}` is a platform, not a target; its target is {target}")]
    IsPlatform {
        /// The platform's codename.
        platform: String,
        /// The build that runs on it.
        target: Target,
    },
    /// A platform nothing can be built for.
    #[error("nothing can be built for `{platform}`: {why}")]
    Unbuildable {
        /// The platform's codename.
        platform: String,
        /// Why.
        why: &'static str,
    },
}

impl TargetError {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::IsPlatform { target, .. } => format!("say {target}"),
            Self::Unknown { .. } | Self::Unbuildable { .. } => {
                let names: Vec<_> = Target::ALL.iter().map(|target| target.name()).collect();
                format!("say one of: {}", names.join(", "))
            }
        }
    }
}

/// A DSM version without its build number: `(7, 2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(pub u32, pub u32);

impl Release {
    fn dsm(self) -> Dsm {
        Dsm::from_major(self.0).unwrap_or(Dsm::Seven)
    }
}

/// Which build a platform needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Build {
    Always(Target),
    /// The first up to DSM 5, the second since.
    Since6(Target, Target),
    None(&'static str),
}

/// One of DSM's platforms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Platform {
    /// DSM's codename, as Package Center sends it in `arch`.
    pub codename: &'static str,
    /// Other spellings of the codename met in INFO files and requests.
    pub aliases: &'static [&'static str],
    /// What INFO's `arch` may say instead; `None` when only the codename works.
    pub family: Option<&'static str>,
    /// The first and last DSM seen for it. 5.2 stands for "5.2 or earlier".
    pub dsm: (Release, Release),
    /// What a packager should know.
    pub note: &'static str,
    build: Build,
}

impl Platform {
    /// The platform of that codename, under any of its spellings.
    pub fn find(codename: &str) -> Option<&'static Self> {
        PLATFORMS.iter().find(|platform| platform.is_called(codename))
    }

    fn is_called(&self, word: &str) -> bool {
        self.codename == word || self.aliases.contains(&word)
    }

    /// The build that runs on this platform under `dsm`, or why there is none.
    pub fn target(&self, dsm: Dsm) -> Result<Target, &'static str> {
        if dsm.major() < self.dsm.0.0 {
            return Err("the platform is younger than this DSM");
        }
        if dsm.major() > self.dsm.1.0 {
            return Err("this DSM no longer runs on the platform");
        }
        match self.build {
            Build::Always(target) => Ok(target),
            Build::Since6(before, _) if dsm == Dsm::Five => Ok(before),
            Build::Since6(_, since) => Ok(since),
            Build::None(why) => Err(why),
        }
    }
}

/// Whether a package whose INFO lists `archs` is for the box that calls itself `codename`: the
/// codename in any spelling, its family, or `noarch`. A codename no table knows matches itself.
pub fn arch_matches<'a>(archs: impl IntoIterator<Item = &'a str>, codename: &str) -> bool {
    archs.into_iter().any(|arch| {
        let mut known = PLATFORMS.iter().filter(|platform| platform.is_called(codename));
        arch == "noarch"
            || arch == codename
            || known.any(|platform| platform.family == Some(arch) || platform.is_called(arch))
    })
}

/// Whether INFO's `arch` may hold this word: a codename, a family, or `noarch`.
pub fn arch_is_known(word: &str) -> bool {
    word == "noarch"
        || PLATFORMS
            .iter()
            .any(|platform| platform.is_called(word) || platform.family == Some(word))
}

const fn row(
    codename: &'static str,
    family: Option<&'static str>,
    build: Build,
    dsm: [u32; 4],
    note: &'static str,
) -> Platform {
    let dsm = (Release(dsm[0], dsm[1]), Release(dsm[2], dsm[3]));
    Platform { codename, aliases: &[], family, dsm, note, build }
}

const fn intel(codename: &'static str, dsm: [u32; 4]) -> Platform {
    row(codename, Some("x86_64"), Build::Always(Target::X86_64), dsm, "")
}

const fn arm_7(codename: &'static str, dsm: [u32; 4], note: &'static str) -> Platform {
    row(codename, None, Build::Always(Target::Armhf), dsm, note)
}

const fn arm_8(codename: &'static str, dsm: [u32; 4]) -> Platform {
    row(codename, Some("armv8"), Build::Always(Target::Aarch64), dsm, "")
}

const fn power(codename: &'static str, dsm: [u32; 4]) -> Platform {
    let why =
        "its PowerPC core (e500, no classic floating point) is no target of today's compilers";
    row(codename, Some("ppc"), Build::None(why), dsm, "")
}

const SOFT_ON_5: Build = Build::Since6(Target::Armv7, Target::Armhf);

/// Every platform we know.
pub const PLATFORMS: &[Platform] = &[
    Platform {
        aliases: &["88f628x", "628x"],
        ..row("88f6281", Some("armv5"), Build::Always(Target::Armv5), [5, 2, 6, 2], "kernel 2.6.32")
    },
    Platform {
        aliases: &["88f628x", "628x"],
        ..row("88f6282", Some("armv5"), Build::Always(Target::Armv5), [5, 2, 6, 2], "kernel 2.6.32")
    },
    power("qoriq", [5, 2, 6, 2]),
    power("ppc824x", [5, 2, 5, 2]),
    power("ppc853x", [5, 2, 5, 2]),
    power("ppc854x", [5, 2, 5, 2]),
    row("hi3535", None, Build::Always(Target::Armv7), [6, 1, 6, 2], "ARMv7 with soft floats"),
    arm_7("comcerto2k", [5, 2, 7, 1], "glibc 2.20 even on DSM 7"),
    row("armada370", None, SOFT_ON_5, [5, 2, 7, 1], "no NEON; soft floats up to DSM 5"),
    row("armadaxp", None, SOFT_ON_5, [5, 2, 7, 1], "no NEON; soft floats up to DSM 5"),
    arm_7("armada375", [5, 2, 7, 1], ""),
    arm_7("armada38x", [5, 2, 7, 3], "not reached by the family armv7"),
    arm_7("monaco", [5, 2, 7, 3], ""),
    row("alpine", Some("armv7"), Build::Always(Target::Armhf), [5, 2, 7, 3], ""),
    row("alpine4k", Some("armv7"), Build::Always(Target::Armhf), [6, 1, 7, 3], ""),
    row("evansport", Some("i686"), Build::Always(Target::I686), [5, 2, 7, 1], ""),
    arm_8("rtd1296", [6, 1, 7, 2]),
    arm_8("armada37xx", [6, 2, 7, 3]),
    arm_8("rtd1619b", [7, 1, 7, 3]),
    intel("x86", [5, 2, 6, 2]),
    intel("cedarview", [5, 2, 7, 1]),
    intel("avoton", [5, 2, 7, 3]),
    intel("bromolow", [5, 2, 7, 3]),
    intel("braswell", [5, 2, 7, 3]),
    intel("dockerx64", [6, 0, 6, 2]),
    intel("grantley", [6, 1, 7, 3]),
    intel("broadwell", [6, 1, 7, 3]),
    intel("apollolake", [6, 1, 7, 3]),
    intel("denverton", [6, 1, 7, 3]),
    intel("broadwellnk", [6, 2, 7, 3]),
    intel("geminilake", [6, 2, 7, 3]),
    intel("purley", [6, 2, 7, 3]),
    intel("v1000", [6, 2, 7, 3]),
    intel("kvmx64", [6, 2, 7, 3]),
    intel("broadwellntbap", [7, 0, 7, 3]),
    intel("broadwellnkv2", [7, 1, 7, 3]),
    intel("r1000", [7, 1, 7, 3]),
    intel("epyc7002", [7, 1, 7, 3]),
    intel("geminilakenk", [7, 2, 7, 3]),
    intel("r1000nk", [7, 2, 7, 3]),
    intel("v1000nk", [7, 2, 7, 3]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_lists_what_its_boxes_call_themselves() {
        let archs = |target: Target, dsm| target.archs(dsm).join(" ");
        assert_eq!(archs(Target::X86_64, Dsm::Seven), "x86_64");
        assert_eq!(archs(Target::Aarch64, Dsm::Six), "armv8");
        assert_eq!(
            archs(Target::Armhf, Dsm::Seven),
            "armv7 comcerto2k armada370 armadaxp armada375 armada38x monaco"
        );
        assert_eq!(archs(Target::Armv7, Dsm::Six), "hi3535");
        assert_eq!(archs(Target::Armv7, Dsm::Five), "armada370 armadaxp");
        assert_eq!(archs(Target::Armv7, Dsm::Seven), "");
        assert_eq!(archs(Target::Armv5, Dsm::Six), "armv5 88f6281 88f628x 628x 88f6282");
        assert_eq!(archs(Target::X86_64, Dsm::Five), "x86 cedarview avoton bromolow braswell");
    }

    #[test]
    fn every_box_finds_the_package_built_for_it_and_no_other() {
        for dsm in Dsm::ALL {
            for platform in PLATFORMS {
                let Ok(own) = platform.target(dsm) else { continue };
                for target in Target::ALL.into_iter().filter(|target| *target != Target::Noarch) {
                    let offered = arch_matches(target.archs(dsm), platform.codename);
                    assert_eq!(offered, own == target, "{} {target} {dsm}", platform.codename);
                }
            }
        }
    }

    #[test]
    fn a_platform_is_found_under_every_spelling_and_an_unknown_one_matches_itself() {
        assert!(arch_matches(["88f6281"], "88f628x"));
        assert!(arch_matches(["88f628x"], "88f6282"));
        assert!(arch_matches(["noarch"], "made-up"));
        assert!(arch_matches(["made-up"], "made-up"));
        assert!(!arch_matches(["armv7"], "armada38x"), "the family reaches Alpine only");
        assert!(!arch_matches(["x86_64"], "made-up"));
    }

    #[test]
    fn the_powerpc_box_is_refused_by_name_and_a_platform_leads_to_its_target() {
        let refused = "qoriq".parse::<Target>().unwrap_err();
        assert!(refused.to_string().contains("PowerPC"), "{refused}");
        let platform = "apollolake".parse::<Target>().unwrap_err();
        assert_eq!(platform.remedy(), "say x86_64");
        assert!("sparc".parse::<Target>().unwrap_err().remedy().contains("armv5"));
    }
}
