//! The samples of one series.

use telemetry::Timestamp;

use crate::Refusal;

/// Sorted by time, one value per time.
#[derive(Default)]
pub(crate) struct Series {
    times: Vec<i64>,
    values: Vec<f64>,
}

pub(crate) enum Insert {
    Added,
    /// The same value at the same time was there already.
    Repeated,
}

impl Series {
    /// `lag_max` is how far behind the newest sample this one may lie, in milliseconds.
    pub(crate) fn insert(&mut self, time: i64, value: f64, lag_max: i64) -> Result<Insert, Refusal> {
        let Some(&newest) = self.times.last() else {
            return Ok(self.insert_at(0, time, value));
        };
        if time > newest {
            return Ok(self.insert_at(self.times.len(), time, value));
        }
        match self.times.binary_search(&time) {
            Ok(at) if self.values[at].to_bits() == value.to_bits() => Ok(Insert::Repeated),
            Ok(at) if at + 1 == self.times.len() || newest.saturating_sub(time) <= lag_max => Err(Refusal::Duplicate),
            Err(at) if newest.saturating_sub(time) <= lag_max => Ok(self.insert_at(at, time, value)),
            _ => Err(Refusal::OutOfOrder),
        }
    }

    fn insert_at(&mut self, at: usize, time: i64, value: f64) -> Insert {
        self.times.insert(at, time);
        self.values.insert(at, value);
        Insert::Added
    }

    /// After `start`, up to `end`.
    pub(crate) fn range(&self, start: i64, end: i64) -> Vec<(Timestamp, f64)> {
        let (from, to) = self.bounds(start, end);
        let times = self.times[from..to].iter().map(|time| Timestamp(*time));
        times.zip(self.values[from..to].iter().copied()).collect()
    }

    pub(crate) fn has_samples(&self, start: i64, end: i64) -> bool {
        let (from, to) = self.bounds(start, end);
        from < to
    }

    /// Drops what is older than `oldest`; returns how many samples that were.
    pub(crate) fn expire(&mut self, oldest: i64) -> usize {
        let expired = self.times.partition_point(|time| *time < oldest);
        self.times.drain(..expired);
        self.values.drain(..expired);
        expired
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.times.capacity() * size_of::<i64>() + self.values.capacity() * size_of::<f64>()
    }

    fn bounds(&self, start: i64, end: i64) -> (usize, usize) {
        let from = self.times.partition_point(|time| *time <= start);
        let to = self.times.partition_point(|time| *time <= end);
        (from, to.max(from))
    }
}
