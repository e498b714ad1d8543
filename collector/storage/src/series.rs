//! The samples of one series: the newest as plain numbers, the rest in sealed blocks.
//!
//! Alert rules read the newest few, so those cost little to read. Blocks are sealed small and joined to larger ones as
//! they age, so that a block of 256 costs little beyond its samples. Plain samples lie with the series alone
//! ([`OwnHot`]), or, where series are written together, in a row of their [`crate::group::Group`].

use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;
use telemetry::Timestamp;

use crate::Refusal;
use crate::block::{Block, TimeColumns};
use crate::disk::segment::{BlockReader, Segments};
use crate::plain::Plain;
use crate::range::{SampleRange, bounds};

/// Plain samples of a series of its own are sealed when there are this many, …
const HOT_LEN_MAX: usize = 24;
/// … but for the newest.
pub(crate) const HOT_LEN_KEPT: usize = 8;
/// So many samples make the smallest usual block.
pub(crate) const BLOCK_LEN_MIN: usize = HOT_LEN_MAX - HOT_LEN_KEPT;
/// The newest blocks are joined up to this many samples: a small one costs more beside its samples than for them.
const BLOCK_LEN_SMALL: usize = 64;
/// So many of those are then joined to one, …
const JOINED: usize = 4;
/// … of about this many samples.
pub(crate) const BLOCK_LEN_FULL: usize = 256;

/// Sorted by time, one value per time.
#[derive(Default)]
pub(crate) struct Series {
    /// Oldest first; their times do not overlap, and all are before the plain samples'.
    blocks: Vec<Block>,
    pub(crate) hot: Hot,
}

/// Where the plain samples are.
#[derive(Default)]
pub(crate) enum Hot {
    #[default]
    Nowhere,
    Own(Box<OwnHot>),
    /// In this slot of this group.
    Slot {
        group: u32,
        slot: u32,
    },
}

/// Plain samples with times of their own. In one piece: of pieces of usual sizes some few are left when a fleet that was
/// pushed is scraped, and each of those keeps its page.
#[derive(Default)]
pub(crate) struct OwnHot {
    times: [i64; HOT_LEN_MAX],
    values: [f64; HOT_LEN_MAX],
    len: usize,
}

/// A block of a series, decoded.
#[derive(Default)]
pub(crate) struct Known {
    block: Option<usize>,
    samples: (Vec<i64>, Vec<f64>),
}

#[derive(Debug, PartialEq)]
pub(crate) enum Insert {
    Added,
    /// The same value at the same time was there already.
    Repeated,
}

impl OwnHot {
    fn times(&self) -> &[i64] {
        &self.times[..self.len]
    }

    fn values(&self) -> &[f64] {
        &self.values[..self.len]
    }

    pub(crate) fn samples(&self) -> (&[i64], Plain<'_>) {
        (self.times(), Plain::Wide(self.values()))
    }

    /// Whoever adds seals what is full.
    fn add(&mut self, at: usize, time: i64, value: f64) {
        self.times.copy_within(at..self.len, at + 1);
        self.values.copy_within(at..self.len, at + 1);
        (self.times[at], self.values[at]) = (time, value);
        self.len += 1;
    }

    fn drop_oldest(&mut self, count: usize) {
        self.times.copy_within(count..self.len, 0);
        self.values.copy_within(count..self.len, 0);
        self.len -= count;
    }
}

impl Series {
    pub(crate) fn sealed(blocks: Vec<Block>) -> Self {
        Series { blocks, hot: Hot::Nowhere }
    }

    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    pub(crate) fn sealed_len(&self) -> usize {
        self.blocks.iter().map(Block::count).sum()
    }

    /// A sample newer than all there are, among plain samples of its own.
    pub(crate) fn push_own(&mut self, time: i64, value: f64, columns: &mut TimeColumns) {
        let own = self.own();
        own.add(own.len, time, value);
        self.seal_when_full(columns);
    }

