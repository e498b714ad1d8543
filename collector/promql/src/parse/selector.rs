//! Selectors and what may follow an expression: ranges, subqueries, `offset`, `@`; literals.

use telemetry::{MatchOp, Matcher};

use super::{Parse, Parser, fault};
use crate::ast::*;
use crate::lex::Tok;
use crate::text::quote;

impl Parser<'_> {
    pub(super) fn vector_selector(&mut self) -> Parse<Node> {
        let mut span = self.span();
        let mut name = String::new();
        if self.peek() != Tok::LeftBrace {
            name = self.word().to_owned();
            self.advance();
        }
        let mut matchers = Vec::new();
        if self.peek() == Tok::LeftBrace {
            matchers = self.label_matchers()?;
            span.end = self.last_closing;
        }
        if !name.is_empty() {
            matchers.push(Matcher::equal(telemetry::labels::METRIC_NAME, name.clone()));
        }
        Ok(Node::Vector(VectorSelector {
            name,
            matchers: matchers.into(),
            offset_ms: 0,
            offset_expr: None,
            at: None,
            extension: None,
            histogram_stats: false,
            span,
        }))
    }

    fn label_matchers(&mut self) -> Parse<Vec<Matcher>> {
        self.advance();
        let mut matchers = Vec::new();
        loop {
            if self.eat(Tok::RightBrace) {
                return Ok(matchers);
            }
            matchers.push(self.label_matcher()?);
            match self.peek() {
                Tok::Comma => {
                    self.advance();
                }
                Tok::RightBrace => {}
                _ => return self.unexpected("label matching", "\",\" or \"}\""),
            }
        }
    }

    fn label_matcher(&mut self) -> Parse<Matcher> {
        let start = self.span();
        let (name, quoted) = match self.peek() {
            Tok::Identifier => {
                let name = self.word().to_owned();
                self.advance();
                (name, false)
            }
            Tok::Str => (self.unquoted()?, true),
            _ => return self.unexpected("label matching", "identifier or \"}\""),
        };
        let op = match self.peek() {
            Tok::Equal => MatchOp::Equal,
            Tok::Neq => MatchOp::NotEqual,
            Tok::EqlRegex => MatchOp::Regex,
            Tok::NeqRegex => MatchOp::NotRegex,
            _ if quoted => return Ok(Matcher::equal(telemetry::labels::METRIC_NAME, name)),
            _ => return self.unexpected("label matching", "label matching operator"),
        };
        self.advance();
        if self.peek() != Tok::Str {
            return self.unexpected("label matching", "string");
        }
        let span = start.to(self.span());
        let value = self.unquoted()?;
        Matcher::new(name, op, value)
            .or_else(|error| fault(span, format!("error parsing regexp: {}", regex_fault(&error))))
    }

    /// Ranges, subqueries, `offset`, `@`, `anchored` and `smoothed`, in any order the types allow.
    pub(super) fn postfix(&mut self, mut node: Node) -> Parse<Node> {
        loop {
            match self.peek() {
                Tok::LeftBracket => node = self.bracket(node)?,
                Tok::Offset => {
                    self.advance();
                    let offset = self.offset_duration()?;
                    self.set_offset(&mut node, offset)?;
                }
                Tok::At => {
                    self.advance();
                    let at = self.at_modifier(&node)?;
                    self.set_at(&mut node, at)?;
                }
                Tok::Anchored => {
                    self.advance();
                    self.set_extension(&mut node, Extension::Anchored)?;
                }
                Tok::Smoothed => {
                    self.advance();
                    self.set_extension(&mut node, Extension::Smoothed)?;
                }
                _ => return Ok(node),
            }
        }
    }

    fn bracket(&mut self, node: Node) -> Parse<Node> {
        let open = self.advance();
        let height = self.height;
        let range = self.positive_duration()?;
        if self.peek() == Tok::RightBracket {
            let close = self.advance();
            return self.range_selector(node, range, open.to(close));
        }
        if self.peek() != Tok::Colon {
            return self.unexpected("subquery or range", "\":\" or \"]\"");
        }
        self.advance();
        let mut step = None;
        if self.peek() != Tok::RightBracket {
            if !self.duration_may_start() {
                return self.unexpected("subquery selector", "number, duration, step(), range(), or \"]\"");
            }
            step = Some(self.positive_duration()?);
            if self.peek() != Tok::RightBracket {
                return self.unexpected("subquery selector", "\"]\"");
            }
        }
        let close = self.advance();
        self.height = height + 1;
        self.check_depth(self.height)?;
        let span = node.span().to(close);
        let (range_ms, range_expr) = split(range);
        let (step_ms, step_expr) = step.map_or((0, None), split);
        Ok(Node::Subquery(Box::new(Subquery {
            expr: node,
            range_ms,
            range_expr,
            step_ms,
            step_expr,
            offset_ms: 0,
            offset_expr: None,
            at: None,
            span,
        })))
    }

    fn range_selector(&mut self, node: Node, range: DurationNode, brackets: Span) -> Parse<Node> {
        let Node::Vector(selector) = node else {
            return fault(brackets, "ranges only allowed for vector selectors");
        };
        if selector.offset_ms != 0 || selector.offset_expr.is_some() {
            return fault(brackets, "no offset modifiers allowed before range");
        }
        if selector.at.is_some() {
            return fault(brackets, "no @ modifiers allowed before range");
        }
        let (range_ms, range_expr) = split(range);
        let span = Span { start: selector.span.start, end: brackets.end };
        Ok(Node::Matrix(Box::new(MatrixSelector { selector, range_ms, range_expr, span })))
    }

    fn set_offset(&mut self, node: &mut Node, offset: DurationNode) -> Parse<()> {
        let span = node.span();
        let end = self.last_closing;
        let (ms, expr, node_span) = match node {
            Node::Vector(n) => (&mut n.offset_ms, &mut n.offset_expr, &mut n.span),
            Node::Matrix(n) => (&mut n.selector.offset_ms, &mut n.selector.offset_expr, &mut n.span),
            Node::Subquery(n) => (&mut n.offset_ms, &mut n.offset_expr, &mut n.span),
            _ => {
                return fault(
                    span,
                    "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
                );
            }
        };
        if *ms != 0 || expr.is_some() {
            return fault(span, "offset may not be set multiple times");
        }
        (*ms, *expr) = split(offset);
        node_span.end = end;
        Ok(())
    }

    fn at_modifier(&mut self, node: &Node) -> Parse<At> {
        let pinned = match self.peek() {
            Tok::Start => At::Start,
            Tok::End => At::End,
            _ => return self.at_timestamp(node),
        };
        self.advance();
        if !self.eat(Tok::LeftParen) || !self.eat(Tok::RightParen) {
            return self.unexpected("@", "timestamp");
        }
        Ok(pinned)
    }

    fn at_timestamp(&mut self, node: &Node) -> Parse<At> {
        let negate = self.peek() == Tok::Sub;
        if negate || self.peek() == Tok::Add {
            self.advance();
        }
        if !matches!(self.peek(), Tok::Number | Tok::Duration) {
            return self.unexpected("@", "timestamp");
        }
        let value = self.number_or_duration()?.value;
        let seconds = if negate { -value } else { value };
        if !seconds.is_finite() || seconds >= i64::MAX as f64 || seconds <= i64::MIN as f64 {
            let shown = match seconds {
                s if s.is_nan() => "NaN".to_owned(),
                s if s.is_infinite() => (if s > 0.0 { "+Inf" } else { "-Inf" }).to_owned(),
                s => format!("{s:.6}"),
            };
            return fault(node.span(), format!("timestamp out of bounds for @ modifier: {shown}"));
        }
        Ok(At::Time((seconds * 1000.0).round() as i64))
    }

    fn set_at(&mut self, node: &mut Node, at: At) -> Parse<()> {
        let span = node.span();
        let end = self.last_closing;
        let (slot, node_span) = match node {
            Node::Vector(n) => (&mut n.at, &mut n.span),
            Node::Matrix(n) => (&mut n.selector.at, &mut n.span),
            Node::Subquery(n) => (&mut n.at, &mut n.span),
            _ => {
                return fault(
                    span,
                    "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery",
                );
            }
        };
        if slot.is_some() {
            return fault(span, "@ <timestamp> may not be set multiple times");
        }
        *slot = Some(at);
        node_span.end = end;
        Ok(())
    }

    fn set_extension(&mut self, node: &mut Node, extension: Extension) -> Parse<()> {
        let span = node.span();
        let name = match extension {
            Extension::Anchored => "anchored",
            Extension::Smoothed => "smoothed",
        };
        if !self.syntax.extended_ranges {
            return fault(span, format!("{name} modifier is experimental and not enabled"));
        }
        let slot = match node {
            Node::Vector(n) => &mut n.extension,
            Node::Matrix(n) => &mut n.selector.extension,
            Node::Subquery(_) => return fault(span, format!("{name} modifier is not supported for subqueries")),
            _ => return fault(span, format!("{name} modifier not implemented")),
        };
        if slot.is_some_and(|set| set != extension) {
            return fault(span, "anchored and smoothed modifiers cannot be used together");
        }
        *slot = Some(extension);
        Ok(())
    }

    pub(super) fn number_or_duration(&mut self) -> Parse<NumberLiteral> {
        let (word, duration) = (self.word(), self.peek() == Tok::Duration);
        let span = self.advance();
        let value = if duration { parse_duration(word, span)? as f64 / 1000.0 } else { parse_number(word, span)? };
        Ok(NumberLiteral { value, duration, span })
    }

    /// The string literal that comes next, without its quotes. A label's value is text: bytes that are not UTF-8
    /// (`"\xff"`) cannot match anything and are replaced.
    pub(super) fn unquoted(&mut self) -> Parse<String> {
        self.unquoted_bytes().map(|(text, _)| text)
    }

    /// The same, with the bytes where they are not UTF-8.
    pub(super) fn unquoted_bytes(&mut self) -> Parse<(String, Option<Vec<u8>>)> {
        let word = self.word();
        let span = self.advance();
        let Some(bytes) = unquote(word) else {
            return fault(span, format!("error unquoting string {}: invalid syntax", quote(word)));
        };
        Ok(match String::from_utf8(bytes) {
            Ok(text) => (text, None),
            Err(error) => (String::from_utf8_lossy(error.as_bytes()).into_owned(), Some(error.into_bytes())),
        })
    }
}

