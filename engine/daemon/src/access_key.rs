//! The key of a bucket as it is written down: lines as the environment has them.
//!
//! ```text
//! AWS_ACCESS_KEY_ID=AKIA…
//! AWS_SECRET_ACCESS_KEY=…
//! AWS_DEFAULT_REGION=eu-west-1
//! ```
//!
//! It comes from the environment or from a file, never from the command line, which every user of
//! the machine can read, and is never logged.

use crate::failure::Failure;
use engine_contract::environment;
use engine_storage::AccessKey;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// A file of keys is a few lines; a longer one is something else.
const FILE_BYTES_MAX: u64 = 16 << 10;

/// The key that variables hold; without id and secret there is none.
pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Option<AccessKey> {
    Some(AccessKey {
        id: variable(environment::S3_KEY_ID)?,
        secret: variable(environment::S3_KEY_SECRET)?,
        token: variable(environment::S3_KEY_TOKEN),
        region: variable(environment::S3_REGION).or_else(|| variable(environment::S3_REGION_TOO)),
    })
}

/// The key a text holds. `export`, quotes, notes behind `#` and other variables do not disturb.
pub fn from_text(text: &str) -> Option<AccessKey> {
    from_variables(|wanted| {
        text.lines().find_map(|line| {
            let line = line.trim();
            let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
            let value = value.trim().trim_matches(['"', '\'']);
            (name.trim() == wanted && !value.is_empty()).then(|| value.to_owned())
        })
    })
}

/// The key as [`from_text`] reads it.
pub fn to_text(key: &AccessKey) -> String {
    let line = |name: &str, value: &str| format!("{name}={value}\n");
    let mut text = line(environment::S3_KEY_ID, &key.id);
    text += &line(environment::S3_KEY_SECRET, &key.secret);
    if let Some(token) = &key.token {
        text += &line(environment::S3_KEY_TOKEN, token);
    }
    if let Some(region) = &key.region {
        text += &line(environment::S3_REGION, region);
    }
    text
}

/// The key in a file.
pub fn read(path: &Path) -> Result<AccessKey, Failure> {
    let failed = |why: String| {
        Failure::new(format!("the file {} cannot be used: {why}", path.display())).remedy(
            "name a file with the lines AWS_ACCESS_KEY_ID=… and AWS_SECRET_ACCESS_KEY=…, and \
             AWS_DEFAULT_REGION=… where the service has regions",
        )
    };
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text))
        .map_err(|error| failed(error.to_string()))?;
    from_text(&text).ok_or_else(|| failed("it holds no access key".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_however_it_was_written_down() {
        let text = "# mine\nexport AWS_ACCESS_KEY_ID='id'\nAWS_SECRET_ACCESS_KEY = \"a=b+/\" \n\
                    PATH=/bin\nAWS_REGION=garage\n";
        let key = from_text(text).unwrap();
        assert_eq!(
            (&*key.id, &*key.secret, key.region.as_deref()),
            ("id", "a=b+/", Some("garage"))
        );
        assert_eq!(from_text(&to_text(&key)), Some(key));
        assert_eq!(from_text("AWS_ACCESS_KEY_ID=id\nAWS_SECRET_ACCESS_KEY=\n"), None);
    }

    #[test]
    fn a_file_without_a_key_says_what_is_wanted_and_shows_nothing_of_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "AWS_SECRET_ACCESS_KEY=hush\n").unwrap();
        let failure = read(&path).unwrap_err();
        assert!(failure.remedy_text().unwrap().contains("AWS_ACCESS_KEY_ID"));
        assert!(!failure.to_string().contains("hush"));
    }
}
