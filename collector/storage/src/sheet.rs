//! Sheets: sealed rows of a group, as one column of times and the compressed values of every series behind each other.
//!
//! A block of its own takes a series as much room for its place as its samples need. The series of a group are sealed at
//! the same moments, so they share the times, the allocation and the place in a segment: of each there is left how long
//! its values are.

use std::sync::Arc;

use crate::block::{Block, DecodedTimes, TimeColumn, Values, append_sealed};
use crate::column::push_values;
use crate::disk::segment::{BlockReader, CHECKSUM_LEN, Place};

/// Slots whose beginning is found by adding up lengths.
const STEP: usize = 16;
/// More would not fit into a segment's offsets, whatever that has already.
const BYTES_MAX: usize = 1 << 30;

/// Never changed, so that readers may take it along.
pub(crate) struct Sheet {
    pub(crate) times: Arc<TimeColumn>,
    values: Sealed,
}

/// Where the values are, by slot.
enum Sealed {
    Memory(Table, Box<[u8]>),
    /// In a segment from an offset on: a block for each slot, as a series' own blocks are.
    Stored {
        table: Table,
        segment: u16,
        offset: u32,
    },
    /// Blocks that were written apart from each other; of length 0 for a slot without samples.
    Scattered(Box<[Place]>),
}

/// Where each slot's values are.
struct Table {
    /// Bytes before the values of each slot that has some.
    gap: usize,
    /// Of every so manieth slot.
    starts: Box<[u32]>,
    /// By slot; 0 for one without samples here.
    lens: Box<[u16]>,
}

impl Table {
    fn new(lens: Box<[u16]>, gap: usize) -> Self {
        let (mut starts, mut end) = (Vec::with_capacity(lens.len().div_ceil(STEP)), 0);
        for lens in lens.chunks(STEP) {
            starts.push(end);
            end += room(lens, gap);
        }
        Table { gap, starts: starts.into(), lens }
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.lens) + size_of_val(&*self.starts)
    }

    fn position(&self, slot: u32) -> Option<(u32, u16)> {
        let slot = slot as usize;
        let len = *self.lens.get(slot).filter(|len| **len > 0)?;
        let step = slot / STEP;
        Some((self.starts[step] + room(&self.lens[step * STEP..slot], self.gap) + self.gap as u32, len))
    }
}

/// What these values take together.
fn room(lens: &[u16], gap: usize) -> u32 {
    lens.iter().filter(|len| **len > 0).map(|len| u32::from(*len) + gap as u32).sum()
}

impl Sheet {
    /// Blocks that are in segments, by slot.
    pub(crate) fn of_places(times: Arc<TimeColumn>, places: &[Option<Place>]) -> Sheet {
        let values = in_one_piece(places).unwrap_or_else(|| {
            let nowhere = Place { slot: 0, len: 0, offset: 0 };
            Sealed::Scattered(places.iter().map(|place| place.unwrap_or(nowhere)).collect())
        });
        Sheet { times, values }
    }

    pub(crate) fn is_in_memory(&self) -> bool {
        matches!(self.values, Sealed::Memory(..))
    }

    pub(crate) fn slots_len(&self) -> u32 {
        match &self.values {
            Sealed::Memory(table, _) | Sealed::Stored { table, .. } => table.lens.len() as u32,
            Sealed::Scattered(places) => places.len() as u32,
        }
    }

    pub(crate) fn has(&self, slot: u32) -> bool {
        match &self.values {
            Sealed::Memory(table, _) | Sealed::Stored { table, .. } => {
                table.lens.get(slot as usize).is_some_and(|len| *len > 0)
            }
            Sealed::Scattered(places) => places.get(slot as usize).is_some_and(|place| place.len > 0),
        }
    }

    /// The segments that it is in, some of them more than once.
    pub(crate) fn segments(&self) -> impl Iterator<Item = u16> {
        let (one, places): (_, &[Place]) = match &self.values {
            Sealed::Memory(..) => (None, &[]),
            Sealed::Stored { segment, .. } => (Some(*segment), &[]),
            Sealed::Scattered(places) => (None, places),
        };
        one.into_iter().chain(places.iter().filter(|place| place.len > 0).map(|place| place.slot))
    }

