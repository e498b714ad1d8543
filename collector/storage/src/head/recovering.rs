//! The state of a directory, put together again.

use telemetry::{Histogram, Labels};

use crate::disk::record::Replay;
use crate::disk::restore::RestoredSeries;

use super::Head;
use super::lanes::Lanes;

impl Head {
    /// Adds a series that a checkpoint holds; None if it cannot be there.
    pub(crate) fn restore(&mut self, restored: RestoredSeries) -> Option<()> {
        let RestoredSeries { id, labels, series, histograms } = restored;
        if self.index.is_alive(id) {
            return None;
        }
        self.index.reserve_ids(id as usize + 1);
        self.index.insert_at(id, &labels)?;
        self.make_room(id);
        self.samples += series.sealed_len();
        self.series[id as usize] = series;
        if !histograms.is_empty() {
            self.histograms.restore(id, histograms);
        }
        Some(())
    }
}

/// Recovery: the log's entries were accepted when they were written, so nothing is judged again. The checkpoint
/// before a log may know some of them already.
pub(crate) struct Recovering<'h> {
    head: &'h mut Head,
    pub(crate) oldest: i64,
    /// Read so far.
    pub(crate) samples: u64,
    /// Late ones for blocks that cannot be read, and what contradicts what is there.
    samples_lost: u64,
    waiting: Lanes,
}

impl<'h> Recovering<'h> {
    pub(crate) fn new(head: &'h mut Head, oldest: i64) -> Self {
        Recovering { head, oldest, samples: 0, samples_lost: 0, waiting: Lanes::default() }
    }

    /// Brings samples that wait to their series; None if the log has said what cannot be.
    fn bring(&mut self) -> Option<()> {
        let brought = self.waiting.bring(&mut self.head.series, &self.head.segments);
        self.head.samples += brought.added;
        self.samples_lost += brought.lost + brought.contradictions as u64;
        (brought.contradictions == 0).then_some(())
    }

    /// The end of all logs. Returns the oldest time that is kept and what was lost.
    pub(crate) fn finish(mut self) -> (i64, u64) {
        // What is wrong at the end is behind everything that was right.
        let _ = self.bring();
        self.waiting.into_columns().for_each(|columns| self.head.columns.adopt(columns));
        self.head.expire_samples(self.oldest);
        self.head.index.find_free_ids();
        (self.oldest, self.samples_lost)
    }
}

impl Replay for Recovering<'_> {
    fn ids_len(&self) -> usize {
        self.head.index.ids_len()
    }

    fn series(&mut self, id: u32, labels: Labels) -> Option<()> {
        self.head.index.insert_at(id, &labels)?;
        self.head.make_room(id);
        Some(())
    }

    fn sample(&mut self, id: u32, time: i64, value: f64) -> Option<()> {
        if !self.head.index.is_alive(id) {
            return None;
        }
        self.samples += 1;
        self.waiting.push(id, time, value);
        if self.waiting.is_full(self.head.series.len()) { self.bring() } else { Some(()) }
    }

    fn histogram(&mut self, id: u32, time: i64, histogram: &Histogram) -> Option<()> {
        if !self.head.index.is_alive(id) {
            return None;
        }
        self.head.histograms.insert(id, time, histogram, i64::MAX).ok().map(drop)
    }

    fn expire(&mut self, oldest: i64) {
        // Once, at the end: until then what has expired is in nobody's way.
        self.oldest = self.oldest.max(oldest);
    }

    fn remove(&mut self, ids: &[u32]) {
        if !ids.is_empty() {
            // Another series may get the id.
            let _ = self.bring();
        }
        for id in ids {
            self.head.forget(*id);
        }
    }
}
