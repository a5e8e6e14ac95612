//! What a server's refusal means to the owner.

use crate::{Name, StorageError};
use std::io;
use ureq::http::StatusCode;

/// What was asked for, for a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// Fits behind "could not" and "does not let this user".
    pub action: &'static str,
    /// The file it was about.
    pub name: Option<Name>,
}

/// The error that stands for an answer that is no success.
pub(crate) fn refused(location: String, status: StatusCode, asked: Asked) -> StorageError {
    let action = asked.action;
    match (status.as_u16(), asked.name) {
        (401, _) => StorageError::Unauthorized { location },
        (403, _) => StorageError::Forbidden { location, action },
        (404, Some(name)) => StorageError::NotFound { location, name },
        (413 | 507, _) => {
            let cause = io::Error::other(format!("the server answered {}", status.as_u16()));
            StorageError::Full { location, cause }
        }
        // 400: what arrived was not what was sent. 408, 429: later. 5xx: it failed.
        (400 | 408 | 429 | 500 | 502..=599, _) => {
            StorageError::ServerFailed { location, action, status: status.as_u16() }
        }
        (300..=399, _) => foreign(location, "it sends us elsewhere".into()),
        (405 | 501, _) => foreign(location, format!("it cannot {action}")),
        (other, _) => foreign(location, format!("asked to {action}, it answered {other}")),
    }
}

fn foreign(location: String, reason: String) -> StorageError {
    StorageError::Foreign { location, reason }
}

/// The error that stands for no answer at all.
pub(crate) fn unreachable(location: String, cause: ureq::Error) -> StorageError {
    match cause {
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) => {
            StorageError::Untrusted { location, cause: cause.into() }
        }
        // TLS tells of a bad certificate through the reading of the first bytes.
        ureq::Error::Io(cause) if is_of_tls(&cause) => {
            StorageError::Untrusted { location, cause: cause.into() }
        }
        ureq::Error::Io(cause) => StorageError::Unreachable { location, cause: cause.into() },
        ureq::Error::Protocol(_)
        | ureq::Error::LargeResponseHeader(..)
        | ureq::Error::BadUri(_)
        | ureq::Error::Http(_) => foreign(location, cause.to_string()),
        cause => StorageError::Unreachable { location, cause: cause.into() },
    }
}

fn is_of_tls(cause: &io::Error) -> bool {
    cause.kind() == io::ErrorKind::InvalidData
        && cause.get_ref().is_some_and(|inner| inner.to_string().contains("certificate"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16) -> StorageError {
        let asked = Asked { action: "read a file", name: Some(Name::CONFIG) };
        refused("rest:http://h/".into(), StatusCode::from_u16(status).unwrap(), asked)
    }

    #[test]
    fn every_refusal_has_its_kind_and_only_failures_of_the_server_pass() {
        assert!(matches!(of(401), StorageError::Unauthorized { .. }));
        assert!(matches!(of(403), StorageError::Forbidden { .. }));
        assert!(matches!(of(404), StorageError::NotFound { .. }));
        assert!(matches!(of(507), StorageError::Full { .. }));
        assert!(matches!(of(413), StorageError::Full { .. }));
        for status in [301, 307, 405, 411, 418, 501] {
            assert!(matches!(of(status), StorageError::Foreign { .. }), "{status}");
        }
        for status in 300..600 {
            let passes = matches!(status, 400 | 408 | 429 | 500 | 502..=506 | 508..=599);
            assert_eq!(of(status).is_passing(), passes, "{status}");
            assert!(of(status).remedy().len() > 40, "{status}");
        }
    }
}
