//! DSM's generations and version numbers, as far as a package has to know them.

use std::fmt;
use std::str::FromStr;

/// The scripts DSM calls. Some may be left out on some versions; all seven are always right.
pub const SCRIPTS: [&str; 7] = [
    "start-stop-status",
    "preinst",
    "postinst",
    "preuninst",
    "postuninst",
    "preupgrade",
    "postupgrade",
];

/// A generation of DSM. One package serves one generation: DSM refuses a package whose minimum
/// version has another major number than its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dsm {
    /// DSM 5: INFO says `firmware`, sizes are bytes, everything is root.
    Five,
    /// DSM 6 since 6.1: INFO says `os_min_ver`; packages run as root unless they ask.
    Six,
    /// DSM 7: packages run as their own user, seven scripts are required.
    Seven,
}

impl Dsm {
    /// Every generation, oldest first.
    pub const ALL: [Self; 3] = [Self::Five, Self::Six, Self::Seven];

    /// The generation with that major version number.
    pub fn from_major(major: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|dsm| dsm.major() == major)
    }

    /// Its major version number.
    pub fn major(self) -> u32 {
        match self {
            Self::Five => 5,
            Self::Six => 6,
            Self::Seven => 7,
        }
    }

    /// The oldest DSM of this generation a package may ask for without further thought.
    pub fn os_min_default(self) -> OsVersion {
        match self {
            Self::Five => OsVersion::new(5, 2, 5644),
            Self::Six => OsVersion::new(6, 1, 15047),
            Self::Seven => OsVersion::new(7, 0, 40000),
        }
    }

    /// Width and height of `PACKAGE_ICON.PNG` in pixels.
    pub fn icon_pixels(self) -> u32 {
        match self {
            Self::Five | Self::Six => 72,
            Self::Seven => 64,
        }
    }
}

impl fmt::Display for Dsm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DSM {}", self.major())
    }
}

/// A DSM version as INFO writes it: `7.0-40000`, or `6.2.4-25556`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OsVersion {
    /// The build number first: it alone orders DSM's versions.
    pub build: u32,
    /// The numbers before the dash, major first.
    pub release: Vec<u32>,
}

impl OsVersion {
    fn new(major: u32, minor: u32, build: u32) -> Self {
        Self { build, release: vec![major, minor] }
    }

    /// The major version number.
    pub fn major(&self) -> u32 {
        self.release[0]
    }

    /// The generation, when it is one we know.
    pub fn dsm(&self) -> Option<Dsm> {
        Dsm::from_major(self.major())
    }
}

impl fmt::Display for OsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let release: Vec<String> = self.release.iter().map(u32::to_string).collect();
        write!(f, "{}-{}", release.join("."), self.build)
    }
}

impl FromStr for OsVersion {
    type Err = OsVersionError;

    fn from_str(text: &str) -> Result<Self, OsVersionError> {
        let refused = || OsVersionError { text: text.chars().take(40).collect() };
        let number = |digits: &str| {
            let is_decimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse::<u32>().ok().filter(|_| is_decimal).ok_or_else(refused)
        };
        let (release, build) = text.split_once('-').ok_or_else(refused)?;
        let release = release.split('.').map(number).collect::<Result<Vec<u32>, _>>()?;
        if !(2..=4).contains(&release.len()) {
            return Err(refused());
        }
        Ok(Self { build: number(build)?, release })
    }
}

/// A text that is not a DSM version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a DSM version such as 7.0-40000")]
pub struct OsVersionError {
    text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dsm_versions_are_ordered_by_their_build_number() {
        let version = |text: &str| text.parse::<OsVersion>().unwrap();
        assert!(version("6.2.4-25556") < version("7.0-40000"));
        assert_eq!(version("6.2.4-25556").to_string(), "6.2.4-25556");
        assert_eq!(version("7.2-72806").dsm(), Some(Dsm::Seven));
        assert_eq!(version("8.0-90000").dsm(), None);
    }

    #[test]
    fn what_is_no_dsm_version_is_refused() {
        for text in ["", "7.0", "7-40000", "7.0-", "7.x-40000", "7.0-40000-1", "-1.0-4", "7.0-+4"] {
            assert!(text.parse::<OsVersion>().is_err(), "{text:?}");
        }
    }
}
