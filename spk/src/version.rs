//! Package versions: `1.2.3-0004`, a feature version and a build number.
//!
//! DSM 7 accepts digits and the delimiters `.`, `-` and `_` only, each number up to 2147483647,
//! and offers an update when the feature version, then the build number, is greater. How it
//! compares versions of unequal length is not documented; here what is missing counts as zero.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// The largest number DSM accepts in any part of a version.
pub const PART_MAX: u32 = i32::MAX as u32;

/// A version longer than this is not one.
const TEXT_BYTES_MAX: usize = 64;

/// A package's version. Two spellings of the same numbers are equal: `1.0-1` and `1.0-0001`.
#[derive(Debug, Clone)]
pub struct Version {
    text: String,
    feature: Vec<u32>,
    build: u32,
}

impl Version {
    /// The version exactly as written. A catalog must repeat it byte for byte.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The number after the last dash.
    pub fn build(&self) -> u32 {
        self.build
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let shown = || text.chars().take(TEXT_BYTES_MAX).collect::<String>();
        let odd = text.chars().find(|c| !c.is_ascii_digit() && !matches!(c, '.' | '-' | '_'));
        if let Some(character) = odd {
            return Err(VersionError::Character { text: shown(), character });
        }
        let shape = || VersionError::Shape { text: shown() };
        let (feature, build) = text.rsplit_once('-').ok_or_else(shape)?;
        let number = |digits: &str| match digits {
            "" => Err(shape()),
            digits => (digits.parse::<u32>().ok())
                .filter(|number| *number <= PART_MAX)
                .ok_or_else(|| VersionError::Number { text: shown(), number: digits.into() }),
        };
        if text.len() > TEXT_BYTES_MAX {
            return Err(shape());
        }
        let mut numbers =
            feature.split(['.', '-', '_']).map(number).collect::<Result<Vec<u32>, _>>()?;
        while numbers.last() == Some(&0) {
            numbers.pop();
        }
        Ok(Self { text: text.into(), feature: numbers, build: number(build)? })
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        (&self.feature, self.build).cmp(&(&other.feature, other.build))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

/// Why a text is not a version DSM accepts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// A letter or something worse.
    #[error("version `{text}` holds `{character}`; DSM 7 accepts digits, `.`, `-` and `_` only")]
    Character {
        /// The text.
        text: String,
        /// What is not allowed in it.
        character: char,
    },
    /// No build number, or an empty part.
    #[error("version `{text}` is not of the form 1.2.3-0004")]
    Shape {
        /// The text.
        text: String,
    },
    /// Too large a number.
    #[error("version `{text}` holds the number {number}; DSM counts to {PART_MAX} only")]
    Number {
        /// The text.
        text: String,
        /// The number.
        number: String,
    },
}

impl VersionError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        "write a feature version, a dash and a build number that grows, such as 1.2.3-0004"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn a_package_center_orders_versions_by_feature_and_then_by_build() {
        let ascending =
            ["0.1.0-0001", "0.1.0-2", "0.1.0-0010", "0.2-1", "0.10-1", "1-1", "20180319-23"];
        for pair in ascending.windows(2) {
            assert!(version(pair[0]) < version(pair[1]), "{pair:?}");
        }
        assert_eq!(version("1.0-0001"), version("1-1"));
        assert_eq!(version("1.0-0001").text(), "1.0-0001");
    }

    #[test]
    fn what_dsm_7_refuses_is_refused_with_its_reason() {
        let refusal = |text: &str| text.parse::<Version>().unwrap_err().to_string();
        assert!(refusal("1.0lab-1").contains("`l`"));
        assert!(refusal("1.0-2147483648").contains("2147483647"));
        assert!(refusal("1.0-99999999999999999999").contains("2147483647"));
        for shapeless in ["", "1.0", "-1", "1.0-", "1..0-1"] {
            assert!(refusal(shapeless).contains("1.2.3-0004"), "{shapeless:?}");
        }
    }
}