    /// Plain samples that were in a group are the series' own from here on.
    pub(crate) fn take_over(&mut self, times: &[i64], values: Plain<'_>, columns: &mut TimeColumns) {
        self.hot = Hot::Nowhere;
        let values = values.to_vec();
        let sealed = if times.len() < HOT_LEN_MAX { 0 } else { times.len() - HOT_LEN_KEPT };
        if sealed > 0 {
            let block = Block::seal(&times[..sealed], &values[..sealed], columns);
            self.push_block(block, columns);
        }
        let own = self.own();
        times[sealed..].iter().zip(&values[sealed..]).for_each(|(time, value)| own.add(own.len, *time, *value));
    }

    /// Samples from the front that are newer than all there are, each newer than the one before; plain samples, if any, are
    /// its own. Many are sealed at once, none stay plain then. Returns how many those are. `sealing` is memory to use
    /// again.
    pub(crate) fn push_many(
        &mut self,
        times: &[i64],
        values: &[f64],
        columns: &mut TimeColumns,
        (sealed_times, sealed_values): &mut (Vec<i64>, Vec<f64>),
    ) -> usize {
        let mut newest = self.newest_own().unwrap_or(i64::MIN);
        let follows = |time: &&i64| **time > std::mem::replace(&mut newest, **time);
        let len = times.iter().take_while(follows).count();
        if len == 0 {
            return 0;
        }
        let own = self.own();
        if own.len + len < BLOCK_LEN_MIN {
            times[..len].iter().zip(values).for_each(|(time, value)| own.add(own.len, *time, *value));
            return len;
        }
        sealed_times.clear();
        sealed_values.clear();
        sealed_times.extend_from_slice(own.times());
        sealed_values.extend_from_slice(own.values());
        sealed_times.extend_from_slice(&times[..len]);
        sealed_values.extend_from_slice(&values[..len]);
        self.hot = Hot::Nowhere;
        for (times, values) in sealed_times.chunks(BLOCK_LEN_SMALL).zip(sealed_values.chunks(BLOCK_LEN_SMALL)) {
            let block = Block::seal(times, values, columns);
            self.push_block(block, columns);
        }
        len
    }

    /// A sample that is not newer than all there are; plain samples, if any, are its own. `late` is whether it lies
    /// within the out-of-order window.
    pub(crate) fn insert_late(
        &mut self,
        time: i64,
        value: f64,
        within: bool,
        (columns, segments): (&mut TimeColumns, &Arc<Segments>),
    ) -> Result<Insert, Refusal> {
        if let Some(block) = self.block_for(time) {
            return self.insert_sealed(block, time, value, within, (columns, segments));
        }
        let own = self.own();
        let Some(at) = place(own.samples(), time, value, within)? else { return Ok(Insert::Repeated) };
        own.add(at, time, value);
        self.seal_when_full(columns);
        Ok(Insert::Added)
    }

    /// Whether a block has the sample already; what is decoded for that serves the next.
    pub(crate) fn knows(&self, time: i64, value: f64, segments: &Arc<Segments>, known: &mut Known) -> bool {
        let Some(at) = self.block_for(time) else { return false };
        if known.block != Some(at) {
            known.block = Some(at);
            known.samples = self.blocks[at].decode(&mut BlockReader::new(segments)).unwrap_or_default();
        }
        let (times, values) = &known.samples;
        times.binary_search(&time).is_ok_and(|at| values[at].to_bits() == value.to_bits())
    }

    /// When the newest sample is; plain samples, if any, are its own.
    pub(crate) fn newest_own(&self) -> Option<i64> {
        let own = match &self.hot {
            Hot::Own(own) => own.times().last().copied(),
            _ => None,
        };
        own.or_else(|| self.blocks.last().map(Block::last))
    }

    /// The block that holds or follows the time.
    pub(crate) fn block_for(&self, time: i64) -> Option<usize> {
        let at = self.blocks.partition_point(|block| block.last() < time);
        (at < self.blocks.len()).then_some(at)
    }

    fn own(&mut self) -> &mut OwnHot {
        if !matches!(self.hot, Hot::Own(_)) {
            self.hot = Hot::Own(Box::default());
        }
        match &mut self.hot {
            Hot::Own(own) => own,
            _ => unreachable!("made so above"),
        }
    }

