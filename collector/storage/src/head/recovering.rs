//! The state of a directory, put together again.

use std::thread::JoinHandle;

use telemetry::{Histogram, Labels};

use crate::disk::record::Replay;
use crate::disk::restore::{RestoredPart, RestoredSeries};

use super::Head;
use super::lanes::{Brought, Lanes};
use crate::series::Series;

impl Head {
    /// Adds series that a checkpoint holds; None if one cannot be there. `numbers` are what the index calls the pairs that
    /// have come.
    pub(crate) fn restore(&mut self, part: RestoredPart, numbers: &mut Vec<u32>) -> Option<()> {
        numbers.extend(part.new_pairs.iter().map(|pair| self.index.pair_number(pair)));
        let mut pairs = part.pairs;
        pairs.iter_mut().for_each(|pair| *pair = numbers[*pair as usize]);
        let mut pairs = pairs.as_slice();
        for RestoredSeries { id, pairs_len, hash, series, histograms } in part.series {
            let (own, behind) = pairs.split_at(pairs_len);
            pairs = behind;
            self.index.restore(id, own, hash)?;
            self.make_room(id);
            self.samples += series.sealed_len();
            self.series[id as usize] = series;
            if !histograms.is_empty() {
                self.histograms.restore(id, histograms);
            }
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
    /// For what waits while others are brought to their series.
    spare: Option<Lanes>,
    /// The series are away until it has ended.
    bringing: Option<JoinHandle<(Lanes, Vec<Series>, Brought)>>,
}

impl<'h> Recovering<'h> {
    pub(crate) fn new(head: &'h mut Head, oldest: i64) -> Self {
        let waiting = Lanes::new(&head.columns);
        Recovering { head, oldest, samples: 0, samples_lost: 0, waiting, spare: None, bringing: None }
    }

    /// Begins to bring samples that wait to their series, while the log is read on. None if it has said before what cannot
    /// be.
    fn bring(&mut self) -> Option<()> {
        self.settle()?;
        let spare = self.spare.take().unwrap_or_else(|| Lanes::new(&self.head.columns));
        let mut lanes = std::mem::replace(&mut self.waiting, spare);
        let (mut series, segments) = (std::mem::take(&mut self.head.series), self.head.segments.clone());
        self.bringing = Some(std::thread::spawn(move || {
            let brought = lanes.bring(&mut series, &segments);
            (lanes, series, brought)
        }));
        Some(())
    }

    /// Waits until what was being brought is there.
    fn settle(&mut self) -> Option<()> {
        let Some(bringing) = self.bringing.take() else { return Some(()) };
        let (lanes, series, brought) = bringing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (self.spare, self.head.series) = (Some(lanes), series);
        if let Some(last) = self.head.index.ids_len().checked_sub(1) {
            self.head.make_room(last as u32);
        }
        self.head.samples += brought.added;
        self.samples_lost += brought.lost + brought.contradictions as u64;
        (brought.contradictions == 0).then_some(())
    }

    /// The end of all logs. Returns the oldest time that is kept and what was lost.
    pub(crate) fn finish(mut self) -> (i64, u64) {
        // What is wrong at the end is behind everything that was right.
        let _ = self.settle();
        let _ = self.bring();
        let _ = self.settle();
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
        if self.bringing.is_none() {
            self.head.make_room(id);
        }
        Some(())
    }

    fn sample(&mut self, id: u32, time: i64, value: f64) -> Option<()> {
        if !self.head.index.is_alive(id) {
            return None;
        }
        self.samples += 1;
        self.waiting.push(id, time, value);
        if self.waiting.is_full(self.head.index.ids_len()) { self.bring() } else { Some(()) }
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
            let _ = self.settle();
            let _ = self.bring();
            let _ = self.settle();
        }
        for id in ids {
            self.head.forget(*id);
        }
    }
}
