//! Where samples come from: the engine asks through these traits and knows nothing of storage.
//!
//! A [`Source`] must be able to [`select`](Source::select): series with their samples, copied. One that keeps
//! samples in columns also gives a [`Snapshot`], from which the engine reads without copying and whose series it
//! remembers by number between the evaluations of a prepared query.

use std::error::Error;
use std::ops::ControlFlow;
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

    /// The state of the data as it is now, to be read in columns; none where the source only knows `select`. A query
    /// takes one snapshot and reads all that it can from it.
    fn snapshot(&self) -> Option<Box<dyn Snapshot + '_>> {
        None
    }
}

/// Names one series of a source. A number is never given to another label set as long as the source lives; a
/// source that uses slots again puts a generation into the upper half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesId(pub u64);

/// What matchers have found in the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// Each series once, in the order in which the engine is to see them: the order of sums and of results. It
    /// stays the same as long as the series do.
    pub ids: Vec<SeriesId>,
    /// The index's [`Snapshot::epoch`] at which this was found.
    pub epoch: u64,
}

/// One state of the data.
pub trait Snapshot: Sync {
    /// Rises when series come or go. As long as it stays, the engine takes what [`resolve`](Snapshot::resolve)
    /// said before, without asking again.
    fn epoch(&self) -> u64;

    /// The series that all matchers accept, at whatever time they have samples. Where the same series are found as
    /// before, the same `Arc` spares the engine a comparison.
    fn resolve(&self, matchers: &[Matcher]) -> Result<Arc<Selected>, SourceError>;

    /// The labels of a series; asked once per series, query and epoch, and often not at all. Empty for a number
    /// that the source never gave.
    fn labels(&self, id: SeriesId) -> Labels;

    /// Visits the series one after the other in the order of `ids`, each at most once, with its samples after
    /// `start` up to and including `end`. `visit` gets the series' index in `ids`, and may end the scan early. A
    /// series without such samples may be left out.
    fn scan(
        &self,
        ids: &[SeriesId],
        start: Timestamp,
        end: Timestamp,
        visit: &mut dyn FnMut(usize, Columns<'_>) -> ControlFlow<()>,
    ) -> Result<(), SourceError>;
}

/// The samples of one series in one span of time, borrowed for the length of a visit. Staleness markers are among
/// them; times rise strictly.
#[derive(Clone, Copy, Debug, Default)]
pub struct Columns<'a> {
    /// Unix milliseconds of the floats. Series that were scraped together may lend the same slice.
    pub times: &'a [i64],
    /// As many as `times`.
    pub values: &'a [f64],
    /// What few series have.
    pub extra: Option<&'a ExtraColumns<'a>>,
}

/// Histograms, and start timestamps where some are known.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExtraColumns<'a> {
    pub histograms: &'a [(Timestamp, Arc<Histogram>)],
    /// Start timestamps of the floats in milliseconds, zero where unknown: as long as these, or empty.
    pub float_starts: &'a [i64],
    /// The same for the histograms.
    pub histogram_starts: &'a [i64],
}
