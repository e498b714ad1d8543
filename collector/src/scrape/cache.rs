//! What a target's last scrapes had: which series the body's lines are, so that labels are worked out once, and which
//! of them are alive, so that those that vanish are marked stale.
//!
//! A line has a number ([`telemetry::exposition::Lines`] finds it), a number has a slot in the target's group of the
//! store.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use storage::{NewSeries, Row};
use telemetry::exposition::{LinePool, Lines, Order};
use telemetry::{Labels, Timestamp};

use super::native::Histograms;

/// A series that relabelling drops.
const DROPPED: u32 = u32::MAX;
/// A series that has no slot: it is new, or the store refused it.
const NO_SLOT: u32 = u32::MAX - 1;
/// A number that is not in use; what is below is a slot.
const FREE: u32 = u32::MAX - 2;
/// A target that fails so often in succession gives its memory back.
const FAILURES_KEPT: u32 = 10;

#[derive(Default)]
pub(super) struct Cache {
    pub(super) lines: Lines,
    pub(super) series: SeriesTable,
    pub(super) histograms: Histograms,
    pool: Arc<LinePool>,
}

impl Cache {
    pub(super) fn new(pool: Arc<LinePool>) -> Self {
        Cache { pool, ..Cache::default() }
    }

    /// The body had other lines than the one before; other targets may have the same.
    pub(super) fn share_lines(&mut self) {
        self.lines.share(&self.pool);
    }
}

/// The series by the numbers of their lines.
#[derive(Default)]
pub(super) struct SeriesTable {
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// The labels of what has no slot.
    unplaced: BTreeMap<u32, Labels>,
    /// The labels of what has had exemplars.
    labelled: HashMap<u32, Labels>,
    /// Numbers given in the scrape under way.
    learnt: Vec<u32>,
    /// Numbers whose series stand in [`Row::new`], in this order.
    pending: Vec<u32>,
    scrape: u32,
    /// All that has a slot is alive, so that an unchanged body changes nothing.
    settled: bool,
    /// Slots alive before the rules changed; not yet met again under the new ones.
    carried: Vec<u32>,
    failures: u32,
    /// Numbers that have a slot.
    placed: usize,
}

/// Small, for there is one for every series of every target.
#[derive(Clone, Copy)]
struct Entry {
    slot: u32,
    /// In its upper bits the scrape that had it last, in the lowest two whether it is alive and will be.
    marks: u32,
}

/// Its last sample was stored at the scrape's own time and was no marker.
const ALIVE: u32 = 1;
/// What the scrape under way says it will be.
const ALIVE_NEXT: u32 = 2;
const SEEN_SHIFT: u32 = 2;

impl Entry {
    fn new(slot: u32, scrape: u32) -> Self {
        Entry { slot, marks: scrape << SEEN_SHIFT }
    }

    fn is_seen(self, scrape: u32) -> bool {
        self.marks >> SEEN_SHIFT == (scrape << SEEN_SHIFT) >> SEEN_SHIFT
    }

    fn see(&mut self, scrape: u32, alive_next: bool) {
        self.marks = (scrape << SEEN_SHIFT) | (u32::from(alive_next) * ALIVE_NEXT) | (self.marks & ALIVE);
    }

    fn is_alive(self) -> bool {
        self.marks & ALIVE != 0
    }

    fn will_be_alive(self) -> bool {
        self.marks & ALIVE_NEXT != 0
    }

    fn set_alive(&mut self, alive: bool) {
        self.marks = (self.marks & !ALIVE) | (u32::from(alive) * ALIVE);
    }
}

impl SeriesTable {
    /// Opens a scrape: what follows belongs to it.
    pub(super) fn begin(&mut self) {
        self.scrape = self.scrape.wrapping_add(1);
        // Given back: the first scrape has all series here, later ones next to none.
        (self.learnt, self.pending) = (Vec::new(), Vec::new());
    }

    /// Notes that the scrape under way has this line; one with its `own_time` takes no part in staleness. False if
    /// relabelling drops the series.
    #[inline]
    pub(super) fn see(&mut self, number: u32, own_time: bool) -> bool {
        let Some(entry) = self.entries.get_mut(number as usize) else { return false };
        entry.see(self.scrape, !own_time);
        self.settled &= !own_time;
        entry.slot != DROPPED
    }

    /// Adds the value of a line that was seen to the row.
    #[inline]
    pub(super) fn add(&mut self, number: u32, time: Option<Timestamp>, value: f64, row: &mut Row) {
        let Some(Entry { slot, .. }) = self.entries.get(number as usize).copied() else { return };
        match (slot, time) {
            (NO_SLOT, time) => {
                if let Some(labels) = self.unplaced.get(&number) {
                    row.new.push(NewSeries { labels: labels.clone(), time, value });
                    self.pending.push(number);
                }
            }
            (slot, Some(time)) => row.timed.push((slot, time, value)),
            (slot, None) => row.values.push((slot, value)),
        }
    }

    /// The labels of a series with exemplars, worked out by `find` the first time. None where relabelling drops it.
    pub(super) fn labels_of(&mut self, number: u32, find: impl FnOnce() -> Option<Labels>) -> Option<Labels> {
        if let Some(labels) = self.labelled.get(&number).or_else(|| self.unplaced.get(&number)) {
            return Some(labels.clone());
        }
        let labels = find()?;
        self.labelled.insert(number, labels.clone());
        Some(labels)
    }