    /// The compressed values of the slots that have some, in their order; of a sheet in memory.
    pub(crate) fn all_values(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.slots_len()).filter_map(|slot| self.values(slot))
    }

    fn values(&self, slot: u32) -> Option<&[u8]> {
        let Sealed::Memory(table, bytes) = &self.values else { return None };
        let (start, len) = table.position(slot)?;
        bytes.get(start as usize..start as usize + usize::from(len))
    }

    fn place(&self, slot: u32) -> Option<Place> {
        match &self.values {
            Sealed::Memory(..) => None,
            Sealed::Stored { table, segment, offset } => {
                let (start, len) = table.position(slot)?;
                // A place begins with the checksum.
                Some(Place { slot: *segment, len, offset: offset + start - CHECKSUM_LEN as u32 })
            }
            Sealed::Scattered(places) => places.get(slot as usize).copied().filter(|place| place.len > 0),
        }
    }

    /// The same sheet when it lies in a segment; of one in memory.
    pub(crate) fn stored(&self, segment: u16, offset: u32) -> Option<Sheet> {
        let Sealed::Memory(table, _) = &self.values else { return None };
        let table = Table::new(table.lens.clone(), CHECKSUM_LEN);
        Some(Sheet { times: self.times.clone(), values: Sealed::Stored { table, segment, offset } })
    }

    /// A slot's samples, as a part of its series.
    pub(crate) fn piece(self: &Arc<Self>, slot: u32) -> Option<Piece> {
        match self.is_in_memory() {
            true => self.has(slot).then(|| Piece::Sheet(self.clone(), slot)),
            false => self.block(slot).map(Piece::Block),
        }
    }

    /// A slot's samples, apart from the sheet.
    pub(crate) fn block(&self, slot: u32) -> Option<Block> {
        let values = match self.is_in_memory() {
            true => Values::Memory(self.values(slot)?.into()),
            false => Values::Stored(self.place(slot)?),
        };
        Some(Block { times: self.times.clone(), values })
    }

    pub(crate) fn bytes(&self) -> usize {
        let values = match &self.values {
            Sealed::Memory(table, bytes) => table.bytes() + bytes.len(),
            Sealed::Stored { table, .. } => table.bytes(),
            Sealed::Scattered(places) => size_of_val(&**places),
        };
        size_of::<Sheet>() + values
    }
}

/// Blocks that lie behind each other in one segment need no place each.
fn in_one_piece(places: &[Option<Place>]) -> Option<Sealed> {
    let mut all = places.iter().flatten();
    let first = *all.next()?;
    all.try_fold(first, |before, place| {
        (place.slot == first.slot && before.end() == u64::from(place.offset)).then_some(*place)
    })?;
    let lens = places.iter().map(|place| place.map_or(0, |place| place.len)).collect();
    Some(Sealed::Stored { table: Table::new(lens, CHECKSUM_LEN), segment: first.slot, offset: first.offset })
}

/// A sheet in the making, slot by slot.
#[derive(Default)]
pub(crate) struct SheetBuilder {
    lens: Vec<u16>,
    bytes: Vec<u8>,
}

impl SheetBuilder {
    /// The next slot's values, at least one; false, and the slot left out, if there is no room for so many bytes.
    pub(crate) fn push(&mut self, values: &[f64]) -> bool {
        let before = self.bytes.len();
        push_values(values, &mut self.bytes);
        self.close(before)
    }

    /// The next slot's values, compressed already; false as above.
    pub(crate) fn push_sealed(&mut self, bytes: &[u8]) -> bool {
        let before = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.close(before)
    }

    /// The slot has what stands behind `before`, if there is room for it.
    fn close(&mut self, before: usize) -> bool {
        let len = u16::try_from(self.bytes.len() - before).ok().filter(|_| self.bytes.len() <= BYTES_MAX);
        if len.is_none() {
            self.bytes.truncate(before);
        }
        self.lens.push(len.unwrap_or(0));
        len.is_some()
    }

    /// The next slot has nothing here.
    pub(crate) fn skip(&mut self) -> bool {
        self.lens.push(0);
        false
    }

    pub(crate) fn finish(self, times: Arc<TimeColumn>) -> Sheet {
        let table = Table::new(self.lens.into(), 0);
        Sheet { times, values: Sealed::Memory(table, self.bytes.into()) }
    }
}

/// A sealed part of a series, wherever it lies. Cheap to clone: readers take it along.
#[derive(Clone)]
pub(crate) enum Piece {
    Block(Block),
    /// What this slot has in a sheet in memory.
    Sheet(Arc<Sheet>, u32),
}

