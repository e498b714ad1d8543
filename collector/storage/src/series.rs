//! The samples of one series: the newest as plain numbers, the rest in sealed blocks.
//!
//! Alert rules read the newest few, so those cost little to read. Blocks are sealed small and joined to larger ones as
//! they age, so that a block of 256 costs little beyond its samples. Plain samples lie with the series alone
//! ([`OwnHot`]), or, where series are written together, in a row of their [`crate::group::Group`], whose sealed samples
//! ([`crate::sheet::Sheet`]) then follow the series' own blocks.

use std::num::NonZero;
use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::Refusal;
use crate::block::{Block, TimeColumns};
use crate::disk::segment::{BlockReader, Segments};
use crate::own_hot::{HOT_LEN_KEPT, HOT_LEN_MAX, OwnHot};
use crate::plain::Plain;

/// So many samples make the smallest usual block.
pub(crate) const BLOCK_LEN_MIN: usize = HOT_LEN_MAX - HOT_LEN_KEPT;
/// The newest blocks are joined up to this many samples: a small one costs more beside its samples than for them.
const BLOCK_LEN_SMALL: usize = 64;
/// So many of those are then joined to one, …
const JOINED: usize = 4;
/// … of about this many samples.
pub(crate) const BLOCK_LEN_FULL: usize = 256;

/// Sorted by time, one value per time. Small, for there are millions, and most have nothing of their own: they are in a
/// group.
#[derive(Default)]
pub(crate) struct Series {
    own: Option<Box<Own>>,
    /// Of the group that it is in, if that is one: plain samples are there, and sealed ones that are newer than its own.
    member: Option<Member>,
}

/// A place in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    group: NonZero<u32>,
    pub(crate) slot: u32,
}

impl Member {
    pub(crate) fn new(group: u32, slot: u32) -> Self {
        Member { group: NonZero::<u32>::MIN.saturating_add(group), slot }
    }

    pub(crate) fn group(self) -> u32 {
        self.group.get() - 1
    }
}

/// What a series has for itself.
#[derive(Default)]
struct Own {
    /// Oldest first; their times do not overlap, and all are before the plain samples'.
    blocks: Vec<Block>,
    /// None for a series in a group.
    hot: Option<Box<OwnHot>>,
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

impl Series {
    pub(crate) fn sealed(blocks: Vec<Block>) -> Self {
        Series { own: (!blocks.is_empty()).then(|| Box::new(Own { blocks, hot: None })), member: None }
    }

    /// Its place in a group, where its newest samples are.
    pub(crate) fn member(&self) -> Option<Member> {
        self.member
    }

    /// Its newest samples are in a group from here on; it has no plain ones of its own.
    pub(crate) fn join_group(&mut self, member: Member) {
        self.member = Some(member);
    }

    pub(crate) fn leave_group(&mut self) {
        self.member = None;
    }

    /// Its own.
    pub(crate) fn blocks(&self) -> &[Block] {
        self.own.as_ref().map_or(&[], |own| &own.blocks)
    }

    fn own(&mut self) -> &mut Own {
        self.own.get_or_insert_default()
    }

    /// Plain samples of its own.
    pub(crate) fn own_hot(&self) -> Option<&OwnHot> {
        self.own.as_ref()?.hot.as_deref()
    }

    fn own_hot_mut(&mut self) -> &mut OwnHot {
        self.own().hot.get_or_insert_default()
    }

    fn take_own_hot(&mut self) -> Option<Box<OwnHot>> {
        self.own.as_mut()?.hot.take()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.blocks().is_empty() && self.own_hot().is_none()
    }

    pub(crate) fn sealed_len(&self) -> usize {
        self.blocks().iter().map(Block::count).sum()
    }

    /// Sealed samples that were in a group; newer than its own.
    pub(crate) fn take_in(&mut self, blocks: Vec<Block>) {
        if !blocks.is_empty() {
            let own = self.own();
            own.blocks.reserve_exact(blocks.len());
            own.blocks.extend(blocks);
        }
    }

    /// The newest of its own blocks goes to its group.
    pub(crate) fn give_newest(&mut self) -> Option<Block> {
        let own = self.own.as_mut()?;
        let block = own.blocks.pop();
        if own.blocks.is_empty() && own.hot.is_none() {
            self.own = None;
        }
        block
    }

    /// A sample newer than all there are, among plain samples of its own.
    pub(crate) fn push_own(&mut self, time: i64, value: f64, columns: &mut TimeColumns) {
        let hot = self.own_hot_mut();
        hot.add(hot.len, time, value);
        self.seal_when_full(columns);
    }

