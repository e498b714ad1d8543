//! The Prometheus query language: text in, value out. Pure: data comes through a trait, `now` is an argument.

use std::fmt;
use std::time::Duration;

use telemetry::{Labels, Matcher, Timestamp};

/// A parsed expression; prints in Prometheus' canonical form.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr(String);

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    pub message: String,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct EvalError(pub String);

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// # Errors
/// Text that is no expression.
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    Err(ParseError { message: format!("cannot parse {text:?}: this build has no query engine") })
}

#[derive(Clone, Debug)]
pub struct Limits {
    pub max_samples: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { max_samples: 50_000_000 }
    }
}

/// One series as storage hands it over; staleness markers included.
#[derive(Clone, Debug)]
pub struct Series {
    pub labels: Labels,
    pub samples: Vec<(Timestamp, f64)>,
}

/// Where samples come from: `start` exclusive, `end` inclusive.
pub trait Source: Send + Sync {
    /// # Errors
    /// When the source cannot answer.
    fn select(&self, matchers: &[Matcher], start: Timestamp, end: Timestamp) -> Result<Vec<Series>, SourceError>;
}

#[derive(Clone, Debug, PartialEq)]
pub struct VectorSample {
    pub labels: Labels,
    pub timestamp: Timestamp,
    pub value: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSeries {
    pub labels: Labels,
    pub samples: Vec<(Timestamp, f64)>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Scalar { timestamp: Timestamp, value: f64 },
    String { timestamp: Timestamp, value: String },
    Vector(Vec<VectorSample>),
    Matrix(Vec<MatrixSeries>),
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub value: Value,
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
}

pub struct Engine;

impl Engine {
    pub fn new(_limits: Limits) -> Self {
        Engine
    }

    /// # Errors
    /// An expression that cannot be evaluated.
    pub fn instant(&self, expr: &Expr, _source: &dyn Source, _at: Timestamp) -> Result<Answer, EvalError> {
        Err(EvalError(format!("cannot evaluate {expr}: this build has no query engine")))
    }

    /// # Errors
    /// An expression that cannot be evaluated.
    pub fn range(
        &self,
        expr: &Expr,
        _source: &dyn Source,
        _start: Timestamp,
        _end: Timestamp,
        _step: Duration,
    ) -> Result<Answer, EvalError> {
        Err(EvalError(format!("cannot evaluate {expr}: this build has no query engine")))
    }
}
/// # Errors
/// Text that is no selector.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    Err(ParseError { message: format!("cannot parse {text:?}") })
}
pub fn format_value(value: f64) -> String { value.to_string() }
