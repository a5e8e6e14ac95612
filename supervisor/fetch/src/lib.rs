//! Fetching what a depot signed: `supervisor-trust` says what to ask for, this room asks over HTTP.
//!
//! **Invariant:** no answer is read further than its limit, no byte of a file counts before the
//! file's length and hash are right, and no redirect is followed, but for one file whose hash is
//! known beforehand.
//!
//! **Not here:** what to believe (`supervisor-trust`), where things are kept (the caller's),
//! the clock, flags.

use std::io::{self, Read, Write};
use std::time::Duration;
use supervisor_trust::{Client, Keep, Request, TargetCheck, TargetFile, TrustError};

/// Silence longer than this ends a download.
const SILENCE_SECONDS_MAX: u64 = 30;

/// Who sends less than this, on average, is not waited for: a depot that sends a byte now and then
/// must not hold an update for ever. A modem is faster.
const BYTES_PER_SECOND_MIN: u64 = 1024;
/// A file of somebody else's may be so many redirects away.
const REDIRECTS_MAX: usize = 5;

/// Why nothing came of it.
///
/// `Display` is the fact in one line; [`FetchError::remedy`] what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The network or the address is wrong.
    #[error("cannot fetch {address}")]
    Network {
        /// What was asked for.
        address: String,
        /// Why not.
        #[source]
        cause: reqwest::Error,
    },
    /// The other side answers, but not with the file.
    #[error("the depot answers {status} to {address}")]
    Status {
        /// What was asked for.
        address: String,
        /// The answer.
        status: reqwest::StatusCode,
    },
    /// The file came more slowly than anything that is worth waiting for.
    #[error("{address} did not come within {} seconds", limit.as_secs())]
    Slow {
        /// What was asked for.
        address: String,
        /// How long it might have taken.
        limit: Duration,
    },
    /// There is no network to use.
    #[error("cannot use the network")]
    Setup(#[source] reqwest::Error),
    /// What came is not believed.
    #[error("the depot is not believed")]
    Untrusted(#[source] TrustError),
    /// What was believed could not be kept.
    #[error("cannot keep what was fetched")]
    Keep(#[source] io::Error),
}

impl FetchError {
    /// What to do about it, if anything is known to help.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Network { .. } | Self::Slow { .. } => {
                Some("check the depot's address and this NAS's network, then try again")
            }
            Self::Status { .. } => {
                Some("check the depot's address; whoever keeps it may know more")
            }
            Self::Untrusted(error) => Some(error.remedy()),
            Self::Setup(_) | Self::Keep(_) => None,
        }
    }
}

/// A connection to where a depot's files are.
#[derive(Debug, Clone)]
pub struct Source {
    http: reqwest::Client,
    base: String,
    patience: Patience,
}

/// How long a file may take: a while for whoever is slow to begin, and then by its length.
#[derive(Debug, Clone, Copy)]
struct Patience {
    begin: Duration,
    bytes_per_second_min: u64,
}

impl Patience {
    const ORDINARY: Self = Self {
        begin: Duration::from_secs(2 * SILENCE_SECONDS_MAX),
        bytes_per_second_min: BYTES_PER_SECOND_MIN,
    };

    fn limit(self, bytes: u64) -> Duration {
        self.begin + Duration::from_secs(bytes / self.bytes_per_second_min)
    }

    /// The work's answer, unless it takes longer than so many bytes may.
    async fn with<T>(
        self,
        bytes: u64,
        address: &str,
        work: impl Future<Output = Result<T, FetchError>>,
    ) -> Result<T, FetchError> {
        let limit = self.limit(bytes);
        let slow = || FetchError::Slow { address: address.to_owned(), limit };
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(slow()))
    }
}