    /// Plain samples that were in a group are the series' own from here on.
    pub(crate) fn take_over(&mut self, times: &[i64], values: Plain<'_>, columns: &mut TimeColumns) {
        self.leave_group();
        let values = values.to_vec();
        let sealed = if times.len() < HOT_LEN_MAX { 0 } else { times.len() - HOT_LEN_KEPT };
        if sealed > 0 {
            let block = Block::seal(&times[..sealed], &values[..sealed], columns);
            self.push_block(block, columns);
        }
        let hot = self.own_hot_mut();
        times[sealed..].iter().zip(&values[sealed..]).for_each(|(time, value)| hot.add(hot.len, *time, *value));
    }

    /// Samples from the front that are newer than all there are, each newer than the one before, are sealed; there are no
    /// plain ones. Returns how many those are.
    pub(crate) fn push_many(&mut self, times: &[i64], values: &[f64], columns: &mut TimeColumns) -> usize {
        let mut newest = self.newest_own().unwrap_or(i64::MIN);
        let follows = |time: &&i64| **time > std::mem::replace(&mut newest, **time);
        let len = times.iter().take_while(follows).count();
        for (times, values) in times[..len].chunks(BLOCK_LEN_SMALL).zip(values[..len].chunks(BLOCK_LEN_SMALL)) {
            let block = Block::seal(times, values, columns);
            // Two small ones may stay: they are joined when their target is scraped again, with those of its other series.
            self.push_joining(block, joinable_run, columns);
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
        let hot = self.own_hot_mut();
        let Some(at) = place(hot.samples(), time, value, within)? else { return Ok(Insert::Repeated) };
        hot.add(at, time, value);
        self.seal_when_full(columns);
        Ok(Insert::Added)
    }

    /// Whether a block has the sample already; what is decoded for that serves the next.
    pub(crate) fn knows(&self, time: i64, value: f64, segments: &Arc<Segments>, known: &mut Known) -> bool {
        let Some(at) = self.block_for(time) else { return false };
        if known.block != Some(at) {
            known.block = Some(at);
            known.samples = self.blocks()[at].decode(&mut BlockReader::new(segments)).unwrap_or_default();
        }
        let (times, values) = &known.samples;
        times.binary_search(&time).is_ok_and(|at| values[at].to_bits() == value.to_bits())
    }

    /// When the newest sample of its own is.
    pub(crate) fn newest_own(&self) -> Option<i64> {
        let hot = self.own_hot().and_then(|hot| hot.times().last().copied());
        hot.or_else(|| self.blocks().last().map(Block::last))
    }

    /// The block of its own that holds or follows the time.
    pub(crate) fn block_for(&self, time: i64) -> Option<usize> {
        let at = self.blocks().partition_point(|block| block.last() < time);
        (at < self.blocks().len()).then_some(at)
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
        let decoded = self.blocks()[block].decode(&mut BlockReader::new(segments));
        let (mut times, mut values) = decoded.ok_or(Refusal::Unreadable)?;
        let Some(at) = place((&times, Plain::Wide(&values)), time, value, within)? else { return Ok(Insert::Repeated) };
        times.insert(at, time);
        values.insert(at, value);
        let middle = if times.len() > 2 * BLOCK_LEN_FULL { times.len() / 2 } else { times.len() };
        let halves = [0..middle, middle..times.len()].into_iter().filter(|range| !range.is_empty());
        let sealed = halves.map(|range| Block::seal(&times[range.clone()], &values[range], columns));
        self.own().blocks.splice(block..=block, sealed.collect::<SmallVec<[Block; 2]>>());
        Ok(Insert::Added)
    }

    fn seal_when_full(&mut self, columns: &mut TimeColumns) {
        let hot = self.own_hot_mut();
        if hot.len < HOT_LEN_MAX {
            return;
        }
        let sealed = hot.len - HOT_LEN_KEPT;
        let block = Block::seal(&hot.times[..sealed], &hot.values[..sealed], columns);
        hot.drop_oldest(sealed);
        self.push_block(block, columns);
    }

    /// Seals plain samples of its own, of which there are none then.
    pub(crate) fn seal_own(&mut self, columns: &mut TimeColumns) {
        if let Some(hot) = self.take_own_hot()
            && hot.len > 0
        {
            let block = Block::seal(hot.times(), hot.values(), columns);
            self.push_block(block, columns);
        }
    }

    /// Adds a block behind the others.
    pub(crate) fn push_block(&mut self, block: Block, columns: &mut TimeColumns) {
        self.push_joining(block, joinable, columns);
    }

    fn push_joining(
        &mut self,
        block: Block,
        joinable: fn(usize, Parts<'_>) -> Option<Range<usize>>,
        columns: &mut TimeColumns,
    ) {
        let blocks = &mut self.own().blocks;
        // A million of these lists: room for more than there is would be a good part of their memory.
        blocks.reserve_exact(1);
        blocks.push(block);
        if let Some(run) = joinable(blocks.len(), &|at| (blocks[at].count(), blocks[at].is_in_memory())) {
            self.join(run, columns);
        }
    }

    /// Puts a stored block in the place of those that have the same samples, if they are still there.
    pub(crate) fn replace(&mut self, parts: &[Block], stored: &Block) -> bool {
        let Some(Own { blocks, .. }) = self.own.as_deref_mut() else { return false };
        let at = blocks.partition_point(|block| block.first() < stored.first());
        let here = blocks.get(at..at + parts.len());
        if !here.is_some_and(|here| here.iter().zip(parts).all(|(block, part)| block.is(part))) {
            return false;
        }
        blocks[at] = stored.clone();
        if parts.len() > 1 {
            blocks.drain(at + 1..at + parts.len());
            blocks.shrink_to_fit();
        }
        true
    }

    fn join(&mut self, parts: Range<usize>, columns: &mut TimeColumns) {
        let blocks = &mut self.own().blocks;
        let (mut values, mut reader, mut scratch) = (Vec::new(), BlockReader::default(), Vec::new());
        for block in &blocks[parts.clone()] {
            block.append_values(&mut reader, &mut values, &mut scratch).expect("what is joined is in memory");
        }
        let joined = Block::over(columns.join(blocks[parts.clone()].iter().map(|block| &block.times)), &values);
        blocks.splice(parts, [joined]);
        blocks.shrink_to_fit();
    }

    /// The blocks of its own that may have samples after `start` and up to `end`.
    pub(crate) fn blocks_within(&self, start: i64, end: i64) -> &[Block] {
        let blocks = self.blocks();
        let from = blocks.partition_point(|block| block.last() <= start);
        let to = blocks.partition_point(|block| block.first() <= end);
        blocks.get(from..to).unwrap_or_default()
    }

    /// Drops blocks of its own that are older than `oldest` as a whole; returns how many samples that was.
    pub(crate) fn expire_blocks(&mut self, oldest: i64) -> usize {
        let Some(own) = &mut self.own else { return 0 };
        let old = own.blocks.partition_point(|block| block.last() < oldest);
        let dropped = own.blocks.drain(..old).map(|block| block.count()).sum();
        if own.blocks.is_empty() && own.hot.is_none() {
            self.own = None;
        }
        dropped
    }

    /// Drops the oldest plain samples of its own; returns how many.
    pub(crate) fn expire_own(&mut self, oldest: i64) -> usize {
        let Some(hot) = self.own.as_mut().and_then(|own| own.hot.as_mut()) else { return 0 };
        let old = hot.times().partition_point(|time| *time < oldest);
        hot.drop_oldest(old);
        if hot.len == 0 {
            drop(self.take_own_hot());
            self.own = self.own.take().filter(|own| !own.blocks.is_empty());
        }
        old
    }

    /// Bytes but for what is in a group.
    pub(crate) fn bytes(&self) -> usize {
        let own = self.own.as_ref().map_or(0, |own| {
            let hot = if own.hot.is_some() { size_of::<OwnHot>() } else { 0 };
            let slots = (own.blocks.capacity() - own.blocks.len()) * size_of::<Block>();
            size_of::<Own>() + hot + slots + own.blocks.iter().map(Block::bytes).sum::<usize>()
        });
        size_of::<Series>() + own
    }
}

/// Of neighbouring blocks or sheets how many samples a series has there, and whether it is in memory.
type Parts<'p> = &'p dyn Fn(usize) -> (usize, bool);

/// Which of so many neighbours are to be joined, if any: the newest two while they are small, then four of the small ones
/// before the newest.
pub(crate) fn joinable(len: usize, part: Parts<'_>) -> Option<Range<usize>> {
    if let Some(pair) = len.checked_sub(2)
        && part(pair).0 + part(pair + 1).0 <= BLOCK_LEN_SMALL
        && part(pair).1
    {
        return Some(pair..len);
    }
    joinable_run(len, part)
}

/// Four small ones before the newest.
fn joinable_run(len: usize, part: Parts<'_>) -> Option<Range<usize>> {
    let run = len.checked_sub(JOINED + 1)?..len - 1;
    let may_grow = |at| matches!(part(at), (..=BLOCK_LEN_SMALL, true));
    run.clone().all(may_grow).then_some(run)
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
