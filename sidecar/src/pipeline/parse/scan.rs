//! The members of one JSON object as slices of its text, and a promise that the text is JSON.
//!
//! A line that needs no change is passed on as it is, and one that does is put together from slices of it. So
//! everything is checked here once, as strictly as the readers of the line will (RFC 8259, no lone surrogates, numbers
//! that fit a double): one line that is no JSON would spoil an answer made of many.

use super::write;
use crate::pipeline::bits::{self, BLOCK};

/// Nesting beyond this is nobody's log line; readers stop at 128 and we may add two levels.
const DEPTH_MAX: u32 = 100;
/// Members of the outermost object.
pub const FIELDS_MAX: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `plain`: no escapes in it, so that the slice between the quotes is the text.
    String {
        plain: bool,
    },
    Number,
    Bool,
    Null,
    Object,
    Array,
}

/// One member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Between the quotes, escapes and all.
    pub key: &'a str,
    /// The whole value, quotes and brackets included.
    pub value: &'a str,
    pub kind: Kind,
}

impl<'a> Field<'a> {
    /// The text of a string without escapes.
    pub fn plain(&self) -> Option<&'a str> {
        matches!(self.kind, Kind::String { plain: true }).then(|| &self.value[1..self.value.len() - 1])
    }

    pub fn is_string(&self) -> bool {
        matches!(self.kind, Kind::String { .. })
    }
}

/// Fills `fields` with the members of the object that `text` is. False: it is no object, or no JSON, or has too many
/// members, or is nested too deep.
pub fn object<'a>(text: &'a str, fields: &mut Vec<Field<'a>>) -> bool {
    fields.clear();
    let mut scan = Scan::new(text);
    let members = scan.members(|field| {
        let fits = fields.len() < FIELDS_MAX;
        if fits {
            fields.push(field);
        }
        fits
    });
    members == Some(true) && {
        scan.blanks();
        scan.at == scan.bytes.len()
    }
}

/// The first member of that name in an object, of which what stands behind it is not looked at.
pub fn member<'a>(text: &'a str, key: &str) -> Option<Field<'a>> {
    let mut found = None;
    Scan::new(text).members(|field| {
        found = Some(field).filter(|field| field.key == key);
        found.is_none()
    })?;
    found
}

struct Scan<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// The block that was looked at last, and which of its bytes end a string or stand in none as they are.
    block: usize,
    special: u64,
}

impl<'a> Scan<'a> {
    fn new(text: &'a str) -> Self {
        Scan { text, bytes: text.as_bytes(), at: 0, block: usize::MAX, special: 0 }
    }

    /// Hands out the members until one is enough: whether all were wanted. None: it is no object, or no JSON.
    fn members(&mut self, mut each: impl FnMut(Field<'a>) -> bool) -> Option<bool> {
        self.blanks();
        self.expect(b'{')?;
        self.blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Some(true);
        }
        loop {
            self.blanks();
            let from = self.at;
            self.string()?;
            let key = &self.text[from + 1..self.at - 1];
            self.blanks();
            self.expect(b':')?;
            self.blanks();
            let from = self.at;
            let kind = self.value()?;
            if !each(Field { key, value: &self.text[from..self.at], kind }) {
                return Some(false);
            }
            self.blanks();
            match self.take()? {
                b',' => {}
                b'}' => return Some(true),
                _ => return None,
            }
        }
    }

    fn value(&mut self) -> Option<Kind> {
        Some(match self.peek()? {
            b'"' => Kind::String { plain: self.string()? },
            b'{' => {
                self.nested()?;
                Kind::Object
            }
            b'[' => {
                self.nested()?;
                Kind::Array
            }
            b't' => self.word(b"true", Kind::Bool)?,
            b'f' => self.word(b"false", Kind::Bool)?,
            b'n' => self.word(b"null", Kind::Null)?,
            _ => {
                self.number()?;
                Kind::Number
            }
        })
    }

