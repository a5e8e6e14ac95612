//! Handing out a file: whole, from the middle, or not again when the asker has it.
//!
//! The entity tag is never given to two contents, so a download that goes on with `If-Range` after
//! a break never joins two files.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncSeekExt, ReadBuf};

/// Read from the disk at a time, and held for each download.
const PIECE_BYTES: usize = 64 * 1024;

/// What there is to hand out.
pub struct Content<'a> {
    /// What the bytes are.
    pub media_type: &'static str,
    /// What no other content is called: its SHA-256, or a name under which it never changes.
    pub tag: &'a str,
    /// How long others may keep a copy.
    pub cache_control: &'static str,
    /// The bytes.
    pub source: Source<'a>,
}

/// Where the bytes are.
pub enum Source<'a> {
    /// In memory.
    Bytes(Bytes),
    /// In a file.
    File(&'a Path),
}

/// What of a content is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    /// From the first to the last byte, both included.
    Range(u64, u64),
    NoSuchRange,
    Unchanged,
    NotThisOne,
}

/// Answers a request for `content`.
pub async fn hand_out(
    method: &Method,
    headers: &HeaderMap,
    content: Content<'_>,
) -> io::Result<Response<Body>> {
    let tag = format!("\"{}\"", content.tag);
    let length = match &content.source {
        Source::Bytes(bytes) => bytes.len() as u64,
        Source::File(path) => tokio::fs::metadata(path).await?.len(),
    };
    let part = part(headers, &tag, length);
    let mut response = Response::new(Body::empty());
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    };
    set(header::ETAG, &tag);
    set(header::CACHE_CONTROL, content.cache_control);
    set(header::ACCEPT_RANGES, "bytes");
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    let (status, first, count) = match part {
        Part::Whole => (StatusCode::OK, 0, length),
        Part::Range(first, last) => {
            set(header::CONTENT_RANGE, &format!("bytes {first}-{last}/{length}"));
            (StatusCode::PARTIAL_CONTENT, first, last - first + 1)
        }
        Part::NoSuchRange => {
            set(header::CONTENT_RANGE, &format!("bytes */{length}"));
            (StatusCode::RANGE_NOT_SATISFIABLE, 0, 0)
        }
        Part::Unchanged => (StatusCode::NOT_MODIFIED, 0, 0),
        Part::NotThisOne => (StatusCode::PRECONDITION_FAILED, 0, 0),
    };
    if status.is_success() {
        set(header::CONTENT_TYPE, content.media_type);
        set(header::CONTENT_LENGTH, &count.to_string());
    }
    *response.status_mut() = status;
    if status.is_success() && method != Method::HEAD {
        *response.body_mut() = body(content.source, first, count).await?;
    }
    Ok(response)
}

async fn body(source: Source<'_>, first: u64, count: u64) -> io::Result<Body> {
    match source {
        Source::Bytes(bytes) => {
            let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
            Ok(Body::from(bytes.slice(place(first)..place(first + count))))
        }
        Source::File(path) => {
            let mut file = File::open(path).await?;
            file.seek(io::SeekFrom::Start(first)).await?;
            let body = FileBody { file, left: count, buffer: Vec::new() };
            Ok(Body::new(body.map_err(axum::Error::new)))
        }
    }
}

fn part(headers: &HeaderMap, tag: &str, length: u64) -> Part {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if text(header::IF_MATCH).is_some_and(|tags| !names(tags, tag)) {
        return Part::NotThisOne;
    }
    if text(header::IF_NONE_MATCH).is_some_and(|tags| names(tags, tag)) {
        return Part::Unchanged;
    }
    let same = text(header::IF_RANGE).is_none_or(|condition| condition == tag);
    match text(header::RANGE).filter(|_| same) {
        Some(range) => part_of_range(range, length),
        None => Part::Whole,
    }
}

/// Whether a list of entity tags names this one.
fn names(tags: &str, tag: &str) -> bool {
    tags.split(',').map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/") == tag)
}

/// One range of bytes. Several at once, and what makes no sense, are answered with the whole.
fn part_of_range(range: &str, length: u64) -> Part {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-'))
    else {
        return Part::Whole;
    };
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<u64>().ok(),
        false => None,
    };
    match (first, last, number(first), number(last)) {
        ("", _, _, Some(count)) => match count.min(length) {
            0 => Part::NoSuchRange,
            count => Part::Range(length - count, length - 1),
        },
        (_, "", Some(first), _) if first < length => Part::Range(first, length - 1),
        (_, _, Some(first), Some(last)) if first <= last && first < length => {
            Part::Range(first, last.min(length - 1))
        }
        (_, "", Some(_), _) => Part::NoSuchRange,
        (_, _, Some(first), Some(last)) if first <= last => Part::NoSuchRange,
        _ => Part::Whole,
    }
}

/// A part of a file, read piece by piece as the asker takes it.
struct FileBody {
    file: File,
    left: u64,
    buffer: Vec<u8>,
}

impl hyper::body::Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let wanted = usize::try_from(self.left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let this = &mut *self;
        this.buffer.resize(wanted, 0);
        let mut piece = ReadBuf::new(&mut this.buffer);
        let read = Pin::new(&mut this.file).poll_read(cx, &mut piece);
        let count = piece.filled().len();
        match read {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
            // Shorter than published: rather no end than a wrong one.
            Poll::Ready(Ok(())) if count == 0 => {
                Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())))
            }
            Poll::Ready(Ok(())) => {
                this.left -= count as u64;
                let mut bytes = std::mem::take(&mut this.buffer);
                bytes.truncate(count);
                Poll::Ready(Some(Ok(Frame::data(Bytes::from(bytes)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(lines: &[(HeaderName, &str)]) -> Part {
        let pairs =
            lines.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()));
        part(&pairs.collect(), "\"abc\"", 1000)
    }

    #[test]
    fn ranges_are_cut_as_the_standard_says() {
        for (range, part) in [
            ("bytes=0-0", Part::Range(0, 0)),
            ("bytes=0-999", Part::Range(0, 999)),
            ("bytes=500-", Part::Range(500, 999)),
            ("bytes=500-5000", Part::Range(500, 999)),
            ("bytes=-1", Part::Range(999, 999)),
            ("bytes=-5000", Part::Range(0, 999)),
            ("bytes=1000-", Part::NoSuchRange),
            ("bytes=1000-2000", Part::NoSuchRange),
            ("bytes=-0", Part::NoSuchRange),
            ("bytes=2-1", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes=99999999999999999999-", Part::Whole),
            ("items=0-1", Part::Whole),
        ] {
            assert_eq!(wanted(&[(header::RANGE, range)]), part, "{range}");
        }
    }

    #[test]
    fn conditions_are_kept() {
        let range = (header::RANGE, "bytes=1-2");
        let with = |name, value| wanted(&[range.clone(), (name, value)]);
        assert_eq!(with(header::IF_RANGE, "\"abc\""), Part::Range(1, 2));
        assert_eq!(with(header::IF_RANGE, "\"old\""), Part::Whole);
        assert_eq!(with(header::IF_RANGE, "W/\"abc\""), Part::Whole);
        assert_eq!(with(header::IF_NONE_MATCH, "\"old\", W/\"abc\""), Part::Unchanged);
        assert_eq!(with(header::IF_NONE_MATCH, "*"), Part::Unchanged);
        assert_eq!(with(header::IF_NONE_MATCH, "\"old\""), Part::Range(1, 2));
        assert_eq!(with(header::IF_MATCH, "\"old\""), Part::NotThisOne);
        assert_eq!(with(header::IF_MATCH, "\"abc\""), Part::Range(1, 2));
    }
}