/// A duration in milliseconds, or as an expression that is worth something only when evaluated.
fn split(duration: DurationNode) -> (i64, Option<Box<DurationExpr>>) {
    match duration {
        DurationNode::Literal(number) => ((number.value * 1e9).round() as i64 / 1_000_000, None),
        DurationNode::Expr(expr) => (0, Some(Box::new(expr))),
    }
}

fn parse_duration(word: &str, span: Span) -> Parse<u64> {
    use telemetry::duration::DurationError;
    let millis = match telemetry::duration::parse(word) {
        Ok(duration) => duration.as_millis(),
        Err(DurationError::Empty | DurationError::Invalid(_)) => {
            return match unknown_unit(word) {
                Some(unit) => fault(span, format!("unknown unit {} in duration {}", quote(unit), quote(word))),
                None => fault(span, format!("not a valid duration string: {}", quote(word))),
            };
        }
        Err(DurationError::OutOfRange(_)) => return fault(span, "duration out of range"),
    };
    match u64::try_from(millis) {
        Ok(millis) if millis <= i64::MAX as u64 / 1_000_000 => Ok(millis),
        _ => fault(span, "duration out of range"),
    }
}

/// The first unit of a duration that is none.
fn unknown_unit(word: &str) -> Option<&str> {
    let is_unit = |unit: &&str| !unit.is_empty() && !["y", "w", "d", "h", "m", "s", "ms"].contains(unit);
    word.split(|c: char| c.is_ascii_digit()).find(is_unit)
}

