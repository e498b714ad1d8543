//! A cursor over a body's bytes: names, quoted strings, numbers. It knows no line structure; lines are counted only
//! when an error is reported.

use std::borrow::Cow;

use memchr::{memchr2, memchr3, memrchr};

use super::ParseError;

pub(super) struct Cursor<'a> {
    body: &'a str,
    pos: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(body: &'a str) -> Self {
        Cursor { body, pos: 0 }
    }

    pub(super) fn pos(&self) -> usize {
        self.pos
    }

    pub(super) fn seek(&mut self, pos: usize) {
        self.pos = pos;
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.body.as_bytes().get(self.pos).copied()
    }

    pub(super) fn advance(&mut self, n: usize) {
        self.pos += n;
    }

    pub(super) fn at_end(&self) -> bool {
        self.pos == self.body.len()
    }

    /// Takes `text` if it comes next.
    pub(super) fn eat(&mut self, text: &str) -> bool {
        let found = self.body.as_bytes()[self.pos..].starts_with(text.as_bytes());
        if found {
            self.pos += text.len();
        }
        found
    }

    pub(super) fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.pos += 1;
        }
    }

    pub(super) fn text_since(&self, start: usize) -> &'a str {
        &self.body[start..self.pos]
    }

    /// The rest of the line; the cursor stands on the newline or at the end.
    pub(super) fn rest_of_line(&mut self) -> &'a str {
        let rest = &self.body[self.pos..];
        let length = memchr::memchr(b'\n', rest.as_bytes()).unwrap_or(rest.len());
        self.pos += length;
        &rest[..length]
    }

    /// Everything up to a blank or the end of the line; may be empty.
    pub(super) fn word(&mut self) -> &'a str {
        let rest = &self.body[self.pos..];
        // Values are short: a plain loop beats setting up a vector search.
        let length = rest.bytes().position(|b| matches!(b, b' ' | b'\t' | b'\n')).unwrap_or(rest.len());
        self.pos += length;
        &rest[..length]
    }

    /// `[a-zA-Z_:][a-zA-Z0-9_:]*`; empty when none is there.
    pub(super) fn metric_name(&mut self) -> &'a str {
        self.identifier(METRIC_START, METRIC_START | DIGIT)
    }

    /// `[a-zA-Z_][a-zA-Z0-9_]*`; empty when none is there.
    pub(super) fn label_name(&mut self) -> &'a str {
        self.identifier(LABEL_START, LABEL_START | DIGIT)
    }

    fn identifier(&mut self, first: u8, others: u8) -> &'a str {
        let bytes = &self.body.as_bytes()[self.pos..];
        if bytes.first().is_none_or(|b| CLASS[usize::from(*b)] & first == 0) {
            return "";
        }
        let length = bytes.iter().position(|b| CLASS[usize::from(*b)] & others == 0).unwrap_or(bytes.len());
        let name = &self.body[self.pos..self.pos + length];
        self.pos += length;
        name
    }

    /// A string in double quotes with `\\`, `\"` and `\n`; any other escape stands for itself, as in Prometheus.
    /// None when the closing quote is missing. A raw newline is legal in 0.0.4 only.
    pub(super) fn quoted(&mut self, newline_allowed: bool) -> Option<Cow<'a, str>> {
        let start = self.pos + 1;
        let (mut at, mut escaped) = (start, false);
        let bytes = self.body.as_bytes();
        loop {
            let rest = bytes.get(at..)?;
            at += if newline_allowed { memchr2(b'"', b'\\', rest)? } else { memchr3(b'"', b'\\', b'\n', rest)? };
            match bytes[at] {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    at += 2;
                }
                _ => return None,
            }
        }
        self.pos = at + 1;
        let text = &self.body[start..at];
        Some(if escaped { unescape(text, true).into() } else { text.into() })
    }

    pub(super) fn error(&self, message: impl Into<String>) -> ParseError {
        self.error_at(self.pos, message)
    }

    pub(super) fn error_at(&self, pos: usize, message: impl Into<String>) -> ParseError {
        let before = &self.body.as_bytes()[..pos.min(self.body.len())];
        ParseError { line: memchr::memchr_iter(b'\n', before).count() + 1, message: message.into() }
    }

    /// What stands at the cursor, for messages: at most 40 characters of the rest of the line.
    pub(super) fn here(&self) -> String {
        let bytes = self.body.as_bytes();
        if self.pos > 0 && self.pos == bytes.len() && memrchr(b'\n', bytes).is_some_and(|i| i + 1 == bytes.len()) {
            return "the end of the body".to_owned();
        }
        let rest = self.body[self.pos..].lines().next().unwrap_or_default();
        if rest.is_empty() {
            return "the end of the line".to_owned();
        }
        let shown: String = rest.chars().take(40).collect();
        format!("{shown:?}")
    }
}

/// Undoes the escapes of label values (`\\ \n \"`) or of help texts (`\\ \n`, and `\"` in OpenMetrics).
pub(super) fn unescape(text: &str, quotes: bool) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        plain.push_str(&rest[..at]);
        let (replacement, length) = match rest.as_bytes().get(at + 1) {
            Some(b'n') => ("\n", 2),
            Some(b'\\') => ("\\", 2),
            Some(b'"') if quotes => ("\"", 2),
            _ => ("\\", 1),
        };
        plain.push_str(replacement);
        rest = &rest[at + length..];
    }
    plain.push_str(rest);
    plain
}

/// A number as Go's `ParseFloat` reads it, without hexadecimal forms and underscores, which Prometheus refuses too.
pub(super) fn number(text: impl AsRef<[u8]>) -> Option<f64> {
    let bytes = text.as_ref();
    // Most samples are small whole numbers; 15 digits are exact in a float.
    if (1..=15).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_digit) {
        let whole = bytes.iter().fold(0u64, |n, digit| n * 10 + u64::from(digit - b'0'));
        return Some(whole as f64);
    }
    let value: f64 = fast_float2::parse(bytes).ok()?;
    // Go knows no sign before NaN, nor does OpenMetrics.
    (!value.is_nan() || bytes.len() == "nan".len()).then_some(value)
}

const METRIC_START: u8 = 1;
const LABEL_START: u8 = 2;
const DIGIT: u8 = 4;

/// For each byte the classes it belongs to.
const CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        if b.is_ascii_alphabetic() || b == b'_' {
            table[byte] = METRIC_START | LABEL_START;
        } else if b == b':' {
            table[byte] = METRIC_START;
        } else if b.is_ascii_digit() {
            table[byte] = DIGIT;
        }
        byte += 1;
    }
    table
};