    /// Learns a line that was not known; without labels relabelling drops it.
    pub(super) fn learn(&mut self, labels: Option<Labels>) -> u32 {
        let slot = if labels.is_some() { NO_SLOT } else { DROPPED };
        let entry = Entry::new(slot, self.scrape);
        let number = match self.free.pop() {
            Some(free) => {
                self.entries[free as usize] = entry;
                free
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        self.labelled.remove(&number);
        if let Some(labels) = labels {
            self.unplaced.insert(number, labels);
        }
        self.learnt.push(number);
        number
    }

    /// The scrape is good: markers for the series that it no longer has, which are then forgotten.
    pub(super) fn commit(&mut self, order: Order, row: &mut Row) {
        self.failures = 0;
        if order == Order::Same && self.settled {
            return;
        }
        let (scrape, mut gone, mut marked) = (self.scrape, Vec::new(), Vec::new());
        self.settled = true;
        for (number, entry) in self.entries.iter_mut().enumerate().filter(|(_, entry)| entry.slot != FREE) {
            let seen = entry.is_seen(scrape);
            let alive = seen && entry.will_be_alive() && entry.slot != DROPPED;
            if entry.is_alive() && !alive && is_slot(&entry.slot) {
                marked.push(entry.slot);
            }
            self.settled &= alive || entry.slot == DROPPED;
            entry.set_alive(alive);
            if !seen {
                gone.push(number as u32);
            }
        }
        if gone.is_empty() && marked.is_empty() {
            return;
        }
        // Another line may still name the same series: `a{x="1",y="2"}` and `a{y="2",x="1"}`.
        let is_used = |entry: &&Entry| entry.is_seen(scrape);
        let used: HashSet<u32> = self.entries.iter().filter(is_used).map(|entry| entry.slot).collect();
        let alive: HashSet<u32> =
            self.entries.iter().filter(|entry| entry.is_alive()).map(|entry| entry.slot).collect();
        row.ended.extend(marked.into_iter().filter(|slot| !alive.contains(slot)));
        for number in gone {
            if let Some(slot) = self.drop_number(number).filter(|slot| !used.contains(slot)) {
                row.released.push(slot);
            }
        }
    }

    /// Forgets a number; returns the slot that its series has.
    fn drop_number(&mut self, number: u32) -> Option<u32> {
        let entry = &mut self.entries[number as usize];
        let slot = std::mem::replace(&mut entry.slot, FREE);
        entry.set_alive(false);
        self.unplaced.remove(&number);
        self.free.push(number);
        self.placed -= usize::from(is_slot(&slot));
        is_slot(&slot).then_some(slot)
    }

    /// The scrape failed, or there will be none: markers for all that is alive.
    pub(super) fn end_all(&mut self, row: &mut Row) {
        for number in std::mem::take(&mut self.learnt) {
            self.drop_number(number);
        }
        self.pending.clear();
        for entry in self.entries.iter_mut().filter(|entry| entry.is_alive()) {
            entry.set_alive(false);
            row.ended.extend(Some(entry.slot).filter(is_slot));
        }
        row.ended.extend(&self.carried);
        row.released.append(&mut self.carried);
        self.settled = false;
        self.failures += 1;
    }

    /// The target has failed for so long that what is known of its lines is not worth its memory.
    pub(super) fn is_worthless(&self) -> bool {
        self.failures >= FAILURES_KEPT && !self.entries.is_empty()
    }

    /// Gives all slots back.
    pub(super) fn release_all(&mut self, row: &mut Row) {
        row.released.extend(self.entries.iter().map(|entry| entry.slot).filter(is_slot));
        row.released.append(&mut self.carried);
        row.released.sort_unstable();
        row.released.dedup();
        *self = SeriesTable { scrape: self.scrape, failures: self.failures, ..SeriesTable::default() };
    }

    /// The rules of relabelling changed: labels are worked out anew. A series that the next scrape does not have
    /// under the new rules gets its marker then.
    pub(super) fn forget(&mut self) {
        self.carried.extend(self.entries.iter().map(|entry| entry.slot).filter(is_slot));
        *self = SeriesTable {
            scrape: self.scrape,
            failures: self.failures,
            carried: std::mem::take(&mut self.carried),
            ..SeriesTable::default()
        };
    }

    /// Hears the slots of what stood in [`Row::new`]. Then those that the old rules alone let through are known: they
    /// get their markers in this further row.
    pub(super) fn place(&mut self, slots: &[Option<u32>], at: Timestamp) -> Option<Row> {
        for (number, slot) in std::mem::take(&mut self.pending).into_iter().zip(slots) {
            if let Some(slot) = slot {
                self.entries[number as usize].slot = *slot;
                self.placed += 1;
                self.unplaced.remove(&number);
            }
        }
        if self.carried.is_empty() {
            return None;
        }
        let used: HashSet<u32> = self.entries.iter().map(|entry| entry.slot).collect();
        let gone: Vec<u32> = self.carried.drain(..).filter(|slot| !used.contains(slot)).collect();
        Some(Row { time: at, ended: gone.clone(), released: gone, ..Row::default() })
    }

    /// How many slots the scrape under way wants.
    pub(super) fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// How many it has.
    pub(super) fn placed_len(&self) -> usize {
        self.placed
    }

    /// Takes back all but the first of what stands in [`Row::new`]; the next scrape offers it again.
    pub(super) fn limit_pending(&mut self, kept: usize, row: &mut Row) {
        if kept < self.pending.len() {
            row.new.drain(kept..self.pending.len());
            self.pending.truncate(kept);
        }
    }
}

fn is_slot(slot: &u32) -> bool {
    *slot < FREE
}

#[cfg(test)]
mod tests;
