//! Series that are written together, such as those of a scrape target: one column of times for all of them, and for
//! each the newest values as plain numbers that lie side by side.
//!
//! A series' plain values in a group have no holes: where it misses a row and comes back, what was before is sealed.
//! That is what lets a reader borrow the values next to the shared times.

use std::sync::{Arc, Weak};

/// Slots whose values are allocated together.
const PAGE_SLOTS: usize = 64;
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
    /// `rows_max` values for each slot, [`PAGE_SLOTS`] slots in each.
    pages: Vec<Box<[f64]>>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    holder: Weak<()>,
}

/// A series' place: its values are those of the rows `from..to`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) series: SeriesKey,
    pub(crate) from: u16,
    pub(crate) to: u16,
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
            pages: Vec::new(),
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
    pub(crate) fn open(&mut self, time: i64) -> u16 {
        self.times.push(time);
        (self.times.len() - 1) as u16
    }

    /// Adds a value to the row if the series had one in the row before.
    pub(crate) fn push(&mut self, slot: u32, row: u16, value: f64) -> Pushed {
        let Some(at) = self.slots.get_mut(slot as usize) else { return Pushed::NotYet };
        if at.to != row || at.from == row {
            return Pushed::NotYet;
        }
        at.to = row + 1;
        let id = at.series.id;
        let values = self.values_mut(slot);
        values[usize::from(row)] = value;
        Pushed::Behind { id, previous: values[usize::from(row) - 1] }
    }

    /// A slot without plain values begins at this row.
    pub(crate) fn begin(&mut self, slot: u32, row: u16, value: f64) {
        let at = &mut self.slots[slot as usize];
        (at.from, at.to) = (row, row + 1);
        self.values_mut(slot)[usize::from(row)] = value;
    }

    /// A slot for a series; it has no plain values yet.
    pub(crate) fn take_slot(&mut self, series: SeriesKey) -> u32 {
        let slot = Slot { series, from: 0, to: 0 };
        if let Some(free) = self.free.pop() {
            self.slots[free as usize] = slot;
            return free;
        }
        if self.slots.len() == self.pages.len() * PAGE_SLOTS {
            self.pages.push(vec![0.0; PAGE_SLOTS * self.rows_max].into());
        }
        if self.slots.len() == self.slots.capacity() {
            self.slots.reserve_exact(PAGE_SLOTS);
        }
        self.slots.push(slot);
        (self.slots.len() - 1) as u32
    }

    pub(crate) fn slot(&self, slot: u32) -> Option<Slot> {
        self.slots.get(slot as usize).copied().filter(|slot| slot.series != Slot::FREE.series)
    }

    pub(crate) fn slots_len(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The slot has no plain values any more.
    pub(crate) fn clear(&mut self, slot: u32) {
        let at = &mut self.slots[slot as usize];
        (at.from, at.to) = (0, 0);
    }

    pub(crate) fn give_back(&mut self, slot: u32) {
        self.slots[slot as usize] = Slot::FREE;
        self.free.push(slot);
    }

    /// A series' plain samples.
    pub(crate) fn slices(&self, slot: u32) -> (&[i64], &[f64]) {
        let Slot { from, to, .. } = self.slots[slot as usize];
        let rows = usize::from(from)..usize::from(to);
        let (page, start) = self.place(slot);
        (&self.times[rows.clone()], &self.pages[page][start..start + self.rows_max][rows])
    }

    /// The samples of a slot among the rows that are to be sealed.
    pub(crate) fn oldest(&self, slot: u32) -> (&[i64], &[f64]) {
        let (times, values) = self.slices(slot);
        let from = usize::from(self.slots[slot as usize].from);
        let sealed = ROWS_SEALED.saturating_sub(from).min(times.len());
        (&times[..sealed], &values[..sealed])
    }

    /// Whether a slot's samples fill all the rows that are to be sealed.
    pub(crate) fn fills_oldest(&self, slot: u32) -> bool {
        let Slot { from, to, .. } = self.slots[slot as usize];
        from == 0 && usize::from(to) >= ROWS_SEALED
    }

    pub(crate) fn oldest_times(&self) -> &[i64] {
        &self.times[..ROWS_SEALED]
    }

    /// Forgets the oldest rows.
    pub(crate) fn drop_oldest(&mut self) {
        let (rows_max, sealed) = (self.rows_max, ROWS_SEALED as u16);
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let start = index % PAGE_SLOTS * rows_max;
            let page = &mut self.pages[index / PAGE_SLOTS];
            page.copy_within(start + ROWS_SEALED..start + rows_max, start);
            (slot.from, slot.to) = (slot.from.saturating_sub(sealed), slot.to.saturating_sub(sealed));
        }
        self.times.drain(..ROWS_SEALED);
    }

    /// Drops a series' plain samples before this time; returns how many.
    pub(crate) fn expire(&mut self, slot: u32, oldest: i64) -> usize {
        let (times, _) = self.slices(slot);
        let old = times.partition_point(|time| *time < oldest);
        let at = &mut self.slots[slot as usize];
        at.from += old as u16;
        if at.is_empty() {
            (at.from, at.to) = (0, 0);
        }
        old
    }

    pub(crate) fn bytes(&self) -> usize {
        self.times.capacity() * size_of::<i64>()
            + self.pages.len() * PAGE_SLOTS * self.rows_max * size_of::<f64>()
            + self.slots.capacity() * size_of::<Slot>()
    }

    fn place(&self, slot: u32) -> (usize, usize) {
        (slot as usize / PAGE_SLOTS, slot as usize % PAGE_SLOTS * self.rows_max)
    }

    fn values_mut(&mut self, slot: u32) -> &mut [f64] {
        let (page, start) = self.place(slot);
        let rows_max = self.rows_max;
        &mut self.pages[page][start..start + rows_max]
    }
}
