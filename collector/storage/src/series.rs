//! The samples of one series: the newest as plain numbers, the rest in sealed blocks.
//!
//! Alert rules read the newest few, so those cost nothing to read. Blocks are sealed small and joined to larger ones
//! as they age: each sample is encoded three times in its life, and a block of 256 costs little beyond its samples.

use smallvec::SmallVec;
use telemetry::Timestamp;

use crate::Refusal;
use crate::block::{Block, DecodedTimes, TimeColumns};

/// Plain samples are sealed when there are this many, …
const HOT_LEN_MAX: usize = 24;
/// … but for the newest.
const HOT_LEN_KEPT: usize = 8;
/// So many neighbouring blocks of one size are joined to one.
const JOINED: usize = 4;
/// Blocks of this many samples are not joined any more.
const BLOCK_LEN_FULL: usize = 256;

/// Sorted by time, one value per time.
#[derive(Clone, Default)]
pub(crate) struct Series {
    /// Oldest first; their times do not overlap, and all are before the plain samples'.
    blocks: Vec<Block>,
    times: Vec<i64>,
    values: Vec<f64>,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Insert {
    Added,
    /// The same value at the same time was there already.
    Repeated,
}

impl Series {
    pub(crate) fn from_parts(blocks: Vec<Block>, times: Vec<i64>, values: Vec<f64>) -> Self {
        Series { blocks, times, values }
    }

    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    pub(crate) fn hot(&self) -> (&[i64], &[f64]) {
        (&self.times, &self.values)
    }

    pub(crate) fn oldest(&self) -> Option<i64> {
        self.blocks.first().map(Block::first).or_else(|| self.times.first().copied())
    }

    pub(crate) fn newest(&self) -> Option<i64> {
        self.times.last().copied().or_else(|| self.blocks.last().map(Block::last))
    }

    /// The newest value among the plain samples, against which the log writes the next.
    pub(crate) fn newest_value(&self) -> Option<f64> {
        self.values.last().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.times.len() + self.blocks.iter().map(Block::count).sum::<usize>()
    }

    /// `lag_max` is how far behind the newest sample this one may lie, in milliseconds.
    pub(crate) fn insert(
        &mut self,
        time: i64,
        value: f64,
        lag_max: i64,
        columns: &mut TimeColumns,
    ) -> Result<Insert, Refusal> {
        let newest = self.newest();
        if newest.is_none_or(|newest| time > newest) {
            self.add_hot(self.times.len(), time, value);
            self.seal_when_full(columns);
            return Ok(Insert::Added);
        }
        let lag = newest.unwrap_or(time).saturating_sub(time);
        let holds = self.blocks.partition_point(|block| block.last() < time);
        if holds < self.blocks.len() {
            return self.insert_sealed(holds, time, value, lag <= lag_max, columns);
        }
        let at = place(&self.times, &self.values, time, value, lag, lag_max)?;
        let Some(at) = at else { return Ok(Insert::Repeated) };
        self.add_hot(at, time, value);
        self.seal_when_full(columns);
        Ok(Insert::Added)
    }

    /// Into a block that holds or follows the time: it is decoded and sealed anew. Rare: only late samples come here.
    fn insert_sealed(
        &mut self,
        block: usize,
        time: i64,
        value: f64,
        within: bool,
        columns: &mut TimeColumns,
    ) -> Result<Insert, Refusal> {
        let (mut times, mut values) = self.blocks[block].decode();
        let (lag, lag_max) = if within { (1, 1) } else { (1, 0) };
        let Some(at) = place(&times, &values, time, value, lag, lag_max)? else { return Ok(Insert::Repeated) };
        times.insert(at, time);
        values.insert(at, value);
        let middle = if times.len() > 2 * BLOCK_LEN_FULL { times.len() / 2 } else { times.len() };
        let halves = [0..middle, middle..times.len()].into_iter().filter(|range| !range.is_empty());
        let sealed = halves.map(|range| Block::seal(&times[range.clone()], &values[range], columns));
        self.blocks.splice(block..=block, sealed.collect::<SmallVec<[Block; 2]>>());
        Ok(Insert::Added)
    }

    fn add_hot(&mut self, at: usize, time: i64, value: f64) {
        if self.times.capacity() == self.times.len() {
            // Growing by doubling would leave a third of a million series' memory unused.
            let more = if self.times.len() < HOT_LEN_KEPT { HOT_LEN_KEPT } else { HOT_LEN_MAX - HOT_LEN_KEPT };
            self.times.reserve_exact(more);
            self.values.reserve_exact(more);
        }
        self.times.insert(at, time);
        self.values.insert(at, value);
    }

    fn seal_when_full(&mut self, columns: &mut TimeColumns) {
        if self.times.len() < HOT_LEN_MAX {
            return;
        }
        let sealed = self.times.len() - HOT_LEN_KEPT;
        self.blocks.push(Block::seal(&self.times[..sealed], &self.values[..sealed], columns));
        self.times.drain(..sealed);
        self.values.drain(..sealed);
        while self.join_newest_blocks(columns) {}
    }

