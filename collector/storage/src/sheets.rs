//! The sheets of a group: what was sealed of its rows, oldest first.
//!
//! Promised: of the sheets that have samples of a slot, those that its series has not taken out are newer than all blocks
//! of its own. So a series' sealed samples are its blocks, and then its pieces here.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::block::{Block, TimeColumn};
use crate::disk::segment::BlockReader;
use crate::series::joinable;
use crate::sheet::{Piece, Sheet, SheetBuilder};

#[derive(Default)]
pub(crate) struct Sheets {
    all: Vec<Counted>,
    /// Of slots whose series have taken out what there was of them: when the newest of that was.
    since: HashMap<u32, i64>,
}

struct Counted {
    sheet: Arc<Sheet>,
    /// Slots that have samples here still.
    slots: u32,
}

impl Sheets {
    pub(crate) fn all(&self) -> impl DoubleEndedIterator<Item = &Arc<Sheet>> {
        self.all.iter().map(|counted| &counted.sheet)
    }

    fn is_of(&self, slot: u32, sheet: &Sheet) -> bool {
        sheet.has(slot)
            && (self.since.is_empty() || self.since.get(&slot).is_none_or(|since| sheet.times.first > *since))
    }

    /// A slot's samples, oldest first.
    pub(crate) fn of(&self, slot: u32) -> impl DoubleEndedIterator<Item = Piece> {
        self.all().filter(move |sheet| self.is_of(slot, sheet)).filter_map(move |sheet| sheet.piece(slot))
    }

    /// A slot's samples as far as they may lie after `start` and up to `end`.
    pub(crate) fn within(&self, slot: u32, start: i64, end: i64) -> impl Iterator<Item = Piece> {
        let from = self.all.partition_point(|counted| counted.sheet.times.last <= start);
        let to = self.all.partition_point(|counted| counted.sheet.times.first <= end);
        let within = self.all.get(from..to).unwrap_or_default().iter().map(|counted| &counted.sheet);
        within.filter(move |sheet| self.is_of(slot, sheet)).filter_map(move |sheet| sheet.piece(slot))
    }

    /// What holds or follows the time.
    pub(crate) fn piece_for(&self, slot: u32, time: i64) -> Option<Piece> {
        self.of(slot).find(|piece| piece.times().last >= time)
    }

    /// When the newest sample is that a slot has here.
    pub(crate) fn newest(&self, slot: u32) -> Option<i64> {
        self.all().rfind(|sheet| self.is_of(slot, sheet)).map(|sheet| sheet.times.last)
    }

    /// Blocks of the series that these are as well.
    pub(crate) fn blocks_len(&self) -> usize {
        self.all.iter().map(|counted| counted.slots as usize).sum()
    }

    /// A slot's samples up to a time go to its series.
    pub(crate) fn take_out(&mut self, slot: u32, until: i64) -> Vec<Block> {
        let mut blocks = Vec::new();
        let old = self.all.partition_point(|counted| counted.sheet.times.last <= until);
        for at in 0..old {
            let sheet = &self.all[at].sheet;
            if self.is_of(slot, sheet) {
                blocks.extend(sheet.block(slot));
                self.all[at].slots -= 1;
            }
        }
        if let Some(newest) = old.checked_sub(1).map(|at| self.all[at].sheet.times.last)
            && !blocks.is_empty()
        {
            self.since.insert(slot, newest);
        }
        blocks
    }

    /// The newest rows; each slot in it has its older ones in the sheets before, or with its series.
    pub(crate) fn push(&mut self, sheet: Sheet) {
        let counted = self.counted(sheet);
        self.all.reserve_exact(1);
        self.all.extend(counted);
    }

    /// Rows that are older than all others here, of slots that have taken nothing out. False if there are none.
    pub(crate) fn push_oldest(&mut self, sheet: Sheet) -> bool {
        let counted = self.counted(sheet);
        let is_some = counted.is_some();
        self.all.splice(..0, counted);
        self.all.shrink_to_fit();
        is_some
    }

    /// None for a sheet of which no slot has samples.
    fn counted(&self, sheet: Sheet) -> Option<Counted> {
        let slots = (0..sheet.slots_len()).filter(|slot| self.is_of(*slot, &sheet)).count() as u32;
        (slots > 0).then(|| Counted { sheet: Arc::new(sheet), slots })
    }

    /// When the oldest sample is.
    pub(crate) fn oldest(&self) -> i64 {
        self.all.first().map_or(i64::MAX, |counted| counted.sheet.times.first)
    }

