//! OTLP in JSON to OTLP in protobuf, so that everything behind knows one encoding.
//!
//! Driven by tables: a message is a list of its fields as JSON names them, with number and kind. What the tables do
//! not know is newer than they are and is left out, as OTLP wants it of a receiver. Ids are hex, other bytes base64,
//! 64-bit numbers may be strings, enums numbers (opentelemetry-proto docs, "JSON Protobuf Encoding").

mod tables;

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use self::tables::Kind::{
    self, Bool, Bytes, Double, Doubles, Fixed32, Fixed64, Fixed64s, Id, Int, Many, One, Sfixed64, Text, Uint, Uints,
    Zigzag,
};
pub use self::tables::{LOGS, METRICS, Message, TRACES};
use super::wire::{put_bytes, put_double, put_fixed64, put_uint, put_varint};

/// # Errors
/// What is wrong and where, for the one who sent it.
pub fn to_protobuf(json: &[u8], message: &'static Message) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(json.len() / 2);
    let mut reader = serde_json::Deserializer::from_slice(json);
    let read = MessageSeed { message, out: &mut out }.deserialize(&mut reader).and_then(|()| reader.end());
    read.map_err(|error| format!("body is not OTLP in JSON: {error}"))?;
    Ok(out)
}

/// Writes a message while it is read; no tree of values is ever built, so memory stays that of the body.
struct MessageSeed<'o> {
    message: &'static Message,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for MessageSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MessageSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            let Some((name, number, kind)) = self.message.0.iter().find(|(name, ..)| *name == key) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            match *kind {
                One(message) => {
                    let mut nested = Vec::new();
                    map.next_value_seed(MessageSeed { message, out: &mut nested })?;
                    put_bytes(self.out, *number, &nested);
                }
                Many(message) => map.next_value_seed(ListSeed { number: *number, message, out: self.out })?,
                Fixed64s | Doubles | Uints => {
                    let mut packed = Vec::new();
                    map.next_value_seed(PackedSeed { name, kind: *kind, out: &mut packed })?;
                    put_bytes(self.out, *number, &packed);
                }
                _ => {
                    let value: Scalar<'de> = map.next_value()?;
                    if value != Scalar::Null {
                        put(self.out, *number, &value, *kind).ok_or_else(|| bad(name, &value))?;
                    }
                }
            }
        }
        Ok(())
    }
}

struct ListSeed<'o> {
    number: u64,
    message: &'static Message,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for ListSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ListSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut nested = Vec::new();
        while items.next_element_seed(MessageSeed { message: self.message, out: &mut nested })?.is_some() {
            put_bytes(self.out, self.number, &nested);
            nested.clear();
        }
        Ok(())
    }
}

struct PackedSeed<'o> {
    name: &'static str,
    kind: Kind,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for PackedSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for PackedSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of numbers")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(value) = items.next_element::<Scalar<'de>>()? {
            let put = match self.kind {
                Doubles => value.double().map(|n| self.out.extend_from_slice(&n.to_le_bytes())),
                Fixed64s => value.uint().map(|n| self.out.extend_from_slice(&n.to_le_bytes())),
                _ => value.uint().map(|n| put_varint(self.out, n)),
            };
            put.ok_or_else(|| bad(self.name, &value))?;
        }
        Ok(())
    }
}

/// A value that is no object and no array.
#[derive(Clone, Debug, PartialEq)]
enum Scalar<'a> {
    Null,
    Bool(bool),
    Uint(u64),
    Int(i64),
    Double(f64),
    Text(Cow<'a, str>),
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, a text or a truth value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Scalar::Uint(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Int(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Double(value))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(value.to_owned())))
    }
}

impl Scalar<'_> {
    fn text(&self) -> Option<&str> {
        if let Scalar::Text(text) = self { Some(text) } else { None }
    }

    fn uint(&self) -> Option<u64> {
        match self {
            Scalar::Uint(n) => Some(*n),
            Scalar::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn int(&self) -> Option<i64> {
        match self {
            Scalar::Uint(n) => i64::try_from(*n).ok(),
            Scalar::Int(n) => Some(*n),
            Scalar::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn double(&self) -> Option<f64> {
        match self {
            Scalar::Uint(n) => Some(*n as f64),
            Scalar::Int(n) => Some(*n as f64),
            Scalar::Double(n) => Some(*n),
            Scalar::Text(text) => match &**text {
                "NaN" => Some(f64::NAN),
                "Infinity" => Some(f64::INFINITY),
                "-Infinity" => Some(f64::NEG_INFINITY),
                text => text.parse().ok(),
            },
            _ => None,
        }
    }
}

fn bad<E: de::Error>(name: &str, value: &Scalar<'_>) -> E {
    let mut text = format!("{value:?}");
    if let Some((end, _)) = text.char_indices().nth(60) {
        text.truncate(end);
    }
    E::custom(format!("{name:?} cannot be {text}"))
}

/// None where the value is of another kind.
fn put(out: &mut Vec<u8>, number: u64, value: &Scalar<'_>, kind: Kind) -> Option<()> {
    match kind {
        Text => put_bytes(out, number, value.text()?.as_bytes()),
        Id => put_bytes(out, number, &hex(value.text()?)?),
        Bytes => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(value.text()?).ok()?;
            put_bytes(out, number, &bytes);
        }
        Bool => put_uint(out, number, u64::from(matches!(value, Scalar::Bool(true)))),
        Uint => put_uint(out, number, value.uint()?),
        Int => put_uint(out, number, value.int()?.cast_unsigned()),
        Zigzag => {
            let n = value.int()?;
            put_uint(out, number, ((n << 1) ^ (n >> 63)).cast_unsigned());
        }
        Fixed32 => {
            put_varint(out, number << 3 | 5);
            out.extend_from_slice(&u32::try_from(value.uint()?).ok()?.to_le_bytes());
        }
        Fixed64 => put_fixed64(out, number, value.uint()?),
        Sfixed64 => put_fixed64(out, number, value.int()?.cast_unsigned()),
        Double => put_double(out, number, value.double()?),
        // Read by their own seeds.
        One(_) | Many(_) | Fixed64s | Doubles | Uints => return None,
    }
    Some(())
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests;
