//! What a query yields.

use std::sync::Arc;

use telemetry::{Labels, Timestamp};

use crate::histogram::Histogram;
use crate::stats::Stats;

/// The value of a query with what there is to say about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub value: Value,
    /// Something was left out or is probably wrong; each ends with its place in the query.
    pub warnings: Vec<String>,
    /// Something to know; each ends with its place in the query.
    pub infos: Vec<String>,
    pub stats: Stats,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Scalar { timestamp: Timestamp, value: f64 },
    String { timestamp: Timestamp, value: String },
    Vector(Vec<VectorSample>),
    Matrix(Vec<MatrixSeries>),
}

/// One series at the time of an instant query.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSample {
    pub labels: Labels,
    pub timestamp: Timestamp,
    /// The value; zero where `histogram` is the value.
    pub value: f64,
    pub histogram: Option<Arc<Histogram>>,
}

/// One series over time.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSeries {
    pub labels: Labels,
    pub samples: Vec<(Timestamp, f64)>,
    pub histograms: Vec<(Timestamp, Arc<Histogram>)>,
}
