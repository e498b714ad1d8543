//! Rows into groups.

use std::sync::Weak;

use telemetry::stale_nan;

use crate::Refusal;
use crate::admission::Admission;
use crate::block::Block;
use crate::group::{Pushed, Rows};
use crate::rows::{NewSeries, Row, RowReport};
use crate::series::{HOT_LEN_KEPT, Hot};

use super::{Head, Span};

impl Head {
    /// A new group, its number.
    pub(crate) fn open_group(&mut self, rows_kept: usize, holder: Weak<()>) -> u32 {
        let rows = Some(Rows::new(rows_kept, holder));
        if let Some(free) = self.groups.iter().position(Option::is_none) {
            self.groups[free] = rows;
            return free as u32;
        }
        self.groups.push(rows);
        (self.groups.len() - 1) as u32
    }

    /// Stores a row. The caller holds the group, so it is there.
    pub(crate) fn append_row(&mut self, group: u32, row: &Row, admission: Admission<'_>, span: Span) -> RowReport {
        let mut report = RowReport::default();
        let time = row.time.0;
        let line = self.open_row(group, time, span);
        match line {
            Some(line) => {
                for (slot, value) in &row.values {
                    report.append.count(self.push(group, *slot, line, time, *value, span));
                }
            }
            None => {
                for (slot, value) in &row.values {
                    report.append.count(self.insert_slot(group, *slot, time, *value, span));
                }
            }
        }
        for (slot, time, value) in &row.timed {
            report.append.count(self.insert_slot(group, *slot, time.0, *value, span));
        }
        report.slots.reserve(row.new.len());
        for NewSeries { labels, time: own_time, value } in &row.new {
            let at = own_time.map_or(time, |time| time.0);
            let slot =
                span.check(at).and_then(|()| self.find_or_create(labels, admission)).map(|id| self.slot(group, id));
            let result = slot.and_then(|slot| match line.filter(|_| own_time.is_none()) {
                Some(line) => self.push(group, slot, line, time, *value, span),
                None => self.insert_slot(group, slot, at, *value, span),
            });
            report.append.count(result);
            report.slots.push(slot.ok());
        }
        for slot in &row.ended {
            self.end(group, *slot, line, time, span, &mut report);
        }
        for slot in row.released.iter().filter(|slot| !report.slots.contains(&Some(**slot))) {
            self.release(group, *slot);
        }
        report
    }

    /// A row at this time, if the time is newer than the rows before and taken at all.
    fn open_row(&mut self, group: u32, time: i64, span: Span) -> Option<u8> {
        if span.check(time).is_err() || self.rows(group).newest().is_some_and(|newest| newest >= time) {
            return None;
        }
        if self.rows(group).is_full() {
            self.seal_oldest(group);
        }
        Some(self.rows_mut(group).open(time))
    }

    /// A value into the open row.
    fn push(&mut self, group: u32, slot: u32, line: u8, time: i64, value: f64, span: Span) -> Result<(), Refusal> {
        let Head { groups, log, samples, .. } = &mut *self;
        let rows = groups[group as usize].as_mut().expect("the caller holds the group");
        match rows.push(slot, line, value) {
            Pushed::Behind { id, previous } => {
                *samples += 1;
                if let Some(log) = log {
                    log.sample(id, time, value, Some(previous));
                }
                Ok(())
            }
            Pushed::NotYet => self.begin(group, slot, line, time, value, span),
        }
    }

    /// The first value after a gap, of a new series, of one that has its plain samples elsewhere, or the row's second.
    fn begin(&mut self, group: u32, slot: u32, line: u8, time: i64, value: f64, span: Span) -> Result<(), Refusal> {
        let Some(at) = self.rows(group).slot(slot).filter(|at| self.index.lives(at.series)) else {
            return Err(Refusal::UnknownSeries);
        };
        let id = at.series.id;
        let newest = self.newest(id);
        if newest.is_some_and(|(newest, _)| newest >= time) {
            return self.insert(id, time, value, span.lag_max);
        }
        match &self.series[id as usize].hot {
            Hot::Slot { group: g, slot: s } if (*g, *s) == (group, slot) => self.seal_slot(group, slot),
            // Few samples would make a small block; another group's series may come back to it.
            Hot::Own(own) if own.samples().0.len() < HOT_LEN_KEPT => return self.insert(id, time, value, span.lag_max),
            Hot::Slot { .. } => return self.insert(id, time, value, span.lag_max),
            Hot::Own(_) | Hot::Nowhere => self.series[id as usize].seal_own(&mut self.columns),
        }
        self.series[id as usize].hot = Hot::Slot { group, slot };
        self.rows_mut(group).begin(slot, line, value);
        self.samples += 1;
        if let Some(log) = &mut self.log {
            log.sample(id, time, value, newest.and_then(|(_, value)| value));
        }
        Ok(())
    }

