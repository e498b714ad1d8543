//! Where samples come from: the engine asks through this trait and knows nothing of storage.

use std::error::Error;
use std::sync::Arc;

use telemetry::{Labels, Matcher, Timestamp};

use crate::histogram::Histogram;

/// The samples of one series in time order; staleness markers are among them.
#[derive(Clone, Debug, Default)]
pub struct Series {
    pub labels: Labels,
    pub samples: Vec<(Timestamp, f64)>,
}

/// A series whose samples may be histograms, and may say since when they count.
#[derive(Clone, Debug, Default)]
pub struct PointSeries {
    pub labels: Labels,
    pub floats: Vec<(Timestamp, f64)>,
    pub histograms: Vec<(Timestamp, Arc<Histogram>)>,
    /// Start timestamps of `floats` and of `histograms`: as long as these, or empty where none is known.
    pub float_starts: Vec<i64>,
    pub histogram_starts: Vec<i64>,
}

/// Why a source could not answer.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SourceError(#[from] Box<dyn Error + Send + Sync>);

impl SourceError {
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        SourceError(error.into())
    }
}

/// What a query reads. All of a query's selections should see one state of the data.
pub trait Source: Send + Sync {
    /// The series that all matchers accept, with their samples after `start` up to and including `end`.
    fn select(&self, matchers: &[Matcher], start: Timestamp, end: Timestamp) -> Result<Vec<Series>, SourceError>;

    /// The same with histograms; a source that has none need not know of it.
    fn select_points(
        &self,
        matchers: &[Matcher],
        start: Timestamp,
        end: Timestamp,
    ) -> Result<Vec<PointSeries>, SourceError> {
        let series = self.select(matchers, start, end)?;
        let points = |s: Series| PointSeries { labels: s.labels, floats: s.samples, ..PointSeries::default() };
        Ok(series.into_iter().map(points).collect())
    }
}
