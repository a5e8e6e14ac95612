//! A JSON reader for files too large to be held: indexes and trees.
//!
//! It pulls from a [`Read`] through a small buffer, keeps nothing, and every string, key and depth
//! has a bound. Its caller says what it expects next.

use crate::id::Id;
use std::io::{self, Read};

const BUFFER_BYTES: usize = 32 * 1024;
/// Values nobody asked for are skipped up to this depth.
const DEPTH_MAX: u32 = 128;
/// No key we know is longer; longer ones are unknown.
const KEY_BYTES_MAX: usize = 64;

/// Why JSON cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The source failed, or found at its end that its bytes were wrong.
    #[error("the JSON cannot be read")]
    Read(#[from] io::Error),
    /// Something else stands there.
    #[error("byte {at} of the JSON should be {expected}")]
    Syntax {
        /// Where, counted from 0.
        at: u64,
        /// What should stand there.
        expected: &'static str,
    },
    /// A string or a value is too long, or nested too deeply.
    #[error("a {what} at byte {at} of the JSON is over the limit of {max}")]
    TooLong {
        /// Where, counted from 0.
        at: u64,
        /// What it is.
        what: &'static str,
        /// The limit.
        max: usize,
    },
}

/// See the module.
pub(crate) struct JsonReader<R> {
    source: R,
    buffer: Box<[u8]>,
    at: usize,
    end: usize,
    /// Bytes of the source before the buffer.
    before: u64,
    /// Where the key that was found last stands in its list: the next one stands behind it.
    last_key: usize,
}

impl JsonReader<io::Empty> {
    /// A reader of JSON that is held as a whole, with no buffer beside it.
    pub(crate) fn held(json: Vec<u8>) -> Self {
        let (source, buffer) = (io::empty(), json.into_boxed_slice());
        let end = buffer.len();
        Self { source, buffer, at: 0, end, before: 0, last_key: 0 }
    }
}

