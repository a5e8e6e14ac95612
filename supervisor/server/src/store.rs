//! An object store of the S3 kind: getting and putting single objects, and with them whole depots.
//!
//! `current` names what there is, and is put on the condition that it still is what the new one
//! was made from. Where a store takes no notice of conditions, publishers take turns.

use crate::depot::clock;
use crate::network::{self, body, unreachable};
use crate::problem::{Problem, Result};
use crate::turn::{Turn, new_name};
use reqwest::StatusCode;
use rusty_s3::actions::ListObjectsV2;
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use supervisor_depot::{
    CONTENTS, CURRENT, CURRENT_BYTES_MAX, Current, Outgoing, Piece, Pushed, Replica,
};
use tokio::sync::OnceCell;

/// How long a signature is good for. It is looked at when a request begins.
const SIGNED_FOR: Duration = Duration::from_secs(15 * 60);
/// What a service is told when nobody named a region.
const REGION_USUAL: &str = "us-east-1";
/// A listing is not longer than this.
const LIST_BYTES_MAX: usize = 4 << 20;
/// Objects of one kind that are looked at, at most.
const NAMES_MAX: usize = 200_000;
/// Where objects are on which it is tried whether the store minds conditions.
const PROBES: &str = "probes/";
/// How often an answer that says "not now" is taken for one, and how long the first pause is.
const TRIES_MAX: u32 = 6;
const PAUSE: Duration = Duration::from_millis(100);
/// Putting a few bytes takes no longer than this, or counts as failed.
pub const PUT_MAX: Duration = Duration::from_secs(30);
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
    minds_conditions: Arc<OnceCell<bool>>,
    waits_for: Arc<Mutex<Option<String>>>,
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
        let (http, minds_conditions) = (network::client(0)?, Arc::default());
        let waits_for = Arc::default();
        Ok(Self { bucket, prefix, key: credentials, http, minds_conditions, waits_for })
    }

    /// Whom a publication waits for.
    pub fn waiting(&self) -> Option<String> {
        self.waits_for.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes, and says, whom a publication waits for.
    pub fn waits_for(&self, whom: Option<String>) {
        if let Some(whom) = &whom {
            tracing::warn!("waiting: {whom}");
        }
        *self.waits_for.lock().unwrap_or_else(PoisonError::into_inner) = whom;
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

    /// What is in force there.
    pub async fn in_force(&self) -> Result<Option<InForce>> {
        let Some(answer) = self.get(CURRENT).await? else { return Ok(None) };
        let tag = answer.headers().get("etag").and_then(|tag| tag.to_str().ok());
        let tag = tag.map(str::to_owned);
        let bytes_max = usize::try_from(CURRENT_BYTES_MAX).unwrap_or(usize::MAX);
        let current = Current::read(&body(answer, bytes_max).await?)?;
        Ok(Some(InForce { current, tag }))
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
                .remedy("remove it, and push again from a folder that has it"));
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

    /// Puts a file there under its content's name, if it is not there yet.
    pub async fn put(&self, piece: &Piece) -> Result<()> {
        let cannot =
            |error| Problem::new(format!("cannot read {}", piece.path.display())).because(error);
        let object = format!("{}{}", self.prefix, piece.key);
        let mut pauses = pauses();
        loop {
            let file = tokio::fs::File::open(&piece.path).await.map_err(cannot)?;
            let length = file.metadata().await.map_err(cannot)?.len();
            if self.is_there(piece, length).await? {
                return Ok(());
            }
            let url = self.bucket.put_object(Some(&self.key), &object).sign(SIGNED_FOR);
            let request = self.http.put(url).header("content-length", length).body(file);
            let status = request.send().await.map_err(hidden)?.status();
            if status.is_success() {
                return Ok(());
            }
            match pauses.next().filter(|_| is_passing(status)) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(refused(&piece.key, status)),
            }
        }
    }

    /// Puts a few bytes there, if the object's tag is as it must be. False when it is not.
    pub async fn put_bytes(&self, key: &str, bytes: Vec<u8>, must: &Must) -> Result<bool> {
        let object = format!("{}{key}", self.prefix);
        let begun = Instant::now();
        let mut pauses = pauses();
        loop {
            let left = PUT_MAX.saturating_sub(begun.elapsed());
            let url = self.bucket.put_object(Some(&self.key), &object).sign(SIGNED_FOR);
            let request = self.http.put(url).timeout(left).body(bytes.clone());
            let request = match must {
                Must::BeAnything => request,
                Must::BeNothing => request.header("if-none-match", "*"),
                Must::Be(tag) => request.header("if-match", tag),
            };
            let status = request.send().await.map_err(hidden)?.status();
            match status {
                status if status.is_success() => return Ok(true),
                StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT | StatusCode::NOT_FOUND => {
                    return Ok(false);
                }
                _ => {}
            }
            match pauses.next().filter(|_| is_passing(status)) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(refused(key, status)),
            }
        }
    }

    /// Removes an object. That it was not there is as good.
    pub async fn remove(&self, key: &str) -> Result<()> {
        let object = format!("{}{key}", self.prefix);
        let url = self.bucket.delete_object(Some(&self.key), &object).sign(SIGNED_FOR);
        match self.http.delete(url).send().await.map_err(hidden)?.status() {
            status if status.is_success() || status == StatusCode::NOT_FOUND => Ok(()),
            status => Err(refused(key, status)),
        }
    }

    /// What an object says, if it is a short text.
    pub async fn text(&self, key: &str, bytes_max: usize) -> Result<String> {
        let Some(answer) = self.get(key).await? else { return Ok(String::new()) };
        let text = String::from_utf8_lossy(&body(answer, bytes_max).await?).into_owned();
        Ok(text.chars().filter(|one| !one.is_control()).collect())
    }

    /// The names that begin so, as many as one answer has: a thousand at most.
    pub async fn names(&self, begin: &str) -> Result<Vec<String>> {
        self.names_after(begin, "").await
    }

    /// All names that begin so.
    async fn all_names(&self, begin: &str) -> Result<Vec<String>> {
        let mut names: Vec<String> = Vec::new();
        while names.len() < NAMES_MAX {
            let after = names.last().cloned().unwrap_or_default();
            let more = self.names_after(begin, &after).await?;
            // A store that takes no notice of where to begin says the same again.
            let more: Vec<_> = more.into_iter().filter(|name| *name > after).collect();
            if more.is_empty() {
                break;
            }
            names.extend(more);
        }
        Ok(names)
    }

    async fn names_after(&self, begin: &str, after: &str) -> Result<Vec<String>> {
        let mut list = self.bucket.list_objects_v2(Some(&self.key));
        list.with_prefix(format!("{}{begin}", self.prefix));
        if !after.is_empty() {
            list.with_start_after(format!("{}{after}", self.prefix));
        }
        let answer = self.http.get(list.sign(SIGNED_FOR)).send().await.map_err(hidden)?;
        if !answer.status().is_success() {
            return Err(refused(begin, answer.status()));
        }
        let text = body(answer, LIST_BYTES_MAX).await?;
        let listed = std::str::from_utf8(&text).ok().map(ListObjectsV2::parse_response);
        let Some(Ok(listed)) = listed else {
            return Err(Problem::new("the object store's listing cannot be read")
                .remedy("check its address: is it a service of the S3 kind?"));
        };
        let plain = |key: &str| key.strip_prefix(&self.prefix).map(str::to_owned);
        Ok(listed.contents.iter().filter_map(|object| plain(&object.key)).collect())
    }

    /// Whether the store does not put what it is told to put on a condition that does not hold:
    /// tried, because some services take no notice of conditions.
    pub async fn minds_conditions(&self) -> Result<bool> {
        let tried = self.minds_conditions.get_or_try_init(|| async {
            // One of our own: two who try it at once on one object tell a store's other habits.
            let probe = new_name(PROBES)?;
            self.put_bytes(&probe, Vec::new(), &Must::BeAnything).await?;
            let other = Must::Be("\"00000000000000000000000000000000\"".to_owned());
            let mut minds = true;
            for must in [Must::BeNothing, other] {
                minds &= !self.put_bytes(&probe, Vec::new(), &must).await?;
            }
            let _ = self.remove(&probe).await;
            Ok::<_, Problem>(minds)
        });
        tried.await.copied()
    }

    /// Brings into force what a folder has, if what it was made from still is. False when not.
    pub async fn put_in_force(&self, base: Option<&InForce>, new: &Outgoing) -> Result<bool> {
        // Lists too, so that a turn is short; those of a change that came to nothing leave in time.
        for piece in new.contents.iter().chain(&new.lists) {
            self.put(piece).await?;
        }
        let turn = match self.minds_conditions().await? {
            true => None,
            false => Some(Turn::take(self).await?),
        };
        let done = self.put_in_turn(base, new, turn.as_ref()).await;
        if let Some(turn) = turn {
            turn.end().await;
            self.waits_for(None);
        }
        if let Ok(true) = done {
            for key in &new.outdated {
                // What stays is in nobody's way.
                let _ = self.remove(key).await;
            }
        }
        done
    }

    async fn put_in_turn(
        &self,
        base: Option<&InForce>,
        new: &Outgoing,
        turn: Option<&Turn<'_>>,
    ) -> Result<bool> {
        let now = self.in_force().await?;
        if now.as_ref().map(|now| &now.current) != base.map(|base| &base.current) {
            return Ok(false);
        }
        if turn.is_some_and(Turn::is_over) {
            return Ok(false);
        }
        let must = match base.map(|base| base.tag.clone()) {
            None => Must::BeNothing,
            Some(Some(tag)) => Must::Be(tag),
            Some(None) => {
                return Err(Problem::new("the object store tells no tag of an object")
                    .remedy("choose a store that does; what was published stays in force"));
            }
        };
        self.put_bytes(CURRENT, new.current.to_json(), &must).await
    }

    /// Puts the depot in `root` there; false when that is what is there already.
    pub async fn push(&self, root: &Path) -> Result<bool> {
        let folder = Pushed::at(root);
        let base = self.in_force().await?;
        let current = base.as_ref().map(|base| &base.current);
        let Some(new) = supervisor_depot::outgoing(root, current, clock())? else {
            if folder.seen().as_ref() != current {
                folder.note(current)?;
            }
            return Ok(false);
        };
        let others = || {
            Problem::new("others have published in the store since this folder was pushed").remedy(
                "publish there, too: --root s3:… --keys DIR; or push from the folder that was \
                     published in last",
            )
        };
        if folder.seen().as_ref() != current {
            return Err(others());
        }
        if !self.put_in_force(base.as_ref(), &new).await? {
            return Err(others());
        }
        folder.note(Some(&new.current))?;
        if let Some(collected) = self.collect(root).await? {
            folder.note(Some(&collected))?;
        }
        Ok(true)
    }

    /// Lets leave what nothing names any more; `root` has the lists of what is in force, and a key.
    /// What is in force then, if that is something new.
    pub async fn collect(&self, root: &Path) -> Result<Option<Current>> {
        let Some(base) = self.in_force().await? else { return Ok(None) };
        if Pushed::at(root).seen().as_ref() != Some(&base.current) {
            // Somebody else was faster, and collects.
            return Ok(None);
        }
        let mut there = Vec::new();
        for (begin, _) in CONTENTS {
            there.extend(self.all_names(begin).await?);
        }
        let Some(new) = supervisor_depot::collection(root, &base.current, &there, clock())? else {
            return Ok(None);
        };
        let done = self.put_in_force(Some(&base), &new).await?;
        Ok(done.then_some(new.current))
    }

    /// What is in force, or that there is no depot.
    pub async fn depot(&self) -> Result<InForce> {
        self.in_force().await?.ok_or_else(|| {
            Problem::new("there is no depot in that place of the object store")
                .remedy("push one from its folder: holdfast-depot push --root DIR s3:…")
        })
    }

    /// Brings the copy up to what is in force there; whether that was something new.
    pub async fn pull(&self, replica: &Replica) -> Result<bool> {
        let InForce { current, .. } = self.depot().await?;
        if replica.is_there() && replica.seen().as_ref() == Some(&current) {
            return Ok(false);
        }
        self.pull_lists(replica, &current).await?;
        for piece in replica.missing(&current)? {
            self.fetch(&piece).await?;
        }
        replica.switch(&current)?;
        Ok(true)
    }

    /// Fetches the lists of what is in force, if somebody signed it whom the copy's keys know.
    pub async fn pull_lists(&self, replica: &Replica, current: &Current) -> Result<()> {
        replica.judge(current)?;
        for piece in replica.lists(current)? {
            self.fetch(&piece).await?;
        }
        Ok(())
    }
}

