//! Mail to the depot's keepers: what ends soon, and what went wrong while nobody looked.
//!
//! The settings are a file of their own, so that a timer's line names them and no password stands
//! in it:
//!
//! ```toml
//! server = "smtp.example.org"
//! port = 587
//! security = "starttls"        # or "tls"; "none" only for a server on this machine
//! user = "depot"
//! password_file = "/etc/holdfast/mail.password"
//! from = "depot@example.org"
//! to = ["keeper@example.org"]
//! ```

use crate::problem::{Problem, Result};
use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{Message, SmtpTransport, Transport};
use serde::Deserialize;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longer settings are not read.
const SETTINGS_BYTES_MAX: u64 = 16 << 10;
/// A longer password is not read.
const PASSWORD_BYTES_MAX: u64 = 1 << 10;
/// Keepers that are written to, at most.
const TO_MAX: usize = 16;
/// A longer text is cut.
const TEXT_CHARS_MAX: usize = 8 << 10;
/// A mail server that says nothing for so long has failed.
const SILENCE_SECONDS_MAX: u64 = 60;

/// How the way to the mail server is kept private.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Security {
    Starttls,
    Tls,
    None,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    server: String,
    port: u16,
    security: Security,
    user: Option<String>,
    password_file: Option<PathBuf>,
    from: String,
    to: Vec<String>,
}

/// Somebody who can be written to.
pub struct Mail {
    settings: Settings,
    path: PathBuf,
}

impl Mail {
    /// Reads the settings in a file.
    pub fn open(path: &Path) -> Result<Self> {
        let text = read(path, SETTINGS_BYTES_MAX)?;
        let settings: Settings = toml::from_str(&text).map_err(|error| wrong(path, error))?;
        if settings.to.is_empty() || settings.to.len() > TO_MAX {
            return Err(wrong(path, std::io::Error::other(format!("`to` names 1 to {TO_MAX}"))));
        }
        let is_here = settings.server.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
            || settings.server == "localhost";
        if settings.security == Security::None && !is_here {
            let why = "`security = \"none\"` would send everything readable over the network";
            return Err(wrong(path, std::io::Error::other(why)));
        }
        Ok(Self { settings, path: path.to_owned() })
    }

    /// Sends a text to all keepers.
    pub fn send(&self, subject: &str, text: &str) -> Result<()> {
        let settings = &self.settings;
        let mailbox = |text: &str| -> Result<Mailbox> {
            text.parse().map_err(|error: lettre::address::AddressError| wrong(&self.path, error))
        };
        let mut message = Message::builder().from(mailbox(&settings.from)?).subject(subject);
        for to in &settings.to {
            message = message.to(mailbox(to)?);
        }
        let text: String = text.chars().take(TEXT_CHARS_MAX).collect();
        let message = message.body(text).map_err(unsent)?;
        self.transport()?.send(&message).map_err(unsent)?;
        Ok(())
    }

    fn transport(&self) -> Result<SmtpTransport> {
        let settings = &self.settings;
        let private = || TlsParameters::new(settings.server.clone()).map_err(unsent);
        let tls = match settings.security {
            Security::Starttls => Tls::Required(private()?),
            Security::Tls => Tls::Wrapper(private()?),
            Security::None => Tls::None,
        };
        let mut transport = SmtpTransport::builder_dangerous(&settings.server)
            .port(settings.port)
            .tls(tls)
            .timeout(Some(Duration::from_secs(SILENCE_SECONDS_MAX)));
        if let (Some(user), Some(path)) = (&settings.user, &settings.password_file) {
            let password = read(path, PASSWORD_BYTES_MAX)?.trim_end().to_owned();
            transport = transport.credentials(Credentials::new(user.clone(), password));
        }
        Ok(transport.build())
    }
}

fn read(path: &Path, bytes_max: u64) -> Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(bytes_max + 1).read_to_string(&mut text));
    match read {
        Ok(bytes) if bytes as u64 <= bytes_max => Ok(text),
        Ok(_) => Err(Problem::new(format!("{} is too long", path.display()))),
        Err(error) => Err(Problem::new(format!("cannot read {}", path.display())).because(error)),
    }
}

fn wrong(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Problem {
    Problem::new(format!("{} does not say how to send mail", path.display()))
        .because(error)
        .remedy("write it as supervisor/depot/ROTATE-KEYS.md shows, under Warnings by mail")
}

fn unsent(error: impl std::error::Error + Send + Sync + 'static) -> Problem {
    Problem::new("the mail could not be sent")
        .because(error)
        .remedy("check the mail server's name, port, user and password")
}