    /// Into a block: it is decoded and sealed anew. Rare: only late samples come here.
    fn insert_sealed(
        &mut self,
        block: usize,
        time: i64,
        value: f64,
        within: bool,
        (columns, segments): (&mut TimeColumns, &Arc<Segments>),
    ) -> Result<Insert, Refusal> {
        let decoded = self.blocks[block].decode(&mut BlockReader::new(segments));
        let (mut times, mut values) = decoded.ok_or(Refusal::Unreadable)?;
        let Some(at) = place((&times, Plain::Wide(&values)), time, value, within)? else { return Ok(Insert::Repeated) };
        times.insert(at, time);
        values.insert(at, value);
        let middle = if times.len() > 2 * BLOCK_LEN_FULL { times.len() / 2 } else { times.len() };
        let halves = [0..middle, middle..times.len()].into_iter().filter(|range| !range.is_empty());
        let sealed = halves.map(|range| Block::seal(&times[range.clone()], &values[range], columns));
        self.blocks.splice(block..=block, sealed.collect::<SmallVec<[Block; 2]>>());
        Ok(Insert::Added)
    }

    fn seal_when_full(&mut self, columns: &mut TimeColumns) {
        let Hot::Own(own) = &mut self.hot else { return };
        if own.len < HOT_LEN_MAX {
            return;
        }
        let sealed = own.len - HOT_LEN_KEPT;
        let block = Block::seal(&own.times[..sealed], &own.values[..sealed], columns);
        own.drop_oldest(sealed);
        self.push_block(block, columns);
    }

    /// Seals plain samples of its own, which then are nowhere.
    pub(crate) fn seal_own(&mut self, columns: &mut TimeColumns) {
        if let Hot::Own(own) = std::mem::take(&mut self.hot)
            && own.len > 0
        {
            let block = Block::seal(own.times(), own.values(), columns);
            self.push_block(block, columns);
        }
    }

    /// Adds a block behind the others.
    pub(crate) fn push_block(&mut self, block: Block, columns: &mut TimeColumns) {
        // A million of these lists: room for more than there is would be a good part of their memory.
        self.blocks.reserve_exact(1);
        self.blocks.push(block);
        let len = self.blocks.len();
        if let Some(pair) = len.checked_sub(2)
            && self.blocks[pair].count() + self.blocks[pair + 1].count() <= BLOCK_LEN_SMALL
            && self.blocks[pair].is_in_memory()
        {
            return self.join(pair..len, columns);
        }
        // All but the newest are as large as they get.
        if let Some(from) = len.checked_sub(JOINED + 1)
            && self.blocks[from..len - 1].iter().all(may_grow)
        {
            self.join(from..len - 1, columns);
        }
    }

    /// The runs of blocks that are to lie on disk as one block each: large ones with the small ones before them, small ones
    /// that make a large one together, and other small ones as they are. Of the newest so little that it is not worth its
    /// place stays.
    pub(crate) fn spillable(&self) -> SmallVec<[Range<usize>; 2]> {
        let (blocks, len) = (&self.blocks, self.blocks.len());
        let (mut runs, mut from) = (SmallVec::new(), 0);
        let alone = |range: Range<usize>| range.filter(|at| blocks[*at].is_in_memory()).map(|at| at..at + 1);
        for (at, block) in blocks.iter().enumerate().filter(|(_, block)| block.count() >= BLOCK_LEN_FULL) {
            match block.is_in_memory() {
                true => runs.push(from..at + 1),
                false => runs.extend(alone(from..at)),
            }
            from = at + 1;
        }
        if blocks[from..].iter().map(Block::count).sum::<usize>() >= BLOCK_LEN_FULL {
            runs.push(from..len);
        } else {
            runs.extend(alone(from..len).filter(|run| run.end < len || blocks[run.start].count() >= BLOCK_LEN_MIN));
        }
        runs
    }

