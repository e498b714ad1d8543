//! The values of a series description, histograms among them.

use super::{Lexer, State, Tok, is_alpha, is_space, keyword, show};
use crate::text::quote;

const HISTOGRAM_KEYS: [&str; 11] = [
    "sum",
    "count",
    "schema",
    "offset",
    "n_offset",
    "buckets",
    "n_buckets",
    "z_bucket",
    "z_bucket_w",
    "custom_values",
    "counter_reset_hint",
];

const COUNTER_RESET_HINTS: [&str; 4] = ["unknown", "reset", "not_reset", "gauge"];

impl Lexer<'_> {
    pub(super) fn value_sequence(&mut self) -> State {
        let Some(c) = self.next() else { return self.end_of_input() };
        match c {
            '{' if self.peek() == Some('{') => {
                self.next();
                self.emit(Tok::OpenHist);
                self.in_histogram = true;
                return State::Histogram;
            }
            c if is_space(c) => {
                self.emit(Tok::Space);
                self.skip_spaces();
            }
            '+' => self.emit(Tok::Add),
            '-' => self.emit(Tok::Sub),
            'x' => self.emit(Tok::Times),
            '_' => self.emit(Tok::Blank),
            c if c.is_ascii_digit() || (c == '.' && self.peek().is_some_and(|d| d.is_ascii_digit())) => {
                self.pos -= c.len_utf8();
                return self.number();
            }
            c if is_alpha(c) => {
                self.pos -= c.len_utf8();
                return self.keyword_or_identifier();
            }
            other => return self.fail(format!("unexpected character in series sequence: {}", show(Some(other)))),
        }
        State::ValueSequence
    }

    pub(super) fn number(&mut self) -> State {
        if !self.scan_number() {
            let message = format!("bad number syntax: {}", quote(self.word()));
            return self.fail(message);
        }
        self.emit(Tok::Number);
        if self.in_histogram { self.resume() } else { State::ValueSequence }
    }

    pub(super) fn histogram(&mut self) -> State {
        let Some(c) = self.next() else {
            return self.fail(format!("histogram description incomplete unexpected: {}", show(None)));
        };
        match c {
            c if is_space(c) => {
                self.emit(Tok::Space);
                self.skip_spaces();
            }
            c if is_alpha(c) => {
                self.pos -= c.len_utf8();
                return self.histogram_word();
            }
            ':' => self.emit(Tok::Colon),
            '-' => self.emit(Tok::Sub),
            c if c.is_ascii_digit() => {
                self.pos -= c.len_utf8();
                return self.number();
            }
            '[' => {
                self.bracket_open = true;
                self.emit(Tok::LeftBracket);
                return State::Buckets;
            }
            '}' if self.peek() == Some('}') => {
                self.next();
                self.emit(Tok::CloseHist);
                self.in_histogram = false;
                return State::ValueSequence;
            }
            other => {
                return self.fail(format!("histogram description incomplete unexpected: {}", show(Some(other))));
            }
        }
        State::Histogram
    }

    pub(super) fn histogram_word(&mut self) -> State {
        while self.peek().is_some_and(is_alpha) {
            self.next();
        }
        let word = self.word().to_ascii_lowercase();
        if HISTOGRAM_KEYS.contains(&word.as_str()) {
            if self.peek() != Some(':') {
                return self.fail("missing `:` for histogram descriptor".to_owned());
            }
            self.emit(Tok::HistogramKey);
        } else if word == "inf" || word == "nan" {
            self.emit(Tok::Number);
        } else if COUNTER_RESET_HINTS.contains(&word.as_str()) {
            self.emit(Tok::CounterResetHint);
        } else {
            let message = format!("bad histogram descriptor found: {}", quote(self.word()));
            return self.fail(message);
        }
        State::Histogram
    }

    pub(super) fn buckets(&mut self) -> State {
        let Some(c) = self.next() else {
            return self.fail(format!("invalid character in buckets description: {}", show(None)));
        };
        match c {
            c if is_space(c) => {
                self.emit(Tok::Space);
                self.skip_spaces();
            }
            '-' => self.emit(Tok::Sub),
            c if c.is_ascii_digit() => {
                self.pos -= c.len_utf8();
                return self.number();
            }
            ']' => {
                self.bracket_open = false;
                self.emit(Tok::RightBracket);
                return State::Histogram;
            }
            c if is_alpha(c) => {
                while self.peek().is_some_and(is_alpha) {
                    self.next();
                }
                if !matches!(keyword(self.word()), Some(Tok::Number)) {
                    let message = format!("invalid character in buckets description: {}", show(Some(c)));
                    return self.fail(message);
                }
                self.emit(Tok::Number);
            }
            other => {
                return self.fail(format!("invalid character in buckets description: {}", show(Some(other))));
            }
        }
        State::Buckets
    }
}
