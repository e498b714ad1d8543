//! The state of a directory, put together again.

use telemetry::{Histogram, Labels};

use crate::block::TimeColumns;
use crate::disk::checkpoint::{Restored, RestoredSeries};
use crate::disk::record::Replay;
use crate::series::Insert;

use super::Head;

impl Head {
    /// The state of a checkpoint, whose columns are these.
    pub(crate) fn restore(restored: Restored, columns: TimeColumns) -> Option<Head> {
        let mut head = Head { columns, ..Head::default() };
        head.index.reserve_ids(restored.ids_len);
        for RestoredSeries { id, labels, series, histograms } in restored.series {
            if head.index.is_alive(id) {
                return None;
            }
            head.index.insert_at(id, &labels)?;
            head.make_room(id);
            head.samples += series.sealed_len() + head.hot(&series).0.len();
            head.series[id as usize] = series;
            if !histograms.is_empty() {
                head.histograms.restore(id, histograms);
            }
        }
        Some(head)
    }
}

/// Recovery: the log's entries were accepted when they were written, so nothing is judged again. The checkpoint
/// before a log may know some of them already.
pub(crate) struct Recovering<'h> {
    pub(crate) head: &'h mut Head,
    pub(crate) oldest: i64,
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
        if self.head.place(id, time, value, i64::MAX).ok()? == Insert::Added {
            self.head.samples += 1;
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
        self.oldest = self.oldest.max(oldest);
        self.head.expire_samples(oldest);
    }

    fn remove(&mut self, ids: &[u32]) {
        for id in ids {
            self.head.forget(*id);
        }
    }
}
