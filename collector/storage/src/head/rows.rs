//! Rows into groups.

use std::sync::{Arc, Weak};

use telemetry::stale_nan;

use crate::Refusal;
use crate::admission::Admission;
use crate::block::Block;
use crate::disk::segment::BlockReader;
use crate::group::{Pushed, Rows};
use crate::own_hot::HOT_LEN_KEPT;
use crate::rows::{NewSeries, Row, RowReport};
use crate::series::Member;
use crate::sheet::{Sheet, SheetBuilder};
use crate::sheets;

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
        let is_full = self.rows(group).is_full();
        if is_full || self.rows(group).many_came() {
            self.gather(group);
        }
        if is_full {
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
        let series = &self.series[id as usize];
        match (series.member(), series.own_hot()) {
            (Some(member), _) if member == Member::new(group, slot) => self.seal_slot(group, slot),
            // Another group's series may come back to it.
            (Some(_), _) => return self.insert(id, time, value, span.lag_max),
            // Few samples would make a small block.
            (None, Some(own)) if own.samples().0.len() < HOT_LEN_KEPT => {
                return self.insert(id, time, value, span.lag_max);
            }
            (None, _) => self.series[id as usize].seal_own(&mut self.columns),
        }
        self.series[id as usize].join_group(Member::new(group, slot));
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
        match self.series[id as usize].member() {
            Some(member) if member.group() == group => member.slot,
            _ => {
                let key = self.index.key(id);
                self.rows_mut(group).take_slot(key)
            }
        }
    }

    /// What a slot has is sealed, and all that was sealed of it is its series' own.
    fn seal_slot(&mut self, group: u32, slot: u32) {
        self.take_out_until(Member::new(group, slot), i64::MAX);
        let Head { groups, series, columns, .. } = &mut *self;
        let rows = groups[group as usize].as_mut().expect("the caller holds the group");
        let Some(at) = rows.slot(slot).filter(|at| !at.is_empty()) else { return };
        let (times, values) = rows.samples(slot);
        let block = Block::seal(times, &values.to_vec(), columns);
        series[at.series.id as usize].push_block(block, columns);
        rows.clear(slot);
    }

    /// Seals the oldest rows of a group: in a sheet what the series have in all of them, as blocks of their own what
    /// others have.
    fn seal_oldest(&mut self, group: u32) {
        let (mut builder, mut plain, mut apart) = (SheetBuilder::default(), Vec::new(), Vec::new());
        let rows = self.rows(group);
        for slot in 0..rows.slots_len() {
            let (times, values) = rows.oldest(slot);
            plain.clear();
            values.append_to(&mut plain);
            let is_in = match rows.fills_oldest(slot) {
                true => builder.push(&plain),
                false => builder.skip(),
            };
            if !is_in && !times.is_empty() {
                apart.push((slot, times.to_vec(), plain.clone()));
            }
        }
        for (slot, times, values) in apart {
            self.take_out_until(Member::new(group, slot), i64::MAX);
            if let Some(at) = self.rows(group).slot(slot) {
                let block = Block::seal(&times, &values, &mut self.columns);
                self.series[at.series.id as usize].push_block(block, &mut self.columns);
            }
        }
        let Head { groups, columns, .. } = &mut *self;
        let rows = groups[group as usize].as_mut().expect("the caller holds the group");
        rows.sheets.push(builder.finish(columns.intern(rows.oldest_times())));
        rows.drop_oldest();
        self.join_sheets(group);
    }

    /// Makes one of small sheets in memory, as it is done with the blocks of a series.
    fn join_sheets(&mut self, group: u32) {
        let sheets = &self.rows(group).sheets;
        let Some(run) = sheets.joinable() else { return };
        let parts = sheets.parts(run);
        let Some(first) = parts.first() else { return };
        let without = sheets.taken_out(first.times.first);
        let times = self.columns.join(parts.iter().map(|sheet| &sheet.times));
        let joined = sheets::join(&parts, times, &without, &mut BlockReader::default());
        self.replace_sheets(group, &parts, joined);
    }

    /// Puts a sheet in the place of those that have the same samples, if they are still there; tells of how many series it
    /// has some. What it lacks of them goes to the series that it is of.
    pub(crate) fn replace_sheets(&mut self, group: u32, parts: &[Arc<Sheet>], joined: Sheet) -> usize {
        let run = |head: &Head| head.groups.get(group as usize)?.as_ref()?.sheets.position(parts);
        if run(self).is_none() {
            return 0;
        }
        for slot in self.rows(group).sheets.left_out(parts, &joined) {
            self.take_out_until(Member::new(group, slot), joined.times.last);
        }
        run(self).map_or(0, |run| self.rows_mut(group).sheets.replace(run, joined))
    }

    /// The series leaves the group, its samples sealed.
    fn release(&mut self, group: u32, slot: u32) {
        let Some(at) = self.rows(group).slot(slot) else { return };
        self.seal_slot(group, slot);
        if self.index.lives(at.series) {
            let series = &mut self.series[at.series.id as usize];
            if series.member() == Some(Member::new(group, slot)) {
                series.leave_group();
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
