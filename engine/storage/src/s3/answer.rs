//! What a service's refusal means to the owner.
//!
//! Services tell more than a status: a code, in a few lines of XML. The same code has different
//! statuses at different services, so the code is looked at first.

use crate::StorageError;
use crate::http::{Asked, Http};
use ureq::Body;
use ureq::http::Response;

/// Clocks further apart than this are refused by every service.
const SKEW_SECONDS_MAX: i64 = 10 * 60;

/// What a service says of itself is shown up to here.
const SAID_LETTERS_MAX: usize = 200;

/// What a refusal says.
#[derive(Debug, Default)]
pub(super) struct Said {
    status: u16,
    code: String,
    message: String,
    /// The region the bucket is in, when it is another than the one that was signed for.
    pub region: Option<String>,
    /// By how many seconds the service's clock is ahead of ours.
    skew_seconds: i64,
}

impl Said {
    /// Takes the refusal from an answer.
    pub fn by(http: &Http, answer: Response<Body>) -> Self {
        let header = |name| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
        let there = header("date").and_then(|date| seconds_of(&date));
        let here = std::time::SystemTime::UNIX_EPOCH.elapsed().map(|since| since.as_secs() as i64);
        let skew_seconds = there.zip(here.ok()).map_or(0, |(there, here)| there - here);
        let region = header("x-amz-bucket-region");
        let status = answer.status().as_u16();
        let text = http.remark(answer);
        let element = |name| element(&text, name);
        Self {
            status,
            code: element("Code").unwrap_or_default(),
            message: element("Message").unwrap_or_default(),
            region: element("Region").or(region).filter(|region| is_region(region)),
            skew_seconds,
        }
    }

    /// Whether the request was signed for the wrong region.
    pub fn is_of_region(&self) -> bool {
        let is_code = matches!(
            self.code.as_str(),
            "AuthorizationHeaderMalformed"
                | "AuthorizationQueryParametersError"
                | "PermanentRedirect"
                | "TemporaryRedirect"
                | "IllegalLocationConstraintException"
                | "InvalidRegionName"
        );
        is_code || (matches!(self.status, 301 | 307 | 400) && self.region.is_some())
    }

    /// Whether it may only say that it knows no conditions.
    pub fn is_of_condition(&self) -> bool {
        self.status == 501 || self.code == "NotImplemented"
    }

    /// The error that stands for it.
    pub fn error(self, http: &Http, asked: Asked) -> StorageError {
        let location = http.location();
        let Asked { action, name } = asked;
        let status = self.status;
        let is_skewed = self.skew_seconds.abs() > SKEW_SECONDS_MAX;
        if self.code == "RequestTimeTooSkewed" || (matches!(status, 400 | 401 | 403) && is_skewed) {
            return StorageError::ClockWrong { location, minutes: self.skew_seconds / 60 };
        }
        if self.is_of_region() {
            return StorageError::RegionWrong { location, region: self.region };
        }
        let is_quota = |text: &str| text.to_ascii_lowercase().contains("quota");
        if is_quota(&self.code) || is_quota(&self.message) {
            let cause = std::io::Error::other(self.told());
            return StorageError::Full { location, cause };
        }
        let is_of_key = self.message.contains("No such key") && status == 403;
        let is_of_signature = self.message.contains("nvalid signature");
        match self.code.as_str() {
            "NoSuchBucket" => StorageError::Gone { location },
            "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "InvalidToken"
            | "ExpiredToken"
            | "InvalidSecurity"
            | "NotSignedUp" => StorageError::KeyRefused { location },
            _ if is_of_key || is_of_signature || status == 401 => {
                StorageError::KeyRefused { location }
            }
            "SlowDown" | "RequestLimitExceeded" | "ServiceUnavailable" | "TooManyRequests" => {
                StorageError::Busy { location }
            }
            _ if status == 429 => StorageError::Busy { location },
            "PreconditionFailed" => match name {
                Some(name) => StorageError::AlreadyExists { location, name },
                None => http.foreign(self.told()),
            },
            // What arrived was not what was sent, or somebody else is at it: again.
            "BadDigest"
            | "InvalidDigest"
            | "IncompleteBody"
            | "RequestTimeout"
            | "XAmzContentSHA256Mismatch"
            | "OperationAborted"
            | "ConditionalRequestConflict"
            | "InternalError"
            | "NoSuchUpload" => StorageError::ServerFailed { location, action, status },
            _ if status == 412 && name.is_some() => {
                StorageError::AlreadyExists { location, name: name.unwrap_or(crate::Name::CONFIG) }
            }
            _ if status == 400 => {
                http.foreign(format!("asked to {action}, it answered {}", self.told()))
            }
            _ => match ureq::http::StatusCode::from_u16(status) {
                Ok(status) => http.refused(status, asked),
                Err(_) => http.foreign(self.told()),
            },
        }
    }

    fn told(&self) -> String {
        let told = format!("{} {} {}", self.status, self.code, self.message);
        told.chars().filter(|letter| !letter.is_control()).take(SAID_LETTERS_MAX).collect()
    }
}

/// The text of the first element of a name. The few words of a refusal need no more of XML.
fn element(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once('<')?.0.trim().to_owned())
}

fn is_region(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=64).contains(&text.len()) && text.bytes().all(is_letter)
}

/// Seconds since 1970 of a date as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn seconds_of(date: &str) -> Option<i64> {
    let mut words = date.split_once(", ")?.1.split([' ', ':']);
    let mut number = || words.next()?.parse::<i64>().ok();
    let day = number()?;
    let rest: Vec<&str> = date.split_once(", ")?.1.split([' ', ':']).collect();
    let month =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = month.iter().position(|name| Some(name) == rest.get(1))? as i64 + 1;
    let at = |index: usize| rest.get(index)?.parse::<i64>().ok();
    let (year, hour, minute, second) = (at(2)?, at(3)?, at(4)?, at(5)?);
    if !(1970..=9999).contains(&year) || !(1..=31).contains(&day) {
        return None;
    }
    // Days of the Gregorian calendar, with the year begun in March.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let of_years = years * 365 + years / 4 - years / 100 + years / 400;
    let days = of_years + (153 * months + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_servers_are_read() {
        assert_eq!(seconds_of("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(seconds_of("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(seconds_of("Thu, 29 Feb 2024 23:59:59 GMT"), Some(1_709_251_199));
        for text in
            ["", "today", "Sun, 06 Nov", "Sun, 06 Foo 1994 08:49:37 GMT", "x, 1 Jan 0 0:0:0"]
        {
            assert_eq!(seconds_of(text), None, "{text}");
        }
    }

    #[test]
    fn the_words_of_a_refusal_are_found_in_their_xml() {
        let text = "<?xml?><Error><Code>SlowDown</Code><Message>a &amp; b</Message></Error>";
        assert_eq!(element(text, "Code").unwrap(), "SlowDown");
        assert_eq!(element(text, "Region"), None);
        assert_eq!(element("<Code>", "Code"), None);
    }
}
