//! Text as Go's standard library writes it, byte for byte, because a tree's id depends on it.
//!
//! Two layers lie upon each other. The name of a file, which is bytes, becomes Go's `strconv.Quote`
//! without the outer quotes; that, like every other string, becomes a JSON string by the rules of
//! `encoding/json`, which escapes `<`, `>` and `&` too.
//!
//! What counts as printable is Unicode 15.0's business, the version in Go since 1.21.

use unicode_general_category::{GeneralCategory, get_general_category};

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Go's `strconv.IsPrint`: letters, marks, numbers, punctuation, symbols and the ASCII space.
fn is_printable(character: char) -> bool {
    use GeneralCategory as G;
    match character {
        ' '..='~' => true,
        _ if character.is_ascii() => false,
        _ => !matches!(
            get_general_category(character),
            G::Control
                | G::Format
                | G::Surrogate
                | G::PrivateUse
                | G::Unassigned
                | G::SpaceSeparator
                | G::LineSeparator
                | G::ParagraphSeparator
        ),
    }
}

/// Calls `on` with each character of `bytes`, and `Err` with each byte that is part of none. Go
/// advances by one byte there, not by what might have been meant.
fn each_char(mut bytes: &[u8], mut on: impl FnMut(Result<char, u8>)) {
    loop {
        let (valid, invalid) = match std::str::from_utf8(bytes) {
            Ok(valid) => (valid, None),
            Err(error) => {
                let (valid, rest) = bytes.split_at(error.valid_up_to());
                (std::str::from_utf8(valid).unwrap_or_default(), rest.split_first())
            }
        };
        valid.chars().for_each(|character| on(Ok(character)));
        let Some((byte, rest)) = invalid else { return };
        on(Err(*byte));
        bytes = rest;
    }
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&')
}

/// Appends a file's name as a JSON string: quoted as Go does, then as JSON does.
pub(crate) fn append_name(name: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    if name.iter().copied().all(is_plain) {
        out.extend_from_slice(name);
    } else {
        each_char(name, |next| match next {
            Err(byte) => append_hex(b"\\\\x", u32::from(byte), 2, out),
            Ok(character) => append_quoted(character, out),
        });
    }
    out.push(b'"');
}

/// A character of a name. Every backslash of Go's is two in JSON.
fn append_quoted(character: char, out: &mut Vec<u8>) {
    let short = match character {
        '"' => br#"\\\""#.as_slice(),
        '\\' => br"\\\\",
        '\u{7}' => br"\\a",
        '\u{8}' => br"\\b",
        '\u{c}' => br"\\f",
        '\n' => br"\\n",
        '\r' => br"\\r",
        '\t' => br"\\t",
        '\u{b}' => br"\\v",
        _ if is_printable(character) => return append_json_char(character, out),
        _ => {
            let code = u32::from(character);
            return match code {
                0..0x20 | 0x7f => append_hex(b"\\\\x", code, 2, out),
                0x80..0x10000 => append_hex(b"\\\\u", code, 4, out),
                _ => append_hex(b"\\\\U", code, 8, out),
            };
        }
    };
    out.extend_from_slice(short);
}

/// Appends a JSON string. Bytes that are not UTF-8 become U+FFFD, as in Go.
pub(crate) fn append_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    if text.iter().copied().all(is_plain) {
        out.extend_from_slice(text);
    } else {
        each_char(text, |next| match next {
            Err(_) => out.extend_from_slice(br"\ufffd"),
            Ok(character) => append_json_char(character, out),
        });
    }
    out.push(b'"');
}

fn append_json_char(character: char, out: &mut Vec<u8>) {
    let short = match character {
        '"' => br#"\""#.as_slice(),
        '\\' => br"\\",
        '\u{8}' => br"\b",
        '\u{c}' => br"\f",
        '\n' => br"\n",
        '\r' => br"\r",
        '\t' => br"\t",
        '\0'..'\u{20}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
            return append_hex(b"\\u", u32::from(character), 4, out);
        }
        _ => return out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
    };
    out.extend_from_slice(short);
}

fn append_hex(prefix: &[u8], code: u32, digits: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(prefix);
    for place in (0..digits).rev() {
        out.push(DIGITS[(code >> (4 * place) & 15) as usize]);
    }
}

