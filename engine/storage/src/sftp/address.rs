//! Where a repository on an SSH server is, as restic's users write it.

use std::fmt;
use std::path::{Path, PathBuf};

/// Numbers of ports, the schemes and the like aside, no part of an address is longer, in bytes.
const PART_BYTES_MAX: usize = 4096;

/// `user@host:path` or `//user@host:port/path`, without the `sftp:` in front.
///
/// In the first form the path is taken as it is: one that does not begin with `/` is below the
/// user's home. In the second a `/` ends host and port, so that a path from the root has two
/// (`//host//volume1/backup`). There is no place for a password: `ssh` logs in with keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SftpAddress {
    text: String,
    user: Option<String>,
    host: String,
    port: Option<u16>,
    path: PathBuf,
}

/// Why a text is no such address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SftpAddressError(pub(crate) &'static str);

impl SftpAddress {
    /// Reads what stands behind `sftp:`.
    pub fn parse(text: &str) -> Result<Self, SftpAddressError> {
        if text.len() > PART_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(SftpAddressError("it is too long, or holds a control character"));
        }
        let (login, port, path) = match text.strip_prefix("//") {
            Some(url) => {
                let (authority, path) = url.split_once('/').ok_or(NO_PATH)?;
                let (login, port) = login_and_port(authority)?;
                (login, port, path)
            }
            None => {
                let (login, path) = text.split_once(':').ok_or(NO_PATH)?;
                (login, None, path)
            }
        };
        let (user, host) = match login.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, login),
        };
        if user.is_some_and(|user| user.contains(':')) {
            return Err(SftpAddressError("it holds a password; `ssh` logs in with keys"));
        }
        let host = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
        for word in [Some(host), user].into_iter().flatten() {
            // What begins with a dash would be an option to `ssh`.
            if word.is_empty() || word.starts_with('-') || word.contains(char::is_whitespace) {
                return Err(SftpAddressError("its user or host is none, as in `user@host:path`"));
            }
        }
        if path.is_empty() {
            return Err(NO_PATH);
        }
        if path.starts_with('~') {
            return Err(SftpAddressError(
                "servers know no `~`; a path that does not begin with `/` is below the home",
            ));
        }
        Ok(Self {
            text: text.into(),
            user: user.map(str::to_owned),
            host: host.into(),
            port,
            path: path.into(),
        })
    }

    /// The folder of the repository on the server.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What `ssh` is told to get there, but for what the owner wants told besides.
    pub(super) fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        if let Some(port) = self.port {
            words.extend(["-p".to_owned(), port.to_string()]);
        }
        if let Some(user) = &self.user {
            words.extend(["-l".to_owned(), user.clone()]);
        }
        words.extend(["-s", "--", &self.host, "sftp"].map(str::to_owned));
        words
    }
}

impl fmt::Display for SftpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sftp:{}", self.text)
    }
}

const NO_PATH: SftpAddressError =
    SftpAddressError("it names no folder, as in `user@host:path` or `//user@host:22/path`");

fn login_and_port(authority: &str) -> Result<(&str, Option<u16>), SftpAddressError> {
    let bad_port = |_| SftpAddressError("its port is no number from 1 to 65535");
    let after_bracket = authority.rfind(']').map_or(0, |at| at + 1);
    match authority[after_bracket..].rfind(':') {
        None => Ok((authority, None)),
        // A password, which is told so later.
        Some(at) if authority[after_bracket + at..].contains('@') => Ok((authority, None)),
        Some(at) => {
            let (login, port) = authority.split_at(after_bracket + at);
            let port = port[1..].parse::<std::num::NonZeroU16>().map_err(bad_port)?;
            Ok((login, Some(port.get())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_restic_reads_them() {
        for (text, words, path) in [
            ("host:/srv/backup", "-s -- host sftp", "/srv/backup"),
            ("me@host:backup", "-l me -s -- host sftp", "backup"),
            ("me@here@host:b", "-l me@here -s -- host sftp", "b"),
            ("//me@host/backup", "-l me -s -- host sftp", "backup"),
            ("//host:2222//srv/backup", "-p 2222 -s -- host sftp", "/srv/backup"),
            ("//me@[::1]:22//b", "-p 22 -l me -s -- ::1 sftp", "/b"),
            ("//[fe80::1]/b", "-s -- fe80::1 sftp", "b"),
        ] {
            let address = SftpAddress::parse(text).unwrap();
            assert_eq!(address.words().join(" "), words, "{text}");
            assert_eq!(address.path(), Path::new(path), "{text}");
            assert_eq!(address.to_string(), format!("sftp:{text}"));
        }
    }

    #[test]
    fn what_is_no_address_is_refused_before_anything_is_started() {
        for text in [
            "",
            "host",
            "host:",
            "//host",
            "//host/",
            "-oProxyCommand=x:/b",
            "-l@host:/b",
            "me@:/b",
            "@host:/b",
            "a b:/c",
            "host:~/b",
            "//host:0/b",
            "//host:99999/b",
            "//host:x/b",
            "//me:secret@host/b",
            "host:/a\nb",
        ] {
            assert!(SftpAddress::parse(text).is_err(), "{text:?}");
        }
    }
}
