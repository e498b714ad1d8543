//! Numbers, durations and strings.

use super::{Lexer, State, Tok, is_alphanumeric};
use crate::text::quote;

impl Lexer<'_> {
    pub(super) fn number_or_duration(&mut self) -> State {
        if self.scan_number() {
            self.emit(Tok::Number);
            return State::Statements;
        }
        if self.accept_remaining_duration() {
            self.emit(Tok::Duration);
            return State::Statements;
        }
        let message = format!("bad number or duration syntax: {}", quote(self.word()));
        self.fail(message)
    }

    /// After the digits: a unit, then more numbers with units. Units are checked when the duration is parsed.
    pub(super) fn accept_remaining_duration(&mut self) -> bool {
        if !self.accept("smhdwy") {
            return false;
        }
        self.accept("s");
        while self.accept("0123456789") {
            self.accept_run("0123456789");
            if !self.accept("smhdw") {
                return false;
            }
            self.accept("s");
        }
        if self.peek().is_some_and(is_alphanumeric) {
            // The character that broke the duration is part of what the message shows.
            self.next();
            return false;
        }
        true
    }

    /// Scans a number in any notation; what it is worth is found out by the parser.
    pub(super) fn scan_number(&mut self) -> bool {
        let initial = self.pos;
        let mut digits = "0123456789";
        // In a series description `0x3` means "0, three times".
        if !self.series && self.accept("0") && self.accept("xX") {
            self.accept("_");
            digits = "0123456789abcdefABCDEF";
        }
        let hexadecimal = digits.len() > 10;
        self.accept(".");
        self.accept(digits);
        let (mut dot, mut exponent) = (false, false);
        while self.is(digits) || self.is("._eE") {
            if self.is(".") && dot || self.is("eE") && exponent {
                self.next();
                return false;
            }
            if self.accept(".") {
                dot = true;
                if self.accept("_.") || hexadecimal {
                    return false;
                }
            } else if self.accept("eE") {
                exponent = true;
                self.accept("+-");
                if self.accept("._eE") || self.peek().is_none() {
                    return false;
                }
            } else if self.accept("_") {
                if self.accept("._eE") || self.peek().is_none() {
                    return false;
                }
            } else {
                self.accept_run(digits);
            }
        }
        if self.pos == initial {
            return false;
        }
        match self.peek() {
            Some('x') if self.series => true,
            Some(c) => !is_alphanumeric(c),
            None => true,
        }
    }

    pub(super) fn string(&mut self, delimiter: char) -> State {
        loop {
            match self.next() {
                Some('\\') => {
                    if let Err(message) = self.escape(delimiter) {
                        return self.fail(message);
                    }
                }
                None | Some('\n') => return self.fail("unterminated quoted string".to_owned()),
                Some(c) if c == delimiter => break,
                Some(_) => {}
            }
        }
        self.emit(Tok::Str);
        self.resume()
    }

    pub(super) fn raw_string(&mut self) -> State {
        loop {
            match self.next() {
                None => return self.fail("unterminated raw string".to_owned()),
                Some('`') => break,
                Some(_) => {}
            }
        }
        self.emit(Tok::Str);
        self.resume()
    }

    pub(super) fn escape(&mut self, delimiter: char) -> Result<(), String> {
        let unterminated = || "escape sequence not terminated".to_owned();
        let Some(first) = self.next() else { return Err(unterminated()) };
        let (mut left, base, max, mut digit) = match first {
            'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' => return Ok(()),
            c if c == delimiter => return Ok(()),
            '0'..='7' => (3, 8, 255, Some(first)),
            'x' => (2, 16, 255, self.next()),
            'u' => (4, 16, 0x10_ffff, self.next()),
            'U' => (8, 16, 0x10_ffff, self.next()),
            other => return Err(format!("unknown escape sequence {}", code_point(other))),
        };
        let mut value: u32 = 0;
        while left > 0 {
            let Some(c) = digit else { return Err(unterminated()) };
            let Some(d) = c.to_digit(base) else {
                return Err(format!("illegal character {} in escape sequence", code_point(c)));
            };
            value = value.wrapping_mul(base).wrapping_add(d);
            left -= 1;
            if left > 0 {
                digit = self.next();
            }
        }
        if value > max || (0xd800..0xe000).contains(&value) {
            return Err("escape sequence is an invalid Unicode code point".to_owned());
        }
        Ok(())
    }
}

/// Go's `%#U`.
fn code_point(c: char) -> String {
    if c.is_control() { format!("U+{:04X}", c as u32) } else { format!("U+{:04X} '{c}'", c as u32) }
}
