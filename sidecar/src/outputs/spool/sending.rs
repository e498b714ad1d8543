//! Which batches were on their way: of those alone nobody knows, after a kill, whether the destination has them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::frames::FrameAt;

const NAME: &str = "sending";
/// Segment and offset.
const SLOT_BYTES: usize = 16;
/// More than requests at a time.
const SLOTS: usize = 8;

pub(super) struct Sending {
    file: File,
    frames: [Option<(u64, u64)>; SLOTS],
}

/// The batches that were on their way when the last run ended, by segment and offset.
pub(super) fn left(directory: &Path) -> Vec<(u64, u64)> {
    let bytes = std::fs::read(directory.join(NAME)).unwrap_or_default();
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    // No segment has the number 0: that slot is free.
    let slots = bytes.as_chunks::<SLOT_BYTES>().0.iter().map(|slot| (number(&slot[..8]), number(&slot[8..])));
    slots.filter(|(segment, _)| *segment > 0).collect()
}

impl Sending {
    pub(super) fn open(directory: &Path) -> io::Result<Sending> {
        let file = OpenOptions::new().create(true).write(true).truncate(true).open(directory.join(NAME))?;
        Ok(Sending { file, frames: [None; SLOTS] })
    }

    pub(super) fn begin(&mut self, at: FrameAt) {
        if let Some(slot) = self.frames.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some((at.segment, at.offset));
            self.write();
        }
    }

    pub(super) fn end(&mut self, at: FrameAt) {
        if let Some(slot) = self.frames.iter_mut().find(|slot| **slot == Some((at.segment, at.offset))) {
            *slot = None;
            self.write();
        }
    }

    fn write(&self) {
        let mut bytes = [0; SLOTS * SLOT_BYTES];
        for (slot, (segment, offset)) in
            bytes.as_chunks_mut::<SLOT_BYTES>().0.iter_mut().zip(self.frames.iter().map(|f| f.unwrap_or_default()))
        {
            slot[..8].copy_from_slice(&segment.to_le_bytes());
            slot[8..].copy_from_slice(&offset.to_le_bytes());
        }
        // Not written: after a kill the batch is sent without a look at what the destination has.
        let _ = self.file.write_all_at(&bytes, 0);
    }
}
