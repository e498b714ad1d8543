//! Sealed blocks go from memory to segments soon after they were sealed, and small ones there become large ones.
//!
//! The log has the samples still: until a checkpoint names what was written here, a start reads them from there. So a
//! part can be given up in memory as soon as it is synced, and nothing is lost whenever the process ends.

mod sheets;

use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use smallvec::SmallVec;

use crate::Storage;
use crate::block::{Block, TimeColumn, Values};
use crate::disk::segment::{BlockReader, Kind, SegmentWriter};
use crate::disk::{Directory, Disk};
use crate::series::{BLOCK_LEN_FULL, BLOCK_LEN_MIN};

/// So many samples of each series come before what is sealed goes: more would take memory, fewer would make so many small
/// blocks that their places take it.
const SAMPLES_PER_SERIES: u64 = 64;
/// Fewer are not worth the writing.
const SAMPLES_MIN: u64 = 500_000;
/// In place of a count: nothing was moved since the store was opened.
pub(crate) const NEVER: u64 = u64::MAX;
/// Series that are collected at a time: a sync each, and what is written has its place in memory until then.
const PART: u32 = 16_384;

/// Blocks that become one on disk.
struct Run {
    id: u32,
    parts: SmallVec<[Block; 2]>,
}

/// What takes the place of a run.
struct Written {
    run: Run,
    stored: Block,
}

impl Storage {
    /// Whether so much was sealed that [`Storage::spill`] is worth its cost.
    pub fn spill_due(&self) -> bool {
        let head = self.read();
        let due = SAMPLES_MIN.max(head.index.len() as u64 * SAMPLES_PER_SERIES);
        match self.spilled_at.load(Ordering::Relaxed) {
            _ if self.disk.is_none() => false,
            NEVER => head.samples as u64 >= due,
            at => head.appended_total.saturating_sub(at) >= due,
        }
    }

