//! Rows: the samples of one scrape, by the places that their series have in a group.

use telemetry::{Labels, Timestamp};

use crate::AppendReport;

/// Samples that share a time, of series that are mostly the same each time.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub time: Timestamp,
    /// By the slots that [`RowReport::slots`] has told.
    pub values: Vec<(u32, f64)>,
    /// Samples with other times than the row's, by slots too.
    pub timed: Vec<(u32, Timestamp, f64)>,
    /// Series that have no slot in the group yet.
    pub new: Vec<NewSeries>,
    /// Series that end: they get a staleness marker, unless a sample as new as the row is there.
    pub ended: Vec<u32>,
    /// Slots that are not used any more after this row, but for those that its new series get.
    pub released: Vec<u32>,
}

impl Row {
    /// Empties the row; its memory is kept for the next.
    pub fn clear(&mut self) {
        self.values.clear();
        self.timed.clear();
        self.new.clear();
        self.ended.clear();
        self.released.clear();
    }

    pub fn len(&self) -> usize {
        self.values.len() + self.timed.len() + self.new.len() + self.ended.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The first sample of a series in a group.
#[derive(Clone, Debug, PartialEq)]
pub struct NewSeries {
    pub labels: Labels,
    /// Where it is not the row's.
    pub time: Option<Timestamp>,
    pub value: f64,
}

/// What became of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowReport {
    pub append: AppendReport,
    /// For each of [`Row::new`] its slot from here on; None where the series was refused.
    pub slots: Vec<Option<u32>>,
}
