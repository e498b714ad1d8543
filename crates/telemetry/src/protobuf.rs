//! The protobuf wire format, as far as the metrics protocols need it: fields out of borrowed bytes, and back.
//!
//! No messages here and no allocation: each protocol walks its own fields. Groups, which proto3 does not have, are
//! refused; unknown fields are the caller's to skip. Source: protobuf.dev, "Encoding".

/// Bytes that are no message of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed protobuf at byte {at}: {what}")]
pub struct Malformed {
    /// Counted from the start of the outermost message.
    pub at: usize,
    pub what: &'static str,
}

/// A field's value, by its wire type.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(Reader<'a>),
    /// Only ever skipped: none of the messages has one.
    Fixed32,
}

/// Walks the fields of one message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Reader { rest: message, at: 0 }
    }

    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The number and value of the next field; None at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Field<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|n| (1..1 << 29).contains(n));
        let number = number.ok_or_else(|| self.malformed("a field number out of range"))?;
        let field = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => Field::Bytes(self.delimited()?),
            5 => self.array::<4>().map(|_| Field::Fixed32)?,
            _ => return Err(self.malformed("a wire type that proto3 does not have")),
        };
        Ok(Some((number, field)))
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for (i, byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i as u32).min(63);
            if byte & 0x80 == 0 {
                self.advance(i + 1);
                return Ok(value);
            }
        }
        Err(self.malformed("a varint without an end"))
    }

    /// What a length stands before.
    pub(crate) fn delimited(&mut self) -> Result<Reader<'a>, Malformed> {
        let length = self.varint()?;
        let length = usize::try_from(length).ok().filter(|length| *length <= self.rest.len());
        let length = length.ok_or_else(|| self.malformed("a length beyond the end of its message"))?;
        let inner = Reader { rest: &self.rest[..length], at: self.at };
        self.advance(length);
        Ok(inner)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let Some((bytes, _)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.malformed("a number beyond the end of its message"));
        };
        let bytes = *bytes;
        self.advance(N);
        Ok(bytes)
    }

    fn advance(&mut self, by: usize) {
        self.rest = &self.rest[by..];
        self.at += by;
    }

    pub(crate) fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { at: self.at, what }
    }
}

impl<'a> Field<'a> {
    /// The message, string or packed list within.
    pub(crate) fn message(self, around: &Reader<'_>) -> Result<Reader<'a>, Malformed> {
        match self {
            Field::Bytes(reader) => Ok(reader),
            _ => Err(around.malformed("a number where a message or a string belongs")),
        }
    }

    pub(crate) fn uint(self, around: &Reader<'_>) -> Result<u64, Malformed> {
        match self {
            Field::Varint(value) => Ok(value),
            _ => Err(around.malformed("no varint where one belongs")),
        }
    }

    /// Protobuf's int64 and enums.
    pub(crate) fn int(self, around: &Reader<'_>) -> Result<i64, Malformed> {
        self.uint(around).map(|value| value as i64)
    }

    /// Protobuf's sint64 and sint32, zigzag.
    pub(crate) fn sint(self, around: &Reader<'_>) -> Result<i64, Malformed> {
        self.uint(around).map(zigzag)
    }

    pub(crate) fn double(self, around: &Reader<'_>) -> Result<f64, Malformed> {
        match self {
            Field::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err(around.malformed("no double where one belongs")),
        }
    }

    /// The elements of a repeated varint field, packed or one of many.
    pub(crate) fn varints(self, around: &Reader<'_>, mut each: impl FnMut(u64)) -> Result<(), Malformed> {
        match self {
            Field::Varint(value) => each(value),
            Field::Bytes(mut packed) => {
                while !packed.is_empty() {
                    each(packed.varint()?);
                }
            }
            _ => return Err(around.malformed("no varint where one belongs")),
        }
        Ok(())
    }

    /// The elements of a repeated double field, packed or one of many.
    pub(crate) fn doubles(self, around: &Reader<'_>, mut each: impl FnMut(f64)) -> Result<(), Malformed> {
        match self {
            Field::Fixed64(bits) => each(f64::from_bits(bits)),
            Field::Bytes(mut packed) => {
                while !packed.is_empty() {
                    each(f64::from_le_bytes(packed.array()?));
                }
            }
            _ => return Err(around.malformed("no double where one belongs")),
        }
        Ok(())
    }
}

pub(crate) fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Writes fields. As proto3 has it, a number that is zero and a text that is empty are not written, except where the
/// method's name says `always`.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    pub(crate) out: Vec<u8>,
    /// Inner messages whose length is not known before they are written; reused.
    spare: Vec<Vec<u8>>,
}

