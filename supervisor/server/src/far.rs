//! Depots elsewhere: publishing to one with a token, and following one by its signed metadata.

use crate::depot::clock;
use crate::network::{self, body, client, not_followed};
use crate::place::Depot;
use crate::problem::{Problem, Result};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use supervisor_depot::{Mirror, Published, UPLOAD_OFFSET};
use supervisor_fetch::Source;

/// A file of a token is not longer than this.
const TOKEN_BYTES_MAX: u64 = 4096;
/// What a depot says to an upload is not longer than this.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Sent in one request.
const PIECE_BYTES: u64 = 8 << 20;
/// How often a piece is tried, and how long between.
const TRIES_MAX: u32 = 5;
const TRY_AGAIN: Duration = Duration::from_secs(3);
/// A depot that has not published by then is given up.
const PUBLISHED_WAIT_MAX: Duration = Duration::from_secs(3600);
/// It is asked again at least so often.
const ASK_AGAIN_MAX: Duration = Duration::from_secs(30);

/// Publishes packages in the depot at `to`, one after the other.
pub async fn publish(to: &str, token_file: &Path, files: &[PathBuf]) -> Result<()> {
    let mut token = String::new();
    File::open(token_file)
        .and_then(|file| file.take(TOKEN_BYTES_MAX).read_to_string(&mut token))
        .map_err(|error| unreadable(token_file, error))?;
    let http = client(0)?;
    for path in files {
        let sha256 = sha256_of(path).map_err(|error| unreadable(path, error))?;
        let address = format!("{}/publish/{sha256}", to.trim_end_matches('/'));
        let upload = Upload { http: &http, address, token: token.trim(), path };
        let said = upload.run().await?;
        let word = |key: &str| said[key].as_str().unwrap_or_default().to_owned();
        let what = if said["is_new"] == true { "published" } else { "already there:" };
        say!("{what} {} {} ({})", word("package"), word("version"), word("file"));
    }
    Ok(())
}

struct Upload<'a> {
    http: &'a reqwest::Client,
    address: String,
    token: &'a str,
    path: &'a Path,
}

