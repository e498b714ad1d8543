//! Segments of frames: where they lie, and how they are read.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::FrameHead;

/// Of one frame or journal entry: more than any batch comes to.
const FRAME_BYTES_MAX: u32 = 16 * 1024 * 1024;
pub(super) const FRAME_HEAD: usize = 8;

/// Where a batch lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameAt {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) length: u32,
}

impl FrameAt {
    pub fn is_in(&self, segment: u64) -> bool {
        self.segment == segment
    }
}

pub(super) fn segment_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:016x}.segment"))
}

pub(super) fn delivered_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:016x}.delivered"))
}

pub(super) fn remove(directory: &Path, number: u64) {
    let _ = std::fs::remove_file(segment_path(directory, number));
    let _ = std::fs::remove_file(delivered_path(directory, number));
}

pub(super) fn numbers(directory: &Path) -> io::Result<Vec<u64>> {
    let mut numbers: Vec<u64> = std::fs::read_dir(directory)?
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            u64::from_str_radix(name.strip_suffix(".segment")?, 16).ok()
        })
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

pub(super) fn delivered_offsets(directory: &Path, number: u64) -> HashSet<u64> {
    let bytes = std::fs::read(delivered_path(directory, number)).unwrap_or_default();
    bytes.as_chunks::<8>().0.iter().map(|offset| u64::from_le_bytes(*offset)).collect()
}

pub(super) type Frames = Vec<(FrameAt, u64, FrameHead)>;

/// The frames up to the first that is not whole, and how long they are together. A segment that is written over ends with
/// a frame of no length.
pub(super) fn read_frames(file: &File, number: u64) -> io::Result<(Frames, u64)> {
    let (mut frames, mut offset) = (Vec::new(), 0);
    while let Some(((sequence, head), body)) = read_frame(file, offset)? {
        let length = (16 + 4 * head.units.len() + body.len()) as u32;
        frames.push((FrameAt { segment: number, offset, length }, sequence, head));
        offset += u64::from(length) + FRAME_HEAD as u64;
    }
    let mut next = [0u8; FRAME_HEAD];
    let ends = read_whole(file, &mut next, offset)? && next == [0; FRAME_HEAD];
    if !ends && offset < file.metadata()?.len() {
        tracing::warn!(segment = number, "the end of a segment on disk is damaged, as after a kill; it is left out");
    }
    Ok((frames, offset))
}

pub(super) type Frame = ((u64, FrameHead), Vec<u8>);

/// None at the end, and where no whole frame is.
pub(super) fn read_frame(file: &File, offset: u64) -> io::Result<Option<Frame>> {
    let mut head = [0u8; FRAME_HEAD];
    if !read_whole(file, &mut head, offset)? {
        return Ok(None);
    }
    let number = |at: usize, bytes: &[u8]| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let (length, crc) = (number(0, &head), number(4, &head));
    if !(16..=FRAME_BYTES_MAX).contains(&length) {
        return Ok(None);
    }
    let mut payload = vec![0; length as usize];
    if !read_whole(file, &mut payload, offset + FRAME_HEAD as u64)? || crc32fast::hash(&payload) != crc {
        return Ok(None);
    }
    let sequence = u64::from_le_bytes(payload[..8].try_into().expect("eight bytes"));
    let (events, count) = (number(8, &payload), number(12, &payload) as usize);
    let Some(units) = payload.get(16..16 + 4 * count) else { return Ok(None) };
    let units = units.as_chunks::<4>().0.iter().map(|u| u32::from_le_bytes(*u)).collect();
    let body = payload.split_off(16 + 4 * count);
    Ok(Some(((sequence, FrameHead { events, units }), body)))
}

fn read_whole(file: &File, into: &mut [u8], offset: u64) -> io::Result<bool> {
    match file.read_exact_at(into, offset) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
