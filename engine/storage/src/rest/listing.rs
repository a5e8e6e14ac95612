//! A listing as it comes over the line: one JSON array that may be longer than our memory.

use serde::Deserialize;
use std::io::{self, BufRead};

/// One entry is a name of 64 letters and a number; a longer one is a lie.
const ENTRY_BYTES_MAX: usize = 1024;

/// One entry of a listing.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Entry {
    pub name: String,
    /// In bytes. A server of the protocol's first version does not tell.
    pub size: Option<u64>,
}

/// Why a listing cannot be read.
#[derive(Debug)]
pub(super) enum Broken {
    /// The line failed.
    Line(io::Error),
    /// It ends too early, or is no list.
    Text(&'static str),
}

/// The entries of a listing, one at a time, never more than one in memory.
pub(super) struct Listing<R> {
    reader: R,
    is_begun: bool,
}

impl<R: BufRead> Listing<R> {
    pub(super) fn of(reader: R) -> Self {
        Self { reader, is_begun: false }
    }

    /// The next entry; `None` after the last, when the list was closed and nothing comes behind.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Broken> {
        let mut sign = self.sign()?;
        if !self.is_begun {
            self.is_begun = true;
            match sign {
                // Go writes an empty list so.
                Some(b'n') => return self.end_of_null(),
                Some(b'[') => sign = self.sign()?,
                _ => return Err(Broken::Text("its listing is no JSON list")),
            }
        } else if sign == Some(b',') {
            sign = self.sign()?;
        } else if sign != Some(b']') {
            return Err(Broken::Text("its listing ends too early"));
        }
        match sign {
            Some(b']') => match self.sign()? {
                None => Ok(None),
                Some(_) => Err(Broken::Text("something follows its listing")),
            },
            Some(first @ (b'{' | b'"')) => self.entry(first).map(Some),
            Some(_) => Err(Broken::Text("its listing holds what is no file")),
            None => Err(Broken::Text("its listing ends too early")),
        }
    }

    fn end_of_null(&mut self) -> Result<Option<Entry>, Broken> {
        let rest = [self.sign()?, self.sign()?, self.sign()?, self.sign()?];
        match rest {
            [Some(b'u'), Some(b'l'), Some(b'l'), None] => Ok(None),
            _ => Err(Broken::Text("its listing is no JSON list")),
        }
    }

    /// An object up to its closing brace, or a text up to its closing quote.
    fn entry(&mut self, first: u8) -> Result<Entry, Broken> {
        let mut text = vec![first];
        let (mut is_quoted, mut is_escaped) = (first == b'"', false);
        loop {
            let byte = self.byte()?.ok_or(Broken::Text("its listing ends too early"))?;
            text.push(byte);
            if text.len() > ENTRY_BYTES_MAX {
                return Err(Broken::Text("its listing has an entry without end"));
            }
            let is_quote = byte == b'"' && !is_escaped;
            is_escaped = is_quoted && byte == b'\\' && !is_escaped;
            if is_quote {
                is_quoted = !is_quoted;
            }
            let is_end = if first == b'"' { is_quote } else { byte == b'}' && !is_quoted };
            if is_end {
                break;
            }
        }
        let entry = match first {
            b'"' => serde_json::from_slice(&text).map(|name| Entry { name, size: None }),
            _ => serde_json::from_slice(&text),
        };
        entry.map_err(|_| Broken::Text("its listing holds what is no file"))
    }

    /// The next byte that is no white space.
    fn sign(&mut self) -> Result<Option<u8>, Broken> {
        loop {
            match self.byte()? {
                Some(b' ' | b'\t' | b'\r' | b'\n') => {}
                other => return Ok(other),
            }
        }
    }

    fn byte(&mut self) -> Result<Option<u8>, Broken> {
        loop {
            match self.reader.fill_buf() {
                Ok(bytes) => {
                    let byte = bytes.first().copied();
                    self.reader.consume(usize::from(byte.is_some()));
                    return Ok(byte);
                }
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(Broken::Line(cause)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Result<Vec<(String, Option<u64>)>, &'static str> {
        let mut listing = Listing::of(text.as_bytes());
        let mut found = Vec::new();
        loop {
            match listing.next() {
                Ok(Some(entry)) => found.push((entry.name, entry.size)),
                Ok(None) => return Ok(found),
                Err(Broken::Text(text)) => return Err(text),
                Err(Broken::Line(cause)) => panic!("{cause}"),
            }
        }
    }

    #[test]
    fn both_versions_are_read_with_any_white_space() {
        assert_eq!(all("[]"), Ok(vec![]));
        assert_eq!(all("null\n"), Ok(vec![]));
        let two = Ok(vec![("a".to_owned(), Some(1)), ("}\"\\".to_owned(), Some(0))]);
        assert_eq!(all(r#" [ {"name":"a","size":1} ,{"size":0,"name":"}\"\\"}]"#), two);
        assert_eq!(all(r#"["a","]"]"#), Ok(vec![("a".into(), None), ("]".into(), None)]));
    }

    #[test]
    fn a_listing_that_was_cut_off_anywhere_is_an_error() {
        let whole = r#"[{"name":"ab","size":10},{"name":"cd","size":20}]"#;
        assert_eq!(all(whole).unwrap().len(), 2);
        for end in 0..whole.len() {
            assert!(all(&whole[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn what_is_no_listing_is_refused_and_never_kept_whole() {
        let endless = format!("[{{\"name\":\"{}", "a".repeat(10_000_000));
        assert_eq!(all(&endless), Err("its listing has an entry without end"));
        for text in [
            "<html>",
            "{}",
            "[1]",
            "[[]]",
            r#"[{"name":1,"size":1}]"#,
            "[]x",
            "nul",
            r#"[{"name":"a","size":-1}]"#,
            r#"["a" "b"]"#,
            "nullx",
            r#"[{"size":1}]"#,
        ] {
            assert!(all(text).is_err(), "{text}");
        }
    }
}