impl Upload<'_> {
    /// Sends what is not there yet, then has it published.
    async fn run(&self) -> Result<serde_json::Value> {
        let mut file = File::open(self.path).map_err(|error| unreadable(self.path, error))?;
        let length = file.metadata().map_err(|error| unreadable(self.path, error))?.len();
        let mut offset = self.offset(self.ask(reqwest::Method::HEAD).await?).await?;
        let mut tries = 0;
        while offset < length {
            let mut piece = Vec::new();
            file.seek(SeekFrom::Start(offset))
                .and_then(|_| (&mut file).take(PIECE_BYTES).read_to_end(&mut piece))
                .map_err(|error| unreadable(self.path, error))?;
            let request = self.request(reqwest::Method::PATCH).header(UPLOAD_OFFSET, offset);
            let moved = match request.body(piece).send().await {
                Ok(answer) => Some(self.offset(answer).await?),
                Err(_) => None,
            };
            tries = if moved.is_some_and(|moved| moved > offset) { 0 } else { tries + 1 };
            if tries >= TRIES_MAX {
                return Err(Problem::new(format!("the upload stopped at {offset} of {length}"))
                    .remedy("run it again: it goes on where it stopped"));
            }
            offset = match moved {
                Some(moved) => moved,
                None => {
                    tokio::time::sleep(TRY_AGAIN).await;
                    match self.request(reqwest::Method::HEAD).send().await {
                        Ok(answer) => self.offset(answer).await?,
                        Err(_) => offset,
                    }
                }
            };
        }
        self.published().await
    }

    /// Has it published, and asks until it is: a depot that waits for others says so.
    async fn published(&self) -> Result<serde_json::Value> {
        let (begun, mut told, mut tries) = (Instant::now(), String::new(), 0);
        loop {
            let answer = match self.request(reqwest::Method::POST).send().await {
                Ok(answer) => answer,
                // To ask again does no harm: it is published once.
                Err(_) if tries < TRIES_MAX => {
                    tries += 1;
                    tokio::time::sleep(TRY_AGAIN).await;
                    continue;
                }
                Err(cause) => return Err(network::unreachable(cause)),
            };
            let status = answer.status();
            let again = answer.headers().get("retry-after");
            let again = again.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
            let said = body(answer, ANSWER_BYTES_MAX).await?;
            let said: serde_json::Value = serde_json::from_slice(&said).unwrap_or_default();
            match again.filter(|_| status == reqwest::StatusCode::SERVICE_UNAVAILABLE) {
                Some(seconds) if begun.elapsed() < PUBLISHED_WAIT_MAX => {
                    let waits = said["error"].as_str().unwrap_or_default();
                    if waits != told {
                        tracing::warn!("{waits}");
                        waits.clone_into(&mut told);
                    }
                    let pause = Duration::from_secs(seconds).min(ASK_AGAIN_MAX);
                    tokio::time::sleep(pause).await;
                }
                _ if status.is_success() => return Ok(said),
                _ => return Err(self.refused(&said)),
            }
        }
    }

    fn request(&self, method: reqwest::Method) -> reqwest::RequestBuilder {
        self.http.request(method, &self.address).bearer_auth(self.token)
    }

    async fn ask(&self, method: reqwest::Method) -> Result<reqwest::Response> {
        self.request(method).send().await.map_err(network::unreachable)
    }

    /// How much is there, as an answer says; also when it says that we were wrong about it.
    async fn offset(&self, answer: reqwest::Response) -> Result<u64> {
        if answer.status() == reqwest::StatusCode::UNAUTHORIZED {
            return Err(Problem::new("the depot does not know this token")
                .remedy("ask its keeper for one: `holdfast-depot token add`"));
        }
        let offset = answer.headers().get(UPLOAD_OFFSET);
        if let Some(offset) = offset.and_then(|value| value.to_str().ok()?.parse().ok()) {
            return Ok(offset);
        }
        let said = body(answer, ANSWER_BYTES_MAX).await?;
        Err(self.refused(&serde_json::from_slice(&said).unwrap_or_default()))
    }

    fn refused(&self, said: &serde_json::Value) -> Problem {
        let fact = said["error"].as_str().unwrap_or("the answer is none of a depot's");
        let remedy = said["remedy"].as_str().unwrap_or("check the address, and ask its keeper");
        Problem::new(format!("the depot refuses {}: {fact}", self.path.display())).remedy(remedy)
    }
}

fn unreadable(path: &Path, cause: std::io::Error) -> Problem {
    Problem::new(format!("cannot read {}", path.display())).because(cause).remedy("check the name")
}

/// SHA-256 of a file, hex.
pub fn sha256_of(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut hash)?;
    Ok(hex::encode(hash.finalize()))
}

/// Takes over what the depot at `url` signed for and ours lacks.
pub async fn mirror(
    depot: &Depot,
    url: &str,
    trust: &Path,
    packages: &[String],
) -> Result<Vec<Published>> {
    let trust = supervisor_depot::read_trust(trust)?;
    let mut mirror = Mirror::open(&depot.lists().await?, &trust, clock())?;
    let url = url.trim_end_matches('/');
    let folder = mirror.folder();
    let metadata = Source::at(&format!("{url}/metadata")).map_err(not_followed)?;
    metadata
        .follow(&mut mirror.client, |item| supervisor_depot::keep(&folder, item))
        .await
        .map_err(not_followed)?;
    let source = Source::at(&format!("{url}/packages")).map_err(not_followed)?;
    let parcels = mirror.parcels(packages)?;
    for parcel in &parcels {
        let mut file = File::create(&parcel.path).map_err(|error| {
            Problem::new(format!("cannot write {}", parcel.path.display())).because(error)
        })?;
        source.download(&parcel.name, &parcel.file, true, &mut file).await.map_err(not_followed)?;
    }
    let done = depot.change(|root| Ok(Mirror::put(root, &parcels, clock())?)).await;
    Mirror::clear(&parcels);
    done
}