impl Source {
    /// The files below the address `base`, such as `http://HOST/metadata`.
    pub fn at(base: &str) -> Result<Self, FetchError> {
        let http = client(base.starts_with("http://"), reqwest::redirect::Policy::none())?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), patience: Patience::ORDINARY })
    }

    /// Runs the client's workflow to its end. What is to be kept is kept before the next step.
    pub async fn follow(
        &self,
        client: &mut Client,
        mut keep: impl FnMut(Keep) -> io::Result<()>,
    ) -> Result<(), FetchError> {
        while let Some(request) = client.request() {
            let found = self.fetch(&request).await?;
            for item in client.answer(found.as_deref()).map_err(FetchError::Untrusted)? {
                keep(item).map_err(FetchError::Keep)?;
            }
        }
        Ok(())
    }

    /// One file of metadata; `None` when there is none of that name. Never more than
    /// `bytes_max` bytes and one piece of the stream.
    async fn fetch(&self, request: &Request) -> Result<Option<Vec<u8>>, FetchError> {
        let address = format!("{}/{}", self.base, request.name);
        let bytes_max = u64::from(request.bytes_max);
        self.patience.with(bytes_max, &address, self.read(&address, bytes_max)).await
    }

    async fn read(&self, address: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, FetchError> {
        let cannot = |cause| network(address, cause);
        let mut response = self.http.get(address).send().await.map_err(cannot)?;
        if response.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        checked(address, &response)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(cannot)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > bytes_max {
                break;
            }
        }
        Ok(Some(bytes))
    }

    /// Writes the file that was signed as `name` into `sink`. After an error, what is in there is
    /// worth nothing.
    pub async fn download(
        &self,
        name: &str,
        file: &TargetFile,
        consistent_snapshot: bool,
        sink: &mut impl Write,
    ) -> Result<(), FetchError> {
        self.download_rest((name, file, consistent_snapshot), &mut io::empty(), sink).await
    }

    /// Goes on with a download that was cut off: `kept` is what came then, and `sink` gets the
    /// rest. The whole is verified. After [`FetchError::Untrusted`] what is kept is worth nothing;
    /// after any other error it is a beginning.
    pub async fn download_rest(
        &self,
        (name, file, consistent_snapshot): (&str, &TargetFile, bool),
        kept: &mut impl Read,
        sink: &mut impl Write,
    ) -> Result<(), FetchError> {
        let path = target_path(name, file, consistent_snapshot);
        let address = format!("{}/{path}", self.base);
        let work = rest_of(&self.http, &address, (name, file), kept, sink);
        self.patience.with(file.length, &address, work).await
    }
}

/// Goes on with the download of one file whose size and hash are known, from anywhere: only here
/// redirects are followed, because only the hash counts.
pub async fn fetch_anywhere(
    address: &str,
    what: (&str, &TargetFile),
    kept: &mut impl Read,
    sink: &mut impl Write,
) -> Result<(), FetchError> {
    let policy = reqwest::redirect::Policy::limited(REDIRECTS_MAX);
    let http = client(address.starts_with("http://"), policy)?;
    let work = rest_of(&http, address, what, kept, sink);
    Patience::ORDINARY.with(what.1.length, address, work).await
}

async fn rest_of(
    http: &reqwest::Client,
    address: &str,
    (name, file): (&str, &TargetFile),
    kept: &mut impl Read,
    sink: &mut impl Write,
) -> Result<(), FetchError> {
    let mut check = TargetCheck::new(name, file);
    let mut have: u64 = 0;
    let mut piece = [0; 16 * 1024];
    loop {
        match kept.read(&mut piece).map_err(FetchError::Keep)? {
            0 => break,
            count => {
                check.update(&piece[..count]).map_err(FetchError::Untrusted)?;
                have += count as u64;
            }
        }
    }
    if have == file.length {
        return check.finish().map_err(FetchError::Untrusted);
    }
    let cannot = |cause| network(address, cause);
    let mut request = http.get(address);
    if have > 0 {
        request = request.header(reqwest::header::RANGE, format!("bytes={have}-"));
    }
    let mut response = request.send().await.map_err(cannot)?;
    checked(address, &response)?;
    // A server that knows no ranges sends all of it again.
    let is_rest = response.status() == reqwest::StatusCode::PARTIAL_CONTENT;
    let mut known = if is_rest { 0 } else { have };
    while let Some(chunk) = response.chunk().await.map_err(cannot)? {
        let skipped = usize::try_from(known).map_or(chunk.len(), |skip| skip.min(chunk.len()));
        known -= skipped as u64;
        check.update(&chunk[skipped..]).map_err(FetchError::Untrusted)?;
        sink.write_all(&chunk[skipped..]).map_err(FetchError::Keep)?;
    }
    check.finish().map_err(FetchError::Untrusted)
}

