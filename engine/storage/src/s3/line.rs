//! The line to a service: what is asked of it, signed, and what becomes of its answers.
//!
//! A request is signed in its URL, for a quarter of an hour, with the sum of what it carries. When
//! the service says that the bucket is in another region, that is remembered and asked again.

use super::PAGE_FILES_MAX;
use super::address::{AccessKey, S3Address};
use super::answer::Said;
use crate::http::{Asked, Http, length_of};
use crate::{Name, Result, StorageError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use engine_repository::{FileKind, Id};
use md5::{Digest, Md5};
use rusty_s3::actions::{
    CompleteMultipartUpload, CompleteMultipartUploadResponse, CreateMultipartUpload, ListObjectsV2,
};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use std::io::{Read, Seek};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use ureq::http::{Request, Response, StatusCode};
use ureq::{Body, SendBody};

/// How long a signature is good for. It is looked at when a request begins.
const SIGNED_FOR: Duration = Duration::from_secs(15 * 60);

/// Larger bodies are sent when the service said that it wants them.
const UNASKED_BYTES_MAX: u64 = 64 << 10;

/// A page names a thousand files, with what the service knows of each.
const PAGE_BYTES_MAX: u64 = 4 << 20;

/// Ids of uploads and sums of parts are some hundred letters.
const WORD_BYTES_MAX: usize = 4096;

/// What a service compares with what arrived, as the header `Content-MD5` wants it.
pub(super) fn sum_of(bytes: &[u8]) -> String {
    STANDARD.encode(Md5::digest(bytes))
}

/// Connections to one service.
pub(super) struct Line {
    pub address: S3Address,
    pub http: Http,
    key: Option<Credentials>,
    /// `None`: the address cannot be made one. Replaced when the region is learned.
    bucket: RwLock<Option<Arc<Bucket>>>,
    /// Until the service says that it does not know `If-None-Match`.
    knows_conditions: AtomicBool,
}

/// A page of a listing.
pub(super) struct Page {
    /// Sizes in bytes, where the service tells them.
    pub files: Vec<(Id, Option<u64>)>,
    /// What asks for the next page.
    pub next: Option<String>,
}

/// An upload in parts.
pub(super) struct Upload {
    pub name: Name,
    id: String,
    /// Of the parts that are there, in order.
    pub etags: Vec<String>,
}

/// A request that is to be signed: a URL for a bucket and a key.
type Sign<'a> = &'a dyn Fn(&Bucket, Option<&Credentials>) -> String;

fn signed<'a>(action: &impl S3Action<'a>) -> String {
    action.sign(SIGNED_FOR).into()
}

impl Line {
    pub fn to(address: S3Address, key: Option<AccessKey>, http: Http) -> Self {
        let bucket = bucket_in(&address, address.region(key.as_ref()));
        let key = key.map(|key| match key.token {
            Some(token) => Credentials::new_with_token(key.id, key.secret, token),
            None => Credentials::new(key.id, key.secret),
        });
        let knows_conditions = AtomicBool::new(true);
        Self { address, http, key, bucket: RwLock::new(bucket), knows_conditions }
    }

    /// A page of the listing of a kind.
    pub fn page(&self, kind: FileKind, token: Option<&str>) -> Result<Page> {
        let asked = Asked { action: "list files", name: None };
        let prefix = format!("{}{}/", self.address.prefix, kind.folder());
        let answer = self.ask(asked, "GET", PAGE_BYTES_MAX, None, &|bucket, key| {
            let mut list = bucket.list_objects_v2(key);
            list.with_prefix(&*prefix);
            list.with_max_keys(PAGE_FILES_MAX);
            if let Some(token) = token {
                list.with_continuation_token(token);
            }
            signed(&list)
        })?;
        let text = self.text(answer, PAGE_BYTES_MAX)?;
        let listed = ListObjectsV2::parse_response(&text)
            .map_err(|_| self.http.foreign("its listing is not one of S3"))?;
        let mut files = Vec::with_capacity(listed.contents.len());
        for content in listed.contents {
            let Some(path) = content.key.strip_prefix(&prefix) else {
                return Err(self.http.foreign("it lists what it was not asked for"));
            };
            // What is no id in its place is somebody's note.
            let text = path.rsplit('/').next().unwrap_or_default();
            let Ok(id) = text.parse::<Id>() else { continue };
            if self.path_of(Name::of(kind, id)) == content.key {
                files.push((id, content.size));
            }
        }
        Ok(Page { files, next: listed.next_continuation_token })
    }

