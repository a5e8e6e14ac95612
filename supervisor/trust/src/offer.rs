//! What a signed file is: the `custom` member that binds a package to its version, platforms,
//! channel and range of DSM, so that a file signed for one box is never taken by another.

use crate::error::TrustError;
use crate::json::Value;
use crate::roles::{TargetFile, Targets};
use std::cmp::Ordering;

/// What a signed package file says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The package's name, as in its INFO.
    pub package: String,
    /// The package's version, as in its INFO.
    pub version: String,
    /// Platforms and families as in its INFO; `noarch` is every one.
    pub platforms: Vec<String>,
    /// `stable` or `beta`.
    pub channel: String,
    /// The major version of DSM it is for.
    pub dsm_major: u32,
    /// The lowest build of DSM.
    pub build_min: u32,
    /// The highest build of DSM, if there is one.
    pub build_max: Option<u32>,
}

/// What a NAS is looking for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The package's name.
    pub package: &'a str,
    /// The NAS's platform and its family, if it has one: `["apollolake", "x86_64"]`.
    pub platforms: &'a [&'a str],
    /// The channel to follow.
    pub channel: &'a str,
    /// The major version of its DSM.
    pub dsm_major: u32,
    /// The build of its DSM.
    pub dsm_build: u32,
}

impl Offer {
    /// Reads a target's `custom`.
    pub fn read(target: &TargetFile) -> Option<Self> {
        let custom = target.custom.as_ref()?;
        let text = |member| Some(custom.get(member)?.as_text()?.to_owned());
        let number = |member| u32::try_from(custom.get(member)?.as_u64()?).ok();
        if custom.get("kind")?.as_text()? != "spk" {
            return None;
        }
        let platforms = custom.get("platforms")?.as_list()?.iter();
        let build_max = match custom.get("build_max") {
            None => None,
            Some(build) => Some(u32::try_from(build.as_u64()?).ok()?),
        };
        Some(Self {
            package: text("package")?,
            version: text("version")?,
            platforms: platforms
                .map(|name| name.as_text().map(str::to_owned))
                .collect::<Option<_>>()?,
            channel: text("channel")?,
            dsm_major: number("dsm_major")?,
            build_min: number("build_min")?,
            build_max,
        })
    }

    /// The `custom` member.
    pub fn to_value(&self) -> Value {
        let platforms = self.platforms.iter().map(Value::text).collect();
        let Value::Object(mut members) = Value::object([
            ("kind", Value::text("spk")),
            ("package", Value::text(&self.package)),
            ("version", Value::text(&self.version)),
            ("platforms", Value::List(platforms)),
            ("channel", Value::text(&self.channel)),
            ("dsm_major", Value::from(u64::from(self.dsm_major))),
            ("build_min", Value::from(u64::from(self.build_min))),
        ]) else {
            unreachable!("object() makes objects")
        };
        if let Some(build) = self.build_max {
            members.insert("build_max".to_owned(), Value::from(u64::from(build)));
        }
        Value::Object(members)
    }

    /// Whether it is for that NAS.
    pub fn fits(&self, wanted: &Wanted<'_>) -> bool {
        let platform =
            |name: &String| name == "noarch" || wanted.platforms.contains(&name.as_str());
        self.package == wanted.package
            // What is stable is for everybody: who follows betas takes a newer stable one too.
            && (self.channel == wanted.channel || self.channel == "stable")
            && self.dsm_major == wanted.dsm_major
            && self.build_min <= wanted.dsm_build
            && self.build_max.is_none_or(|build| wanted.dsm_build <= build)
            && self.platforms.iter().any(platform)
    }
}

impl Targets {
    /// The newest signed file that fits, with its name and what it says it is.
    ///
    /// An offer that is not newer than what is installed is no error here: compare with
    /// [`compare_versions`].
    pub fn newest(&self, wanted: &Wanted<'_>) -> Result<(&str, &TargetFile, Offer), TrustError> {
        self.fitting(wanted)
            .max_by(|(_, _, one), (_, _, other)| compare_versions(&one.version, &other.version))
            .ok_or_else(|| TrustError::NoSuchTarget {
                what: match self.targets.is_empty() {
                    true => {
                        format!("{}, nor anything else: its shelves are empty", wanted.package)
                    }
                    false => format!(
                        "{} for {} with DSM {}-{} in channel {}",
                        wanted.package,
                        wanted.platforms.first().unwrap_or(&"no platform"),
                        wanted.dsm_major,
                        wanted.dsm_build,
                        wanted.channel
                    ),
                },
            })
    }

