//! The files of a data directory.

use std::fs;
use std::path::{Path, PathBuf};

/// Those with this prefix and a number behind it, in their order.
pub(crate) fn numbered(directory: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let has_number = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.strip_prefix(prefix).is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
    };
    let mut paths: Vec<PathBuf> = entries.filter(has_number).collect();
    paths.sort();
    paths
}

/// The newest, and its length.
pub(crate) fn newest(directory: &Path, prefix: &str) -> Option<(PathBuf, u64)> {
    let path = numbered(directory, prefix).pop()?;
    let len = fs::metadata(&path).map_or(0, |meta| meta.len());
    Some((path, len))
}
