//! JSON as signed metadata may use it: strict on the way in, canonical for the signature.
//!
//! Strict means: no key twice in one object, no number but an integer of 64 bits, no text after the
//! value, a limit on depth and on the number of values. So one text has one meaning, and the
//! canonical form (OLPC: keys sorted, no space, only `"` and `\` escaped) of what was read is what
//! was signed, whatever white space or member order the file itself uses.

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

/// Objects and lists inside one another, at most.
pub const DEPTH_MAX: u32 = 32;

/// Values in one text, at most: what a NAS of 128 MB can hold several times over.
pub const VALUES_MAX: u32 = 200_000;

/// A JSON value as metadata may hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A whole number. 128 bits hold both u64 and i64.
    Integer(i128),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// An object; its keys are in order of their code points, as the canonical form wants them.
    Object(BTreeMap<String, Value>),
}

/// Why a text is not strict JSON.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(#[from] serde_json::Error);

impl Value {
    /// Reads one value that fills all of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, JsonError> {
        let left = Cell::new(VALUES_MAX);
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let value = Strict { depth: 0, left: &left }.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(value)
    }

    /// The canonical form: the bytes that are signed and hashed.
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out, Escapes::Canonical);
        out
    }

    /// Ordinary JSON without spaces, readable by every parser.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out, Escapes::Json);
        out
    }

    /// An object of these members.
    pub fn object<const N: usize>(members: [(&str, Value); N]) -> Self {
        Self::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// A text value.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// The member `key`, if this is an object that has it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Self::Object(members) => members.get(key),
            _ => None,
        }
    }

    /// Takes the member `key` out, if this is an object that has it.
    pub(crate) fn take(&mut self, key: &str) -> Option<Value> {
        match self {
            Self::Object(members) => members.remove(key),
            _ => None,
        }
    }

    /// The text, if this is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if this is one that fits.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Integer(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The list, if this is one.
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }

    /// The members, if this is an object.
    pub fn as_object(&self) -> Option<&BTreeMap<String, Value>> {
        match self {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }

    fn write(&self, out: &mut Vec<u8>, escapes: Escapes) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Integer(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Self::Text(text) => write_text(text, out, escapes),
            Self::List(list) => {
                out.push(b'[');
                for (place, value) in list.iter().enumerate() {
                    if place > 0 {
                        out.push(b',');
                    }
                    value.write(out, escapes);
                }
                out.push(b']');
            }
            Self::Object(members) => {
                out.push(b'{');
                for (place, (key, value)) in members.iter().enumerate() {
                    if place > 0 {
                        out.push(b',');
                    }
                    write_text(key, out, escapes);
                    out.push(b':');
                    value.write(out, escapes);
                }
                out.push(b'}');
            }
        }
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Integer(i128::from(number))
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Escapes {
    Canonical,
    Json,
}

fn write_text(text: &str, out: &mut Vec<u8>, escapes: Escapes) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            // In the canonical form, control characters stand for themselves.
            0..=0x1f if escapes == Escapes::Json => {
                out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[derive(Clone, Copy)]
struct Strict<'a> {
    depth: u32,
    left: &'a Cell<u32>,
}

impl Strict<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == DEPTH_MAX {
            return Err(E::custom(format_args!("nested deeper than {DEPTH_MAX}")));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self
            .left
            .get()
            .checked_sub(1)
            .ok_or_else(|| D::Error::custom(format_args!("more than {VALUES_MAX} values")))?;
        self.left.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value without fractions")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(i128::from(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(i128::from(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(value) = seq.next_element_seed(inner)? {
            list.push(value);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut members = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(inner)?;
            if members.contains_key(&key) {
                let key: String = key.chars().take(40).collect();
                return Err(A::Error::custom(format_args!("`{key}` is there twice")));
            }
            members.insert(key, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        String::from_utf8(Value::parse(text.as_bytes()).unwrap().canonical()).unwrap()
    }

    #[test]
    fn order_and_white_space_of_the_text_do_not_change_the_canonical_form() {
        let same = r#"{"a":[1,-2,true,null],"b":{"c":"x"}}"#;
        assert_eq!(canonical(same), same);
        let loose = "\n{ \"b\" : {\"c\":\"\\u0078\"},\t\"a\":[1, -2 ,true,null]}  ";
        assert_eq!(canonical(loose), same);
    }

    #[test]
    fn the_canonical_form_escapes_only_quotes_and_backslashes() {
        assert_eq!(canonical(r#""a\"b\\c\n\u00e9\/""#), "\"a\\\"b\\\\c\né/\"");
        let value = Value::text("a\n\u{1}\u{7f}é");
        assert_eq!(Value::parse(&value.to_json()).unwrap(), value);
        assert!(Value::parse(&value.canonical()).is_err());
    }

    #[test]
    fn keys_are_sorted_by_code_point() {
        assert_eq!(
            canonical(r#"{"é":1,"z":2,"Z":3,"\ud83d\ude00":4}"#),
            "{\"Z\":3,\"z\":2,\"é\":1,\"😀\":4}"
        );
    }

    #[test]
    fn a_text_with_two_meanings_is_refused() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            "1.0",
            "1e3",
            "-0",
            "1E+2",
            "18446744073709551616",
            "-9223372036854775809",
            "01",
            "+1",
            "NaN",
            "{} {}",
            "{},",
            "",
            "\u{feff}{}",
            r#""\ud800""#,
            r#""\udc00\ud800""#,
            "\"\n\"",
            "'a'",
            "{a:1}",
            "[1,]",
            "// c\n{}",
        ] {
            assert!(Value::parse(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(Value::parse(b"\"\xff\"").is_err());
    }

    #[test]
    fn depth_and_number_of_values_are_limited() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Value::parse(nested(32).as_bytes()).is_ok());
        assert!(Value::parse(nested(33).as_bytes()).is_err());
        assert!(Value::parse(nested(1_000_000).as_bytes()).is_err());
        let many = format!("[{}0]", "0,".repeat(VALUES_MAX as usize));
        assert!(Value::parse(many.as_bytes()).is_err());
    }

    #[test]
    fn numbers_of_64_bits_keep_every_digit() {
        for text in ["18446744073709551615", "-9223372036854775808", "9007199254740993"] {
            assert_eq!(canonical(text), text);
        }
        assert_eq!(Value::parse(b"18446744073709551615").unwrap().as_u64(), Some(u64::MAX));
        assert_eq!(Value::parse(b"-1").unwrap().as_u64(), None);
    }
}
