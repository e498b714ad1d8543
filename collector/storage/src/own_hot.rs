//! The newest samples of a series that is in no group.

use crate::plain::Plain;

/// Plain samples of a series of its own are sealed when there are this many, …
pub(crate) const HOT_LEN_MAX: usize = 24;
/// … but for the newest.
pub(crate) const HOT_LEN_KEPT: usize = 8;

/// Plain samples with times of their own. In one piece: of pieces of usual sizes some few are left when a fleet that was
/// pushed is scraped, and each of those keeps its page.
#[derive(Default)]
pub(crate) struct OwnHot {
    pub(crate) times: [i64; HOT_LEN_MAX],
    pub(crate) values: [f64; HOT_LEN_MAX],
    pub(crate) len: usize,
}

impl OwnHot {
    pub(crate) fn times(&self) -> &[i64] {
        &self.times[..self.len]
    }

    pub(crate) fn values(&self) -> &[f64] {
        &self.values[..self.len]
    }

    pub(crate) fn samples(&self) -> (&[i64], Plain<'_>) {
        (self.times(), Plain::Wide(self.values()))
    }

    /// Whoever adds seals what is full.
    pub(crate) fn add(&mut self, at: usize, time: i64, value: f64) {
        self.times.copy_within(at..self.len, at + 1);
        self.values.copy_within(at..self.len, at + 1);
        (self.times[at], self.values[at]) = (time, value);
        self.len += 1;
    }

    pub(crate) fn drop_oldest(&mut self, count: usize) {
        self.times.copy_within(count..self.len, 0);
        self.values.copy_within(count..self.len, 0);
        self.len -= count;
    }
}