fn client(
    is_plain: bool,
    redirects: reqwest::redirect::Policy,
) -> Result<reqwest::Client, FetchError> {
    // Somebody else may have installed it already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(SILENCE_SECONDS_MAX))
        .read_timeout(Duration::from_secs(SILENCE_SECONDS_MAX))
        .redirect(redirects)
        .user_agent("holdfast-supervisor");
    if is_plain {
        // No certificate will be asked for; a box without a store of them must not fail.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(FetchError::Setup)
}

fn network(address: &str, cause: reqwest::Error) -> FetchError {
    FetchError::Network { address: address.to_owned(), cause: cause.without_url() }
}

fn checked(address: &str, response: &reqwest::Response) -> Result<(), FetchError> {
    match response.status() {
        status if status.is_success() => Ok(()),
        status => Err(FetchError::Status { address: address.to_owned(), status }),
    }
}

/// Where a file lies below the targets' address: the hash goes before the last part of its name.
fn target_path(name: &str, file: &TargetFile, consistent_snapshot: bool) -> String {
    let (folder, last) = name.rsplit_once('/').map_or(("", name), |(folder, last)| (folder, last));
    let mut path: String = folder.split_inclusive('/').map(quoted).collect();
    if name.contains('/') {
        path.push('/');
    }
    if consistent_snapshot {
        path.push_str(&file.hash.to_hex());
        path.push('.');
    }
    path.push_str(&quoted(last));
    path
}

/// Text as it may stand in an address: everything but letters, digits, `-`, `_`, `.`, `~` and the
/// slash between parts is written as `%` and two digits. A part that is only dots is, too: `..`
/// in a name must not lead out of where the files are.
fn quoted(text: &str) -> String {
    let is_dots = !text.is_empty() && text.trim_end_matches('/').bytes().all(|byte| byte == b'.');
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'.' if is_dots => out.push_str("%2E"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use supervisor_trust::FileHash;

    /// A depot that sends one byte at a time, now and then, and never ends.
    fn dribbling() -> String {
        use std::io::Read;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
            while sent.is_ok() {
                std::thread::sleep(Duration::from_millis(20));
                sent = stream.write_all(b" ");
            }
        });
        address
    }

    #[test]
    fn attack_7_a_depot_that_sends_a_byte_now_and_then_does_not_hold_an_update_for_ever() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let impatient =
            Patience { begin: Duration::from_millis(300), bytes_per_second_min: 1 << 20 };
        runtime.block_on(async {
            let mut source = Source::at(&dribbling()).unwrap();
            source.patience = impatient;
            let request = Request {
                name: "timestamp.json".to_owned(),
                bytes_max: 4096,
                may_be_missing: false,
            };
            let error = source.fetch(&request).await.unwrap_err();
            assert!(matches!(error, FetchError::Slow { .. }), "{error}");
            assert!(error.remedy().is_some());

            let mut source = Source::at(&dribbling()).unwrap();
            source.patience = impatient;
            let hash = FileHash::Sha256([0; 32]);
            let file = TargetFile { length: 1 << 20, hash, custom: None };
            let error = source.download("a", &file, true, &mut Vec::new()).await.unwrap_err();
            assert!(matches!(error, FetchError::Slow { .. }), "{error}");
        });
    }

    #[test]
    fn a_long_file_may_take_long_and_a_short_one_may_not() {
        assert_eq!(Patience::ORDINARY.limit(0).as_secs(), 60);
        assert_eq!(Patience::ORDINARY.limit(1 << 30).as_secs(), 60 + (1 << 20));
    }

    #[test]
    fn a_files_address_carries_its_hash_and_no_letter_that_means_something_else() {
        let file = TargetFile { length: 1, hash: FileHash::Sha256([0xab; 32]), custom: None };
        let hash = "ab".repeat(32);
        for (name, path) in [
            ("a.spk", format!("{hash}.a.spk")),
            ("path/to/a", format!("path/to/{hash}.a")),
            ("a?b#c%2e ä", format!("{hash}.a%3Fb%23c%252e%20%C3%A4")),
            ("a/../b", format!("a/%2E%2E/{hash}.b")),
        ] {
            assert_eq!(target_path(name, &file, true), path, "{name}");
        }
        assert_eq!(target_path("x/y", &file, false), "x/y");
    }
}
