//! Series that are written together, such as those of a scrape target: one column of times for all of them, and for
//! each the newest values as plain numbers that lie side by side.
//!
//! A series' plain values in a group have no holes: where it misses a row and comes back, what was before is sealed.
//! That is what lets a reader take the values next to the shared times. Most series count things, so that their values
//! fit into half the memory ([`crate::plain`]); the others lie as they are.

use std::sync::{Arc, Weak};

use crate::plain::{Code, Pages, Plain};

/// Room for slots is made in steps of this.
const SLOTS_MORE: usize = 64;
/// So many rows are sealed at a time.
pub(crate) const ROWS_SEALED: usize = crate::series::BLOCK_LEN_MIN;
/// Rows that stay plain, at most and at least.
const ROWS_KEPT_MAX: usize = 32;
const ROWS_KEPT_MIN: usize = 8;

/// A place for rows of samples that share their times; see [`crate::Storage::group`]. Dropping it gives the place up,
/// not the samples.
#[derive(Debug)]
pub struct Group {
    pub(crate) id: u32,
    /// What says to the store that it is still held.
    _held: Arc<()>,
}

impl Group {
    pub(crate) fn new(id: u32, held: Arc<()>) -> Self {
        Group { id, _held: held }
    }
}

/// The plain values of a group's series.
pub(crate) struct Rows {
    /// Ascending, never more than `rows_max`.
    times: Vec<i64>,
    rows_max: usize,
    /// `rows_max` values for each place.
    narrow: Pages<i32>,
    wide: Pages<f64>,
    slots: Vec<Held>,
    free: Vec<u32>,
    holder: Weak<()>,
}

/// A slot, and where its values are.
struct Held {
    slot: Slot,
    /// In `narrow` if there is a code, otherwise in `wide`.
    place: u32,
    code: Option<Code>,
}

/// A series' place: its values are those of the rows `from..to`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) series: SeriesKey,
    pub(crate) from: u8,
    pub(crate) to: u8,
}

/// An id, and which of the series that have had this id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeriesKey {
    pub(crate) id: u32,
    pub(crate) generation: u32,
}

impl Slot {
    const FREE: Slot = Slot { series: SeriesKey { id: u32::MAX, generation: u32::MAX }, from: 0, to: 0 };

    pub(crate) fn is_empty(self) -> bool {
        self.from == self.to
    }
}

/// What became of a value that was pushed.
pub(crate) enum Pushed {
    /// It follows this value of this series.
    Behind { id: u32, previous: f64 },
    /// The series is not alive in the group at the moment, or has a value in the row already.
    NotYet,
}

impl Rows {
    pub(crate) fn new(rows_kept: usize, holder: Weak<()>) -> Self {
        let rows_max = rows_kept.clamp(ROWS_KEPT_MIN, ROWS_KEPT_MAX) + ROWS_SEALED;
        Rows {
            times: Vec::with_capacity(rows_max),
            rows_max,
            narrow: Pages::new(rows_max),
            wide: Pages::new(rows_max),
            slots: Vec::new(),
            free: Vec::new(),
            holder,
        }
    }

    pub(crate) fn is_held(&self) -> bool {
        self.holder.strong_count() > 0
    }

    pub(crate) fn newest(&self) -> Option<i64> {
        self.times.last().copied()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.times.len() == self.rows_max
    }

    /// Opens a row; there is room for it and its time is newer than all. Returns its number.
    pub(crate) fn open(&mut self, time: i64) -> u8 {
        self.times.push(time);
        (self.times.len() - 1) as u8
    }

    /// Adds a value to the row if the series had one in the row before.
    pub(crate) fn push(&mut self, slot: u32, row: u8, value: f64) -> Pushed {
        let Rows { slots, narrow, wide, .. } = self;
        let Some(held) = slots.get_mut(slot as usize) else { return Pushed::NotYet };
        let at = &mut held.slot;
        if at.to != row || at.from == row {
            return Pushed::NotYet;
        }
        at.to = row + 1;
        let (id, row) = (at.series.id, usize::from(row));
        let previous = match held.code {
            None => {
                let values = wide.at_mut(held.place);
                values[row] = value;
                values[row - 1]
            }
            Some(code) => {
                let values = narrow.at_mut(held.place);
                let previous = code.value(values[row - 1]);
                match code.narrowed(value) {
                    Some(number) => values[row] = number,
                    None => self.recode(slot, value),
                }
                previous
            }
        };
        Pushed::Behind { id, previous }
    }

    /// A slot without plain values begins at this row.
    pub(crate) fn begin(&mut self, slot: u32, row: u8, value: f64) {
        let held = &mut self.slots[slot as usize];
        (held.slot.from, held.slot.to) = (row, row + 1);
        match held.code {
            None => self.wide.at_mut(held.place)[usize::from(row)] = value,
            Some(_) => self.recode(slot, value),
        }
    }

