//! Protobuf by hand: messages are walked field by field, and only those fields are looked at that somebody needs. The
//! rest is never decoded, and copied as it is where a message is put together anew.

/// A field's value, borrowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

impl<'a> Value<'a> {
    pub fn bytes(self) -> Option<&'a [u8]> {
        if let Value::Bytes(bytes) = self { Some(bytes) } else { None }
    }
}

/// A field: its number, its value, and the bytes of both together.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    pub number: u64,
    pub value: Value<'a>,
    pub raw: &'a [u8],
}

/// The fields of a message in order. Ends early, with `is_sound` false, where the bytes are no protobuf.
pub struct Fields<'a> {
    rest: &'a [u8],
    sound: bool,
}

pub fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message, sound: true }
}

impl<'a> Fields<'a> {
    pub fn is_sound(&self) -> bool {
        self.sound
    }

    fn read(&mut self) -> Option<Field<'a>> {
        let start = self.rest;
        let key = varint(&mut self.rest)?;
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut self.rest)?),
            1 => Value::Fixed64(u64::from_le_bytes(*self.take(8)?.first_chunk()?)),
            2 => {
                let length = usize::try_from(varint(&mut self.rest)?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(*self.take(4)?.first_chunk()?)),
            _ => return None,
        };
        let raw = &start[..start.len() - self.rest.len()];
        Some(Field { number: key >> 3, value, raw })
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        if self.rest.is_empty() || !self.sound {
            return None;
        }
        let field = self.read().filter(|field| field.number != 0);
        self.sound = field.is_some();
        field
    }
}

/// Calls `visit` with every message that is field `number`.
///
/// # Errors
/// Where the bytes are no protobuf, and whatever `visit` says.
pub fn each<'a>(
    message: &'a [u8],
    number: u64,
    mut visit: impl FnMut(&'a [u8]) -> Result<(), NotProtobuf>,
) -> Result<(), NotProtobuf> {
    let mut fields = fields(message);
    for field in fields.by_ref() {
        if field.number == number
            && let Value::Bytes(bytes) = field.value
        {
            visit(bytes)?;
        }
    }
    if fields.is_sound() { Ok(()) } else { Err(NotProtobuf) }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotProtobuf;

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A length-delimited field.
pub fn put_bytes(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_varint(out, number << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub fn put_uint(out: &mut Vec<u8>, number: u64, value: u64) {
    put_varint(out, number << 3);
    put_varint(out, value);
}

pub fn put_fixed64(out: &mut Vec<u8>, number: u64, value: u64) {
    put_varint(out, number << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

pub fn put_double(out: &mut Vec<u8>, number: u64, value: f64) {
    put_fixed64(out, number, value.to_bits());
}

/// opentelemetry.proto.common.v1.KeyValue with a string, as field `number`.
pub fn put_attribute(out: &mut Vec<u8>, number: u64, key: &str, value: &str) {
    let mut any = Vec::with_capacity(value.len() + 4);
    put_bytes(&mut any, 1, value.as_bytes());
    let mut pair = Vec::with_capacity(key.len() + any.len() + 8);
    put_bytes(&mut pair, 1, key.as_bytes());
    put_bytes(&mut pair, 2, &any);
    put_bytes(out, number, &pair);
}

/// The key of a KeyValue.
pub fn key_of(pair: &[u8]) -> &[u8] {
    fields(pair).find(|f| f.number == 1).and_then(|f| f.value.bytes()).unwrap_or_default()
}

/// The value of a KeyValue: the bytes of its AnyValue.
pub fn value_of(pair: &[u8]) -> &[u8] {
    fields(pair).find(|f| f.number == 2).and_then(|f| f.value.bytes()).unwrap_or_default()
}

/// An AnyValue that is a string.
pub fn text_of(any: &[u8]) -> Option<&str> {
    let field = fields(any).find(|f| f.number == 1)?;
    std::str::from_utf8(field.value.bytes()?).ok()
}

/// An AnyValue that is a whole number, or a string that says one.
pub fn int_of(any: &[u8]) -> Option<i64> {
    fields(any).find_map(|f| match (f.number, f.value) {
        (3, Value::Varint(n)) => Some(n.cast_signed()),
        (1, Value::Bytes(text)) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_are_walked_and_put_together_again() {
        let mut message = Vec::new();
        put_uint(&mut message, 1, 300);
        put_bytes(&mut message, 2, b"ab");
        put_fixed64(&mut message, 3, 7);
        put_attribute(&mut message, 4, "k", "v");
        let all: Vec<Field<'_>> = fields(&message).collect();
        assert_eq!(all.iter().map(|f| f.number).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(
            (all[0].value, all[1].value, all[2].value),
            (Value::Varint(300), Value::Bytes(b"ab"), Value::Fixed64(7))
        );
        let pair = all[3].value.bytes().expect("a message");
        assert_eq!((key_of(pair), text_of(value_of(pair))), (&b"k"[..], Some("v")));
        assert_eq!(all.iter().flat_map(|f| f.raw).copied().collect::<Vec<u8>>(), message);
        assert_eq!(each(b"\x0a\x05ab", 1, |_| Ok(())), Err(NotProtobuf));
        assert_eq!(each(b"\x00\x01", 1, |_| Ok(())), Err(NotProtobuf));
    }

    proptest! {
        #[test]
        fn what_is_walked_is_what_was_there(message in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut walk = fields(&message);
            let raw: Vec<u8> = walk.by_ref().flat_map(|f| f.raw.to_vec()).collect();
            prop_assert!(message.starts_with(&raw));
            prop_assert!(!walk.is_sound() || raw == message);
        }
    }
}
