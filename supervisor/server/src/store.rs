//! An object store of the S3 kind: getting and putting single objects, and with them whole depots.
//!
//! Nothing is listed: `current` names what there is.

use crate::network::{self, body, unreachable};
use crate::problem::{Problem, Result};
use reqwest::StatusCode;
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use supervisor_depot::{CURRENT, CURRENT_BYTES_MAX, Current, Piece, Replica};

/// How long a signature is good for. It is looked at when a request begins.
const SIGNED_FOR: Duration = Duration::from_secs(15 * 60);
/// What a service is told when nobody named a region.
const REGION_USUAL: &str = "us-east-1";
/// How often a server looks whether another tree is in force.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What opens a bucket, as the environment names it.
#[derive(Clone, Default)]
pub struct AccessKey {
    /// `AWS_ACCESS_KEY_ID`.
    pub id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret: String,
    /// `AWS_SESSION_TOKEN`.
    pub token: Option<String>,
    /// `AWS_DEFAULT_REGION`.
    pub region: Option<String>,
}

/// A place in a bucket.
#[derive(Clone)]
pub struct Store {
    bucket: Bucket,
    prefix: String,
    key: Credentials,
    http: reqwest::Client,
}

impl Store {
    /// The place `s3:https://HOST/BUCKET/PREFIX`.
    pub fn at(location: &str, key: &AccessKey) -> Result<Self> {
        let wrong = || {
            Problem::new(format!("`{location}` is no place in an object store"))
                .remedy("say it as s3:https://HOST/BUCKET/PREFIX")
        };
        let address = location.strip_prefix("s3:").ok_or_else(wrong)?;
        let address = match address.strip_prefix("//") {
            Some(rest) => format!("https://{rest}"),
            None => address.to_owned(),
        };
        let mut endpoint: reqwest::Url = address.parse().map_err(|_| wrong())?;
        let path = endpoint.path().trim_matches('/').to_owned();
        let (bucket, prefix) = path.split_once('/').unwrap_or((&path, ""));
        let is_sound = ["http", "https"].contains(&endpoint.scheme()) && endpoint.query().is_none();
        if bucket.is_empty() || !is_sound {
            return Err(wrong());
        }
        if key.id.is_empty() || key.secret.is_empty() {
            return Err(Problem::new("no access key for the object store is known")
                .remedy("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"));
        }
        endpoint.set_path("");
        let region = key.region.clone().unwrap_or_else(|| REGION_USUAL.to_owned());
        let bucket = Bucket::new(endpoint, UrlStyle::Path, bucket.to_owned(), region)
            .map_err(|_| wrong())?;
        let mut credentials = Credentials::new(&key.id, &key.secret);
        if let Some(token) = &key.token {
            credentials = Credentials::new_with_token(&key.id, &key.secret, token);
        }
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Self { bucket, prefix, key: credentials, http: network::client(0)? })
    }

    async fn get(&self, key: &str) -> Result<Option<reqwest::Response>> {
        let object = format!("{}{key}", self.prefix);
        let url = self.bucket.get_object(Some(&self.key), &object).sign(SIGNED_FOR);
        let answer = self.http.get(url).send().await.map_err(hidden)?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(answer)),
            status => Err(refused(key, status)),
        }
    }

    /// What is in force there, and the tag of the object that says so.
    async fn current(&self) -> Result<Option<(Current, Option<String>)>> {
        let Some(answer) = self.get(CURRENT).await? else { return Ok(None) };
        let tag = answer.headers().get("etag").and_then(|tag| tag.to_str().ok());
        let tag = tag.map(str::to_owned);
        let bytes_max = usize::try_from(CURRENT_BYTES_MAX).unwrap_or(usize::MAX);
        Ok(Some((Current::read(&body(answer, bytes_max).await?)?, tag)))
    }

    async fn fetch(&self, piece: &Piece) -> Result<()> {
        let Some(mut answer) = self.get(&piece.key).await? else {
            return Err(refused(&piece.key, StatusCode::NOT_FOUND));
        };
        let cannot =
            |error| Problem::new(format!("cannot write {}", piece.path.display())).because(error);
        let new = piece.path.with_extension("new-part");
        let mut file = std::fs::File::create(&new).map_err(cannot)?;
        let mut length = 0;
        while let Some(chunk) = answer.chunk().await.map_err(hidden)? {
            length += chunk.len() as u64;
            if length > piece.bytes_max {
                break;
            }
            file.write_all(&chunk).map_err(cannot)?;
        }
        if length > piece.bytes_max || !piece.is_right(&new).map_err(cannot)? {
            let _ = std::fs::remove_file(&new);
            return Err(Problem::new(format!("the object {} has other bytes", piece.key))
                .remedy("remove it, and push again from the publisher's folder"));
        }
        file.sync_all().and_then(|()| std::fs::rename(&new, &piece.path)).map_err(cannot)
    }

    async fn is_there(&self, piece: &Piece, length: u64) -> Result<bool> {
        let object = format!("{}{}", self.prefix, piece.key);
        let url = self.bucket.head_object(Some(&self.key), &object).sign(SIGNED_FOR);
        let answer = self.http.head(url).send().await.map_err(hidden)?;
        let said = answer.headers().get("content-length");
        let said = said.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        Ok(answer.status().is_success() && said == Some(length))
    }

    async fn put(&self, piece: &Piece) -> Result<()> {
        let cannot =
            |error| Problem::new(format!("cannot read {}", piece.path.display())).because(error);
        let file = tokio::fs::File::open(&piece.path).await.map_err(cannot)?;
        let length = file.metadata().await.map_err(cannot)?.len();
        if piece.sha256.is_some() && self.is_there(piece, length).await? {
            return Ok(());
        }
        let object = format!("{}{}", self.prefix, piece.key);
        let url = self.bucket.put_object(Some(&self.key), &object).sign(SIGNED_FOR);
        let request = self.http.put(url).header("content-length", length).body(file);
        match request.send().await.map_err(hidden)?.status() {
            status if status.is_success() => Ok(()),
            status => Err(refused(&piece.key, status)),
        }
    }

    /// Puts the depot in `root` there; false when that is what is there already.
    pub async fn push(&self, root: &Path) -> Result<bool> {
        let (current, pieces) = supervisor_depot::outgoing(root)?;
        let there = self.current().await?;
        if let Some((there, _)) = &there {
            if there == &current {
                return Ok(false);
            }
            if there.tree >= current.tree {
                return Err(Problem::new(format!(
                    "the store has tree {} in force, and this folder only tree {}",
                    there.tree, current.tree
                ))
                .remedy("push from the folder that was published in last"));
            }
        }
        for piece in &pieces {
            self.put(piece).await?;
        }
        let object = format!("{}{CURRENT}", self.prefix);
        let url = self.bucket.put_object(Some(&self.key), &object).sign(SIGNED_FOR);
        let request = self.http.put(url).body(current.to_json());
        // Two publishers at once: the second is told, instead of undoing what the first did.
        let request = match there.and_then(|(_, tag)| tag) {
            Some(tag) => request.header("if-match", tag),
            None => request.header("if-none-match", "*"),
        };
        match request.send().await.map_err(hidden)?.status() {
            status if status.is_success() => Ok(true),
            StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT => {
                Err(Problem::new("somebody else pushed at the same time")
                    .remedy("push from the folder that was published in last"))
            }
            status => Err(refused(CURRENT, status)),
        }
    }

    /// Brings the copy up to what is in force there; whether that was something new.
    pub async fn pull(&self, replica: &Replica) -> Result<bool> {
        let Some((current, _)) = self.current().await? else {
            return Err(Problem::new("there is no depot in that place of the object store")
                .remedy("push one from its folder: holdfast-depot push --root DIR s3:…"));
        };
        if replica.tree() == Some(current.tree) {
            return Ok(false);
        }
        for piece in replica.lists(&current)? {
            self.fetch(&piece).await?;
        }
        for piece in replica.missing(&current)? {
            self.fetch(&piece).await?;
        }
        replica.switch(&current)?;
        Ok(true)
    }
}

/// Pulls for ever. What goes wrong is said once, and the copy goes on with what it has.
pub async fn keep_pulled(store: &Store, folder: PathBuf) -> Result<()> {
    let replica = Replica::at(&folder)?;
    let mut is_well = true;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let done = store.pull(&replica).await;
        tell(&mut is_well, done);
    }
}

/// Pushes each new tree, for ever.
pub async fn keep_pushed(store: &Store, root: PathBuf) -> Result<()> {
    let mut is_well = true;
    loop {
        let done = store.push(&root).await;
        tell(&mut is_well, done);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn tell(is_well: &mut bool, done: Result<bool>) {
    match done {
        Ok(_) => *is_well = true,
        Err(problem) if *is_well => {
            eprintln!("holdfast-depot: {}", problem.for_people());
            *is_well = false;
        }
        Err(_) => {}
    }
}

/// The address has a signature in it, which is nobody's business.
fn hidden(cause: reqwest::Error) -> Problem {
    unreachable(cause.without_url())
}

fn refused(key: &str, status: StatusCode) -> Problem {
    Problem::new(format!("the object store answers {status} to {key}"))
        .remedy("check the bucket's name and region, and what the access key may do")
}
