//! Series that are written together, such as those of a scrape target: one column of times for all of them, and for
//! each the newest values as plain numbers that lie side by side.
//!
//! A series' plain values in a group have no holes: where it misses a row and comes back, what was before is sealed.
//! That is what lets a reader take the values next to the shared times. Most series count things, so that their values
//! fit into a quarter of the memory ([`crate::plain`]) or half of it; the others lie as they are.

use std::ops::Range;
use std::sync::{Arc, Weak};

use crate::plain::{Code, Number, Pages, Plain};
use crate::sheets::Sheets;

/// Room for slots is made in steps of this.
const SLOTS_MORE: usize = 64;
/// So many rows are sealed at a time.
pub(crate) const ROWS_SEALED: usize = crate::series::BLOCK_LEN_MIN;
/// Rows that stay plain, at most and at least.
const ROWS_KEPT_MAX: usize = 32;
const ROWS_KEPT_MIN: usize = 8;
/// Room for rows is made in steps of this.
const ROWS_MORE: usize = 16;
/// One of so many slots is many.
const CAME_SHARE: usize = 8;

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
    /// As many values for each place as there is room for rows: at first little, for many targets do not live long.
    short: Pages<i16>,
    narrow: Pages<i32>,
    wide: Pages<f64>,
    slots: Vec<Held>,
    free: Vec<u32>,
    /// Slots that the newest row is the first for.
    came: usize,
    /// What was sealed of the rows.
    pub(crate) sheets: Sheets,
    holder: Weak<()>,
}

/// A slot, and where its values are; packed, for there is one for every series that is scraped.
struct Held {
    series: SeriesKey,
    place: u32,
    from: u8,
    to: u8,
    lies: Lies,
    /// Of the code of those that are not wide, as its base.
    scale: u8,
    base: f64,
}

impl Held {
    fn code(&self) -> Code {
        Code { base: self.base, scale: self.scale }
    }

    fn set_code(&mut self, code: Code) {
        (self.base, self.scale) = (code.base, code.scale);
    }

    fn rows(&self) -> Range<usize> {
        usize::from(self.from)..usize::from(self.to)
    }
}

/// In which pages values are.
#[derive(Clone, Copy, PartialEq)]
enum Lies {
    Short,
    Narrow,
    Wide,
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

/// Stands where a slot has no series.
const FREE: SeriesKey = SeriesKey { id: u32::MAX, generation: u32::MAX };

impl Slot {
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
            times: Vec::new(),
            rows_max,
            short: Pages::new(ROWS_MORE),
            narrow: Pages::new(ROWS_MORE),
            wide: Pages::new(ROWS_MORE),
            slots: Vec::new(),
            free: Vec::new(),
            came: 0,
            sheets: Sheets::default(),
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

    /// Whether many series have come with the newest row, or come back.
    pub(crate) fn many_came(&self) -> bool {
        self.came * CAME_SHARE > self.slots.len()
    }

    /// Opens a row; there is room for it and its time is newer than all. Returns its number.
    pub(crate) fn open(&mut self, time: i64) -> u8 {
        if self.times.len() == self.short.place_len() {
            let room = (self.times.len() + ROWS_MORE).min(self.rows_max);
            self.short.widen(room);
            self.narrow.widen(room);
            self.wide.widen(room);
        }
        self.times.push(time);
        self.came = 0;
        (self.times.len() - 1) as u8
    }

    /// Adds a value to the row if the series had one in the row before.
    pub(crate) fn push(&mut self, slot: u32, row: u8, value: f64) -> Pushed {
        let Rows { slots, short, narrow, wide, .. } = self;
        let Some(held) = slots.get_mut(slot as usize) else { return Pushed::NotYet };
        if held.to != row || held.from == row {
            return Pushed::NotYet;
        }
        held.to = row + 1;
        let (id, row) = (held.series.id, usize::from(row));
        let previous = match held.lies {
            Lies::Short => follow(short.at_mut(held.place), row, held.code(), value),
            Lies::Narrow => follow(narrow.at_mut(held.place), row, held.code(), value),
            Lies::Wide => {
                let values = wide.at_mut(held.place);
                values[row] = value;
                Ok(values[row - 1])
            }
        };
        let previous = previous.unwrap_or_else(|previous| {
            self.recode(slot, value);
            previous
        });
        Pushed::Behind { id, previous }
    }