    /// Puts a stored block in the place of those that have the same samples, if they are still there.
    pub(crate) fn replace(&mut self, parts: &[Block], stored: &Block) -> bool {
        let at = self.blocks.partition_point(|block| block.first() < stored.first());
        let here = self.blocks.get(at..at + parts.len());
        if !here.is_some_and(|here| here.iter().zip(parts).all(|(block, part)| block.is(part))) {
            return false;
        }
        self.blocks[at] = stored.clone();
        if parts.len() > 1 {
            self.blocks.drain(at + 1..at + parts.len());
            self.blocks.shrink_to_fit();
        }
        true
    }

    fn join(&mut self, parts: Range<usize>, columns: &mut TimeColumns) {
        let blocks = &self.blocks[parts.clone()];
        let (mut values, mut reader, mut scratch) = (Vec::new(), BlockReader::default(), Vec::new());
        for block in blocks {
            block.append_values(&mut reader, &mut values, &mut scratch).expect("what is joined is in memory");
        }
        let joined = Block::over(columns.join(blocks.iter().map(|block| &block.times)), &values);
        self.blocks.splice(parts, [joined]);
        self.blocks.shrink_to_fit();
    }

    /// What a reader needs for the samples after `start` and up to `end`; `hot` are the plain samples.
    pub(crate) fn range(&self, (times, values): (&[i64], Plain<'_>), start: i64, end: i64) -> SampleRange {
        let blocks = self.blocks_within(start, end);
        let (from, to) = bounds(times, start, end);
        let hot = (from..to).map(|at| (Timestamp(times[at]), values.at(at))).collect();
        SampleRange::new(blocks, hot, start, end)
    }

    /// The blocks that may have samples after `start` and up to `end`.
    pub(crate) fn blocks_within(&self, start: i64, end: i64) -> &[Block] {
        let from = self.blocks.partition_point(|block| block.last() <= start);
        let to = self.blocks.partition_point(|block| block.first() <= end);
        self.blocks.get(from..to).unwrap_or_default()
    }

    pub(crate) fn has_samples(&self, hot: &[i64], start: i64, end: i64) -> bool {
        let (from, to) = bounds(hot, start, end);
        from < to || {
            // A block whose ends both lie outside may still have a hole where the range is.
            self.blocks_within(start, end).iter().any(|block| {
                let end_within = (block.first() > start && block.first() <= end) || block.last() <= end;
                end_within || {
                    let (from, to) = bounds(&block.times.decode(), start, end);
                    from < to
                }
            })
        }
    }

    /// Drops blocks that are older than `oldest` as a whole; returns how many samples that were.
    pub(crate) fn expire_blocks(&mut self, oldest: i64) -> usize {
        let blocks = self.blocks.partition_point(|block| block.last() < oldest);
        self.blocks.drain(..blocks).map(|block| block.count()).sum()
    }

    /// Drops the oldest plain samples of its own; returns how many.
    pub(crate) fn expire_own(&mut self, oldest: i64) -> usize {
        let Hot::Own(own) = &mut self.hot else { return 0 };
        let old = own.times().partition_point(|time| *time < oldest);
        own.drop_oldest(old);
        if own.len == 0 {
            self.hot = Hot::Nowhere;
        }
        old
    }

    /// Bytes but for plain samples in a group.
    pub(crate) fn bytes(&self) -> usize {
        let own = match &self.hot {
            Hot::Own(_) => size_of::<OwnHot>(),
            _ => 0,
        };
        let slots = (self.blocks.capacity() - self.blocks.len()) * size_of::<Block>();
        size_of::<Series>() + own + slots + self.blocks.iter().map(Block::bytes).sum::<usize>()
    }
}

fn may_grow(block: &Block) -> bool {
    block.count() <= BLOCK_LEN_SMALL && block.is_in_memory()
}

/// Where a late sample belongs; None if it is there already.
pub(crate) fn place(
    (times, values): (&[i64], Plain<'_>),
    time: i64,
    value: f64,
    within: bool,
) -> Result<Option<usize>, Refusal> {
    match times.binary_search(&time) {
        Ok(at) if values.at(at).to_bits() == value.to_bits() => Ok(None),
        Ok(_) if within => Err(Refusal::Duplicate),
        Err(at) if within => Ok(Some(at)),
        _ => Err(Refusal::OutOfOrder),
    }
}
