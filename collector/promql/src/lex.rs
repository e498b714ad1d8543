//! Text to tokens. What a character means depends on where it stands: in braces keywords are labels, in
//! brackets letters are units. The whole text is scanned at once; the first fault ends the list.

mod literal;
mod series;

use crate::text::quote_char;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tok {
    Eof,
    Error,
    Identifier,
    MetricIdentifier,
    Number,
    Duration,
    Str,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    OpenHist,
    CloseHist,
    Comma,
    Equal,
    Colon,
    Blank,
    Times,
    Space,
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Eqlc,
    Neq,
    Lte,
    Lss,
    Gte,
    Gtr,
    TrimUpper,
    TrimLower,
    EqlRegex,
    NeqRegex,
    At,
    And,
    Or,
    Unless,
    Atan2,
    /// An aggregation's name; which one is in the text.
    Aggregator,
    Offset,
    Smoothed,
    Anchored,
    By,
    Without,
    On,
    Ignoring,
    GroupLeft,
    GroupRight,
    Fill,
    FillLeft,
    FillRight,
    Bool,
    Start,
    End,
    Step,
    Range,
    MaxOf,
    MinOf,
    /// `schema`, `sum`, … inside `{{ }}`; which one is in the text.
    HistogramKey,
    /// `reset`, `gauge`, … inside `{{ }}`.
    CounterResetHint,
}

#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub tok: Tok,
    pub start: usize,
    pub end: usize,
    /// The fault, where `tok` is `Error`.
    pub message: Option<String>,
}

fn keyword(word: &str) -> Option<Tok> {
    // The longest keyword has 12 letters: nothing longer needs a lower-case copy.
    if word.len() > 12 {
        return None;
    }
    Some(match word.to_ascii_lowercase().as_str() {
        "and" => Tok::And,
        "or" => Tok::Or,
        "unless" => Tok::Unless,
        "atan2" => Tok::Atan2,
        "sum" | "avg" | "count" | "min" | "max" | "group" | "stddev" | "stdvar" | "topk" | "bottomk"
        | "count_values" | "quantile" | "limitk" | "limit_ratio" => Tok::Aggregator,
        "offset" => Tok::Offset,
        "smoothed" => Tok::Smoothed,
        "anchored" => Tok::Anchored,
        "by" => Tok::By,
        "without" => Tok::Without,
        "on" => Tok::On,
        "ignoring" => Tok::Ignoring,
        "group_left" => Tok::GroupLeft,
        "group_right" => Tok::GroupRight,
        "fill" => Tok::Fill,
        "fill_left" => Tok::FillLeft,
        "fill_right" => Tok::FillRight,
        "bool" => Tok::Bool,
        "start" => Tok::Start,
        "end" => Tok::End,
        "step" => Tok::Step,
        "range" => Tok::Range,
        "max_of" => Tok::MaxOf,
        "min_of" => Tok::MinOf,
        "inf" | "nan" => Tok::Number,
        _ => return None,
    })
}

/// Where the scanner stands: the same character means different things in each.
#[derive(Clone, Copy)]
enum State {
    Statements,
    Braces,
    DurationExpr,
    ValueSequence,
    Histogram,
    Buckets,
    Done,
}

struct Lexer<'a> {
    text: &'a str,
    pos: usize,
    start: usize,
    tokens: Vec<Token>,
    paren_depth: i64,
    brace_open: bool,
    bracket_open: bool,
    got_colon: bool,
    got_duration: bool,
    series: bool,
    in_histogram: bool,
}

/// Scans an expression.
pub(crate) fn lex(text: &str) -> Vec<Token> {
    run(text, false)
}

/// Scans a series description: `metric{label="x"} 1 2+1x5 _ stale {{count:3}}`.
pub(crate) fn lex_series(text: &str) -> Vec<Token> {
    run(text, true)
}

