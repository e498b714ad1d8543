//! Sheets on their way to segments: as the blocks of a series, but for all series of a group at a time.

use std::io;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{Length, PART, spillable};
use crate::Storage;
use crate::disk::segment::{BlockReader, SegmentWriter};
use crate::disk::{Directory, Disk};
use crate::sheet::Sheet;
use crate::sheets;

/// Sheets that become one on disk.
struct Run {
    group: u32,
    parts: Vec<Arc<Sheet>>,
    /// Slots of which a sheet has samples that are not the slot's any more.
    without: Vec<u32>,
}

/// What takes the place of a run.
struct Written {
    group: u32,
    parts: Vec<Arc<Sheet>>,
    stored: Sheet,
}

impl Storage {
    /// Returns how many blocks of series went.
    pub(super) fn spill_sheets(&self, disk: &mut Disk) -> io::Result<usize> {
        let (mut moved, mut next) = (0, 0);
        while let Some((runs, after)) = self.spillable_sheets(next) {
            if !runs.is_empty() {
                let written = self.write_synced(disk, |directory, writer, reader| {
                    let written = runs.into_iter().map(|run| self.write_run(run, directory, writer, reader));
                    written.collect::<io::Result<Vec<_>>>()
                })?;
                let mut head = self.write();
                for Written { group, parts, stored } in written.into_iter().flatten() {
                    moved += head.replace_sheets(group, &parts, stored);
                }
            }
            next = after;
        }
        Ok(moved)
    }

    /// What some groups from this one on have to move, and the number of the one after them.
    fn spillable_sheets(&self, from: usize) -> Option<(Vec<Run>, usize)> {
        let head = self.read();
        let (mut runs, mut slots, mut to) = (Vec::new(), 0, from);
        while slots < PART
            && let Some(rows) = head.groups.get(to)
        {
            if let Some(rows) = rows {
                let length =
                    |sheet: &Arc<Sheet>| Length { count: sheet.times.count, is_in_memory: sheet.is_in_memory() };
                let lengths: SmallVec<[Length; 16]> = rows.sheets.all().map(length).collect();
                runs.extend(spillable(&lengths, false).into_iter().map(|run| {
                    let parts = rows.sheets.parts(run);
                    let without = parts.first().map(|sheet| rows.sheets.taken_out(sheet.times.first));
                    Run { group: to as u32, parts, without: without.unwrap_or_default() }
                }));
                slots += rows.slots_len();
            }
            to += 1;
        }
        (to > from).then_some((runs, to))
    }

    /// Appends what a run becomes to a segment.
    fn write_run(
        &self,
        run: Run,
        directory: &Directory,
        writer: &mut SegmentWriter,
        reader: &mut BlockReader,
    ) -> io::Result<Option<Written>> {
        let Run { group, parts, without } = run;
        let stored = match parts.as_slice() {
            [sheet] => push(sheet, directory, writer)?,
            parts => {
                let times = self.write().columns.join(parts.iter().map(|sheet| &sheet.times));
                push(&sheets::join(parts, times, &without, reader), directory, writer)?
            }
        };
        Ok(stored.map(|stored| Written { group, parts, stored }))
    }
}

/// None where it cannot be named on disk, and has to stay where it is.
fn push(sheet: &Sheet, directory: &Directory, writer: &mut SegmentWriter) -> io::Result<Option<Sheet>> {
    let place = writer.push_all(directory, Length::kind(sheet.times.count), &sheet.times, sheet.all_values())?;
    Ok(place.and_then(|(segment, offset)| sheet.stored(segment, offset)))
}
