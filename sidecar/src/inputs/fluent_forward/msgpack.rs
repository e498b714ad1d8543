//! As much of MessagePack (github.com/msgpack/msgpack, spec.md) as Fluent Forward needs: where a value
//! ends, and borrowed values. Nothing is copied, nothing recurses, no size is believed before it is there.

/// Finds the end of one value in bytes that come piece by piece; each byte is looked at once.
#[derive(Clone, Debug)]
pub(super) struct Scanner {
    at: usize,
    /// Values that are still to come before the outermost one is whole.
    left: u64,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("0xc1 is no MessagePack value")]
pub(super) struct NotMsgpack;

impl Scanner {
    pub(super) fn new() -> Self {
        Scanner { at: 0, left: 1 }
    }

    /// The length of the value that begins with `bytes`, as soon as all of it is there. The next call must
    /// bring the same bytes and those that came since.
    pub(super) fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, NotMsgpack> {
        while self.left > 0 {
            // A string's or binary's content may lie beyond what has come.
            let Some(rest) = bytes.get(self.at..) else { return Ok(None) };
            let Some(head) = Head::read(rest)? else { return Ok(None) };
            self.at = self.at.saturating_add(head.length).saturating_add(head.content);
            self.left = self.left - 1 + head.children;
        }
        Ok((bytes.len() >= self.at).then_some(self.at))
    }

    /// How much of a value is known to be needed so far.
    pub(super) fn needed(&self) -> usize {
        self.at
    }
}

/// The first bytes of a value.
struct Head {
    /// Of the head itself.
    length: usize,
    /// Bytes of content that follow and hold no further values.
    content: usize,
    /// Values that follow and belong to this one.
    children: u64,
}

impl Head {
    /// None where the head is not all there.
    fn read(bytes: &[u8]) -> Result<Option<Head>, NotMsgpack> {
        let Some(first) = bytes.first() else { return Ok(None) };
        let size = |width: usize| -> Option<u64> {
            let digits = &bytes[1..];
            Some(match width {
                1 => u64::from(*digits.first()?),
                2 => u64::from(u16::from_be_bytes(*digits.first_chunk()?)),
                _ => u64::from(u32::from_be_bytes(*digits.first_chunk()?)),
            })
        };
        let flat = |content: usize| Some(Head { length: 1, content, children: 0 });
        let content = |width: usize, extra: usize| -> Option<Head> {
            let content = usize::try_from(size(width)?).unwrap_or(usize::MAX).saturating_add(extra);
            Some(Head { length: 1 + width, content, children: 0 })
        };
        let children =
            |width: usize, each: u64| Some(Head { length: 1 + width, content: 0, children: size(width)? * each });
        Ok(match first {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => flat(0),
            0x80..=0x8f => Some(Head { length: 1, content: 0, children: u64::from(first & 0x0f) * 2 }),
            0x90..=0x9f => Some(Head { length: 1, content: 0, children: u64::from(first & 0x0f) }),
            0xa0..=0xbf => flat(usize::from(first & 0x1f)),
            0xc1 => return Err(NotMsgpack),
            0xc4 | 0xd9 => content(1, 0),
            0xc5 | 0xda => content(2, 0),
            0xc6 | 0xdb => content(4, 0),
            // The type of an extension stands behind its size.
            0xc7 => content(1, 1),
            0xc8 => content(2, 1),
            0xc9 => content(4, 1),
            0xcc | 0xd0 => flat(1),
            0xcd | 0xd1 => flat(2),
            0xca | 0xce | 0xd2 => flat(4),
            0xcb | 0xcf | 0xd3 => flat(8),
            0xd4..=0xd8 => flat(1 + (1 << (first - 0xd4))),
            0xdc => children(2, 1),
            0xdd => children(4, 1),
            0xde => children(2, 2),
            0xdf => children(4, 2),
        })
    }
}

