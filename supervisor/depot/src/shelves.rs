//! What is on the shelves, and the rules by which something may be put there.
//!
//! Pure: a package is already read, the file is elsewhere.

use crate::error::DepotError;
use crate::publisher_key::PublisherKey;
use serde::{Deserialize, Serialize};
use spk::version::Version;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// The form of `shelves.json`.
const FORMAT: u32 = 1;

/// For whom a package is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// Everybody.
    Stable,
    /// Those who asked for betas.
    Beta,
}

impl Channel {
    /// The channel's name in metadata.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Beta => "beta",
        }
    }
}

/// A package on a shelf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Its name, as in INFO.
    pub package: String,
    /// Its version, byte for byte as in INFO.
    pub version: String,
    /// Platforms and families, as in INFO.
    pub archs: Vec<String>,
    /// The major version of the DSM it is for.
    pub dsm_major: u32,
    /// The lowest DSM build.
    pub build_min: u32,
    /// The highest DSM build, if there is one.
    pub build_max: Option<u32>,
    /// Its channel.
    pub channel: Channel,
    /// The name under which it is downloaded.
    pub file: String,
    /// SHA-256 of the file, hex.
    pub sha256: String,
    /// MD5 of the file, hex.
    pub md5: String,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// SHA-256 of the small icon, hex.
    pub icon: Option<String>,
    /// SHA-256 of the 256-pixel icon, hex.
    pub icon_256: Option<String>,
    /// Has a licence to accept.
    pub has_licence: bool,
    /// Asks questions when installed.
    pub has_install_wizard: bool,
    /// Asks questions when upgraded.
    pub has_upgrade_wizard: bool,
    /// Has Run and Stop.
    pub is_startable: bool,
    /// What INFO says to people: names, descriptions, maintainer, dependencies.
    pub texts: BTreeMap<String, String>,
    /// Seconds since 1970 when it was put on the shelf.
    pub published_seconds: u64,
    /// No longer offered. The entry stays, so that its version can never mean other bytes.
    #[serde(default)]
    pub withdrawn: bool,
}

impl Item {
    /// A text of INFO, if it says anything.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.texts.get(key).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// Whether a box of this platform may install it, whatever its DSM.
    pub fn is_for_platform(&self, codename: &str) -> bool {
        spk::platform::arch_matches(self.archs.iter().map(String::as_str), codename)
    }

    /// A platform in common, when both are the same package for the same DSM.
    fn shared_arch<'a>(&'a self, other: &Self) -> Option<&'a str> {
        let rivals = self.package == other.package && self.dsm_major == other.dsm_major;
        self.archs.iter().filter(|_| rivals).find(|arch| other.archs.contains(arch)).map(|a| &**a)
    }
}

/// Orders versions; ones that are none come first, so that they never win.
pub(crate) fn compare(one: &str, other: &str) -> Ordering {
    let version = |text: &str| text.parse::<Version>().ok();
    version(one).cmp(&version(other))
}

/// Everything on the shelves, withdrawn things included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shelves {
    format: u32,
    /// The packages in the order in which they came.
    pub items: Vec<Item>,
    /// The keys that signed packages for DSM 5.1 to 6.2, handed out with the catalog.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publishers: Vec<PublisherKey>,
}

impl Default for Shelves {
    fn default() -> Self {
        Self { format: FORMAT, items: Vec::new(), publishers: Vec::new() }
    }
}

