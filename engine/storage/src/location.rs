//! How an owner writes where a repository is.

use crate::{Folder, Storage};
use std::path::Path;
use std::sync::Arc;

/// Opens the storage a location names: `/a/folder`, `a/folder` or `file:///a/folder`.
///
/// Nothing is touched yet: whether the place exists shows at the first call.
pub fn open(location: &str) -> Result<Arc<dyn Storage>, LocationError> {
    let refuse = |reason| Err(LocationError { text: location.chars().take(200).collect(), reason });
    if location.is_empty() {
        return refuse("it is empty");
    }
    if location.contains('\0') {
        return refuse("it holds a NUL byte");
    }
    if let Some(path) = location.strip_prefix("file://") {
        return match path.starts_with('/') {
            true => Ok(Arc::new(Folder::at(Path::new(path)))),
            false => refuse("after `file://` comes an absolute path, as in `file:///volume1/b`"),
        };
    }
    let is_scheme = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    match location.split_once(':') {
        Some((scheme, _)) if is_scheme(scheme) => {
            refuse("only folders exist now, as in `/volume1/backup` or `file:///volume1/backup`")
        }
        _ => Ok(Arc::new(Folder::at(Path::new(location)))),
    }
}

/// A text that names no storage this program knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a place for a repository: {reason}")]
pub struct LocationError {
    text: String,
    reason: &'static str,
}

impl LocationError {
    /// What the owner can do.
    pub fn remedy(&self) -> &'static str {
        "Name a folder by its absolute path; a folder whose name holds a colon is written \
         with `./` or `file://` in front."
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_opened_by_path_and_by_file_url() {
        for (text, shown) in [("/a/b", "/a/b"), ("file:///a/b", "/a/b"), ("./s3:x", "./s3:x")] {
            assert_eq!(open(text).unwrap().location(), shown);
        }
    }

    #[test]
    fn what_does_not_exist_yet_is_refused_with_a_sentence_that_says_what_does() {
        for text in ["s3:https://host/bucket", "rest:http://host/", "sftp:user@host:/x", "b2:x"] {
            let message = open(text).err().unwrap().to_string();
            assert!(message.contains("only folders exist now"), "{message}");
        }
        for text in ["", "file://host/path", "a\0b"] {
            assert!(open(text).is_err(), "{text:?}");
        }
    }
}