fn run(text: &str, series: bool) -> Vec<Token> {
    let mut lexer = Lexer {
        text,
        pos: 0,
        start: 0,
        tokens: Vec::new(),
        paren_depth: 0,
        brace_open: false,
        bracket_open: false,
        got_colon: false,
        got_duration: false,
        series,
        in_histogram: false,
    };
    let mut state = State::Statements;
    loop {
        state = match state {
            State::Statements => lexer.statements(),
            State::Braces => lexer.braces(),
            State::DurationExpr => lexer.duration_expr(),
            State::ValueSequence => lexer.value_sequence(),
            State::Histogram => lexer.histogram(),
            State::Buckets => lexer.buckets(),
            State::Done => return lexer.tokens,
        };
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn is_alpha(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic()
}

fn is_alphanumeric(c: char) -> bool {
    c == '_' || c.is_ascii_alphanumeric()
}

fn show(c: Option<char>) -> String {
    // Go's end-of-input rune is -1, which %q shows as the replacement character.
    quote_char(c.unwrap_or('\u{fffd}'))
}

impl<'a> Lexer<'a> {
    fn peek(&self) -> Option<char> {
        self.text[self.pos..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    fn emit(&mut self, tok: Tok) {
        self.tokens.push(Token { tok, start: self.start, end: self.pos, message: None });
        self.start = self.pos;
    }

    /// A fault in place of the token that was scanned last.
    fn fail_instead(&mut self, message: String) -> State {
        self.tokens.pop();
        self.fail(message)
    }

    fn fail(&mut self, message: String) -> State {
        self.tokens.push(Token { tok: Tok::Error, start: self.start, end: self.text.len(), message: Some(message) });
        State::Done
    }

    fn accept(&mut self, set: &str) -> bool {
        match self.peek() {
            Some(c) if set.contains(c) => {
                self.pos += c.len_utf8();
                true
            }
            _ => false,
        }
    }

    fn accept_run(&mut self, set: &str) {
        while self.accept(set) {}
    }

    fn is(&self, set: &str) -> bool {
        self.peek().is_some_and(|c| set.contains(c))
    }

    fn word(&self) -> &'a str {
        &self.text[self.start..self.pos]
    }

    fn skip_spaces(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.next();
        }
        self.start = self.pos;
    }

    fn skip_comment(&mut self) {
        while self.peek().is_some_and(|c| c != '\n' && c != '\r') {
            self.next();
        }
        self.start = self.pos;
    }

    /// The state to go on in after a token that may stand anywhere.
    fn resume(&self) -> State {
        if self.in_histogram {
            if self.bracket_open { State::Buckets } else { State::Histogram }
        } else if self.brace_open {
            State::Braces
        } else {
            State::Statements
        }
    }

    fn statements(&mut self) -> State {
        if self.peek() == Some('#') {
            self.skip_comment();
            return State::Statements;
        }
        let Some(c) = self.next() else { return self.end_of_input() };
        match c {
            ',' => self.emit(Tok::Comma),
            c if is_space(c) => self.skip_spaces(),
            '*' => self.emit(Tok::Mul),
            '/' => self.emit(Tok::Div),
            '%' => self.emit(Tok::Mod),
            '+' => self.emit(Tok::Add),
            '-' => self.emit(Tok::Sub),
            '^' => self.emit(Tok::Pow),
            '@' => self.emit(Tok::At),
            '=' => match self.peek() {
                Some('=') => {
                    self.next();
                    self.emit(Tok::Eqlc);
                }
                Some('~') => return self.fail(format!("unexpected character after '=': {}", show(Some('~')))),
                _ => self.emit(Tok::Equal),
            },
            '!' => match self.next() {
                Some('=') => self.emit(Tok::Neq),
                other => return self.fail(format!("unexpected character after '!': {}", show(other))),
            },
            '<' => self.comparison(Tok::Lss, Tok::Lte, Tok::TrimUpper),
            '>' => self.comparison(Tok::Gtr, Tok::Gte, Tok::TrimLower),
            '"' | '\'' => return self.string(c),
            '`' => return self.raw_string(),
            c if c.is_ascii_digit() || (c == '.' && self.peek().is_some_and(|d| d.is_ascii_digit())) => {
                self.pos -= c.len_utf8();
                return self.number_or_duration();
            }
            c if is_alpha(c) || c == ':' => return self.letter(c),
            '(' => {
                self.emit(Tok::LeftParen);
                self.paren_depth += 1;
            }
            ')' => return self.right_paren(State::Statements),
            '{' => {
                self.emit(Tok::LeftBrace);
                self.brace_open = true;
                return State::Braces;
            }
            '[' => {
                if self.bracket_open {
                    return self.fail(format!("unexpected left bracket {}", show(Some('['))));
                }
                self.got_colon = false;
                self.emit(Tok::LeftBracket);
                self.skip_spaces();
                self.bracket_open = true;
                return State::DurationExpr;
            }
            ']' => {
                if !self.bracket_open {
                    return self.fail(format!("unexpected right bracket {}", show(Some(']'))));
                }
                self.emit(Tok::RightBracket);
                self.bracket_open = false;
            }
            other => return self.fail(format!("unexpected character: {}", show(Some(other)))),
        }
        State::Statements
    }

    fn end_of_input(&mut self) -> State {
        if self.paren_depth != 0 {
            return self.fail("unclosed left parenthesis".to_owned());
        }
        if self.bracket_open {
            return self.fail("unclosed left bracket".to_owned());
        }
        self.emit(Tok::Eof);
        State::Done
    }

    fn comparison(&mut self, plain: Tok, or_equal: Tok, trim: Tok) {
        let tok = match self.peek() {
            Some('=') => or_equal,
            Some('/') => trim,
            _ => return self.emit(plain),
        };
        self.next();
        self.emit(tok);
    }

    fn right_paren(&mut self, then: State) -> State {
        self.emit(Tok::RightParen);
        self.paren_depth -= 1;
        if self.paren_depth < 0 {
            return self.fail_instead(format!("unexpected right parenthesis {}", show(Some(')'))));
        }
        then
    }

    /// A letter or a colon outside of braces.
    fn letter(&mut self, c: char) -> State {
        if !self.bracket_open {
            self.pos -= c.len_utf8();
            return self.keyword_or_identifier();
        }
        if c == ':' {
            if self.got_colon {
                return self.fail(format!("unexpected colon {}", show(Some(c))));
            }
            self.emit(Tok::Colon);
            self.got_colon = true;
            return State::Statements;
        }
        if self.duration_keyword(c) {
            return State::Statements;
        }
        self.fail(format!("unexpected character: {}, expected {}", show(Some(c)), show(Some(':'))))
    }

    fn duration_keyword(&mut self, first: char) -> bool {
        if !matches!(first.to_ascii_lowercase(), 's' | 'r' | 'm') {
            return false;
        }
        while self.peek().is_some_and(is_alpha) {
            self.next();
        }
        match keyword(self.word()) {
            Some(tok @ (Tok::Step | Tok::Range | Tok::MaxOf | Tok::MinOf)) => {
                self.emit(tok);
                true
            }
            _ => false,
        }
    }

    fn keyword_or_identifier(&mut self) -> State {
        while self.peek().is_some_and(|c| is_alphanumeric(c) || c == ':') {
            self.next();
        }
        let word = self.word();
        let tok = match keyword(word) {
            // These became keywords late: they stay names of metrics unless a parenthesis follows.
            Some(Tok::Fill | Tok::FillLeft | Tok::FillRight)
                if !self.text[self.pos..].trim_start_matches(is_space).starts_with('(') =>
            {
                Tok::Identifier
            }
            Some(tok) => tok,
            None if word.contains(':') => Tok::MetricIdentifier,
            None => Tok::Identifier,
        };
        self.emit(tok);
        if self.series && self.peek() != Some('{') { State::ValueSequence } else { State::Statements }
    }

    fn braces(&mut self) -> State {
        if self.peek() == Some('#') {
            self.skip_comment();
            return State::Braces;
        }
        let Some(c) = self.next() else {
            return self.fail("unexpected end of input inside braces".to_owned());
        };
        match c {
            c if is_space(c) => self.skip_spaces(),
            c if is_alpha(c) => {
                while self.peek().is_some_and(is_alphanumeric) {
                    self.next();
                }
                self.emit(Tok::Identifier);
            }
            ',' => self.emit(Tok::Comma),
            '"' | '\'' => return self.string(c),
            '`' => return self.raw_string(),
            '=' => {
                let tok = if self.accept("~") { Tok::EqlRegex } else { Tok::Equal };
                self.emit(tok);
            }
            '!' => match self.next() {
                Some('~') => self.emit(Tok::NeqRegex),
                Some('=') => self.emit(Tok::Neq),
                other => return self.fail(format!("unexpected character after '!' inside braces: {}", show(other))),
            },
            '{' => return self.fail(format!("unexpected left brace {}", show(Some('{')))),
            '}' => {
                self.emit(Tok::RightBrace);
                self.brace_open = false;
                return if self.series { State::ValueSequence } else { State::Statements };
            }
            other => return self.fail(format!("unexpected character inside braces: {}", show(Some(other)))),
        }
        State::Braces
    }

    fn duration_expr(&mut self) -> State {
        let Some(c) = self.next() else {
            return self.fail("unexpected end of input in duration expression".to_owned());
        };
        match c {
            ']' => {
                self.emit(Tok::RightBracket);
                self.bracket_open = false;
                self.got_colon = false;
                return State::Statements;
            }
            ':' => {
                self.emit(Tok::Colon);
                if !self.got_duration {
                    return self.fail_instead("unexpected colon before duration in duration expression".to_owned());
                }
                if self.got_colon {
                    return self.fail_instead("unexpected repeated colon in duration expression".to_owned());
                }
                self.got_colon = true;
            }
            '(' => {
                self.emit(Tok::LeftParen);
                self.paren_depth += 1;
            }
            ')' => return self.right_paren(State::DurationExpr),
            c if is_space(c) => self.skip_spaces(),
            '+' => self.emit(Tok::Add),
            '-' => self.emit(Tok::Sub),
            '*' => self.emit(Tok::Mul),
            '/' => self.emit(Tok::Div),
            '%' => self.emit(Tok::Mod),
            '^' => self.emit(Tok::Pow),
            ',' => self.emit(Tok::Comma),
            c if c.is_ascii_digit() || (c == '.' && self.peek().is_some_and(|d| d.is_ascii_digit())) => {
                self.pos -= c.len_utf8();
                self.got_duration = true;
                return self.number_or_duration();
            }
            c => {
                if !self.duration_keyword(c) {
                    return self.fail(format!("unexpected character in duration expression: {}", show(Some(c))));
                }
            }
        }
        State::DurationExpr
    }
}