impl Shelves {
    /// Reads `shelves.json`.
    pub(crate) fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let shelves: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match shelves.format {
            FORMAT => Ok(shelves),
            other => Err(format!("it has form {other}, this program knows form {FORMAT}")),
        }
    }

    /// What `shelves.json` says.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// What is offered.
    pub fn offered(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| !item.withdrawn)
    }

    /// Puts a package on the shelf. Whether anything changed: the same bytes once more are nothing
    /// new, but bring back what was withdrawn.
    pub(crate) fn put(&mut self, new: Item) -> Result<bool, DepotError> {
        let rivals = |item: &&mut Item| item.shared_arch(&new).is_some();
        for item in self.items.iter_mut().filter(rivals) {
            match compare(&new.version, &item.version) {
                Ordering::Equal if item.sha256 == new.sha256 => {
                    return Ok(std::mem::take(&mut item.withdrawn));
                }
                Ordering::Equal => {
                    return Err(DepotError::BytesChanged {
                        package: new.package,
                        version: new.version,
                        file: item.file.clone(),
                    });
                }
                Ordering::Less if !item.withdrawn && item.channel == new.channel => {
                    return Err(DepotError::GoesBack {
                        arch: new.shared_arch(item).unwrap_or_default().to_owned(),
                        package: new.package,
                        version: new.version,
                        newest: item.version.clone(),
                    });
                }
                _ => {}
            }
        }
        self.items.push(new);
        Ok(true)
    }

    /// Takes every file of a version off the shelf; how many there were.
    pub(crate) fn withdraw(&mut self, package: &str, version: &str) -> Result<usize, DepotError> {
        let mut count = 0;
        for item in &mut self.items {
            if item.package == package && item.version == version && !item.withdrawn {
                item.withdrawn = true;
                count += 1;
            }
        }
        match count {
            0 => Err(DepotError::NotThere { package: package.into(), version: version.into() }),
            count => Ok(count),
        }
    }

    /// Brings every file of a version to a channel; how many were in another.
    pub(crate) fn promote(
        &mut self,
        package: &str,
        version: &str,
        to: Channel,
    ) -> Result<usize, DepotError> {
        let is_meant =
            |item: &Item| item.package == package && item.version == version && !item.withdrawn;
        if !self.items.iter().any(is_meant) {
            return Err(DepotError::NotThere { package: package.into(), version: version.into() });
        }
        let moves = |item: &&Item| is_meant(item) && item.channel != to;
        for item in self.items.iter().filter(moves) {
            let outdone = self.offered().find(|other| {
                other.channel == to
                    && item.shared_arch(other).is_some()
                    && compare(version, &other.version) == Ordering::Less
            });
            if let Some(newest) = outdone {
                return Err(DepotError::GoesBack {
                    arch: item.shared_arch(newest).unwrap_or_default().to_owned(),
                    package: package.to_owned(),
                    version: version.to_owned(),
                    newest: newest.version.clone(),
                });
            }
        }
        let mut count = 0;
        for item in self.items.iter_mut().filter(|item| is_meant(item) && item.channel != to) {
            item.channel = to;
            count += 1;
        }
        Ok(count)
    }

    /// The newest of each: those that no offered one with a platform in common outdoes.
    pub(crate) fn newest(&self) -> Vec<&Item> {
        let outdone = |item: &Item| {
            self.offered().any(|other| {
                let covers = item.archs.iter().all(|arch| other.archs.contains(arch));
                item.shared_arch(other).is_some()
                    && covers
                    && item.channel == other.channel
                    && compare(&item.version, &other.version) == Ordering::Less
            })
        };
        self.offered().filter(|item| !outdone(item)).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn item(version: &str, archs: &[&str], dsm_major: u32) -> Item {
        let build_min = match dsm_major {
            0..=4 => 1_000,
            5 => 4_458,
            6 => 7_321,
            _ => 40_000,
        };
        Item {
            package: "Holdfast".to_owned(),
            version: version.to_owned(),
            archs: archs.iter().map(|arch| (*arch).to_owned()).collect(),
            dsm_major,
            build_min,
            build_max: None,
            channel: Channel::Stable,
            file: format!("Holdfast-{version}-dsm{dsm_major}-{}.spk", archs.join("-")),
            sha256: format!("{version}{archs:?}{dsm_major}"),
            md5: "0".repeat(32),
            bytes: 1000,
            icon: None,
            icon_256: None,
            has_licence: false,
            has_install_wizard: false,
            has_upgrade_wizard: false,
            is_startable: true,
            texts: BTreeMap::new(),
            published_seconds: 0,
            withdrawn: false,
        }
    }

    #[test]
    fn a_version_that_goes_back_is_refused_for_each_platform_by_itself() {
        let mut shelves = Shelves::default();
        assert!(shelves.put(item("1.0-2", &["x86_64"], 7)).unwrap());
        let refused = shelves.put(item("1.0-1", &["armv8", "x86_64"], 7));
        assert!(matches!(refused, Err(DepotError::GoesBack { .. })), "{refused:?}");
        assert!(shelves.put(item("1.0-1", &["armv8"], 7)).unwrap());
        assert!(shelves.put(item("1.0-1", &["x86_64"], 6)).unwrap());
        assert!(shelves.put(item("1.0-10", &["x86_64"], 7)).unwrap());
    }

    #[test]
    fn bytes_never_change_under_one_version_even_after_it_was_withdrawn() {
        let mut shelves = Shelves::default();
        let first = item("1.0-2", &["x86_64"], 7);
        assert!(shelves.put(first.clone()).unwrap());
        assert!(!shelves.put(first.clone()).unwrap());
        let other = Item { sha256: "other".to_owned(), ..first.clone() };
        let respelled = Item { version: "1.0.0-0002".to_owned(), ..other.clone() };
        for changed in [other, respelled] {
            let refused = shelves.put(changed.clone());
            assert!(matches!(refused, Err(DepotError::BytesChanged { .. })), "{refused:?}");
        }
        shelves.withdraw("Holdfast", "1.0-2").unwrap();
        let other = Item { sha256: "other".to_owned(), ..first.clone() };
        assert!(matches!(shelves.put(other), Err(DepotError::BytesChanged { .. })));
        assert!(shelves.put(first).unwrap());
        assert_eq!(shelves.offered().count(), 1);
    }

    #[test]
    fn withdrawing_makes_room_for_a_lower_version_and_needs_something_to_withdraw() {
        let mut shelves = Shelves::default();
        shelves.put(item("1.0-3", &["x86_64"], 7)).unwrap();
        assert!(shelves.withdraw("Holdfast", "1.0-4").is_err());
        shelves.withdraw("Holdfast", "1.0-3").unwrap();
        assert!(shelves.put(item("1.0-2", &["x86_64"], 7)).unwrap());
        assert_eq!(shelves.newest()[0].version, "1.0-2");
    }

    #[test]
    fn the_newest_of_each_platform_and_dsm_is_known() {
        let mut shelves = Shelves::default();
        for (version, archs, major) in [
            ("1.0-1", &["x86_64"][..], 7),
            ("1.0-1", &["alpine", "monaco"][..], 7),
            ("1.0-1", &["x86_64"][..], 6),
            ("1.0-2", &["x86_64"][..], 7),
            ("1.0-2", &["alpine"][..], 7),
        ] {
            shelves.put(item(version, archs, major)).unwrap();
        }
        let files: Vec<_> = shelves.newest().iter().map(|item| item.file.as_str()).collect();
        assert_eq!(
            files,
            [
                // monaco still needs the older one
                "Holdfast-1.0-1-dsm7-alpine-monaco.spk",
                "Holdfast-1.0-1-dsm6-x86_64.spk",
                "Holdfast-1.0-2-dsm7-x86_64.spk",
                "Holdfast-1.0-2-dsm7-alpine.spk",
            ]
        );
        let read = Shelves::from_json(&shelves.to_json()).unwrap();
        assert_eq!(read, shelves);
    }
}