/// What must be there for an object to be put.
pub enum Must {
    BeAnything,
    BeNothing,
    Be(String),
}

/// What is in force, and the tag of the object that says so.
pub struct InForce {
    pub current: Current,
    tag: Option<String>,
}

/// Pushes each new tree, for ever.
pub async fn keep_pushed(store: &Store, root: &Path) {
    let mut is_well = true;
    loop {
        let done = store.push(root).await;
        tell(&mut is_well, done);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Says once what goes wrong, until it goes well again.
pub fn tell(is_well: &mut bool, done: Result<bool>) {
    match done {
        Ok(_) => *is_well = true,
        Err(problem) if *is_well => {
            tracing::warn!("{}", problem.for_people());
            *is_well = false;
        }
        Err(_) => {}
    }
}

/// The address has a signature in it, which is nobody's business.
fn hidden(cause: reqwest::Error) -> Problem {
    unreachable(cause.without_url())
}

/// Ever longer pauses between tries; about six seconds in all.
fn pauses() -> impl Iterator<Item = Duration> {
    (0..TRIES_MAX).map(|tries| PAUSE * 2_u32.pow(tries))
}

/// Whether a service that answers so may do it a moment later.
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
}

fn refused(key: &str, status: StatusCode) -> Problem {
    Problem::new(format!("the object store answers {status} to {key}"))
        .remedy("check the bucket's name and region, and what the access key may do")
}