    /// The signed file of this very version that fits, for who wants no other.
    pub fn of_version(
        &self,
        wanted: &Wanted<'_>,
        version: &str,
    ) -> Result<(&str, &TargetFile, Offer), TrustError> {
        self.fitting(wanted)
            .find(|(_, _, offer)| compare_versions(&offer.version, version).is_eq())
            .ok_or_else(|| TrustError::NoSuchTarget {
                what: format!("{} {version} in channel {}", wanted.package, wanted.channel),
            })
    }

    fn fitting(&self, wanted: &Wanted<'_>) -> impl Iterator<Item = (&str, &TargetFile, Offer)> {
        self.targets
            .iter()
            .filter_map(|(name, file)| Some((name.as_str(), file, Offer::read(file)?)))
            .filter(|(_, _, offer)| offer.fits(wanted))
    }
}

/// Orders two package versions as DSM does: numbers part by part, `.`, `-` and `_` between them,
/// first all before the last `-` (the feature), then what follows it (the build).
pub fn compare_versions(one: &str, other: &str) -> Ordering {
    let (feature, build) = parts(one);
    let (other_feature, other_build) = parts(other);
    feature.cmp(&other_feature).then(build.cmp(&other_build))
}

fn parts(version: &str) -> (Vec<u64>, Vec<u64>) {
    let (feature, build) = version.rsplit_once('-').unwrap_or((version, ""));
    let numbers = |text: &str| {
        let mut numbers: Vec<u64> =
            text.split(['.', '-', '_']).map(|part| part.parse().unwrap_or(0)).collect();
        // 1.0 and 1.0.0 are one version.
        while numbers.last() == Some(&0) {
            numbers.pop();
        }
        numbers
    };
    (numbers(feature), numbers(build))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::FileHash;

    #[test]
    fn versions_are_ordered_number_by_number_feature_first() {
        for (lower, higher) in [
            ("0.1.0-1", "0.1.0-2"),
            ("0.1.0-9", "0.1.0-10"),
            ("0.9.0-99", "0.10.0-1"),
            ("1.0-1", "1.0.1-1"),
            ("20180319-23", "20180320-1"),
            ("1.2_3-1", "1.2_4-1"),
        ] {
            assert_eq!(compare_versions(lower, higher), Ordering::Less, "{lower} {higher}");
            assert_eq!(compare_versions(higher, lower), Ordering::Greater);
        }
        assert_eq!(compare_versions("1.0-0004", "1.0.0-4"), Ordering::Equal);
    }

    fn offer() -> Offer {
        Offer {
            package: "Holdfast".to_owned(),
            version: "0.1.0-1".to_owned(),
            platforms: vec!["x86_64".to_owned(), "rtd1296".to_owned()],
            channel: "stable".to_owned(),
            dsm_major: 7,
            build_min: 40_000,
            build_max: None,
        }
    }

    #[test]
    fn an_offer_survives_being_written_and_read() {
        for build_max in [None, Some(69_057)] {
            let offer = Offer { build_max, ..offer() };
            let custom = Some(offer.to_value());
            let hash = FileHash::Sha256([0; 32]);
            let file = TargetFile { length: 1, hash, custom };
            assert_eq!(Offer::read(&file), Some(offer));
        }
    }

    #[test]
    fn a_file_signed_for_another_box_package_channel_or_dsm_does_not_fit() {
        let wanted = Wanted {
            package: "Holdfast",
            platforms: &["apollolake", "x86_64"],
            channel: "stable",
            dsm_major: 7,
            dsm_build: 72_806,
        };
        assert!(offer().fits(&wanted));
        assert!(!offer().fits(&Wanted { package: "Holdfas", ..wanted.clone() }));
        assert!(!offer().fits(&Wanted { platforms: &["armada38x"], ..wanted.clone() }));
        assert!(offer().fits(&Wanted { channel: "beta", ..wanted.clone() }));
        let beta = Offer { channel: "beta".to_owned(), ..offer() };
        assert!(!beta.fits(&wanted));
        assert!(!offer().fits(&Wanted { dsm_major: 6, ..wanted.clone() }));
        assert!(!offer().fits(&Wanted { dsm_build: 39_999, ..wanted.clone() }));
        let up_to = Offer { build_max: Some(69_057), ..offer() };
        assert!(!up_to.fits(&wanted));
    }
}
