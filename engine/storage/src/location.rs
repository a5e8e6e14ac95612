//! How an owner writes where a repository is.

use crate::{
    AccessKey, Address, Folder, Patience, Persistence, Rates, Rest, Retrying, S3, S3Address, Sftp,
    SftpAddress, SshProgram, Storage, SystemClock, Throttled,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How to go to a destination, wherever it is.
#[derive(Debug, Clone)]
pub struct Way {
    /// A folder on this machine for packs on their way to a server; some of them at a time.
    pub scratch: PathBuf,
    /// How fast.
    pub rates: Rates,
    /// What opens a bucket, where the destination is one.
    pub access_key: Option<AccessKey>,
    /// What makes the line, where the destination is a server to log in to.
    pub ssh: SshProgram,
    /// Whether to try again for a quarter of an hour what may work in a moment; or to give up soon,
    /// as when somebody waits to see whether a server is there.
    pub is_patient: bool,
}

impl Way {
    /// The usual way: as fast as it goes, and patient.
    pub fn over(scratch: PathBuf) -> Self {
        let (rates, ssh) = (Rates::default(), SshProgram::default());
        Self { scratch, rates, access_key: None, ssh, is_patient: true }
    }

    fn patience(&self) -> Patience {
        if self.is_patient { Patience::default() } else { Patience::brief() }
    }

    fn bucket(&self, address: S3Address) -> Arc<dyn Storage> {
        let clock = Arc::new(SystemClock::begin());
        let key = self.access_key.clone();
        let s3 = S3::at_rates(address, key, &self.scratch, self.patience(), self.rates, clock);
        match self.is_patient {
            true => self.persistent(s3.persistent(Persistence::default())),
            false => Arc::new(s3),
        }
    }

    fn persistent(&self, server: impl Storage + 'static) -> Arc<dyn Storage> {
        match self.is_patient {
            true => Arc::new(Retrying::around(Arc::new(server), Persistence::default())),
            false => Arc::new(server),
        }
    }
}

/// Opens the storage a location names: `/a/folder`, `a/folder`, `file:///a/folder`,
/// `rest:https://user:password@host:8000/path`, `s3:https://host/bucket/path` or
/// `sftp:user@host:/path`. Packs wait in the
/// system's folder for temporary files; see [`open_by`] for another.
///
/// Nothing is touched yet: whether the place exists shows at the first call.
pub fn open(location: &str) -> Result<Arc<dyn Storage>, LocationError> {
    open_by(location, &Way::over(std::env::temp_dir()))
}

/// Opens the storage a location names, as [`open`] does, to be gone to in this way.
pub fn open_by(location: &str, way: &Way) -> Result<Arc<dyn Storage>, LocationError> {
    named(location, way)
}

fn folder(path: &str, way: &Way) -> Arc<dyn Storage> {
    paced(Arc::new(Folder::at(Path::new(path))), way)
}

/// For what has no line of its own to pace.
fn paced(storage: Arc<dyn Storage>, way: &Way) -> Arc<dyn Storage> {
    match way.rates == Rates::default() {
        true => storage,
        false => Arc::new(Throttled::around(storage, way.rates)),
    }
}

fn named(location: &str, way: &Way) -> Result<Arc<dyn Storage>, LocationError> {
    let refuse = |reason| {
        let text = without_secret(location).chars().take(200).collect();
        Err(LocationError { text, reason })
    };
    if location.is_empty() {
        return refuse("it is empty");
    }
    if location.contains('\0') {
        return refuse("it holds a NUL byte");
    }
    if let Some(path) = location.strip_prefix("file://") {
        return match path.starts_with('/') {
            true => Ok(folder(path, way)),
            false => refuse("after `file://` comes an absolute path, as in `file:///volume1/b`"),
        };
    }
    if let Some(address) = location.strip_prefix("rest:") {
        return match Address::parse(address) {
            Ok(address) => {
                let clock = Arc::new(SystemClock::begin());
                let patience = way.patience();
                let rest = Rest::at_rates(address, &way.scratch, patience, way.rates, clock);
                Ok(way.persistent(rest))
            }
            Err(reason) => refuse(reason.0),
        };
    }
    if let Some(address) = location.strip_prefix("s3:") {
        return match S3Address::parse(address) {
            Ok(address) => Ok(way.bucket(address)),
            Err(reason) => refuse(reason.0),
        };
    }
    if let Some(address) = location.strip_prefix("sftp:") {
        return match SftpAddress::parse(address) {
            Ok(address) => {
                let sftp = Sftp::at(address, way.ssh.clone(), &way.scratch, way.patience());
                Ok(paced(way.persistent(sftp), way))
            }
            Err(reason) => refuse(reason.0),
        };
    }
    let is_scheme = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    match location.split_once(':') {
        Some((scheme, _)) if is_scheme(scheme) => refuse(
            "only folders, REST servers, buckets and SSH servers exist now, as in \
             `/volume1/backup`, `rest:https://host:8000/backup`, `s3:https://host/bucket` or \
             `sftp:user@host:/backup`",
        ),
        _ => Ok(folder(location, way)),
    }
}

/// The location with `***` in place of a password, fit for a message or a log.
pub fn without_secret(location: &str) -> String {
    let Some(authority) = location.find("://").map(|at| at + "://".len()) else {
        return location.into();
    };
    let is_folder = location.starts_with("file://") || location.starts_with(['/', '.']);
    let (before, rest) = location.split_at(authority);
    // Up to the last `@`: a password that was not escaped may hold one, or a `/`.
    match rest.rsplit_once('@') {
        Some((user_and_password, host)) if !is_folder => match user_and_password.split_once(':') {
            Some((user, _)) => format!("{before}{user}:***@{host}"),
            None => location.into(),
        },
        _ => location.into(),
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
        "Name a folder by its absolute path, a server as in `rest:https://host:8000/path` or \
         `sftp:user@host:/path`, or a bucket as in `s3:https://host/bucket/path`; a folder whose \
         name holds a colon is written with `./` or `file://` in front."
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
        for text in ["azure:bucket:/", "gs:bucket:/", "b2:x", "rclone:x:y"] {
            let message = open(text).err().unwrap().to_string();
            assert!(message.contains("only folders, REST servers, buckets"), "{message}");
        }
        for text in ["", "file://host/path", "a\0b", "rest:", "rest:host/", "rest:ftp://host/"] {
            assert!(open(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_server_is_opened_by_its_url_and_its_password_is_never_shown() {
        let location = "rest:https://me:se%20cret@host:8000/a";
        let storage = open(location).unwrap();
        assert_eq!(storage.location(), "rest:https://me:***@host:8000/a/");
        assert_eq!(without_secret(location), "rest:https://me:***@host:8000/a");
        for text in [
            "rest:http://me:secret@host:port/",
            "rest:http://me:a/secret@host/",
            "rest:http://me:%secret@host/",
            "s3:https://me:secret@host/bucket",
            "sftp://me:secret@host/path",
        ] {
            let message = open(text).err().unwrap().to_string();
            assert!(!message.contains("secret"), "{message}");
        }
        for plain in ["/a@b:c/d", "rest:http://me@host/", "file:///a:b@c", "./x://a:b@c"] {
            assert_eq!(without_secret(plain), plain);
        }
    }
}
