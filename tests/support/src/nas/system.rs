//! Which DSM a NAS runs, on which hardware, and how the system says so about itself.

use std::fmt;
use std::path::{Path, PathBuf};

/// A generation of DSM: the three that differ for packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dsm {
    /// DSM 5.2-5967: packages are root, BusyBox is the only shell.
    Five,
    /// DSM 6.2.4-25556 Update 7: packages may be root.
    Six,
    /// DSM 7.2.2-72806 Update 3: packages have a user of their own.
    Seven,
}

/// The numbers DSM sends to a package source and hands to scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// `7` of 7.2.2-72806 Update 3.
    pub major: u32,
    /// `2`
    pub minor: u32,
    /// the second `2`
    pub micro: u32,
    /// `72806`
    pub build: u32,
    /// `3`
    pub nano: u32,
}

impl Dsm {
    /// The generation with this number.
    pub fn from_number(number: u32) -> Option<Self> {
        match number {
            5 => Some(Self::Five),
            6 => Some(Self::Six),
            7 => Some(Self::Seven),
            _ => None,
        }
    }

    /// The release a NAS in a folder claims to run.
    pub fn version(self) -> Version {
        let (major, minor, micro, build, nano) = match self {
            Self::Five => (5, 2, 0, 5967, 2),
            Self::Six => (6, 2, 4, 25556, 7),
            Self::Seven => (7, 2, 2, 72806, 3),
        };
        Version { major, minor, micro, build, nano }
    }

    /// The text of `/etc.defaults/VERSION`.
    pub(crate) fn version_file(self) -> String {
        let Version { major, minor, micro, build, nano } = self.version();
        let product = if micro == 0 {
            format!("{major}.{minor}")
        } else {
            format!("{major}.{minor}.{micro}")
        };
        let mut text = format!(
            "majorversion=\"{major}\"\nminorversion=\"{minor}\"\nproductversion=\"{product}\"\n\
             buildphase=\"GM\"\nbuildnumber=\"{build}\"\nsmallfixnumber=\"{nano}\"\n"
        );
        if self == Self::Seven {
            text.push_str(&format!(
                "major=\"{major}\"\nminor=\"{minor}\"\nmicro=\"{micro}\"\nnano=\"{nano}\"\n\
                 base=\"{build}\"\nos_name=\"DSM\"\n"
            ));
        }
        text
    }
}

impl fmt::Display for Dsm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Version { major, minor, micro, build, nano } = self.version();
        write!(f, "DSM {major}.{minor}")?;
        if micro != 0 {
            write!(f, ".{micro}")?;
        }
        write!(f, "-{build} Update {nano}")
    }
}

/// The hardware: a platform's codename, and a model of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hardware {
    /// The codename DSM sends, `apollolake` for example.
    pub platform: String,
    /// The model as in `unique`: `918+`.
    pub model: String,
}

/// Platforms a NAS in a folder can claim to be: codename, its family in `arch`, a model.
///
/// A third of the real list, one at least of each of our five targets. Source: Synology's toolkit,
/// `plat_to_family`; the `armv7` family covers only alpine and alpine4k.
const PLATFORMS: [(&str, &str, &str); 14] = [
    ("apollolake", "x86_64", "918+"),
    ("geminilake", "x86_64", "920+"),
    ("broadwell", "x86_64", "3617xs"),
    ("v1000", "x86_64", "1621+"),
    ("cedarview", "x86_64", "412+"),
    ("evansport", "i686", "214play"),
    ("rtd1296", "armv8", "218"),
    ("rtd1619b", "armv8", "223"),
    ("armada37xx", "armv8", "119j"),
    ("alpine", "armv7", "416"),
    ("armada38x", "armada38x", "216j"),
    ("armada370", "armada370", "213j"),
    ("hi3535", "hi3535", "nvr1218"),
    ("88f6281", "armv5", "110j"),
];

impl Hardware {
    /// The hardware with this platform's codename.
    pub fn of(platform: &str) -> Option<Self> {
        let (platform, _, model) = PLATFORMS.iter().find(|(name, ..)| *name == platform)?;
        Some(Self { platform: (*platform).to_owned(), model: (*model).to_owned() })
    }

    /// What packages may write in `arch` for all platforms of this kind.
    pub fn family(&self) -> &'static str {
        PLATFORMS.iter().find(|(name, ..)| *name == self.platform).map_or("", |row| row.1)
    }

    /// `unique` of `/etc/synoinfo.conf`.
    pub fn unique(&self) -> String {
        format!("synology_{}_{}", self.platform, self.model)
    }

    /// Whether a package for these `arch` values runs here.
    pub fn runs(&self, arch: &str) -> bool {
        arch.split_whitespace().any(|name| {
            name == "noarch"
                || name == self.platform
                || name == self.family()
                || (name == "88f628x" && self.platform.starts_with("88f628"))
        })
    }
}

/// The shell that runs package scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// BusyBox's `ash`, the only one before DSM 6.
    Ash,
    /// `bash`, called as `sh`.
    Bash,
}

impl Shell {
    /// The program on this machine, and the words before the script's path.
    pub(crate) fn program(self) -> Option<(PathBuf, &'static [&'static str])> {
        let (name, words): (&str, &'static [&'static str]) = match self {
            Self::Ash => ("busybox", &["ash"]),
            Self::Bash => ("bash", &["--posix"]),
        };
        ["/bin", "/usr/bin", "/usr/local/bin"]
            .iter()
            .map(|folder| Path::new(folder).join(name))
            .find(|path| path.is_file())
            .map(|path| (path, words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_reaches_its_platforms_and_no_others() {
        let runs = |platform, arch| Hardware::of(platform).unwrap().runs(arch);
        assert!(runs("apollolake", "x86_64") && runs("apollolake", "noarch"));
        assert!(runs("armada38x", "armv7 armada38x"));
        assert!(!runs("armada38x", "armv7"), "armada38x is not in the armv7 family");
        assert!(runs("88f6281", "88f628x"));
        assert!(!runs("apollolake", "armv8") && !runs("apollolake", ""));
    }

    #[test]
    fn the_version_file_has_the_keys_of_its_generation() {
        assert!(Dsm::Seven.version_file().contains("productversion=\"7.2.2\"\n"));
        assert!(Dsm::Five.version_file().contains("productversion=\"5.2\"\n"));
        assert!(!Dsm::Six.version_file().contains("os_name"));
        assert_eq!(Dsm::Seven.to_string(), "DSM 7.2.2-72806 Update 3");
    }
}