    /// A slot without plain values begins at this row.
    pub(crate) fn begin(&mut self, slot: u32, row: u8, value: f64) {
        let held = &mut self.slots[slot as usize];
        (held.from, held.to) = (row, row + 1);
        self.came += 1;
        match held.lies {
            Lies::Wide => self.wide.at_mut(held.place)[usize::from(row)] = value,
            Lies::Short | Lies::Narrow => self.recode(slot, value),
        }
    }

    /// The newest value does not fit the slot's code: another code, or room for more bits.
    fn recode(&mut self, slot: u32, newest: f64) {
        let mut values = self.samples(slot).1.to_vec();
        if let Some(last) = values.last_mut() {
            *last = newest;
        }
        let held = &mut self.slots[slot as usize];
        let rows = held.rows();
        if held.lies == Lies::Short {
            if let Some(code) = Code::of(&values, &mut self.short.at_mut(held.place)[rows.clone()]) {
                held.set_code(code);
                return;
            }
            self.short.give_back(held.place);
            (held.place, held.lies) = (self.narrow.take(), Lies::Narrow);
        }
        if let Some(code) = Code::of(&values, &mut self.narrow.at_mut(held.place)[rows.clone()]) {
            held.set_code(code);
            return;
        }
        self.narrow.give_back(held.place);
        (held.place, held.lies) = (self.wide.take(), Lies::Wide);
        self.wide.at_mut(held.place)[rows].copy_from_slice(&values);
    }

    /// Values that fit into less.
    fn narrow_down(&mut self, slot: usize, values: &mut Vec<f64>) {
        let Rows { slots, short, narrow, wide, .. } = self;
        let held = &mut slots[slot];
        let rows = held.rows();
        if rows.is_empty() || held.lies == Lies::Short {
            return;
        }
        values.clear();
        match held.lies {
            Lies::Wide => values.extend_from_slice(&wide.at(held.place)[rows.clone()]),
            _ => Plain::Narrow(&narrow.at(held.place)[rows.clone()], held.code()).append_to(values),
        }
        if !Code::is_likely(values) {
            return;
        }
        let into_short = fit(short, rows.clone(), values).map(|(place, code)| (place, code, Lies::Short));
        let into_narrow = || fit(narrow, rows, values).map(|(place, code)| (place, code, Lies::Narrow));
        let fits = into_short.or_else(|| if held.lies == Lies::Wide { into_narrow() } else { None });
        if let Some((place, code, lies)) = fits {
            match held.lies {
                Lies::Wide => wide.give_back(held.place),
                _ => narrow.give_back(held.place),
            }
            (held.place, held.lies) = (place, lies);
            held.set_code(code);
        }
    }

    /// A slot for a series; it has no plain values yet.
    pub(crate) fn take_slot(&mut self, series: SeriesKey) -> u32 {
        if let Some(free) = self.free.pop() {
            let held = &mut self.slots[free as usize];
            (held.series, held.from, held.to) = (series, 0, 0);
            return free;
        }
        if self.slots.len() == self.slots.capacity() {
            self.slots.reserve_exact(SLOTS_MORE);
        }
        let place = self.short.take();
        self.slots.push(Held { series, place, from: 0, to: 0, lies: Lies::Short, scale: 0, base: 0.0 });
        (self.slots.len() - 1) as u32
    }

    pub(crate) fn slot(&self, slot: u32) -> Option<Slot> {
        let Held { series, from, to, .. } = *self.slots.get(slot as usize)?;
        (series != FREE).then_some(Slot { series, from, to })
    }

