//! What the series of a group brought along becomes sheets.
//!
//! After a start, or when a fleet that was pushed is scraped, series have blocks of their own, and mostly of the same times
//! as the others of their target. Together these take a fraction of the room.

use std::collections::HashMap;
use std::sync::Arc;

use crate::block::{Block, TimeColumn, Values};
use crate::series::Member;
use crate::sheet::{Sheet, SheetBuilder};

use super::Head;

/// Of so many slots one has to have a block for it to become a sheet: each slot takes room in all sheets.
const SHARE: usize = 4;

/// Blocks of the same times, all in memory or all in segments.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
    times: *const TimeColumn,
    is_in_memory: bool,
}

impl Kind {
    fn of(block: &Block) -> Kind {
        Kind { times: Arc::as_ptr(&block.times), is_in_memory: block.is_in_memory() }
    }
}

impl Head {
    /// Makes sheets of the newest blocks that most members have of their own, as long as there are some.
    pub(super) fn gather(&mut self, group: u32) {
        self.rows_mut(group).sheets.sweep();
        let members = self.members_with_blocks(group);
        while let Some((kind, times)) = self.most_common(group, &members) {
            let sheet = match kind.is_in_memory {
                true => self.gather_bytes(group, &members, kind, times),
                false => self.gather_places(group, &members, kind, times),
            };
            if !self.rows_mut(group).sheets.push_oldest(sheet) {
                break;
            }
        }
    }

    /// Slots and ids of the series whose newest sealed samples would be the oldest of the group's.
    fn members_with_blocks(&self, group: u32) -> Vec<(u32, u32)> {
        let rows = self.rows(group);
        let member = |slot: u32| {
            let id = rows.slot(slot)?.series.id;
            let series = self.series.get(id as usize)?;
            let is_one = series.member() == Some(Member::new(group, slot)) && !rows.sheets.has_taken_out(slot);
            (is_one && !series.blocks().is_empty()).then_some((slot, id))
        };
        (0..rows.slots_len()).filter_map(member).collect()
    }

    /// The most common kind of the newest blocks, if it is common enough and older than the sheets.
    fn most_common(&self, group: u32, members: &[(u32, u32)]) -> Option<(Kind, Arc<TimeColumn>)> {
        let rows = self.rows(group);
        let mut counts: HashMap<Kind, usize> = HashMap::new();
        let newest = members.iter().filter_map(|(_, id)| self.series[*id as usize].blocks().last());
        newest.clone().for_each(|block| *counts.entry(Kind::of(block)).or_default() += 1);
        let (kind, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
        let times = newest.map(|block| &block.times).find(|times| Arc::as_ptr(times) == kind.times)?;
        let is_common = count > 1 && count * SHARE >= rows.slots_len() as usize;
        (is_common && times.last < rows.sheets.oldest()).then(|| (kind, times.clone()))
    }

    /// The newest block of a series, if it is of this kind.
    fn give(&mut self, id: u32, kind: Kind) -> Option<Block> {
        let series = &mut self.series[id as usize];
        let is_one = series.blocks().last().is_some_and(|block| Kind::of(block) == kind);
        is_one.then(|| series.give_newest()).flatten()
    }

    fn gather_places(&mut self, group: u32, members: &[(u32, u32)], kind: Kind, times: Arc<TimeColumn>) -> Sheet {
        let mut places = vec![None; self.rows(group).slots_len() as usize];
        for (slot, id) in members {
            if let Some(Block { values: Values::Stored(place), .. }) = self.give(*id, kind) {
                places[*slot as usize] = Some(place);
            }
        }
        Sheet::of_places(times, &places)
    }

    fn gather_bytes(&mut self, group: u32, members: &[(u32, u32)], kind: Kind, times: Arc<TimeColumn>) -> Sheet {
        let mut builder = SheetBuilder::default();
        let mut members = members.iter().peekable();
        for slot in 0..self.rows(group).slots_len() {
            let member = members.next_if(|(at, _)| *at == slot);
            match member.and_then(|(_, id)| Some((*id, self.give(*id, kind)?))) {
                Some((id, block)) => {
                    let is_in = match &block.values {
                        Values::Memory(bytes) => builder.push_sealed(bytes),
                        Values::Stored(_) => builder.skip(),
                    };
                    if !is_in {
                        // It stays where it was, too large to lie with others.
                        self.series[id as usize].take_in(vec![block]);
                    }
                }
                None => _ = builder.skip(),
            }
        }
        builder.finish(times)
    }
}
