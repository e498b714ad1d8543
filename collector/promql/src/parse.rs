//! Text to tree: a Pratt parser over the scanned tokens. The first fault is the error, with its place,
//! worded as Prometheus words it.

mod check;
mod duration;
mod expr;
mod selector;
mod series;

use std::fmt;
use std::sync::Arc;

pub(crate) use duration::MAX_SECONDS;
pub use series::{SeriesDescription, SeriesValue, parse_series};

use crate::ast::{Node, Span, ValueType};
use crate::lex::{Tok, Token, lex};
use crate::text::line_column;

/// The deepest tree that is accepted. Evaluation and printing walk the tree by recursion, on threads with small
/// stacks; queries that people and programs write stay far below.
pub const MAX_DEPTH: usize = 250;

/// The longest query that is accepted.
pub const MAX_QUERY_BYTES: usize = 512 * 1024;

/// Which experimental syntax is accepted; none by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Syntax {
    /// Functions and aggregations that Prometheus marks as experimental.
    pub experimental_functions: bool,
    /// Arithmetic in ranges and offsets: `x[5m * 2]`.
    pub duration_expressions: bool,
    /// `anchored` and `smoothed`.
    pub extended_ranges: bool,
    /// `fill`, `fill_left`, `fill_right`.
    pub fill_modifiers: bool,
}

impl Syntax {
    /// Everything.
    pub const EXPERIMENTAL: Syntax = Syntax {
        experimental_functions: true,
        duration_expressions: true,
        extended_ranges: true,
        fill_modifiers: true,
    };
}

/// A parsed query: its tree and the text that the tree's spans point into.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    root: Node,
    text: Arc<str>,
}

impl Expr {
    pub fn root(&self) -> &Node {
        &self.root
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn value_type(&self) -> ValueType {
        self.root.value_type()
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)
    }
}

/// Where and why a text is not a query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: parse error: {message}", line_column(text, span.start))]
pub struct ParseError {
    pub span: Span,
    pub message: String,
    text: Arc<str>,
}

/// Parses the stable language.
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    parse_with(text, Syntax::default())
}

/// Parses with the experimental syntax that `syntax` admits.
pub fn parse_with(text: &str, syntax: Syntax) -> Result<Expr, ParseError> {
    let error = |fault: Fault| ParseError { span: fault.span, message: fault.message, text: excerpt(text, fault.span) };
    if text.len() > MAX_QUERY_BYTES {
        let message = format!("query of {} bytes is longer than the limit of {MAX_QUERY_BYTES}", text.len());
        return Err(error(Fault { span: Span::default(), message }));
    }
    let mut parser = Parser::new(text, lex(text), syntax);
    let mut root = parser.whole_expression().map_err(error)?;
    check::check(&mut root, text).map_err(error)?;
    Ok(Expr { root, text: text.into() })
}

/// Parses one selector, as `match[]` of the HTTP API takes it.
pub fn parse_selector(text: &str) -> Result<Vec<telemetry::Matcher>, ParseError> {
    let expr = parse(text)?;
    match &expr.root {
        Node::Vector(selector) if selector.offset_ms == 0 && selector.at.is_none() => Ok(selector.matchers.to_vec()),
        node => {
            let message = "expected a series selector such as up{job=\"api\"}".to_owned();
            Err(ParseError { span: node.span(), message, text: text.into() })
        }
    }
}

/// The text up to the fault: all that the place in the message needs.
fn excerpt(text: &str, span: Span) -> Arc<str> {
    match text.get(..(span.start + 1).min(text.len())) {
        Some(prefix) if text.len() > 4096 => prefix.into(),
        _ => text.into(),
    }
}

/// A fault before it knows its text.
#[derive(Debug)]
pub(crate) struct Fault {
    pub span: Span,
    pub message: String,
}

pub(crate) type Parse<T> = Result<T, Fault>;

pub(crate) fn fault<T>(span: Span, message: impl Into<String>) -> Parse<T> {
    Err(Fault { span, message: message.into() })
}

