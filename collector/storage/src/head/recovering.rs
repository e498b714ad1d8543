//! The state of a directory, put together again.

use telemetry::{Histogram, Labels};

use crate::Refusal;
use crate::disk::record::Replay;
use crate::disk::restore::RestoredSeries;
use crate::series::Insert;

use super::Head;

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
    pub(crate) head: &'h mut Head,
    pub(crate) oldest: i64,
    /// Late ones for blocks that cannot be read.
    pub(crate) samples_lost: u64,
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
        match self.head.place(id, time, value, i64::MAX) {
            Ok(Insert::Added) => self.head.samples += 1,
            Ok(Insert::Repeated) => {}
            Err(Refusal::Unreadable) => self.samples_lost += 1,
            Err(_) => return None,
        }
        Some(())
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
        for id in ids {
            self.head.forget(*id);
        }
    }
}