    /// Joins the newest blocks if enough of them have the same size; says whether it did.
    fn join_newest_blocks(&mut self, columns: &mut TimeColumns) -> bool {
        let Some(from) = self.blocks.len().checked_sub(JOINED) else { return false };
        let size = size_class(&self.blocks[from]);
        if size >= BLOCK_LEN_FULL || self.blocks[from..].iter().any(|block| size_class(block) != size) {
            return false;
        }
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for block in &self.blocks[from..] {
            let (t, v) = block.decode();
            times.extend(t);
            values.extend(v);
        }
        self.blocks.truncate(from);
        self.blocks.push(Block::seal(&times, &values, columns));
        true
    }

    /// What a reader needs for the samples after `start` and up to `end`.
    pub(crate) fn range(&self, start: i64, end: i64) -> Range {
        let from = self.blocks.partition_point(|block| block.last() <= start);
        let to = self.blocks.partition_point(|block| block.first() <= end);
        let blocks = self.blocks.get(from..to).unwrap_or_default();
        let (from, to) = bounds(&self.times, start, end);
        let times = self.times[from..to].iter().map(|time| Timestamp(*time));
        let hot = times.zip(self.values[from..to].iter().copied()).collect();
        Range { blocks: blocks.iter().cloned().collect(), hot, start, end }
    }

    pub(crate) fn has_samples(&self, start: i64, end: i64) -> bool {
        let (from, to) = bounds(&self.times, start, end);
        from < to || {
            let first = self.blocks.partition_point(|block| block.last() <= start);
            let overlapping = self.blocks[first..].iter().take_while(|block| block.first() <= end);
            // A block whose ends both lie outside may still have a hole where the range is.
            overlapping.into_iter().any(|block| {
                let end_within = (block.first() > start && block.first() <= end) || block.last() <= end;
                end_within || {
                    let (from, to) = bounds(&block.times.decode(), start, end);
                    from < to
                }
            })
        }
    }

    /// Drops what is older than `oldest`, as far as that frees memory; returns how many samples that were.
    pub(crate) fn expire(&mut self, oldest: i64) -> usize {
        let blocks = self.blocks.partition_point(|block| block.last() < oldest);
        let sealed: usize = self.blocks.drain(..blocks).map(|block| block.count()).sum();
        if !self.blocks.is_empty() {
            return sealed;
        }
        let hot = self.times.partition_point(|time| *time < oldest);
        self.times.drain(..hot);
        self.values.drain(..hot);
        sealed + hot
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.times.is_empty() && self.blocks.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        let hot = self.times.capacity() * size_of::<i64>() + self.values.capacity() * size_of::<f64>();
        let slots = (self.blocks.capacity() - self.blocks.len()) * size_of::<Block>();
        size_of::<Series>() + hot + slots + self.blocks.iter().map(Block::bytes).sum::<usize>()
    }
}

/// Samples on their way to a reader: blocks still sealed, so that the store is not held while they are decoded.
pub(crate) struct Range {
    blocks: SmallVec<[Block; 2]>,
    hot: Vec<(Timestamp, f64)>,
    start: i64,
    end: i64,
}

impl Range {
    pub(crate) fn into_samples(self, decoded: &mut DecodedTimes) -> Vec<(Timestamp, f64)> {
        if self.blocks.is_empty() {
            return self.hot;
        }
        let parts: SmallVec<[(usize, usize); 8]> =
            self.blocks.iter().map(|block| bounds(decoded.of(&block.times), self.start, self.end)).collect();
        let sealed_len: usize = parts.iter().map(|(from, to)| to - from).sum();
        let mut samples = Vec::with_capacity(sealed_len + self.hot.len());
        for (block, (from, to)) in self.blocks.iter().zip(parts) {
            if from < to {
                let values = block.decode_values();
                let times = decoded.of(&block.times)[from..to].iter().map(|time| Timestamp(*time));
                samples.extend(times.zip(values[from..to].iter().copied()));
            }
        }
        samples.extend(self.hot);
        samples
    }
}

/// Where a late sample belongs; None if it is there already.
fn place(
    times: &[i64],
    values: &[f64],
    time: i64,
    value: f64,
    lag: i64,
    lag_max: i64,
) -> Result<Option<usize>, Refusal> {
    match times.binary_search(&time) {
        Ok(at) if values[at].to_bits() == value.to_bits() => Ok(None),
        Ok(_) if lag == 0 || lag <= lag_max => Err(Refusal::Duplicate),
        Err(at) if lag <= lag_max => Ok(Some(at)),
        _ => Err(Refusal::OutOfOrder),
    }
}

/// The power of four, times the smallest block, that a block's length reaches.
fn size_class(block: &Block) -> usize {
    let mut size = HOT_LEN_MAX - HOT_LEN_KEPT;
    while block.count() >= size * JOINED {
        size *= JOINED;
    }
    size
}

fn bounds(times: &[i64], start: i64, end: i64) -> (usize, usize) {
    let from = times.partition_point(|time| *time <= start);
    let to = times.partition_point(|time| *time <= end);
    (from, to.max(from))
}