impl Writer {
    pub(crate) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    fn tag(&mut self, number: u32, wire: u64) {
        self.varint(u64::from(number) << 3 | wire);
    }

    pub(crate) fn uint(&mut self, number: u32, value: u64) {
        if value != 0 {
            self.uint_always(number, value);
        }
    }

    pub(crate) fn uint_always(&mut self, number: u32, value: u64) {
        self.tag(number, 0);
        self.varint(value);
    }

    pub(crate) fn int(&mut self, number: u32, value: i64) {
        self.uint(number, value as u64);
    }

    pub(crate) fn sint(&mut self, number: u32, value: i64) {
        self.uint(number, (value << 1 ^ value >> 63) as u64);
    }

    pub(crate) fn double(&mut self, number: u32, value: f64) {
        // Negative zero is not the default: its bits count.
        if value.to_bits() != 0 {
            self.double_always(number, value);
        }
    }

    pub(crate) fn double_always(&mut self, number: u32, value: f64) {
        self.tag(number, 1);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn text(&mut self, number: u32, text: &str) {
        if !text.is_empty() {
            self.text_always(number, text);
        }
    }

    pub(crate) fn text_always(&mut self, number: u32, text: &str) {
        self.tag(number, 2);
        self.varint(text.len() as u64);
        self.out.extend_from_slice(text.as_bytes());
    }

    /// An inner message, written even when it is empty.
    pub(crate) fn message(&mut self, number: u32, write: impl FnOnce(&mut Self)) {
        self.tag(number, 2);
        self.delimited(write);
    }

    /// A message behind its length.
    pub(crate) fn delimited(&mut self, write: impl FnOnce(&mut Self)) {
        let outer = std::mem::replace(&mut self.out, self.spare.pop().unwrap_or_default());
        write(self);
        let mut inner = std::mem::replace(&mut self.out, outer);
        self.varint(inner.len() as u64);
        self.out.extend_from_slice(&inner);
        inner.clear();
        self.spare.push(inner);
    }

    pub(crate) fn packed_uints(&mut self, number: u32, values: impl IntoIterator<Item = u64>) {
        let mut values = values.into_iter().peekable();
        if values.peek().is_some() {
            self.message(number, |w| values.for_each(|value| w.varint(value)));
        }
    }

    pub(crate) fn packed_sints(&mut self, number: u32, values: impl IntoIterator<Item = i64>) {
        self.packed_uints(number, values.into_iter().map(|value| (value << 1 ^ value >> 63) as u64));
    }

    pub(crate) fn packed_doubles(&mut self, number: u32, values: impl IntoIterator<Item = f64>) {
        let mut values = values.into_iter().peekable();
        if values.peek().is_some() {
            self.message(number, |w| values.for_each(|value| w.out.extend_from_slice(&value.to_le_bytes())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::default();
        writer.uint(1, u64::MAX);
        writer.sint(2, i64::MIN);
        writer.double(3, -0.0);
        writer.message(4, |w| w.text(1, "inner"));
        writer.packed_sints(5, [-1, 0, 300]);
        writer.uint(6, 0);
        let mut reader = Reader::new(&writer.out);
        let mut seen = Vec::new();
        while let Some((number, field)) = reader.next().unwrap() {
            seen.push(match number {
                1 => format!("{}", field.uint(&reader).unwrap()),
                2 => format!("{}", field.sint(&reader).unwrap()),
                3 => format!("{:?}", field.double(&reader).unwrap()),
                4 => {
                    let mut inner = field.message(&reader).unwrap();
                    let (_, text) = inner.next().unwrap().unwrap();
                    String::from_utf8(text.message(&inner).unwrap().bytes().to_vec()).unwrap()
                }
                _ => {
                    let mut list = Vec::new();
                    field.varints(&reader, |v| list.push(zigzag(v))).unwrap();
                    format!("{list:?}")
                }
            });
        }
        assert_eq!(seen, ["18446744073709551615", "-9223372036854775808", "-0.0", "inner", "[-1, 0, 300]"]);
    }

    #[test]
    fn faults_are_named_with_their_place() {
        for (bytes, at, what) in [
            (&[0x08u8, 0x80][..], 1, "a varint without an end"),
            (&[0x0a, 5, b'x'], 2, "a length beyond the end of its message"),
            (&[0x09, 1, 2], 1, "a number beyond the end of its message"),
            (&[0x0b], 1, "a wire type that proto3 does not have"),
            (&[0x00, 0], 1, "a field number out of range"),
        ] {
            assert_eq!(Reader::new(bytes).next().unwrap_err(), Malformed { at, what });
        }
    }
}