pub(crate) struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    index: usize,
    syntax: Syntax,
    /// Nesting of the construct that is being read.
    depth: usize,
    /// Height of the tree that was read last.
    height: usize,
    /// Inside how many aggregations' parentheses we are: errors there say so.
    in_aggregation: usize,
    /// End of the last bracket, number or duration that was read.
    last_closing: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, tokens: Vec<Token>, syntax: Syntax) -> Self {
        Parser { text, tokens, index: 0, syntax, depth: 0, height: 0, in_aggregation: 0, last_closing: 0 }
    }

    fn peek(&self) -> Tok {
        self.tokens[self.index].tok
    }

    fn peek_second(&self) -> Tok {
        self.tokens.get(self.index + 1).map_or(Tok::Eof, |t| t.tok)
    }

    fn span(&self) -> Span {
        let token = &self.tokens[self.index];
        Span { start: token.start, end: token.end }
    }

    fn word(&self) -> &'a str {
        let token = &self.tokens[self.index];
        &self.text[token.start..token.end]
    }

    /// Takes the token; the last one (end or error) stays.
    fn advance(&mut self) -> Span {
        let span = self.span();
        use Tok::*;
        if matches!(self.peek(), RightBrace | RightParen | RightBracket | Duration | Number) {
            self.last_closing = span.end;
        }
        if self.index + 1 < self.tokens.len() {
            self.index += 1;
        }
        span
    }

    fn eat(&mut self, tok: Tok) -> bool {
        let there = self.peek() == tok;
        if there {
            self.advance();
        }
        there
    }

    /// The fault "unexpected <token> in <context>, expected <expected>"; a fault of the scanner comes first.
    fn unexpected<T>(&self, context: &str, expected: &str) -> Parse<T> {
        let token = &self.tokens[self.index];
        if let Some(message) = &token.message {
            return fault(Span { start: token.start, end: token.end }, message.clone());
        }
        let mut message = format!("unexpected {}", self.describe());
        if !context.is_empty() {
            message += " in ";
            message += context;
        }
        if !expected.is_empty() {
            message += ", expected ";
            message += expected;
        }
        fault(self.span(), message)
    }

    /// The same where no rule has more to say.
    fn unexpected_here<T>(&self) -> Parse<T> {
        self.unexpected(if self.in_aggregation > 0 { "aggregation" } else { "" }, "")
    }

    fn describe(&self) -> String {
        use crate::text::quote;
        let word = self.word();
        match self.peek() {
            Tok::Eof => "end of input".to_owned(),
            Tok::Identifier => format!("identifier {}", quote(word)),
            Tok::MetricIdentifier => format!("metric identifier {}", quote(word)),
            Tok::Str => format!("string {}", shortened(word)),
            Tok::Number => format!("number {}", shortened(word)),
            Tok::Duration => format!("duration {}", shortened(word)),
            Tok::Aggregator => format!("<aggr:{word}>"),
            tok if is_keyword(tok) => format!("<{word}>"),
            tok if is_operator(tok) => format!("<op:{word}>"),
            Tok::Space => shortened(word),
            _ => shortened(word),
        }
    }

    fn enter(&mut self) -> Parse<()> {
        self.depth += 1;
        self.check_depth(self.depth)
    }

    fn check_depth(&self, depth: usize) -> Parse<()> {
        if depth > MAX_DEPTH {
            return fault(self.span(), format!("expression is nested more than {MAX_DEPTH} levels deep"));
        }
        Ok(())
    }
}

fn shortened(word: &str) -> String {
    use crate::text::quote;
    if word.len() > 10 {
        // Go's %.10q: ten characters, quoted.
        format!("{}...", quote(&word.chars().take(10).collect::<String>()))
    } else {
        quote(word)
    }
}

fn is_keyword(tok: Tok) -> bool {
    use Tok::*;
    matches!(
        tok,
        Bool | By
            | GroupLeft
            | GroupRight
            | Fill
            | FillLeft
            | FillRight
            | Ignoring
            | Offset
            | Smoothed
            | Anchored
            | On
            | Without
    )
}

fn is_operator(tok: Tok) -> bool {
    use Tok::*;
    matches!(
        tok,
        Add | Div
            | Eqlc
            | EqlRegex
            | Gte
            | Gtr
            | TrimUpper
            | TrimLower
            | And
            | Or
            | Lss
            | Lte
            | Unless
            | Mod
            | Mul
            | Neq
            | NeqRegex
            | Pow
            | Sub
            | At
            | Atan2
    )
}