impl<R: Read> JsonReader<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, buffer: vec![0; BUFFER_BYTES].into(), at: 0, end: 0, before: 0, last_key: 0 }
    }

    /// How many bytes were taken.
    pub(crate) fn position(&self) -> u64 {
        self.before + self.at as u64
    }

    pub(crate) fn wrong<T>(&self, expected: &'static str) -> Result<T, JsonError> {
        Err(JsonError::Syntax { at: self.position(), expected })
    }

    fn too_long<T>(&self, what: &'static str, max: usize) -> Result<T, JsonError> {
        Err(JsonError::TooLong { at: self.position(), what, max })
    }

    /// The next byte, not taken; `None` at the end.
    #[inline]
    fn peek(&mut self) -> Result<Option<u8>, JsonError> {
        if self.at == self.end {
            self.fill()?;
        }
        Ok(self.buffer[self.at..self.end].first().copied())
    }

    #[cold]
    fn fill(&mut self) -> Result<(), JsonError> {
        self.before += self.at as u64;
        (self.at, self.end) = (0, 0);
        loop {
            match self.source.read(&mut self.buffer) {
                Ok(bytes) => {
                    self.end = bytes;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The next byte that is no white space, not taken.
    #[inline]
    pub(crate) fn peek_token(&mut self) -> Result<u8, JsonError> {
        loop {
            match self.peek()? {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                Some(byte) => return Ok(byte),
                None => return self.wrong("there: it ends too early"),
            }
        }
    }

    #[inline]
    pub(crate) fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), JsonError> {
        if self.peek_token()? != byte {
            return self.wrong(expected);
        }
        self.at += 1;
        Ok(())
    }

    /// Takes a `null` if one stands there.
    pub(crate) fn take_null(&mut self) -> Result<bool, JsonError> {
        if self.peek_token()? != b'n' {
            return Ok(false);
        }
        self.word(b"null")?;
        Ok(true)
    }

    fn word(&mut self, word: &'static [u8]) -> Result<(), JsonError> {
        for wanted in word {
            if self.peek()? != Some(*wanted) {
                return self.wrong("true, false or null");
            }
            self.at += 1;
        }
        Ok(())
    }

    /// Inside `[…]`: whether another element follows. `is_first` starts as true.
    #[inline]
    pub(crate) fn next_element(&mut self, is_first: &mut bool) -> Result<bool, JsonError> {
        self.next_member(is_first, b']', "a comma or the end of a list")
    }

    #[inline]
    fn next_member(
        &mut self,
        is_first: &mut bool,
        closing: u8,
        expected: &'static str,
    ) -> Result<bool, JsonError> {
        let byte = self.peek_token()?;
        if byte == closing {
            self.at += 1;
            return Ok(false);
        }
        if !std::mem::take(is_first) {
            self.expect(b',', expected)?;
        }
        Ok(true)
    }

    /// Inside `{…}`: the place of the next key in `keys`, or `keys.len()` for one that is not
    /// there. `None` after the last. The value is to be taken next.
    #[inline]
    pub(crate) fn next_key(
        &mut self,
        is_first: &mut bool,
        keys: &'static [&'static [u8]],
    ) -> Result<Option<usize>, JsonError> {
        if !self.next_member(is_first, b'}', "a comma or the end of an object")? {
            return Ok(None);
        }
        let likely = self.last_key + 1;
        let place = match self.plain_string(KEY_BYTES_MAX)? {
            Some(key) => place_of(key, keys, likely),
            None => {
                let mut key = Vec::new();
                self.string(&mut key, 1 << 16)?;
                place_of(&key, keys, likely)
            }
        };
        self.last_key = place;
        self.expect(b':', "a colon")?;
        Ok(Some(place))
    }

    /// A string that stands in the buffer as a whole, is short and has no escapes; otherwise `None`
    /// and nothing is taken.
    #[inline]
    fn plain_string(&mut self, bytes_max: usize) -> Result<Option<&[u8]>, JsonError> {
        if self.peek_token()? != b'"' {
            return self.wrong("a string");
        }
        let held = &self.buffer[self.at + 1..self.end];
        let stop = held.iter().take(bytes_max + 1).position(|byte| matches!(byte, b'"' | b'\\'));
        match stop {
            Some(length) if held[length] == b'"' => {
                let start = self.at + 1;
                self.at = start + length + 1;
                Ok(Some(&self.buffer[start..start + length]))
            }
            _ => Ok(None),
        }
    }

    /// A string, appended to `out` as UTF-8 with its escapes resolved.
    pub(crate) fn string(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> Result<(), JsonError> {
        self.expect(b'"', "a string")?;
        let start = out.len();
        loop {
            let held = &self.buffer[self.at..self.end];
            let plain = held.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
            let plain = plain.unwrap_or(held.len());
            if out.len() - start + plain > bytes_max {
                return self.too_long("string", bytes_max);
            }
            out.extend_from_slice(&held[..plain]);
            self.at += plain;
            match self.peek()? {
                Some(b'"') => break self.at += 1,
                Some(b'\\') => {
                    self.at += 1;
                    self.escape(out)?;
                }
                Some(0..0x20) => return self.wrong("no control character"),
                Some(_) => {}
                None => return self.wrong("the end of a string"),
            }
        }
        if std::str::from_utf8(&out[start..]).is_err() {
            return self.wrong("the end of a string in UTF-8");
        }
        Ok(())
    }

    fn take_byte(&mut self) -> Result<u8, JsonError> {
        match self.peek()? {
            Some(byte) => {
                self.at += 1;
                Ok(byte)
            }
            None => self.wrong("the rest of an escape"),
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), JsonError> {
        let character = match self.take_byte()? {
            byte @ (b'"' | b'\\' | b'/') => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(out),
            _ => return self.wrong("after a known escape"),
        };
        out.push(character as u8);
        Ok(())
    }

    /// Halves of surrogate pairs that stand alone become U+FFFD, as in Go.
    fn unicode_escape(&mut self, out: &mut Vec<u8>) -> Result<(), JsonError> {
        let mut unit = self.four_digits()?;
        loop {
            if !(0xd800..0xdc00).contains(&unit) {
                return append_char(char::from_u32(unit), out);
            }
            // A pair, if its other half follows; otherwise that is a character of its own.
            if self.peek()? != Some(b'\\') {
                return append_char(None, out);
            }
            self.at += 1;
            if self.peek()? != Some(b'u') {
                append_char(None, out)?;
                return self.escape(out);
            }
            self.at += 1;
            let low = self.four_digits()?;
            if (0xdc00..0xe000).contains(&low) {
                let code = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                return append_char(char::from_u32(code), out);
            }
            append_char(None, out)?;
            unit = low;
        }
    }

    fn four_digits(&mut self) -> Result<u32, JsonError> {
        let mut number = 0;
        for _ in 0..4 {
            match char::from(self.take_byte()?).to_digit(16) {
                Some(digit) => number = number << 4 | digit,
                None => return self.wrong("after four hexadecimal digits"),
            }
        }
        Ok(number)
    }

    /// An id.
    #[inline]
    pub(crate) fn id(&mut self) -> Result<Id, JsonError> {
        let id = match self.plain_string(Id::TEXT_BYTES)? {
            Some(text) => Id::from_text(text),
            None => {
                let mut text = Vec::with_capacity(Id::TEXT_BYTES);
                self.string(&mut text, Id::TEXT_BYTES)?;
                Id::from_text(&text)
            }
        };
        match id {
            Some(id) => Ok(id),
            None => self.wrong("after an id of 64 hexadecimal digits"),
        }
    }

    /// A whole number that is not negative and at most `max`.
    #[inline]
    pub(crate) fn number(&mut self, max: u64) -> Result<u64, JsonError> {
        if !self.peek_token()?.is_ascii_digit() {
            return self.wrong("a number");
        }
        let mut number = 0_u64;
        while let Some(byte @ b'0'..=b'9') = self.peek()? {
            let next = number.checked_mul(10).and_then(|n| n.checked_add(u64::from(byte - b'0')));
            number = match next {
                Some(number) if number <= max => number,
                _ => return self.wrong("the end of a smaller number"),
            };
            self.at += 1;
        }
        if matches!(self.peek()?, Some(b'.' | b'e' | b'E')) {
            return self.wrong("the end of a whole number");
        }
        Ok(number)
    }

    /// A number of 32 bits.
    pub(crate) fn number_u32(&mut self) -> Result<u32, JsonError> {
        let number = self.number(u64::from(u32::MAX))?;
        Ok(number as u32)
    }

    /// Passes over any value.
    pub(crate) fn skip(&mut self) -> Result<(), JsonError> {
        self.pass(&mut |_| Ok(()))
    }

    /// Any value, appended to `out` as it stands.
    pub(crate) fn raw(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> Result<(), JsonError> {
        let (start, at) = (out.len(), self.position());
        self.pass(&mut |byte| {
            if out.len() - start >= bytes_max {
                return Err(JsonError::TooLong { at, what: "value", max: bytes_max });
            }
            out.push(byte);
            Ok(())
        })
    }

    /// Passes over any value, naming each of its bytes. Brackets must match; of what is between
    /// them only strings are looked at.
    fn pass(&mut self, on: &mut dyn FnMut(u8) -> Result<(), JsonError>) -> Result<(), JsonError> {
        self.peek_token()?;
        // One bit a level, innermost lowest: whether it is an object.
        let (mut levels, mut depth) = (0_u128, 0_u32);
        let mut is_scalar = false;
        loop {
            let Some(byte) = self.peek()? else { return self.wrong("the end of a value") };
            if depth == 0 && is_scalar && matches!(byte, b',' | b']' | b'}' | b' ' | b'\n') {
                return Ok(());
            }
            self.at += 1;
            on(byte)?;
            match byte {
                b'{' | b'[' if depth == DEPTH_MAX => {
                    return self.too_long("nested value", DEPTH_MAX as usize);
                }
                b'{' | b'[' => {
                    levels = levels << 1 | u128::from(byte == b'{');
                    depth += 1;
                }
                b'}' | b']' if depth > 0 && (levels & 1 == 1) == (byte == b'}') => {
                    levels >>= 1;
                    depth -= 1;
                }
                b'}' | b']' => return self.wrong("after a bracket that matches"),
                b'"' => self.pass_string(on)?,
                b',' | b':' if depth == 0 => return self.wrong("after a value"),
                _ => is_scalar = depth == 0,
            }
            if depth == 0 && !is_scalar {
                return Ok(());
            }
        }
    }

    fn pass_string(
        &mut self,
        on: &mut dyn FnMut(u8) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        let mut is_escaped = false;
        loop {
            let byte = match self.peek()? {
                Some(byte) => byte,
                None => return self.wrong("the end of a string"),
            };
            self.at += 1;
            on(byte)?;
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => return Ok(()),
                _ => {}
            }
        }
    }

    /// Only white space may follow. Reads to the very end of the source, which may verify itself.
    pub(crate) fn end(&mut self) -> Result<(), JsonError> {
        loop {
            match self.peek()? {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                Some(_) => return self.wrong("the end"),
                None => return Ok(()),
            }
        }
    }
}

/// Writers keep an order, so the search begins where the key probably stands.
#[inline]
fn place_of(key: &[u8], keys: &[&[u8]], likely: usize) -> usize {
    let start = likely.min(keys.len());
    let behind = keys[start..].iter().position(|known| *known == key).map(|place| start + place);
    let before = || keys[..start].iter().position(|known| *known == key);
    behind.or_else(before).unwrap_or(keys.len())
}

fn append_char(character: Option<char>, out: &mut Vec<u8>) -> Result<(), JsonError> {
    let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time, so that every buffer boundary is met.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let bytes = buffer.len().min(1).min(self.0.len());
            let (now, rest) = self.0.split_at(bytes);
            buffer[..bytes].copy_from_slice(now);
            self.0 = rest;
            Ok(bytes)
        }
    }

    fn string(json: &str) -> Result<String, JsonError> {
        let mut whole = Vec::new();
        JsonReader::new(json.as_bytes()).string(&mut whole, 100)?;
        let mut dripped = Vec::new();
        JsonReader::new(Drip(json.as_bytes())).string(&mut dripped, 100)?;
        assert_eq!(whole, dripped);
        Ok(String::from_utf8(whole).unwrap())
    }

    #[test]
    fn strings_are_read_as_go_and_serde_read_them() {
        for json in [r#""""#, r#""a\"\\\/\b\f\n\r\tz""#, r#""\u00e9é\ud83d\ude00""#] {
            let expected: String = serde_json::from_str(json).unwrap();
            assert_eq!(string(json).unwrap(), expected);
        }
        assert_eq!(string(r#""\ud83dx""#).unwrap(), "\u{fffd}x");
        assert_eq!(string(r#""\ude00""#).unwrap(), "\u{fffd}");
        assert_eq!(string(r#""\ud83d\n""#).unwrap(), "\u{fffd}\n");
        assert_eq!(string(r#""\ud83d\ud83d\ude00""#).unwrap(), "\u{fffd}\u{1f600}");
        for wrong in ["\"a", "a", "\"\\x\"", "\"\\u00g0\"", "\"\n\"", "\"\\", ""] {
            assert!(string(wrong).is_err(), "{wrong:?}");
        }
        assert!(string(&format!("\"{}\"", "x".repeat(101))).is_err());
    }

    #[test]
    fn values_are_passed_over_whatever_they_are() {
        for value in ["1", "-1.5e3", "null", "true", "\"a]\\\"}\"", "{\"a\":[{}, [1,\"}\"]]}", "[]"]
        {
            let json = format!(" [{value}, 7]");
            for drip in [false, true] {
                let source: Box<dyn Read> =
                    if drip { Box::new(Drip(json.as_bytes())) } else { Box::new(json.as_bytes()) };
                let (mut reader, mut first) = (JsonReader::new(source), true);
                reader.expect(b'[', "").unwrap();
                assert!(reader.next_element(&mut first).unwrap());
                let mut raw = Vec::new();
                reader.raw(&mut raw, 100).unwrap();
                assert_eq!(String::from_utf8(raw).unwrap(), value);
                assert!(reader.next_element(&mut first).unwrap());
                assert_eq!(reader.number(10).unwrap(), 7);
                assert!(!reader.next_element(&mut first).unwrap());
                reader.end().unwrap();
            }
        }
    }

    #[test]
    fn nonsense_is_refused_and_depth_is_bounded() {
        for wrong in ["", "[", "[}", "{]", "\"a", ",", "]", "[[]"] {
            assert!(JsonReader::new(wrong.as_bytes()).skip().is_err(), "{wrong}");
        }
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(JsonReader::new(deep(DEPTH_MAX as usize).as_bytes()).skip().is_ok());
        assert!(JsonReader::new(deep(DEPTH_MAX as usize + 1).as_bytes()).skip().is_err());
    }

    #[test]
    fn numbers_are_whole_and_bounded() {
        let number = |json: &str, max| JsonReader::new(json.as_bytes()).number(max);
        assert_eq!(number("18446744073709551615", u64::MAX).unwrap(), u64::MAX);
        assert_eq!(number("0", 0).unwrap(), 0);
        for wrong in ["18446744073709551616", "-1", "1.5", "1e3", "x", ""] {
            assert!(number(wrong, u64::MAX).is_err(), "{wrong}");
        }
        assert!(number("256", 255).is_err());
    }
}
