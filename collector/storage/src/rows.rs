//! Rows: the samples of one scrape, by the places that their series have in a group.

use telemetry::{Labels, Sample, Timestamp};

use crate::AppendReport;

/// Samples that share a time, of series that are mostly the same each time.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub time: Timestamp,
    /// By the slots that [`RowReport::slots`] has told.
    pub values: Vec<(u32, f64)>,
    /// Series that have no slot in the group yet.
    pub new: Vec<(Labels, f64)>,
    /// Samples with times of their own; they take no part in the group.
    pub others: Vec<Sample>,
    /// Slots that are not used any more after this row.
    pub released: Vec<u32>,
}

impl Row {
    /// Empties the row; its memory is kept for the next.
    pub fn clear(&mut self) {
        self.values.clear();
        self.new.clear();
        self.others.clear();
        self.released.clear();
    }

    pub fn len(&self) -> usize {
        self.values.len() + self.new.len() + self.others.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What became of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowReport {
    pub append: AppendReport,
    /// For each of [`Row::new`] its slot from here on; None where the series was refused.
    pub slots: Vec<Option<u32>>,
}