    /// The marker of a series that ends.
    fn end(&mut self, group: u32, slot: u32, line: Option<u8>, time: i64, span: Span, report: &mut RowReport) {
        let Some(at) = self.rows(group).slot(slot).filter(|at| self.index.lives(at.series)) else { return };
        if self.newest(at.series.id).is_some_and(|(newest, _)| newest >= time) {
            return;
        }
        report.append.count(match line {
            Some(line) => self.push(group, slot, line, time, stale_nan(), span),
            None => self.insert_slot(group, slot, time, stale_nan(), span),
        });
    }

    /// A value at a time that makes no row.
    fn insert_slot(&mut self, group: u32, slot: u32, time: i64, value: f64, span: Span) -> Result<(), Refusal> {
        span.check(time)?;
        match self.rows(group).slot(slot).filter(|at| self.index.lives(at.series)) {
            Some(at) => self.insert(at.series.id, time, value, span.lag_max),
            None => Err(Refusal::UnknownSeries),
        }
    }

    /// The slot that the series has in the group, or a new one.
    fn slot(&mut self, group: u32, id: u32) -> u32 {
        match self.series[id as usize].hot {
            Hot::Slot { group: g, slot } if g == group => slot,
            _ => {
                let key = self.index.key(id);
                self.rows_mut(group).take_slot(key)
            }
        }
    }

    /// What a slot has is sealed; it is empty then.
    fn seal_slot(&mut self, group: u32, slot: u32) {
        let Head { groups, series, columns, .. } = &mut *self;
        let rows = groups[group as usize].as_mut().expect("the caller holds the group");
        let Some(at) = rows.slot(slot).filter(|at| !at.is_empty()) else { return };
        let (times, values) = rows.samples(slot);
        let block = Block::seal(times, &values.to_vec(), columns);
        series[at.series.id as usize].push_block(block, columns);
        rows.clear(slot);
    }

    /// Seals the oldest rows of a group; most of its series share the column of times.
    fn seal_oldest(&mut self, group: u32) {
        let Head { groups, series, columns, .. } = &mut *self;
        let rows = groups[group as usize].as_mut().expect("the caller holds the group");
        let shared = columns.intern(rows.oldest_times());
        let mut plain = Vec::new();
        for slot in 0..rows.slots_len() {
            let (times, values) = rows.oldest(slot);
            if let (false, Some(at)) = (times.is_empty(), rows.slot(slot)) {
                let times = if rows.fills_oldest(slot) { shared.clone() } else { columns.intern(times) };
                plain.clear();
                values.append_to(&mut plain);
                series[at.series.id as usize].push_block(Block::over(times, &plain), columns);
            }
        }
        rows.drop_oldest();
    }

    /// The series leaves the group, its samples sealed.
    fn release(&mut self, group: u32, slot: u32) {
        let Some(at) = self.rows(group).slot(slot) else { return };
        self.seal_slot(group, slot);
        if self.index.lives(at.series) {
            let hot = &mut self.series[at.series.id as usize].hot;
            if matches!(hot, Hot::Slot { group: g, slot: s } if (*g, *s) == (group, slot)) {
                *hot = Hot::Nowhere;
            }
        }
        self.rows_mut(group).give_back(slot);
    }

    /// Groups that nobody holds any more go.
    pub(super) fn close_groups(&mut self) {
        for group in 0..self.groups.len() {
            if self.groups[group].as_ref().is_none_or(Rows::is_held) {
                continue;
            }
            for slot in 0..self.rows(group as u32).slots_len() {
                self.release(group as u32, slot);
            }
            self.groups[group] = None;
        }
    }
}
