//! A loss of power: what no sync had covered is cut off or turned to zeros, page by page.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::batches::random;
use crate::files::{newest, numbered};
use crate::run::Heard;

const PAGE: u64 = 4096;

/// Whatever was there when the child began is durable, and so is what it said it had synced.
pub(crate) fn lose_power(directory: &Path, heard: &Heard, chance: u64) -> io::Result<()> {
    if let Some(synced) = &heard.synced_log {
        lose_behind(numbered(directory, "log-"), synced, chance)?;
    }
    // A checkpoint that has its name has synced the segments that it needs; of one that has not, and of what is written to
    // segments between checkpoints, everything may be lost that was not there before.
    if let Some(durable) = &heard.writing
        && newest(directory, "checkpoint-").map(|(path, _)| path) == durable.checkpoint
    {
        for segment in numbered(directory, "segment-") {
            let len = durable.segments.get(&segment).copied().unwrap_or(0);
            lose(&segment, len, chance)?;
        }
    }
    Ok(())
}

/// What lies behind this length of this file, and the files after it.
fn lose_behind(files: Vec<PathBuf>, (synced, synced_len): &(PathBuf, u64), chance: u64) -> io::Result<()> {
    for path in files {
        match path.cmp(synced) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => lose(&path, *synced_len, chance)?,
            std::cmp::Ordering::Greater => lose(&path, 0, chance)?,
        }
    }
    Ok(())
}

fn lose(path: &Path, durable: u64, chance: u64) -> io::Result<()> {
    let len = fs::metadata(path)?.len();
    let kept = durable + random(chance, 1) % (len - durable + 1);
    let file = fs::File::options().write(true).open(path)?;
    file.set_len(kept)?;
    if random(chance, 2).is_multiple_of(2) {
        file.set_len(len)?;
    }
    let mut bytes = fs::read(path)?;
    let pages: BTreeSet<u64> =
        (durable / PAGE..=len / PAGE).filter(|p| random(chance, p + 3).is_multiple_of(4)).collect();
    for page in pages {
        let (from, to) = ((page * PAGE).max(durable), ((page + 1) * PAGE).min(bytes.len() as u64));
        if from < to {
            bytes[from as usize..to as usize].fill(0);
        }
    }
    fs::write(path, bytes)
}