    /// An object or array with all that is in it. The brackets that are open stand in a word of bits, 1 for an object.
    fn nested(&mut self) -> Option<()> {
        let (mut open, mut depth) = (0u128, 0u32);
        loop {
            // A value is to come.
            self.blanks();
            match self.peek()? {
                bracket @ (b'{' | b'[') => {
                    self.at += 1;
                    depth += 1;
                    if depth > DEPTH_MAX {
                        return None;
                    }
                    open = open << 1 | u128::from(bracket == b'{');
                    self.blanks();
                    let empty = if bracket == b'{' { b'}' } else { b']' };
                    if self.peek()? != empty {
                        if bracket == b'{' {
                            self.key()?;
                        }
                        continue;
                    }
                }
                b'"' => drop(self.string()?),
                b't' => drop(self.word(b"true", Kind::Bool)?),
                b'f' => drop(self.word(b"false", Kind::Bool)?),
                b'n' => drop(self.word(b"null", Kind::Null)?),
                _ => self.number()?,
            }
            // A value has ended: so may what holds it.
            loop {
                self.blanks();
                match (self.take()?, open & 1 == 1) {
                    (b',', true) => {
                        self.blanks();
                        self.key()?;
                        break;
                    }
                    (b',', false) => break,
                    (b'}', true) | (b']', false) => {
                        open >>= 1;
                        depth -= 1;
                        if depth == 0 {
                            return Some(());
                        }
                    }
                    _ => return None,
                }
            }
        }
    }

    fn key(&mut self) -> Option<()> {
        self.string()?;
        self.blanks();
        self.expect(b':')
    }

    /// Returns whether the string is free of escapes.
    fn string(&mut self) -> Option<bool> {
        self.expect(b'"')?;
        let mut plain = true;
        loop {
            self.skip_plain();
            match self.take()? {
                b'"' => return Some(plain),
                b'\\' => {
                    plain = false;
                    self.escape()?;
                }
                _ => return None,
            }
        }
    }

    /// On to the first byte that is not simply a part of a string, or to the end.
    fn skip_plain(&mut self) {
        while self.at < self.bytes.len() {
            let block = self.at / BLOCK;
            if block != self.block {
                let rest = &self.bytes[block * BLOCK..];
                self.special = match rest.first_chunk() {
                    Some(block) => write::special_in(block),
                    None => write::special_in(&bits::filled_up(rest, b' ')),
                };
                self.block = block;
            }
            let special = self.special >> (self.at % BLOCK);
            if special != 0 {
                self.at += special.trailing_zeros() as usize;
                return;
            }
            self.at = ((block + 1) * BLOCK).min(self.bytes.len());
        }
    }

    fn escape(&mut self) -> Option<()> {
        match self.take()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => match self.hex()? {
                0xd800..0xdc00 => {
                    self.expect(b'\\')?;
                    self.expect(b'u')?;
                    (0xdc00..0xe000).contains(&self.hex()?).then_some(())
                }
                0xdc00..0xe000 => None,
                _ => Some(()),
            },
            _ => None,
        }
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.bytes.get(self.at..self.at + 4)?;
        self.at += 4;
        digits.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
    }

    fn number(&mut self) -> Option<()> {
        let begun = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let whole = match self.peek()? {
            b'0' => {
                self.at += 1;
                1
            }
            b'1'..=b'9' => self.digits(),
            _ => return None,
        };
        if self.peek() == Some(b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return None;
            }
        }
        let mut exponent = 0i64;
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            let negative = self.peek() == Some(b'-');
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            let from = self.at;
            if self.digits() == 0 {
                return None;
            }
            let size = self.text[from..self.at].parse().unwrap_or(i64::MAX / 2);
            exponent = if negative { -size } else { size };
        }
        // What does not fit a double is an error to most readers.
        let fits = whole as i64 + exponent <= 308;
        (fits || self.text[begun..self.at].parse::<f64>().is_ok_and(f64::is_finite)).then_some(())
    }

    fn digits(&mut self) -> usize {
        let count = self.bytes[self.at..].iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += count;
        count
    }

    fn word(&mut self, word: &[u8], kind: Kind) -> Option<Kind> {
        self.bytes[self.at..].starts_with(word).then(|| {
            self.at += word.len();
            kind
        })
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, wanted: u8) -> Option<()> {
        (self.take()? == wanted).then_some(())
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
