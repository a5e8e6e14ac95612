//! Where the web console is and what lets a reader in: the port, and the file `.ui_info`.
//!
//! The file holds one line, as CrashPlan's did: `port,token,address`. The daemon writes it, with
//! mode 0600, each time it opens a port; a program of the same user may read it to find the
//! console. Without a port (none was to be had, or the owner wants none) the port is 0.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Where the console listens when its owner did not say otherwise, and where the icon on DSM's
/// desktop leads. What is free above it is taken when this port is not.
pub const PORT: u16 = 4243;

/// A longer file is no `.ui_info`.
pub const FILE_BYTES_MAX: usize = 256;

/// A token of fewer letters or digits could be guessed: 26 of 32 different ones are 130 bits.
pub const TOKEN_CHARS_MIN: usize = 26;

/// No token is longer.
pub const TOKEN_CHARS_MAX: usize = 64;

/// What lets a reader in: letters, digits and dashes, so that it can stand in any address.
///
/// `Debug` does not show it, so that no log does.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Token(String);

impl Token {
    /// The token itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `given` is this token. It takes as long whichever letter is the first wrong one.
    pub fn is(&self, given: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let differences = own.iter().zip(given).fold(0u8, |all, (a, b)| all | (a ^ b));
        own.len() == given.len() && std::hint::black_box(differences) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl FromStr for Token {
    type Err = UiInfoError;

    fn from_str(text: &str) -> Result<Self, UiInfoError> {
        let is_long_enough = (TOKEN_CHARS_MIN..=TOKEN_CHARS_MAX).contains(&text.len());
        if !is_long_enough || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(UiInfoError("its token is no token"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Token {
    type Error = UiInfoError;

    fn try_from(text: String) -> Result<Self, UiInfoError> {
        text.parse()
    }
}

impl From<Token> for String {
    fn from(token: Token) -> Self {
        token.0
    }
}

/// What `.ui_info` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UiInfo {
    /// The port, or 0 when nothing listens.
    pub port: u16,
    /// What lets a reader in.
    pub token: Token,
    /// The address that is listened at; `::` and `0.0.0.0` are all this computer has.
    pub address: IpAddr,
}

impl UiInfo {
    /// Reads the file's text.
    pub fn from_text(text: &str) -> Result<Self, UiInfoError> {
        let line = text.strip_suffix('\n').unwrap_or(text);
        let mut parts = line.split(',');
        let (Some(port), Some(token), Some(address), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(UiInfoError("it is not `port,token,address`"));
        };
        Ok(Self {
            port: port.parse().map_err(|_| UiInfoError("its port is no number"))?,
            token: token.parse()?,
            address: address.parse().map_err(|_| UiInfoError("its address is none"))?,
        })
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        format!("{},{},{}\n", self.port, self.token.as_str(), self.address)
    }
}

/// Why a text is not what `.ui_info` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UiInfoError(&'static str);

/// Where the owner wants the console to listen. As text: `off`, `everywhere`, an address, or an
/// address and a port (`192.168.1.5`, `192.168.1.5:8043`, `[fd00::5]:8043`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Listen {
    /// Nowhere.
    Off,
    /// At this address; the unspecified one of IPv6 is every address of both kinds. Port 0 is any
    /// that is free.
    At(SocketAddr),
}

impl Default for Listen {
    fn default() -> Self {
        Self::At(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), PORT))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            wish if *wish == Self::default() => f.write_str("everywhere"),
            Self::At(address) => write!(f, "{address}"),
        }
    }
}

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        let whole = || text.parse::<SocketAddr>().ok();
        let address = || Some(SocketAddr::new(text.parse().ok()?, PORT));
        match text {
            "off" => Ok(Self::Off),
            "everywhere" => Ok(Self::default()),
            _ => {
                let unknown = || ListenError { text: text.chars().take(60).collect() };
                whole().or_else(address).map(Self::At).ok_or_else(unknown)
            }
        }
    }
}

impl TryFrom<String> for Listen {
    type Error = ListenError;

    fn try_from(text: String) -> Result<Self, ListenError> {
        text.parse()
    }
}

impl From<Listen> for String {
    fn from(wish: Listen) -> Self {
        wish.to_string()
    }
}

/// A text that says no place to listen at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no place for the console: off, everywhere, ADDRESS or ADDRESS:PORT")]
pub struct ListenError {
    text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdefghjkmnpqrstvwxyz";

    #[test]
    fn what_is_written_is_read_again_and_all_else_is_refused() {
        for address in ["::", "0.0.0.0", "192.168.1.5", "fe80::1"] {
            let text = format!("4243,{TOKEN},{address}\n");
            let info = UiInfo::from_text(&text).unwrap();
            assert_eq!((info.port, info.token.as_str()), (4243, TOKEN));
            assert_eq!(info.to_text(), text);
        }
        let wrong = [
            String::new(),
            format!("4243,{TOKEN}"),
            format!("4243,{TOKEN},::,more"),
            format!("70000,{TOKEN},::"),
            format!("4243,{TOKEN},nas"),
            "4243,short,::".to_owned(),
            format!("4243,{},::", "x".repeat(TOKEN_CHARS_MAX + 1)),
            format!("4243,{}\n,::", "x".repeat(TOKEN_CHARS_MIN)),
            format!("4243,{}é,::", "x".repeat(TOKEN_CHARS_MIN)),
        ];
        for text in wrong {
            assert!(UiInfo::from_text(&text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn only_the_whole_token_is_the_token_and_no_log_shows_it() {
        let token: Token = TOKEN.parse().unwrap();
        assert!(token.is(TOKEN.as_bytes()));
        let last_differs = TOKEN.replace('z', "y");
        for wrong in ["", &TOKEN[1..], &TOKEN[..31], &format!("{TOKEN}0"), &last_differs] {
            assert!(!token.is(wrong.as_bytes()), "{wrong}");
        }
        assert!(!format!("{token:?}").contains("0123"));
    }

    #[test]
    fn places_to_listen_at_are_read_as_people_write_them() {
        let of = |text: &str| text.parse::<Listen>().map(|listen| listen.to_string());
        assert_eq!(of("off").unwrap(), "off");
        assert_eq!(of("everywhere").unwrap(), "everywhere");
        assert_eq!(of("[::]:4243").unwrap(), "everywhere");
        assert_eq!(of("192.168.1.5").unwrap(), "192.168.1.5:4243");
        assert_eq!(of("192.168.1.5:80").unwrap(), "192.168.1.5:80");
        assert_eq!(of("fd00::5").unwrap(), "[fd00::5]:4243");
        for wrong in ["", "nas", "4243", "on", "1.2.3.4:99999"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