/// Numbers as Go reads them: decimal, `0x1F`, `0b1`, `0o7`, `017`, underscores between digits, `Inf`, `NaN`.
pub(super) fn parse_number(word: &str, span: Span) -> Parse<f64> {
    let lower = word.to_ascii_lowercase();
    let (digits, radix) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16),
        [b'0', b'b', ..] => (&lower[2..], 2),
        [b'0', b'o', ..] => (&lower[2..], 8),
        [b'0', b'0'..=b'9' | b'_', ..] => (&lower[1..], 8),
        _ => (&lower[..], 10),
    };
    let digits = digits.replace('_', "");
    if let Ok(integer) = i64::from_str_radix(&digits, radix) {
        return Ok(integer as f64);
    }
    let plain = lower.replace('_', "");
    if radix != 16
        && let Ok(value) = plain.parse::<f64>()
        && (value.is_finite() || plain == "inf" || plain == "nan")
    {
        return Ok(value);
    }
    let reason = if radix == 16 || plain.parse::<f64>().is_ok() { "value out of range" } else { "invalid syntax" };
    fault(span, format!("error parsing number: strconv.ParseFloat: parsing {}: {reason}", quote(word)))
}

fn regex_fault(error: &telemetry::matcher::RegexError) -> String {
    let text = error.source.to_string();
    let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
    format!("{reason}: `{}`", error.pattern)
}

/// Takes the quotes and escapes off a literal that the scanner accepted.
fn unquote(word: &str) -> Option<Vec<u8>> {
    let inner = word.get(1..word.len().checked_sub(1)?)?;
    if word.starts_with('`') || !inner.contains('\\') {
        return Some(inner.as_bytes().to_vec());
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        match chars.next()? {
            'a' => bytes.push(7),
            'b' => bytes.push(8),
            'f' => bytes.push(12),
            'n' => bytes.push(b'\n'),
            'r' => bytes.push(b'\r'),
            't' => bytes.push(b'\t'),
            'v' => bytes.push(11),
            'x' => bytes.push(u8::try_from(code(&mut chars, 2, 16, 0)?).ok()?),
            'u' => push_char(&mut bytes, code(&mut chars, 4, 16, 0)?)?,
            'U' => push_char(&mut bytes, code(&mut chars, 8, 16, 0)?)?,
            digit @ '0'..='7' => bytes.push(u8::try_from(code(&mut chars, 2, 8, digit.to_digit(8)?)?).ok()?),
            other @ ('\\' | '\'' | '"') => bytes.push(other as u8),
            _ => return None,
        }
    }
    Some(bytes)
}

fn code(chars: &mut std::str::Chars<'_>, digits: usize, base: u32, first: u32) -> Option<u32> {
    (0..digits).try_fold(first, |value, _| {
        let digit = chars.next()?.to_digit(base)?;
        value.checked_mul(base)?.checked_add(digit)
    })
}

fn push_char(bytes: &mut Vec<u8>, code: u32) -> Option<()> {
    bytes.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
    Some(())
}