    /// The newest value of a narrow slot does not fit its code: another code, or room for all bits.
    fn recode(&mut self, slot: u32, newest: f64) {
        let held = &mut self.slots[slot as usize];
        let Some(code) = held.code else { return };
        let rows = usize::from(held.slot.from)..usize::from(held.slot.to);
        let numbers = self.narrow.at_mut(held.place);
        let mut values: Vec<f64> = numbers[rows.clone()].iter().map(|number| code.value(*number)).collect();
        if let Some(last) = values.last_mut() {
            *last = newest;
        }
        if let Some(code) = Code::of(&values, &mut numbers[rows.clone()]) {
            held.code = Some(code);
            return;
        }
        let place = self.wide.take();
        self.wide.at_mut(place)[rows].copy_from_slice(&values);
        self.narrow.give_back(held.place);
        (held.place, held.code) = (place, None);
    }

    /// A wide slot whose values fit into less.
    fn narrow_down(&mut self, slot: usize) {
        let held = &mut self.slots[slot];
        if held.code.is_some() {
            return;
        }
        let rows = usize::from(held.slot.from)..usize::from(held.slot.to);
        let values = &self.wide.at(held.place)[rows.clone()];
        if values.is_empty() || !Code::is_likely(values) {
            return;
        }
        let place = self.narrow.take();
        match Code::of(values, &mut self.narrow.at_mut(place)[rows]) {
            Some(code) => {
                self.wide.give_back(held.place);
                (held.place, held.code) = (place, Some(code));
            }
            None => self.narrow.give_back(place),
        }
    }

    /// A slot for a series; it has no plain values yet.
    pub(crate) fn take_slot(&mut self, series: SeriesKey) -> u32 {
        let slot = Slot { series, from: 0, to: 0 };
        if let Some(free) = self.free.pop() {
            let held = &mut self.slots[free as usize];
            held.slot = slot;
            return free;
        }
        if self.slots.len() == self.slots.capacity() {
            self.slots.reserve_exact(SLOTS_MORE);
        }
        let place = self.narrow.take();
        self.slots.push(Held { slot, place, code: Some(Code::default()) });
        (self.slots.len() - 1) as u32
    }

    pub(crate) fn slot(&self, slot: u32) -> Option<Slot> {
        let held = self.slots.get(slot as usize)?;
        Some(held.slot).filter(|slot| slot.series != Slot::FREE.series)
    }

    pub(crate) fn slots_len(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The slot has no plain values any more.
    pub(crate) fn clear(&mut self, slot: u32) {
        let at = &mut self.slots[slot as usize].slot;
        (at.from, at.to) = (0, 0);
    }

    pub(crate) fn give_back(&mut self, slot: u32) {
        self.slots[slot as usize].slot = Slot::FREE;
        self.free.push(slot);
    }

    /// A series' plain samples.
    pub(crate) fn samples(&self, slot: u32) -> (&[i64], Plain<'_>) {
        let held = &self.slots[slot as usize];
        let rows = usize::from(held.slot.from)..usize::from(held.slot.to);
        let values = match held.code {
            None => Plain::Wide(&self.wide.at(held.place)[rows.clone()]),
            Some(code) => Plain::Narrow(&self.narrow.at(held.place)[rows.clone()], code),
        };
        (&self.times[rows], values)
    }

    /// The samples of a slot among the rows that are to be sealed.
    pub(crate) fn oldest(&self, slot: u32) -> (&[i64], Plain<'_>) {
        let (times, values) = self.samples(slot);
        let from = usize::from(self.slots[slot as usize].slot.from);
        let sealed = ROWS_SEALED.saturating_sub(from).min(times.len());
        (&times[..sealed], values.first(sealed))
    }

    /// Whether a slot's samples fill all the rows that are to be sealed.
    pub(crate) fn fills_oldest(&self, slot: u32) -> bool {
        let Slot { from, to, .. } = self.slots[slot as usize].slot;
        from == 0 && usize::from(to) >= ROWS_SEALED
    }

    pub(crate) fn oldest_times(&self) -> &[i64] {
        &self.times[..ROWS_SEALED]
    }

    /// Forgets the oldest rows.
    pub(crate) fn drop_oldest(&mut self) {
        let sealed = ROWS_SEALED as u8;
        self.narrow.shift(ROWS_SEALED);
        self.wide.shift(ROWS_SEALED);
        self.times.drain(..ROWS_SEALED);
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index].slot;
            (slot.from, slot.to) = (slot.from.saturating_sub(sealed), slot.to.saturating_sub(sealed));
            self.narrow_down(index);
        }
    }

    /// Drops a series' plain samples before this time; returns how many.
    pub(crate) fn expire(&mut self, slot: u32, oldest: i64) -> usize {
        let (times, _) = self.samples(slot);
        let old = times.partition_point(|time| *time < oldest);
        let at = &mut self.slots[slot as usize].slot;
        at.from += old as u8;
        if at.is_empty() {
            (at.from, at.to) = (0, 0);
        }
        old
    }

    pub(crate) fn bytes(&self) -> usize {
        self.times.capacity() * size_of::<i64>()
            + self.narrow.bytes()
            + self.wide.bytes()
            + self.slots.capacity() * size_of::<Held>()
    }
}