    /// Moves sealed blocks from memory to disk. Appends and readers go on meanwhile. Returns how many went.
    ///
    /// # Errors
    /// When a segment cannot be written: what it would have had stays in memory.
    pub fn spill(&self) -> io::Result<usize> {
        let Some(disk) = &self.disk else { return Ok(0) };
        self.spill_to(&mut disk.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn spill_to(&self, disk: &mut Disk) -> io::Result<usize> {
        let appended = self.read().appended_total;
        let (mut moved, mut next, mut times) = (0, 0, JoinedTimes::default());
        while let Some((runs, after)) = self.spillable(next) {
            if !runs.is_empty() {
                moved += self.replace(self.write_runs(disk, runs, &mut times)?);
            }
            next = after;
        }
        moved += self.spill_sheets(disk)?;
        self.spilled_at.store(appended, Ordering::Relaxed);
        Ok(moved)
    }

    /// What some series from this id on have to move, and the id after them.
    fn spillable(&self, from: u32) -> Option<(Vec<Run>, u32)> {
        let head = self.read();
        let to = from.saturating_add(PART).min(head.series.len() as u32);
        let runs = (from..to).flat_map(|id| {
            let series = &head.series[id as usize];
            let lengths: SmallVec<[Length; 16]> = series.blocks().iter().map(Length::of).collect();
            // What is sealed of a member from here on does not come to these blocks.
            let runs = spillable(&lengths, series.member().is_none());
            let part = move |range: Range<usize>| Run { id, parts: series.blocks()[range].iter().cloned().collect() };
            runs.into_iter().map(part)
        });
        (from < to).then(|| (runs.collect(), to))
    }

    /// Appends what the runs become to segments.
    fn write_runs(&self, disk: &mut Disk, runs: Vec<Run>, times: &mut JoinedTimes) -> io::Result<Vec<Written>> {
        self.write_synced(disk, |directory, writer, reader| {
            let pieces = runs.into_iter().flat_map(|run| self.pieces(run, reader, times));
            pieces.filter_map(|(run, block)| push(directory, writer, run, &block).transpose()).collect()
        })
    }

    /// What is written to segments is synced; or it goes, if any of that fails.
    fn write_synced<T>(
        &self,
        disk: &mut Disk,
        write: impl FnOnce(&Directory, &mut SegmentWriter, &mut BlockReader) -> io::Result<T>,
    ) -> io::Result<T> {
        let segments = self.read().segments.clone();
        let mut reader = BlockReader::new(&segments);
        let Disk { directory, segments: writer } = disk;
        writer.begin(&segments);
        let written = write(directory, writer, &mut reader);
        let synced = written.and_then(|written| Ok((written, writer.sync(directory)?)));
        let (written, segments) = synced.inspect_err(|_| writer.abandon())?;
        self.write().segments = Arc::new(segments);
        Ok(written)
    }

    /// A run and the block that it becomes; where a part cannot be read, each of the others that is in memory by itself.
    fn pieces(&self, run: Run, reader: &mut BlockReader, times: &mut JoinedTimes) -> SmallVec<[(Run, Block); 1]> {
        if let Some(block) = self.joined(&run.parts, reader, times) {
            return SmallVec::from_iter([(run, block)]);
        }
        let alone = |block: Block| (Run { id: run.id, parts: SmallVec::from_iter([block.clone()]) }, block);
        run.parts.into_iter().filter(Block::is_in_memory).map(alone).collect()
    }

    fn joined(&self, parts: &[Block], reader: &mut BlockReader, times: &mut JoinedTimes) -> Option<Block> {
        if let [block] = parts {
            return Some(block.clone());
        }
        let (mut values, mut scratch) = (Vec::new(), Vec::new());
        parts.iter().try_for_each(|block| block.append_values(reader, &mut values, &mut scratch))?;
        let times = times.of(parts, || self.write().columns.join(parts.iter().map(|block| &block.times)));
        Some(Block::over(times, &values))
    }

    /// Puts blocks on disk where the runs are still what they were.
    fn replace(&self, written: Vec<Written>) -> usize {
        let mut head = self.write();
        let replaced = written.into_iter().filter(|Written { run, stored }| {
            head.series.get_mut(run.id as usize).is_some_and(|series| series.replace(&run.parts, stored))
        });
        replaced.count()
    }
}

/// Of a block or sheet: how many samples each series has there.
#[derive(Clone, Copy)]
struct Length {
    count: usize,
    is_in_memory: bool,
}

impl Length {
    fn of(block: &Block) -> Length {
        Length { count: block.count(), is_in_memory: block.is_in_memory() }
    }

    /// In which segments what has so many samples lies.
    fn kind(count: usize) -> Kind {
        if count < BLOCK_LEN_FULL { Kind::Small } else { Kind::Full }
    }
}

/// The runs of neighbours that are to lie on disk as one each: large ones with the small ones before them, small ones that
/// make a large one together, and other small ones as they are. Of the newest so little that it is not worth its place
/// stays, if it may grow.
fn spillable(all: &[Length], may_grow: bool) -> SmallVec<[Range<usize>; 2]> {
    let (mut runs, mut from) = (SmallVec::new(), 0);
    let alone = |range: Range<usize>| range.filter(|at| all[*at].is_in_memory).map(|at| at..at + 1);
    for (at, _) in all.iter().enumerate().filter(|(_, part)| part.count >= BLOCK_LEN_FULL) {
        match all[at].is_in_memory {
            true => runs.push(from..at + 1),
            false => runs.extend(alone(from..at)),
        }
        from = at + 1;
    }
    if all[from..].iter().map(|part| part.count).sum::<usize>() >= BLOCK_LEN_FULL {
        runs.push(from..all.len());
    } else {
        let stays = |run: &Range<usize>| may_grow && run.end == all.len() && all[run.start].count < BLOCK_LEN_MIN;
        runs.extend(alone(from..all.len()).filter(|run| !stays(run)));
    }
    runs
}

/// None where the block cannot be named on disk, and has to stay where it is.
fn push(directory: &Directory, writer: &mut SegmentWriter, run: Run, block: &Block) -> io::Result<Option<Written>> {
    let Values::Memory(values) = &block.values else { return Ok(None) };
    let place = writer.push(directory, Length::kind(block.count()), &block.times, values)?;
    Ok(place.map(|place| Written { run, stored: Block { times: block.times.clone(), values: Values::Stored(place) } }))
}

/// Times of neighbouring blocks that were joined last: the series of a target join theirs one after the other.
#[derive(Default)]
struct JoinedTimes {
    parts: Vec<Arc<TimeColumn>>,
    joined: Option<Arc<TimeColumn>>,
}

impl JoinedTimes {
    fn of(&mut self, parts: &[Block], join: impl FnOnce() -> Arc<TimeColumn>) -> Arc<TimeColumn> {
        let same = self.parts.len() == parts.len()
            && self.parts.iter().zip(parts).all(|(known, block)| Arc::ptr_eq(known, &block.times));
        match &self.joined {
            Some(joined) if same => joined.clone(),
            _ => {
                self.parts = parts.iter().map(|block| block.times.clone()).collect();
                self.joined.insert(join()).clone()
            }
        }
    }
}
