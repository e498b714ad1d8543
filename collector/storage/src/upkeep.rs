//! What keeps the store small and safe beside appends and readers: expiry, syncing, checkpoints.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::{fs, io};

use telemetry::Timestamp;

use crate::Storage;
use crate::block::Block;
use crate::disk::checkpoint::{Entry, State, Written, write};
use crate::disk::log::Log;
use crate::disk::segment::Segments;
use crate::disk::{Checkpoint, Directory};
use crate::series::Series;

/// A checkpoint is not worth its writing before the log has this length, …
const CHECKPOINT_LOG_LEN_MIN: u64 = 16 << 20;
/// … this one for each series, of which it will take a quarter, …
const CHECKPOINT_LOG_LEN_PER_SERIES: u64 = 64;
/// … or so many samples, which a start reads in less than a quarter of a second, …
const CHECKPOINT_SAMPLES_MIN: u64 = 3_000_000;
/// … so many for each series, of which each costs a checkpoint 2 us: a sixth of what so many scraped samples cost …
const CHECKPOINT_SAMPLES_PER_SERIES: u64 = 30;
/// … and so many that its bytes are no more than this for each of them.
const CHECKPOINT_BYTES_PER_SAMPLE: u64 = 2;

/// Series of a checkpoint that are collected at a time; so long do appends wait.
const CHECKPOINT_PART: u32 = 2048;

impl Storage {
    /// Drops samples older than the retention and series that have none left. To be called every minute or so.
    pub fn expire(&self, now: Timestamp) {
        let dropped = self.drop_before(self.oldest_at(now));
        self.expired_by_time.fetch_add(dropped, Ordering::Relaxed);
    }

    pub(crate) fn drop_before(&self, oldest: i64) -> u64 {
        let mut head = self.write();
        self.oldest.store(oldest, Ordering::Relaxed);
        head.expire(oldest)
    }

    /// Makes everything appended so far outlast a loss of power. To be called every second or so, from a thread that
    /// may wait for the disk; appends and readers go on meanwhile.
    ///
    /// # Errors
    /// When the disk refuses, or when an earlier write failed and no checkpoint has made up for it yet.
    pub fn sync(&self) -> io::Result<()> {
        let (files, failure): (Vec<_>, _) = match &self.read().log {
            Some(log) => (log.unsynced().collect(), log.failure().map(str::to_owned)),
            None => (Vec::new(), None),
        };
        if let Some(failure) = failure {
            return Err(io::Error::other(failure));
        }
        let synced = files.iter().try_for_each(|file| file.sync_data());
        // Mostly there is the one log, and appends need not wait.
        if (synced.is_err() || files.len() > 1)
            && let Some(log) = &mut self.write().log
        {
            match &synced {
                Ok(()) => log.synced(&files),
                // What the kernel could not write it may have forgotten: the log cannot be trusted any more.
                Err(error) => log.fail(error),
            }
        }
        synced
    }

    /// Whether the log has become long enough, or has failed, so that [`Storage::checkpoint`] is worth its cost.
    ///
    /// By its bytes, or by the samples that a start would have to read: the first bounds the disk, the second the start.
    pub fn checkpoint_due(&self) -> bool {
        let checkpoint_len = self.checkpoint_len.load(Ordering::Relaxed);
        let head = self.read();
        let Some(log) = &head.log else { return false };
        let series = head.index.len() as u64;
        let samples_max = CHECKPOINT_SAMPLES_MIN
            .max(series * CHECKPOINT_SAMPLES_PER_SERIES)
            .max(checkpoint_len / CHECKPOINT_BYTES_PER_SAMPLE);
        let len_max = CHECKPOINT_LOG_LEN_MIN.max(series * CHECKPOINT_LOG_LEN_PER_SERIES).max(checkpoint_len);
        let is_long = log.len() > len_max || log.samples() > samples_max;
        is_long || log.failure().is_some()
    }

    /// Writes down the whole state, so that the logs before it can go and the next start is quick. Appends and
    /// readers go on meanwhile. None for a store in memory.
    ///
    /// # Errors
    /// When a file cannot be written. What was on disk before is still there and still valid.
    pub fn checkpoint(&self) -> io::Result<Option<Checkpoint>> {
        let Some(disk) = &self.disk else { return Ok(None) };
        let mut disk = disk.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(number) = self.read().log.as_ref().map(|log| log.number + 1) else { return Ok(None) };
        let blocks_moved = self.spill_to(&mut disk)?;
        // The name first: what is synced into the new log must not be lost with it.
        let file = Log::prepare(&disk.directory.log_path(number))?;
        disk.directory.sync()?;
        let (segments, behind_gap) = {
            let mut head = self.write();
            let Some(log) = &mut head.log else { return Ok(None) };
            let behind_gap = log.failure().is_some();
            let continues_at = if behind_gap { 0 } else { log.len() };
            log.succeed(Log::begin(file, number, continues_at)?);
            head.ids_pinned = true;
            (head.segments.clone(), behind_gap)
        };
        let written = write(&disk.directory, number, &segments, self);
        self.write().ids_pinned = false;
        if written.is_err() && behind_gap {
            self.give_up_log(&disk.directory);
        }
        let Written { series, bytes, used } = written?;
        self.checkpoint_len.store(bytes, Ordering::Relaxed);
        if let Some(log) = &mut self.write().log {
            log.checkpoint_written();
        }
        disk.directory.remove_before(number)?;
        self.remove_segments(&disk.directory, used)?;
        Ok(Some(Checkpoint { series, bytes, blocks_moved }))
    }

    /// Behind a gap that no checkpoint covers a log is never read: it would only take the room that the next one needs.
    fn give_up_log(&self, directory: &Directory) {
        if let Some(log) = &mut self.write().log {
            log.stop();
            // Failing that, the next checkpoint removes it.
            let _ = fs::remove_file(directory.log_path(log.number));
        }
    }

    /// Removes the segments of which neither the checkpoint nor a series has a block any more.
    fn remove_segments(&self, directory: &Directory, mut used: HashSet<u16>) -> io::Result<()> {
        // First, for blocks go from sheets to series and never back.
        used.extend(self.sheet_segments());
        // Not within the loop's head: the lock would be held through all of it, and taking it again while an append waits
        // would never end.
        let len = self.read().series.len();
        for from in (0..len).step_by(CHECKPOINT_PART as usize) {
            let head = self.read();
            let blocks = head.series.iter().skip(from).take(CHECKPOINT_PART as usize).flat_map(Series::blocks);
            used.extend(blocks.filter_map(Block::slot));
        }
        let mut segments = Segments::clone(&self.read().segments);
        segments.remove_unused(directory, |slot| used.contains(&slot))?;
        self.write().segments = Arc::new(segments);
        Ok(())
    }

    /// The segments that sheets are in.
    fn sheet_segments(&self) -> HashSet<u16> {
        let head = self.read();
        let sheets = head.groups.iter().flatten().flat_map(|rows| rows.sheets.all());
        sheets.flat_map(|sheet| sheet.segments()).collect()
    }
}

impl State for Storage {
    fn oldest(&self) -> i64 {
        self.oldest.load(Ordering::Relaxed)
    }

    fn part(&self, from: u32) -> Option<(Vec<Entry>, u32)> {
        let head = self.read();
        let ids_len = head.index.ids_len() as u32;
        let to = from.saturating_add(CHECKPOINT_PART).min(ids_len);
        (from < to).then(|| (head.entries(from..to), to))
    }

    fn series_len(&self) -> usize {
        self.read().index.len()
    }

    fn pair(&self, number: u32) -> Box<str> {
        self.read().index.pair(number).into()
    }
}