    pub(crate) fn slots_len(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The slot has no plain values any more.
    pub(crate) fn clear(&mut self, slot: u32) {
        let held = &mut self.slots[slot as usize];
        (held.from, held.to) = (0, 0);
    }

    pub(crate) fn give_back(&mut self, slot: u32) {
        let held = &mut self.slots[slot as usize];
        (held.series, held.from, held.to) = (FREE, 0, 0);
        self.free.push(slot);
    }

    /// A series' plain samples.
    pub(crate) fn samples(&self, slot: u32) -> (&[i64], Plain<'_>) {
        let held = &self.slots[slot as usize];
        let rows = held.rows();
        let within = rows.clone();
        let values = match held.lies {
            Lies::Short => Plain::Short(&self.short.at(held.place)[within], held.code()),
            Lies::Narrow => Plain::Narrow(&self.narrow.at(held.place)[within], held.code()),
            Lies::Wide => Plain::Wide(&self.wide.at(held.place)[within]),
        };
        (&self.times[rows], values)
    }

    /// The samples of a slot among the rows that are to be sealed.
    pub(crate) fn oldest(&self, slot: u32) -> (&[i64], Plain<'_>) {
        let (times, values) = self.samples(slot);
        let from = usize::from(self.slots[slot as usize].from);
        let sealed = ROWS_SEALED.saturating_sub(from).min(times.len());
        (&times[..sealed], values.first(sealed))
    }

    /// Whether a slot's samples fill all the rows that are to be sealed.
    pub(crate) fn fills_oldest(&self, slot: u32) -> bool {
        let Held { from, to, .. } = self.slots[slot as usize];
        from == 0 && usize::from(to) >= ROWS_SEALED
    }

    pub(crate) fn oldest_times(&self) -> &[i64] {
        &self.times[..ROWS_SEALED]
    }

    /// Forgets the oldest rows.
    pub(crate) fn drop_oldest(&mut self) {
        let sealed = ROWS_SEALED as u8;
        self.short.shift(ROWS_SEALED);
        self.narrow.shift(ROWS_SEALED);
        self.wide.shift(ROWS_SEALED);
        self.times.drain(..ROWS_SEALED);
        let mut values = Vec::new();
        for index in 0..self.slots.len() {
            let held = &mut self.slots[index];
            (held.from, held.to) = (held.from.saturating_sub(sealed), held.to.saturating_sub(sealed));
            self.narrow_down(index, &mut values);
        }
    }

    /// Drops a series' plain samples before this time; returns how many.
    pub(crate) fn expire(&mut self, slot: u32, oldest: i64) -> usize {
        let (times, _) = self.samples(slot);
        let old = times.partition_point(|time| *time < oldest);
        let held = &mut self.slots[slot as usize];
        held.from += old as u8;
        if held.from == held.to {
            (held.from, held.to) = (0, 0);
        }
        old
    }

    pub(crate) fn bytes(&self) -> usize {
        self.times.capacity() * size_of::<i64>()
            + self.short.bytes()
            + self.narrow.bytes()
            + self.wide.bytes()
            + self.slots.capacity() * size_of::<Held>()
            + self.sheets.bytes()
    }
}

/// Writes a value behind the one in the row before, which is returned; as an error if the value has no number.
fn follow<N: Number>(numbers: &mut [N], row: usize, code: Code, value: f64) -> Result<f64, f64> {
    let previous = code.value(numbers[row - 1]);
    let number = code.narrowed(value).ok_or(previous)?;
    numbers[row] = number;
    Ok(previous)
}

/// A place for values, if they fit there.
fn fit<N: Number>(pages: &mut Pages<N>, rows: Range<usize>, values: &[f64]) -> Option<(u32, Code)> {
    let place = pages.take();
    let code = Code::of(values, &mut pages.at_mut(place)[rows]);
    if code.is_none() {
        pages.give_back(place);
    }
    code.map(|code| (place, code))
}
