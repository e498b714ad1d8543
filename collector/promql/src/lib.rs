//! The Prometheus query language: text in, value out. Pure: data comes through the [`Source`] trait, times are
//! arguments, and a deadline is a closure that says when to stop.
//!
//! A query's way: [`parse`] makes an [`Expr`] of its text, [`Engine`] evaluates it over a [`Source`] at one time
//! or at many, and the [`Answer`] carries the value with warnings that point into the text.
//!
//! Answers are those of Prometheus 3: staleness, left-open windows, extrapolation, compensated sums. Names of
//! metrics that no longer fit are removed when the whole query is done, so that `label_replace` and aggregations
//! can still see them.

pub mod ast;
pub mod function;
mod lex;
mod parse;
mod prepare;
mod prepared;
mod print;
mod source;
mod text;

mod annotation;
mod engine;
mod eval;
pub mod histogram;
mod kahan;
mod stats;
mod table;
mod value;

pub mod promqltest;

pub use engine::{Engine, EvalError, Limits, Options, Stop};
pub use histogram::Histogram;
pub use parse::{
    Expr, MAX_DEPTH, MAX_QUERY_BYTES, ParseError, SeriesDescription, SeriesValue, Syntax, parse, parse_selector,
    parse_series, parse_with,
};
pub use prepared::Prepared;
pub use source::{Columns, ExtraColumns, PointSeries, Selected, Series, SeriesId, Snapshot, Source, SourceError};
pub use stats::{Stats, StepStats, Timings};
pub use table::SeriesTable;
pub use text::format_value;
pub use value::{Answer, MatrixSeries, Value, VectorSample};
