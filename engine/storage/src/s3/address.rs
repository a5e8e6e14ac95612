//! Where a bucket is, and the key that opens it.

use crate::AddressError;
use std::fmt;
use ureq::http::Uri;

/// A longer location is a mistake.
const ADDRESS_BYTES_MAX: usize = 4096;

/// What a service is told when nobody named a region; most that are not Amazon's do not care.
const REGION_USUAL: &str = "us-east-1";

/// Where a repository is in an S3 service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Address {
    /// `https://host:port`, with nothing behind it.
    pub(super) endpoint: String,
    pub(super) bucket: String,
    /// Empty, or a path that ends in `/`.
    pub(super) prefix: String,
}

/// What opens a bucket: an access key, as the service gave it to the owner.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// Its id, as in `AWS_ACCESS_KEY_ID`.
    pub id: String,
    /// Its secret, as in `AWS_SECRET_ACCESS_KEY`.
    pub secret: String,
    /// What a key that lasts only for some hours has beside it.
    pub token: Option<String>,
    /// The region of the bucket, where the service has more than one, or one of an odd name.
    pub region: Option<String>,
}

/// Without the secret.
impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessKey({})", self.id)
    }
}

impl S3Address {
    /// Reads what stands behind `s3:`, as restic does: `https://host:port/bucket/prefix`,
    /// `http://…`, or `host/bucket/prefix`, which is `https`.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.len() > ADDRESS_BYTES_MAX {
            return Err(AddressError("it is longer than 4096 bytes"));
        }
        if text.contains(['?', '#', '@', '\\']) || text.contains(char::is_control) {
            return Err(AddressError(
                "`?`, `#`, `@` and `\\` have no meaning in it; the access key is not part of it",
            ));
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
            Some(("", rest)) => ("https", rest),
            Some(_) => {
                return Err(AddressError("after `s3:` comes `https://`, `http://` or a host"));
            }
            None => ("https", text.trim_start_matches('/')),
        };
        let mut parts = rest.split('/').filter(|part| !part.is_empty());
        let (Some(host), Some(bucket)) = (parts.next(), parts.next()) else {
            return Err(AddressError(
                "it names a host and a bucket, as in `s3:https://host/bucket`",
            ));
        };
        let prefix: String = parts.clone().map(|part| format!("{part}/")).collect();
        if [bucket].into_iter().chain(parts).any(|part| matches!(part, "." | "..")) {
            return Err(AddressError("`.` and `..` are no names in a bucket"));
        }
        let endpoint = format!("{scheme}://{host}");
        let is_sound = format!("{endpoint}/").parse::<Uri>().is_ok_and(|uri| {
            let port = uri.authority().and_then(|authority| authority.as_str().rsplit_once(':'));
            let port_is_sound =
                port.is_none_or(|(_, port)| port.ends_with(']') || port.parse::<u16>().is_ok());
            uri.host().is_some_and(|name| !name.is_empty()) && port_is_sound
        });
        match is_sound && !rest.starts_with('/') {
            true => Ok(Self { endpoint, bucket: bucket.into(), prefix }),
            false => Err(AddressError("its host or port is none")),
        }
    }

    /// The region a request is signed for first.
    pub(super) fn region(&self, key: Option<&AccessKey>) -> String {
        if let Some(region) = key.and_then(|key| key.region.as_deref()) {
            return region.into();
        }
        let host = self.endpoint.split("://").nth(1).unwrap_or_default();
        let of_host = host
            .strip_suffix(".amazonaws.com")
            .and_then(|rest| rest.strip_prefix("s3."))
            .map(|rest| rest.trim_start_matches("dualstack."));
        of_host.unwrap_or(REGION_USUAL).into()
    }
}

/// As it may be shown; it holds no secret.
impl fmt::Display for S3Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3:{}/{}/{}", self.endpoint, self.bucket, self.prefix)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        S3Address::parse(text).unwrap().to_string()
    }

    #[test]
    fn the_forms_restic_takes_mean_the_same_here() {
        for text in ["https://h/b", "//h/b/", "h/b", "://h/b", "h//b//"] {
            assert_eq!(shown(text), "s3:https://h/b/", "{text}");
        }
        assert_eq!(shown("http://127.0.0.1:3900/b/a/c"), "s3:http://127.0.0.1:3900/b/a/c/");
        assert_eq!(shown("[::1]:3900/b/a//c/"), "s3:https://[::1]:3900/b/a/c/");
    }

    #[test]
    fn what_names_no_bucket_is_refused() {
        for text in [
            "",
            "h",
            "https://h/",
            "ftp://h/b",
            "https:///b/c",
            "h:port/b",
            "h/b/../c",
            "h/..",
            "h/b?x",
            "key:secret@h/b",
            "h/b\n",
            "h h/b",
        ] {
            assert!(S3Address::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_region_is_the_owners_word_or_the_hosts_or_the_usual() {
        let key = |region: &str| AccessKey {
            id: "id".into(),
            secret: "hush".into(),
            token: None,
            region: Some(region.into()),
        };
        let amazon = S3Address::parse("s3.eu-west-1.amazonaws.com/b").unwrap();
        assert_eq!(amazon.region(None), "eu-west-1");
        assert_eq!(amazon.region(Some(&key("garage"))), "garage");
        assert_eq!(S3Address::parse("s3.amazonaws.com/b").unwrap().region(None), "us-east-1");
        assert!(!format!("{:?}", key("x")).contains("hush"));
    }
}
