//! What a NAS asks of the catalog, read leniently: Package Center of DSM 4 to 7 by GET or POST, an
//! "Add source" probe without parameters, and whatever else comes along.
//!
//! Nothing here is an error. A parameter that makes no sense is as good as none: a catalog that
//! answers anything but 200 and a list makes Package Center say "invalid location".

/// Longer queries and forms are cut off here: Package Center's have some 250 bytes.
pub const QUERY_BYTES_MAX: usize = 8 * 1024;

/// Parameters beyond this are passed over.
const PARAMETERS_MAX: usize = 64;

/// A platform's or language's name is not longer than this.
const WORD_BYTES_MAX: usize = 32;

/// What was asked, as far as it could be understood.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Asked {
    /// The platform's codename.
    pub arch: Option<String>,
    /// The DSM build.
    pub build: Option<u32>,
    /// The DSM's major version.
    pub major: Option<u32>,
    /// Three letters; `enu` when nothing was said.
    pub language: String,
    /// The owner wants betas.
    pub beta: bool,
}

/// The form of an answer. It changed twice in DSM's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Before DSM 5.1: a bare list.
    List,
    /// DSM 5.1 to 6.2, and routers: packages and the publishers' keys.
    PackagesAndKeyrings,
    /// DSM 7, and whoever does not say.
    Packages,
}

/// The first build of DSM 5.1.
const BUILD_5_1: u32 = 5004;
/// The first build of DSM 7.
const BUILD_7: u32 = 40_000;

impl Asked {
    /// Reads a query or a form.
    pub fn read(query: &str) -> Self {
        let mut asked = Self { language: "enu".to_owned(), ..Self::default() };
        for (key, value) in pairs(query) {
            match key.as_str() {
                "arch" => asked.arch = word(&value).or(asked.arch),
                "build" => asked.build = number(&value).or(asked.build),
                "major" => asked.major = number(&value).or(asked.major),
                "language" => asked.language = word(&value).unwrap_or(asked.language),
                "package_update_channel" => asked.beta = value == "beta",
                _ => {}
            }
        }
        asked
    }

    /// The same with what `other` says beyond it: a POST may carry parameters in its address too.
    pub fn or(self, other: Self) -> Self {
        let language = if self.language == "enu" { other.language } else { self.language };
        Self {
            arch: self.arch.or(other.arch),
            build: self.build.or(other.build),
            major: self.major.or(other.major),
            language,
            beta: self.beta || other.beta,
        }
    }

    /// The major version of DSM, derived from the build when it is not said.
    pub fn dsm_major(&self) -> Option<u32> {
        self.major.or_else(|| {
            Some(match self.build? {
                ..4418 => 4,
                4418..7135 => 5,
                7135..BUILD_7 => 6,
                _ => 7,
            })
        })
    }

    /// The form the answer must have.
    pub fn shape(&self) -> Shape {
        match (self.build, self.major) {
            (Some(..BUILD_5_1), _) | (None, Some(..5)) => Shape::List,
            (Some(BUILD_5_1..BUILD_7), _) | (None, Some(5..7)) => Shape::PackagesAndKeyrings,
            _ => Shape::Packages,
        }
    }
}

fn word(value: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let sound = !value.is_empty() && value.len() <= WORD_BYTES_MAX && value.chars().all(allowed);
    sound.then(|| value.to_owned())
}

fn number(value: &str) -> Option<u32> {
    value.trim().parse().ok()
}

fn pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    let whole = query.len().min(QUERY_BYTES_MAX);
    let query = query.get(..whole).unwrap_or_default();
    query.split('&').take(PARAMETERS_MAX).filter_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        Some((decoded(key), decoded(value)))
    })
}

/// Undoes form encoding. What is no sound escape stands for itself.
pub fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let digit = |at: usize| (*bytes.get(at)? as char).to_digit(16);
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 2;
            }
            (b'+', _, _) => out.push(b' '),
            (byte, _, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_as_good_as_nothing() {
        let nothing = Asked { language: "enu".to_owned(), ..Asked::default() };
        for query in [
            "",
            "&&&",
            "=",
            "arch",
            "arch=",
            "build=x",
            "build=-1",
            "build=99999999999999",
            "%",
            "%zz=%",
            "arch=../../etc",
            "language=%00%00",
            "arch=a%20b",
            "major=7.2",
            &format!("arch={}", "a".repeat(33)),
            &"a=b&".repeat(10_000),
        ] {
            assert_eq!(Asked::read(query), nothing, "{query:.60}");
        }
    }

    #[test]
    fn escapes_are_undone_and_broken_ones_kept() {
        assert_eq!(decoded("a%2Fb+c%2"), "a/b c%2");
        assert_eq!(decoded("%E4"), "\u{fffd}");
        assert_eq!(Asked::read("%61rch=geminilakenk").arch.as_deref(), Some("geminilakenk"));
    }

    #[test]
    fn the_form_of_the_answer_follows_the_build_and_else_the_major_version() {
        let shape = |query: &str| Asked::read(query).shape();
        assert_eq!(shape("build=5003"), Shape::List);
        assert_eq!(shape("build=5004"), Shape::PackagesAndKeyrings);
        assert_eq!(shape("build=39999&major=7"), Shape::PackagesAndKeyrings);
        assert_eq!(shape("build=40000"), Shape::Packages);
        assert_eq!(shape("major=4"), Shape::List);
        assert_eq!(shape("major=6"), Shape::PackagesAndKeyrings);
        assert_eq!(shape(""), Shape::Packages);
        assert_eq!(Asked::read("build=25556").dsm_major(), Some(6));
    }
}