    /// A file, or the part of it that the header `range` asks for.
    pub fn get(&self, name: Name, range: Option<String>, bytes_max: u64) -> Result<Response<Body>> {
        let action = if range.is_some() { "read a part of a file" } else { "read a file" };
        let asked = Asked { action, name: Some(name) };
        let path = self.path_of(name);
        self.ask(asked, "GET", bytes_max, range.as_deref(), &|bucket, key| {
            signed(&bucket.get_object(key, &path))
        })
    }

    pub fn size(&self, name: Name) -> Result<Option<u64>> {
        let asked = Asked { action: "look for a file", name: Some(name) };
        let path = self.path_of(name);
        let sign: Sign<'_> = &|bucket, key| signed(&bucket.head_object(key, &path));
        let mut was_explained = false;
        loop {
            let answer = self.send(asked, "HEAD", &[], SendBody::none(), 0, sign)?;
            match answer.status() {
                StatusCode::OK => {
                    let foreign = || self.http.foreign("it does not say how long a file is");
                    return length_of(&answer).map(Some).ok_or_else(foreign);
                }
                // That the bucket is not there, either, is worth a question when nothing is.
                StatusCode::NOT_FOUND if name != Name::CONFIG => return Ok(None),
                _ if was_explained => {
                    return Err(self.http.foreign("it gives a file, and denies to have it"));
                }
                _ => {}
            }
            // An answer without a body has no words; asked for a byte, it says what is wrong. When
            // nothing is any more, the region was, and now is known.
            match self.get(name, Some("bytes=0-0".into()), 1) {
                Ok(answer) => self.http.finish(answer),
                Err(StorageError::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
            was_explained = true;
        }
    }

    /// Puts a whole file; `body` is begun anew for each time it is sent.
    pub fn put(
        &self,
        name: Name,
        body: &mut (impl Read + Seek),
        bytes: u64,
        sum: &str,
    ) -> Result<()> {
        let asked = Asked { action: "store a file", name: Some(name) };
        let path = self.path_of(name);
        loop {
            let is_conditional = self.knows_conditions.load(Ordering::Relaxed);
            let mut headers = vec![("content-md5", sum)];
            if is_conditional {
                headers.push(("if-none-match", "*"));
            }
            body.rewind().map_err(|cause| self.http.broke(cause))?;
            let mut from = self.http.outgoing(body);
            let answer = self.send(
                asked,
                "PUT",
                &headers,
                SendBody::from_reader(&mut from),
                bytes,
                &|bucket, key| {
                    let mut put = bucket.put_object(key, &path);
                    for (name, value) in &headers {
                        put.headers_mut().insert(*name, *value);
                    }
                    signed(&put)
                },
            )?;
            if answer.status().is_success() {
                self.http.finish(answer);
                return Ok(());
            }
            let said = Said::by(&self.http, answer);
            if !(is_conditional && said.is_of_condition()) {
                return Err(said.error(&self.http, asked));
            }
            self.knows_conditions.store(false, Ordering::Relaxed);
        }
    }

    pub fn delete(&self, name: Name) -> Result<()> {
        let asked = Asked { action: "remove a file", name: Some(name) };
        let path = self.path_of(name);
        let sign: Sign<'_> = &|bucket, key| match key {
            Some(_) => signed(&bucket.delete_object(key, &path)),
            None => signed(&bucket.delete_object(None, &path)),
        };
        let answer = self.send(asked, "DELETE", &[], SendBody::none(), 0, sign)?;
        match answer.status() {
            status if status.is_success() => {
                self.http.finish(answer);
                Ok(())
            }
            _ => Err(Said::by(&self.http, answer).error(&self.http, asked)),
        }
    }

    pub fn begin_parts(&self, name: Name) -> Result<Upload> {
        let asked = Asked { action: "store a file in parts", name: Some(name) };
        let path = self.path_of(name);
        let sign: Sign<'_> = &|bucket, key| signed(&CreateMultipartUpload::new(bucket, key, &path));
        let answer = self.send(asked, "POST", &[], SendBody::none(), 0, sign)?;
        let text = self.words(answer, asked)?;
        let id = CreateMultipartUpload::parse_response(&text)
            .ok()
            .map(|begun| begun.upload_id().to_owned())
            .filter(|id| (1..=WORD_BYTES_MAX).contains(&id.len()))
            .ok_or_else(|| self.http.foreign("it does not say how to go on with an upload"))?;
        Ok(Upload { name, id, etags: Vec::new() })
    }

    /// Sends the part behind those that are there.
    pub fn send_part(
        &self,
        upload: &mut Upload,
        body: &mut dyn Read,
        bytes: u64,
        sum: &str,
    ) -> Result<()> {
        let asked = Asked { action: "store a part of a file", name: Some(upload.name) };
        let path = self.path_of(upload.name);
        let number = u16::try_from(upload.etags.len() + 1)
            .map_err(|_| self.http.foreign("a pack has too many parts for it"))?;
        let mut from = self.http.outgoing(body);
        let id = &*upload.id;
        let answer = self.send(
            asked,
            "PUT",
            &[("content-md5", sum)],
            SendBody::from_reader(&mut from),
            bytes,
            &|bucket, key| {
                let mut put = bucket.upload_part(key, &path, number, id);
                put.headers_mut().insert("content-md5", sum);
                signed(&put)
            },
        )?;
        if !answer.status().is_success() {
            return Err(self.of_upload(answer, asked));
        }
        let etag = answer.headers().get("etag").and_then(|etag| etag.to_str().ok());
        let etag = etag.filter(|etag| etag.len() <= WORD_BYTES_MAX).map(str::to_owned);
        self.http.finish(answer);
        upload.etags.push(etag.ok_or_else(|| self.http.foreign("it gives no sum of a part"))?);
        Ok(())
    }

    /// Makes the parts one file.
    pub fn finish_parts(&self, upload: &Upload) -> Result<()> {
        let asked = Asked { action: "store a file in parts", name: Some(upload.name) };
        let path = self.path_of(upload.name);
        let (id, etags) = (&*upload.id, &upload.etags);
        let bucket = self.bucket()?;
        let parts = etags.iter().map(String::as_str);
        let body = CompleteMultipartUpload::new(&bucket, None, &path, id, parts).body();
        let sum = sum_of(body.as_bytes());
        let answer = self.send(
            asked,
            "POST",
            &[("content-md5", &sum)],
            SendBody::from_reader(&mut body.as_bytes()),
            body.len() as u64,
            &|bucket, key| {
                let parts = etags.iter().map(String::as_str);
                let mut complete = CompleteMultipartUpload::new(bucket, key, &path, id, parts);
                complete.headers_mut().insert("content-md5", &*sum);
                signed(&complete)
            },
        )?;
        if !answer.status().is_success() {
            return Err(self.of_upload(answer, asked));
        }
        // A service may begin to answer "200" and then find that it cannot.
        let location = self.http.location();
        let failed = StorageError::ServerFailed { location, action: asked.action, status: 200 };
        match CompleteMultipartUploadResponse::parse(&self.words(answer, asked)?) {
            Ok(_) => Ok(()),
            Err(_) => Err(failed),
        }
    }

    /// Tells the service to drop the parts. When that fails, a rule of the bucket has to do it.
    pub fn abandon_parts(&self, upload: &Upload) {
        let asked = Asked { action: "give an upload up", name: Some(upload.name) };
        let path = self.path_of(upload.name);
        let sign: Sign<'_> =
            &|bucket, key| signed(&bucket.abort_multipart_upload(key, &path, &upload.id));
        if let Ok(answer) = self.send(asked, "DELETE", &[], SendBody::none(), 0, sign) {
            self.http.finish(answer);
        }
    }

    /// A request whose failure is an error, with the region learned on the way.
    fn ask(
        &self,
        asked: Asked,
        method: &str,
        bytes_max: u64,
        range: Option<&str>,
        sign: Sign<'_>,
    ) -> Result<Response<Body>> {
        let headers: Vec<_> = range.iter().map(|range| ("range", *range)).collect();
        let mut was_learned = false;
        loop {
            let answer =
                self.send_within(asked, method, &headers, SendBody::none(), bytes_max, sign)?;
            if answer.status().is_success() || answer.status().as_u16() == 416 {
                return Ok(answer);
            }
            let said = Said::by(&self.http, answer);
            match &said.region {
                Some(region) if said.is_of_region() && !was_learned => {
                    was_learned = true;
                    let bucket = bucket_in(&self.address, region.clone());
                    *self.bucket.write().unwrap_or_else(PoisonError::into_inner) = bucket;
                }
                _ => return Err(said.error(&self.http, asked)),
            }
        }
    }

    fn send(
        &self,
        asked: Asked,
        method: &str,
        headers: &[(&str, &str)],
        body: SendBody<'_>,
        bytes: u64,
        sign: Sign<'_>,
    ) -> Result<Response<Body>> {
        let length = bytes.to_string();
        let mut headers = headers.to_vec();
        if method != "HEAD" && method != "DELETE" {
            headers.push(("content-length", &length));
        }
        if bytes > UNASKED_BYTES_MAX {
            headers.push(("expect", "100-continue"));
        }
        self.send_within(asked, method, &headers, body, bytes, sign)
    }

    fn send_within(
        &self,
        asked: Asked,
        method: &str,
        headers: &[(&str, &str)],
        body: SendBody<'_>,
        bytes: u64,
        sign: Sign<'_>,
    ) -> Result<Response<Body>> {
        let key = self.key.as_ref();
        if key.is_none() {
            return Err(StorageError::KeyMissing { location: self.http.location() });
        }
        let mut request = Request::builder().method(method).uri(sign(&*self.bucket()?, key));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(body)
            .map_err(|_| self.http.foreign(format!("asked to {}, it cannot be", asked.action)))?;
        let is_list = asked.action == "list files";
        let patience = self.http.patience();
        let first = if is_list { patience.listing } else { patience.idle };
        self.http.run(request, first, bytes)
    }

    fn bucket(&self) -> Result<Arc<Bucket>> {
        let bucket = self.bucket.read().unwrap_or_else(PoisonError::into_inner).clone();
        bucket.ok_or_else(|| self.http.foreign("its address is none"))
    }

    /// The words of an answer that has to be a success.
    fn words(&self, answer: Response<Body>, asked: Asked) -> Result<String> {
        match answer.status().is_success() {
            true => self.text(answer, PAGE_BYTES_MAX),
            false => Err(Said::by(&self.http, answer).error(&self.http, asked)),
        }
    }

    /// A refusal of a request that belongs to an upload, where "not found" is the upload.
    fn of_upload(&self, answer: Response<Body>, asked: Asked) -> StorageError {
        match Said::by(&self.http, answer).error(&self.http, asked) {
            StorageError::NotFound { location, .. } => {
                StorageError::ServerFailed { location, action: asked.action, status: 404 }
            }
            error => error,
        }
    }

    fn text(&self, answer: Response<Body>, bytes_max: u64) -> Result<String> {
        let mut text = Vec::new();
        self.http
            .incoming(answer, bytes_max)
            .read_to_end(&mut text)
            .map_err(|cause| self.http.broke(cause))?;
        String::from_utf8(text).map_err(|_| self.http.foreign("its answer is no text"))
    }

    /// The name of a file in the bucket.
    fn path_of(&self, name: Name) -> String {
        format!("{}{name}", self.address.prefix)
    }
}

fn bucket_in(address: &S3Address, region: String) -> Option<Arc<Bucket>> {
    let endpoint = address.endpoint.parse().ok()?;
    Bucket::new(endpoint, UrlStyle::Path, address.bucket.clone(), region).ok().map(Arc::new)
}