/// The bytes a quoted name stands for: Go's `strconv.Unquote`. `None` when it is not quoted so.
pub(crate) fn unquote(quoted: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut rest = quoted;
    loop {
        let plain = rest.iter().position(|byte| matches!(byte, b'\\' | b'"' | b'\n'));
        let Some(plain) = plain else {
            out.extend_from_slice(rest);
            return Some(());
        };
        out.extend_from_slice(&rest[..plain]);
        let [b'\\', kind, after @ ..] = &rest[plain..] else { return None };
        rest = after;
        out.push(match kind {
            b'a' => 7,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            b'\\' | b'"' => *kind,
            b'x' => take_number(&mut rest, 2, 16)? as u8,
            b'0'..=b'7' => {
                rest = &quoted[quoted.len() - rest.len() - 1..];
                u8::try_from(take_number(&mut rest, 3, 8)?).ok()?
            }
            b'u' | b'U' => {
                let digits = if *kind == b'u' { 4 } else { 8 };
                let character = char::from_u32(take_number(&mut rest, digits, 16)?)?;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            _ => return None,
        });
    }
}

fn take_number(rest: &mut &[u8], digits: usize, base: u32) -> Option<u32> {
    let (number, after) = rest.split_at_checked(digits)?;
    *rest = after;
    number.iter().try_fold(0_u32, |number, byte| {
        number.checked_mul(base)?.checked_add(char::from(*byte).to_digit(base)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        append_name(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn string(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        append_string(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn names_are_quoted_as_restic_quotes_them() {
        assert_eq!(name(b"plain name.txt"), r#""plain name.txt""#);
        assert_eq!(name(b"a\"b\\c\td\ne"), r#""a\\\"b\\\\c\\td\\ne""#);
        assert_eq!(name(b"\xff\xc3"), r#""\\xff\\xc3""#);
        assert_eq!(
            name("nbsp\u{a0}zwj\u{200d}pua\u{e000}del\x7f".as_bytes()),
            r#""nbsp\\u00a0zwj\\u200dpua\\ue000del\\x7f""#
        );
        assert_eq!(name("ä ß 日本 😀 \u{fffd}".as_bytes()), "\"ä ß 日本 😀 \u{fffd}\"");
        assert_eq!(name("\u{10ffff}\u{2028}".as_bytes()), r#""\\U0010ffff\\u2028""#);
        assert_eq!(name(b"<&>'"), r#""\u003c\u0026\u003e'""#);
        assert_eq!(name(b"\x00\x01\x07\x08\x0b\x0c\r"), r#""\\x00\\x01\\a\\b\\v\\f\\r""#);
        // Cut-off sequences: each byte by itself.
        assert_eq!(name(b"\xe2\x82x\xf0\x9f\x98"), r#""\\xe2\\x82x\\xf0\\x9f\\x98""#);
        // Assigned in Unicode 15.0, and in 16.0: only the first is printable to Go.
        assert_eq!(name("\u{1e4d0}".as_bytes()), "\"\u{1e4d0}\"");
        assert_eq!(name("\u{1c89}".as_bytes()), r#""\\u1c89""#);
    }

    #[test]
    fn strings_are_written_as_go_writes_them() {
        assert_eq!(string(b"a\"\\\n\x08\x0c\x01\x7f<"), "\"a\\\"\\\\\\n\\b\\f\\u0001\x7f\\u003c\"");
        assert_eq!(string("\u{2028}\u{a0}".as_bytes()), "\"\\u2028\u{a0}\"");
        assert_eq!(string(b"\xff\xe2\x82"), r#""\ufffd\ufffd\ufffd""#);
    }

    #[test]
    fn every_name_survives_being_quoted_and_unquoted() {
        let mut names: Vec<Vec<u8>> = (0..=255_u8).map(|byte| vec![byte, b'7']).collect();
        names.extend(
            (0..0x11_0000)
                .step_by(13)
                .filter_map(char::from_u32)
                .map(|character| format!("{character}0").into_bytes()),
        );
        for bytes in names {
            let json: String = serde_json::from_str(&name(&bytes)).unwrap();
            let mut back = Vec::new();
            unquote(json.as_bytes(), &mut back).unwrap();
            assert_eq!(back, bytes);
        }
    }

    #[test]
    fn what_go_would_not_unquote_is_refused() {
        let unquoted = |text: &str| {
            let mut out = Vec::new();
            unquote(text.as_bytes(), &mut out).map(|()| out)
        };
        assert_eq!(unquoted(r"\101\x41\u0041\U00000041").unwrap(), b"AAAA");
        for wrong in [r"\", r"\x", r"\x4", r"\q", r"\'", "\"", "\n", r"\400", r"\ud800", r"\u12"] {
            assert_eq!(unquoted(wrong), None, "{wrong}");
        }
    }
}
