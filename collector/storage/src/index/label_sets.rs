//! By id the numbers of a series' pairs, sorted by the pairs' names.
//!
//! Neighbours share most pairs: a set says which of its pairs are not those of the set before it, and their numbers. Sixteen
//! sets make a block of their own, read from its beginning and written anew where one of them changes, so that no
//! free place is left behind.
//!
//! A block is the number of its sets, then of each set the number of its pairs and one more (0 where the id is free), a bit for
//! each pair that differs, and the numbers of those.

use smallvec::SmallVec;

use crate::column::push_varint;

/// Of these at most seven are read before the one that is wanted, on average. With eight a series takes a byte and a half
/// more.
const SETS: usize = 16;
/// Pairs beyond these always stand there.
const BITS: usize = 64;

pub(crate) type Numbers = SmallVec<[u32; 16]>;

#[derive(Default)]
pub(super) struct LabelSets {
    blocks: Vec<Box<[u8]>>,
    /// Where a set is written first, so that its block grows once, by no more than it needs.
    scratch: Vec<u8>,
}

impl LabelSets {
    /// Puts a set where none is. `before` is the set of the id before, if that is known.
    pub(super) fn put(&mut self, id: u32, numbers: &[u32], before: Option<&[u32]>) {
        let (block, slot) = place(id);
        if block >= self.blocks.len() {
            self.blocks.resize_with(block + 1, Box::default);
        }
        let count = self.blocks[block].first().copied().unwrap_or_default();
        match before {
            // Behind all others, as mostly.
            Some(before) if usize::from(count) == slot && slot > 0 => {
                self.scratch.clear();
                write_set(&mut self.scratch, before, numbers);
                let mut bytes = Vec::from(std::mem::take(&mut self.blocks[block]));
                bytes.reserve_exact(self.scratch.len());
                bytes.extend_from_slice(&self.scratch);
                bytes[0] = count + 1;
                self.blocks[block] = bytes.into();
            }
            _ => self.rewrite(block, |sets| {
                sets.resize(sets.len().max(slot + 1), None);
                sets[slot] = Some(Numbers::from_slice(numbers));
            }),
        }
    }

    /// Frees ids; ascending.
    pub(super) fn remove(&mut self, ids: &[u32]) {
        for ids in ids.chunk_by(|a, b| place(*a).0 == place(*b).0) {
            self.rewrite(place(ids[0]).0, |sets| {
                for id in ids {
                    if let Some(set) = sets.get_mut(place(*id).1) {
                        *set = None;
                    }
                }
            });
        }
    }

    pub(super) fn reader(&self) -> SetReader<'_> {
        SetReader { sets: self, block: usize::MAX, next: 0, rest: &[], numbers: Numbers::new(), is_there: false }
    }

    fn rewrite(&mut self, block: usize, change: impl FnOnce(&mut SmallVec<[Option<Numbers>; SETS]>)) {
        let Some(bytes) = self.blocks.get(block) else { return };
        let count = usize::from(bytes.first().copied().unwrap_or_default());
        let mut reader = self.reader();
        let first = block * SETS;
        let mut sets = (first..first + count).map(|id| reader.set(id as u32).map(Numbers::from_slice)).collect();
        change(&mut sets);
        while sets.last().is_some_and(Option::is_none) {
            sets.pop();
        }
        self.blocks[block] = write_block(&sets);
    }
}

fn place(id: u32) -> (usize, usize) {
    (id as usize / SETS, id as usize % SETS)
}

fn write_block(sets: &[Option<Numbers>]) -> Box<[u8]> {
    if sets.is_empty() {
        return Box::default();
    }
    let mut bytes = vec![sets.len() as u8];
    let mut before: &[u32] = &[];
    for set in sets {
        match set {
            None => bytes.push(0),
            Some(numbers) => {
                write_set(&mut bytes, before, numbers);
                before = numbers;
            }
        }
    }
    bytes.into()
}

/// A set as what differs from the one before it.
pub(crate) fn write_set(bytes: &mut Vec<u8>, before: &[u32], numbers: &[u32]) {
    let differs = |at: &usize| *at >= BITS || before.get(*at) != Some(&numbers[*at]);
    push_varint(bytes, numbers.len() as u64 + 1);
    push_varint(bytes, (0..numbers.len().min(BITS)).filter(differs).fold(0, |bits, at| bits | 1 << at));
    (0..numbers.len()).filter(differs).for_each(|at| push_varint(bytes, u64::from(numbers[at])));
}

/// Reads sets, cheapest in the order of their ids.
pub(super) struct SetReader<'s> {
    sets: &'s LabelSets,
    block: usize,
    /// The set that comes next.
    next: usize,
    rest: &'s [u8],
    /// Those of the last set that was there.
    numbers: Numbers,
    is_there: bool,
}

impl SetReader<'_> {
    /// None where the id is free.
    pub(super) fn set(&mut self, id: u32) -> Option<&[u32]> {
        let (block, slot) = place(id);
        if block != self.block || slot + 1 < self.next {
            let bytes = self.sets.blocks.get(block).map(|bytes| &**bytes).unwrap_or_default();
            (self.block, self.next, self.rest) = (block, 0, bytes.get(1..).unwrap_or_default());
            self.numbers.clear();
        }
        while self.next <= slot {
            self.next += 1;
            self.is_there = self.read().is_some();
        }
        self.is_there.then_some(&self.numbers)
    }

    fn read(&mut self) -> Option<()> {
        read_set(&mut self.rest, &mut self.numbers)
    }
}

/// What [`write_set`] wrote; `numbers` is the set before it until then. None, and no more than that is read, for a set
/// that is not there or breaks off.
pub(crate) fn read_set(rest: &mut &[u8], numbers: &mut Numbers) -> Option<()> {
    let count = (read_number(rest)? as usize).checked_sub(1)?;
    let mut differs = read_number(rest)?;
    // Each beyond the bits takes a byte.
    if count > BITS + rest.len() {
        return None;
    }
    if numbers.len() != count {
        numbers.resize(count, 0);
    }
    let numbers = numbers.as_mut_slice();
    while differs != 0 {
        *numbers.get_mut(differs.trailing_zeros() as usize)? = read_number(rest)? as u32;
        differs &= differs - 1;
    }
    for number in numbers.iter_mut().skip(BITS) {
        *number = read_number(rest)? as u32;
    }
    Some(())
}

/// What [`push_varint`] wrote; mostly one byte, for pairs that many series carry were there early.
#[inline]
fn read_number(rest: &mut &[u8]) -> Option<u64> {
    let (mut number, mut shift) = (0, 0);
    loop {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if *byte < 0x80 {
            return Some(number);
        }
        shift += 7;
    }
}