    pub(crate) fn has_taken_out(&self, slot: u32) -> bool {
        self.since.contains_key(&slot)
    }

    /// Forgets sheets without samples, and what was taken out of them.
    pub(crate) fn sweep(&mut self) {
        self.all.retain(|counted| counted.slots > 0);
        let oldest = self.oldest();
        self.since.retain(|_, since| *since >= oldest);
    }

    /// Those that [`join`] is to make one, if any: as for a series' blocks.
    pub(crate) fn joinable(&self) -> Option<Range<usize>> {
        let sheet = |at: usize| &self.all[at].sheet;
        joinable(self.all.len(), &|at| (sheet(at).times.count, sheet(at).is_in_memory()))
    }

    pub(crate) fn parts(&self, run: Range<usize>) -> Vec<Arc<Sheet>> {
        self.all[run].iter().map(|counted| counted.sheet.clone()).collect()
    }

    /// The slots that have samples in some of these sheets and not as many in the one that they become.
    pub(crate) fn left_out(&self, parts: &[Arc<Sheet>], joined: &Sheet) -> Vec<u32> {
        let slots_len = parts.iter().map(|sheet| sheet.slots_len()).max().unwrap_or(0);
        let is_some = |slot: u32| parts.iter().any(|sheet| self.is_of(slot, sheet));
        let is_whole = |slot: u32| joined.has(slot) && parts.iter().all(|sheet| self.is_of(slot, sheet));
        (0..slots_len).filter(|slot| is_some(*slot) && !is_whole(*slot)).collect()
    }

    /// Where these sheets are, one behind the other.
    pub(crate) fn position(&self, parts: &[Arc<Sheet>]) -> Option<Range<usize>> {
        let first = parts.first()?;
        let at = self.all().position(|sheet| Arc::ptr_eq(sheet, first))?;
        let here = self.all.get(at..at + parts.len())?;
        here.iter().zip(parts).all(|(counted, part)| Arc::ptr_eq(&counted.sheet, part)).then_some(at..at + parts.len())
    }

    /// One sheet in the place of some; what was left out has been taken out. Tells of how many slots it has samples.
    pub(crate) fn replace(&mut self, run: Range<usize>, joined: Sheet) -> usize {
        let counted = self.counted(joined);
        let slots = counted.as_ref().map_or(0, |counted| counted.slots);
        self.all.splice(run, counted);
        self.all.shrink_to_fit();
        slots as usize
    }

    /// Slots, sorted, whose samples of this time or later have been taken out.
    pub(crate) fn taken_out(&self, first: i64) -> Vec<u32> {
        let mut slots: Vec<u32> =
            self.since.iter().filter(|(_, since)| **since >= first).map(|(slot, _)| *slot).collect();
        slots.sort_unstable();
        slots
    }

    /// Drops what is older than `oldest` as a whole, and what has no samples any more; returns how many samples that
    /// were.
    pub(crate) fn expire(&mut self, oldest: i64) -> usize {
        let old = self.all.partition_point(|counted| counted.sheet.times.last < oldest);
        let dropped = self.all.drain(..old).map(|counted| counted.slots as usize * counted.sheet.times.count).sum();
        self.sweep();
        dropped
    }

    pub(crate) fn bytes(&self) -> usize {
        self.all.capacity() * size_of::<Counted>()
            + self.all().map(|sheet| sheet.bytes()).sum::<usize>()
            + self.since.capacity() * size_of::<(u32, i64)>()
    }
}

/// One sheet of neighbouring ones. Left out are the slots that do not have samples in all of them, or cannot be read, and
/// these, which are sorted.
pub(crate) fn join(parts: &[Arc<Sheet>], times: Arc<TimeColumn>, without: &[u32], reader: &mut BlockReader) -> Sheet {
    let slots_len = parts.iter().map(|sheet| sheet.slots_len()).min().unwrap_or(0);
    let (mut builder, mut values, mut scratch) = (SheetBuilder::default(), Vec::new(), Vec::new());
    for slot in 0..slots_len {
        values.clear();
        let is_in = without.binary_search(&slot).is_err();
        let mut append = |sheet: &Arc<Sheet>| sheet.piece(slot)?.append_values(reader, &mut values, &mut scratch);
        match is_in && parts.iter().all(|sheet| append(sheet).is_some()) {
            true => builder.push(&values),
            false => builder.skip(),
        };
    }
    builder.finish(times)
}