impl Piece {
    pub(crate) fn times(&self) -> &Arc<TimeColumn> {
        match self {
            Piece::Block(block) => &block.times,
            Piece::Sheet(sheet, _) => &sheet.times,
        }
    }

    /// The compressed values, if they are in memory, or else their place.
    pub(crate) fn lies(&self) -> Result<&[u8], Place> {
        match self {
            Piece::Block(Block { values: Values::Stored(place), .. }) => Err(*place),
            Piece::Block(Block { values: Values::Memory(bytes), .. }) => Ok(bytes),
            Piece::Sheet(sheet, slot) => Ok(sheet.values(*slot).unwrap_or_default()),
        }
    }

    /// See [`Block::append_values`].
    pub(crate) fn append_values(
        &self,
        reader: &mut BlockReader,
        values: &mut Vec<f64>,
        scratch: &mut Vec<u64>,
    ) -> Option<()> {
        match self {
            Piece::Block(block) => block.append_values(reader, values, scratch),
            Piece::Sheet(sheet, slot) => {
                append_sealed(sheet.values(*slot).unwrap_or_default(), sheet.times.count, values, scratch);
                Some(())
            }
        }
    }

    /// Times and values; None if they cannot be read.
    pub(crate) fn decode(&self, reader: &mut BlockReader) -> Option<(Vec<i64>, Vec<f64>)> {
        match self {
            Piece::Block(block) => block.decode(reader),
            Piece::Sheet(sheet, _) => {
                let mut values = Vec::new();
                self.append_values(reader, &mut values, &mut Vec::new())?;
                Some((sheet.times.decode(), values))
            }
        }
    }

    /// Whether it has a sample after `start` and up to `end`, between which some of its span lies.
    pub(crate) fn has_samples(&self, decoded: &mut DecodedTimes, start: i64, end: i64) -> bool {
        let TimeColumn { first, last, .. } = **self.times();
        // A piece whose ends both lie outside may still have a hole where the range is.
        (first > start && first <= end) || last <= end || {
            let (from, to) = crate::range::bounds(decoded.of(self.times()), start, end);
            from < to
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::block::TimeColumns;

    proptest! {
        #[test]
        fn each_slot_has_what_was_pushed(slots in prop::collection::vec(prop::option::of(0i64..1 << 40), 0..80)) {
            let times: Vec<i64> = (0..16).collect();
            let values = |seed: i64| times.iter().map(|at| (seed * (at % 3)) as f64).collect::<Vec<f64>>();
            let mut builder = SheetBuilder::default();
            for slot in &slots {
                match slot {
                    Some(seed) => prop_assert!(builder.push(&values(*seed))),
                    None => prop_assert!(!builder.skip()),
                }
            }
            let sheet = Arc::new(builder.finish(TimeColumns::default().intern(&times)));
            let stored = sheet.stored(3, 100).unwrap();
            let mut end = 100;
            for (slot, seed) in (0..).zip(&slots) {
                let read = sheet.piece(slot).map(|piece| piece.decode(&mut BlockReader::default()).unwrap());
                prop_assert_eq!(read, seed.map(|seed| (times.clone(), values(seed))));
                prop_assert_eq!(sheet.has(slot), seed.is_some());
                if let Some(block) = stored.block(slot) {
                    let Values::Stored(place) = block.values else { panic!("it is stored") };
                    prop_assert_eq!((place.slot, u64::from(place.offset)), (3, end));
                    end = place.end();
                }
            }
            prop_assert!(sheet.piece(slots.len() as u32).is_none());
            let mut places: Vec<_> = (0..slots.len() as u32).map(|slot| stored.place(slot)).collect();
            let again = Sheet::of_places(stored.times.clone(), &places);
            let is_one_piece = matches!(again.values, Sealed::Stored { .. });
            prop_assert!(is_one_piece || end == 100);
            prop_assert!((0..).zip(&places).all(|(slot, place)| again.place(slot) == *place));
            // Another order is not one piece any more.
            places.reverse();
            let scattered = Sheet::of_places(stored.times.clone(), &places);
            prop_assert!((0..).zip(&places).all(|(slot, place)| scattered.place(slot) == *place));
            prop_assert_eq!(scattered.segments().any(|segment| segment == 3), end > 100);
        }
    }
}
