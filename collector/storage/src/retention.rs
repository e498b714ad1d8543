//! Retention by size: the oldest samples go when the files take more room than they may.
//!
//! All series are cut at one time, as retention by time does it, so that no query sees one series reach further back than
//! another. What is on disk goes by segments: the time is that of the newest block of the oldest one. Where there are none
//! yet, an eighth of what there is goes at a time.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use telemetry::Timestamp;

use crate::Storage;
use crate::block::Block;
use crate::series::Series;

/// However little room there is, so much stays: alert rules look back minutes.
pub(crate) const KEPT_MIN: Duration = Duration::from_secs(if cfg!(test) { 10 } else { 600 });
/// Checkpoints in a row; what is still too much then waits for the next time.
const TRIES_MAX: usize = if cfg!(test) { 100 } else { 8 };

/// What had to go for want of room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fitted {
    /// From here on samples are kept.
    pub oldest: Timestamp,
    /// Samples and histograms that went.
    pub dropped: u64,
}

impl Storage {
    /// Drops the oldest samples while the files are larger than they may be; None where nothing had to go. To be called
    /// every minute or so, from a thread that may wait for the disk.
    ///
    /// # Errors
    /// When a checkpoint cannot be written: what it would make superfluous stays.
    pub fn fit(&self, now: Timestamp) -> io::Result<Option<Fitted>> {
        let Some(size_max) = self.config.size_max else { return Ok(None) };
        let mut fitted = None;
        for _ in 0..TRIES_MAX {
            if self.disk_bytes() <= size_max {
                break;
            }
            if !self.log_is_much() {
                let Some(oldest) = self.cut(now) else { break };
                let dropped = self.drop_before(oldest);
                self.expired_by_size.fetch_add(dropped, Ordering::Relaxed);
                let before = fitted.map_or(0, |fitted: Fitted| fitted.dropped);
                fitted = Some(Fitted { oldest: Timestamp(oldest), dropped: before + dropped });
            }
            self.checkpoint()?;
        }
        Ok(fitted)
    }

    /// Of all files.
    pub(crate) fn disk_bytes(&self) -> u64 {
        let entries = self.path.iter().filter_map(|path| std::fs::read_dir(path).ok()).flatten().flatten();
        entries.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
    }

    /// Whether a checkpoint alone may be enough: then nothing has to go.
    fn log_is_much(&self) -> bool {
        let checkpoint_len = self.checkpoint_len.load(Ordering::Relaxed);
        self.read().log.as_ref().is_some_and(|log| log.samples() > 0 && log.len() > checkpoint_len / 2)
    }

    /// Before what time samples go next; None if nothing may.
    fn cut(&self, now: Timestamp) -> Option<i64> {
        let extent = self.extent()?;
        let begin = extent.oldest.0.max(self.oldest.load(Ordering::Relaxed));
        let eighth = begin.saturating_add((now.0.saturating_sub(begin) / 8).max(1));
        let cut = self.oldest_segment_end().map_or(eighth, |end| end.saturating_add(1)).min((now - KEPT_MIN).0);
        (cut > begin).then_some(cut)
    }

    /// When the newest samples of the segment are that has the oldest.
    fn oldest_segment_end(&self) -> Option<i64> {
        let mut ends: HashMap<u16, i64> = HashMap::new();
        let head = self.read();
        for block in head.series.iter().flat_map(Series::blocks) {
            if let Some(slot) = block.slot() {
                let end = ends.entry(slot).or_insert(i64::MIN);
                *end = (*end).max(Block::last(block));
            }
        }
        for sheet in head.groups.iter().flatten().flat_map(|rows| rows.sheets.all()) {
            for segment in sheet.segments() {
                let end = ends.entry(segment).or_insert(i64::MIN);
                *end = (*end).max(sheet.times.last);
            }
        }
        ends.into_values().min()
    }
}
