//! Where a REST server is: its URL, with user and password kept apart so that none is ever shown.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use ureq::http::Uri;

/// A longer location is a mistake.
const ADDRESS_BYTES_MAX: usize = 4096;

/// Where a repository is on a REST server.
#[derive(Clone)]
pub struct Address {
    /// With a `/` at its end and without user and password.
    url: String,
    /// As it may be shown.
    shown: String,
    /// The value of the header `Authorization`.
    authorization: Option<String>,
    is_secret: bool,
}

impl Address {
    /// Reads `http://host:port/path` or `https://user:password@host/path`, as they stand behind
    /// `rest:`. Bytes of user and password that have a meaning in a URL are written `%40`.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.len() > ADDRESS_BYTES_MAX {
            return Err(AddressError("it is longer than 4096 bytes"));
        }
        let scheme = ["http", "https"]
            .into_iter()
            .find(|scheme| text.strip_prefix(scheme).is_some_and(|rest| rest.starts_with("://")));
        let Some(scheme) = scheme else {
            return Err(AddressError("after `rest:` comes `http://` or `https://`"));
        };
        let rest = &text[scheme.len() + "://".len()..];
        if rest.contains(['?', '#']) {
            return Err(AddressError("`?` and `#` have no meaning in it"));
        }
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let (user_and_password, host) = match authority.rsplit_once('@') {
            Some((before, host)) => (Some(before), host),
            None => (None, authority),
        };
        let path = path.trim_end_matches('/');
        let url = format!("{scheme}://{host}{path}/");
        let is_sound = url.parse::<Uri>().is_ok_and(|uri| {
            let port_is_sound = uri.authority().is_some_and(|authority| {
                let port = authority.as_str().rsplit_once(':').map(|(_, port)| port);
                port.is_none_or(|port| port.ends_with(']') || port.parse::<u16>().is_ok())
            });
            uri.host().is_some_and(|name| !name.is_empty()) && port_is_sound
        });
        if !is_sound {
            return Err(AddressError("its host, port or path is none"));
        }
        let mut address =
            Self { shown: format!("rest:{url}"), url, authorization: None, is_secret: false };
        if let Some(text) = user_and_password {
            let (user, password) = match text.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (text, None),
            };
            let decoded = |text| {
                percent_decoded(text).ok_or(AddressError("`%` is not followed by two hex digits"))
            };
            let mut basic = decoded(user)?;
            basic.push(b':');
            basic.extend(decoded(password.unwrap_or_default())?);
            address.authorization = Some(format!("Basic {}", STANDARD.encode(basic)));
            address.is_secret = password.is_some();
            let mask = if address.is_secret { ":***" } else { "" };
            let user: String = user.chars().filter(|letter| !letter.is_control()).collect();
            address.shown = format!("rest:{scheme}://{user}{mask}@{host}{path}/");
        }
        Ok(address)
    }

    /// The URL of something in the repository.
    pub(super) fn url_of(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub(super) fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }
}

/// As it may be shown: without the password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", self.shown)
    }
}

/// Why a text is no address of a REST server. Never holds a piece of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(pub(crate) &'static str);

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        decoded.push(match byte {
            b'%' => (digit(bytes.next())? * 16 + digit(bytes.next())?) as u8,
            plain => plain,
        });
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_go_into_the_header_and_nowhere_else() {
        let address = Address::parse("https://alice:p%40ss:w/../@nas.local:8000/alice/b").err();
        assert!(address.is_some(), "an unescaped slash ends the host");
        let address = Address::parse("https://alice:p%40ss:%2Fw@nas.local:8000/alice/b").unwrap();
        let wanted = format!("Basic {}", STANDARD.encode("alice:p@ss:/w"));
        assert_eq!(address.authorization(), Some(&*wanted));
        assert_eq!(address.url_of("config"), "https://nas.local:8000/alice/b/config");
        assert_eq!(address.to_string(), "rest:https://alice:***@nas.local:8000/alice/b/");
        assert!(!format!("{address:?}").contains("%40"));
    }

    #[test]
    fn a_path_ends_in_one_slash_however_it_was_written() {
        for text in ["http://[::1]:8000/a", "http://[::1]:8000/a/", "http://[::1]:8000/a//"] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.url_of("keys/"), "http://[::1]:8000/a/keys/");
        }
        assert_eq!(Address::parse("http://h").unwrap().url_of("config"), "http://h/config");
        let of_user = Address::parse("http://bob@h/").unwrap();
        assert_eq!(of_user.to_string(), "rest:http://bob@h/");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "ftp://h/",
            "http:/h/",
            "http://",
            "http:///path",
            "http://h:port/",
            "http://h/?q",
            "http://a:%zz@h/",
            "http://h:99999/",
            "http://h/\n",
            "http://h h/",
            "https",
        ] {
            assert!(Address::parse(text).is_err(), "{text:?}");
        }
    }
}