/// One value; the contents of arrays and maps follow it in the reader.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token<'a> {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// A string or binary: strings need not be UTF-8.
    Text(&'a [u8]),
    Ext(i8, &'a [u8]),
    Array(u64),
    /// Pairs.
    Map(u64),
}

/// Reads values from bytes that are all there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// None where the bytes end or are no MessagePack.
    pub(super) fn next(&mut self) -> Option<Token<'a>> {
        let head = Head::read(self.0).ok()??;
        let (first, end) = (self.0[0], head.length.checked_add(head.content)?);
        let (value, rest) = self.0.split_at_checked(end)?;
        let content = &value[head.length..];
        self.0 = rest;
        let unsigned = || content.iter().fold(0u64, |value, digit| value << 8 | u64::from(*digit));
        // The sign of a number that is narrower than 64 bits stands at its own top.
        let signed = || {
            let shift = 64 - 8 * content.len() as u32;
            (unsigned() << shift) as i64 >> shift
        };
        Some(match first {
            0x00..=0x7f => Token::Int(i64::from(first)),
            0xe0..=0xff => Token::Int(i64::from(first as i8)),
            0xc0 => Token::Nil,
            0xc2 | 0xc3 => Token::Bool(first == 0xc3),
            0x80..=0x8f | 0xde | 0xdf => Token::Map(head.children / 2),
            0x90..=0x9f | 0xdc | 0xdd => Token::Array(head.children),
            0xa0..=0xbf | 0xc4..=0xc6 | 0xd9..=0xdb => Token::Text(content),
            0xc7..=0xc9 | 0xd4..=0xd8 => Token::Ext(content[0] as i8, &content[1..]),
            0xca => Token::Float(f64::from(f32::from_bits(unsigned() as u32))),
            0xcb => Token::Float(f64::from_bits(unsigned())),
            0xcc..=0xcf => Token::Int(i64::try_from(unsigned()).unwrap_or(i64::MAX)),
            0xd0..=0xd3 => Token::Int(signed()),
            0xc1 => return None,
        })
    }

    /// The bytes of the next value, contents included.
    pub(super) fn skip(&mut self) -> Option<&'a [u8]> {
        let end = Scanner::new().end(self.0).ok()??;
        let (value, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(value)
    }

    /// The next value where it is a text, and `Some(None)` where it is another, which is skipped, contents included.
    pub(super) fn text_or_skip(&mut self) -> Option<Option<&'a [u8]>> {
        let before = *self;
        match self.next()? {
            Token::Text(text) => Some(Some(text)),
            Token::Array(_) | Token::Map(_) => {
                *self = before;
                self.skip().map(|_| None)
            }
            _ => Some(None),
        }
    }

    /// A map's key; one that is no text is as good as an empty one.
    pub(super) fn key(&mut self) -> Option<&'a [u8]> {
        self.text_or_skip().map(Option::unwrap_or_default)
    }

    pub(super) fn text(&mut self) -> Option<&'a [u8]> {
        match self.next()? {
            Token::Text(text) => Some(text),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokens(bytes: &[u8]) -> Vec<Token<'_>> {
        let mut reader = Reader(bytes);
        std::iter::from_fn(|| reader.next()).collect()
    }

    #[test]
    fn every_kind_of_value_is_read() {
        for (bytes, token) in [
            (&[0x07][..], Token::Int(7)),
            (&[0xff], Token::Int(-1)),
            (&[0xcc, 0xff], Token::Int(255)),
            (&[0xd0, 0x80], Token::Int(-128)),
            (&[0xd1, 0xff, 0xfe], Token::Int(-2)),
            (&[0xd2, 0xff, 0xff, 0xff, 0xfd], Token::Int(-3)),
            (&[0xd3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfc], Token::Int(-4)),
            (&[0xce, 0, 0, 1, 0], Token::Int(256)),
            (&[0xca, 0x3f, 0x80, 0, 0], Token::Float(1.0)),
            (&[0xcb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0], Token::Float(1.5)),
            (&[0xa2, b'h', b'i'], Token::Text(b"hi")),
            (&[0xd9, 1, b'x'], Token::Text(b"x")),
            (&[0xc5, 0, 1, 0xff], Token::Text(b"\xff")),
            (&[0xd7, 0, 1, 2, 3, 4, 5, 6, 7, 8], Token::Ext(0, &[1, 2, 3, 4, 5, 6, 7, 8])),
            (&[0xc7, 2, 5, 1, 2], Token::Ext(5, &[1, 2])),
            (&[0xdc, 0, 2], Token::Array(2)),
            (&[0x81], Token::Map(1)),
            (&[0xc0], Token::Nil),
            (&[0xc3], Token::Bool(true)),
        ] {
            assert_eq!(tokens(bytes), [token], "{bytes:02x?}");
        }
    }

    #[test]
    fn the_end_is_found_however_the_bytes_come() {
        // ["tag", {"a": [1, "xyz"]}], then one byte of the next value.
        let bytes = [0x92, 0xa3, b't', b'a', b'g', 0x81, 0xa1, b'a', 0x92, 0x01, 0xa3, b'x', b'y', b'z', 0xc0];
        for step in 1..bytes.len() {
            let mut scanner = Scanner::new();
            let found = (0..=bytes.len())
                .step_by(step)
                .chain([bytes.len()])
                .find_map(|length| scanner.end(&bytes[..length]).expect("MessagePack"));
            assert_eq!(found, Some(14), "in steps of {step}");
        }
        assert_eq!(Scanner::new().end(&[0xc1]), Err(NotMsgpack));
    }

    #[test]
    fn a_huge_announcement_costs_nothing() {
        let mut scanner = Scanner::new();
        assert_eq!(scanner.end(&[0xdb, 0xff, 0xff, 0xff, 0xff]), Ok(None));
        assert_eq!(scanner.needed(), 5 + 0xffff_ffff);
        assert_eq!(Scanner::new().end(&[0xdf, 0xff, 0xff, 0xff, 0xff]), Ok(None));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_reader_and_scanner_agree(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            drop(tokens(&bytes));
            if let Ok(Some(end)) = Scanner::new().end(&bytes) {
                prop_assert_eq!(Reader(&bytes).skip(), Some(&bytes[..end]));
            }
        }
    }
}
