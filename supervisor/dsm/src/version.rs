//! Which DSM this is. Packages differ by its major number: `facts` about folders, users, services.

/// A version of DSM, as `7.2-72806`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DsmVersion {
    /// 5, 6 or 7.
    pub major: u32,
    /// The number after the point.
    pub minor: u32,
    /// The build number, which alone orders all versions.
    pub build: u32,
}

impl DsmVersion {
    /// Reads `/etc.defaults/VERSION`: lines as `majorversion="7"`.
    pub fn from_file(text: &str) -> Option<Self> {
        let value = |key: &str| {
            text.lines()
                .filter_map(|line| line.trim().split_once('='))
                .find(|(name, _)| *name == key)
                .and_then(|(_, value)| value.trim().trim_matches('"').parse().ok())
        };
        Some(Self {
            major: value("majorversion").or_else(|| value("major"))?,
            minor: value("minorversion").or_else(|| value("minor")).unwrap_or(0),
            build: value("buildnumber").unwrap_or(0),
        })
    }

    /// Whether packages run as their own user and keep their data outside the target (DSM 7).
    pub fn keeps_var(self) -> bool {
        self.major >= 7
    }
}

impl std::fmt::Display for DsmVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}-{}", self.major, self.minor, self.build)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_file_of_every_generation_is_read() {
        let seven = "majorversion=\"7\"\nminorversion=\"2\"\nbuildnumber=\"72806\"\n";
        let read = DsmVersion::from_file(seven).unwrap();
        assert_eq!(read.to_string(), "7.2-72806");
        assert!(read.keeps_var());
        let five = "majorversion=\"5\"\nminorversion=\"2\"\nbuildphase=\"0\"\nbuildnumber=\"5644\"";
        assert!(!DsmVersion::from_file(five).unwrap().keeps_var());
        assert_eq!(DsmVersion::from_file("nonsense"), None);
    }
}
