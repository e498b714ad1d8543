//! Opening a directory: the newest checkpoint, then the logs that follow it, as far as they are whole.

use std::fs::{self, File};

use super::frame::{HEADER_LEN, Records};
use super::log::{LOG_MAGIC, Log};
use super::record::{Newest, replay};
use super::restore;
use super::segment::{Finder, SegmentWriter, Segments};
use super::{Directory, Disk, OpenError, Recovery, io_error};
use crate::head::{Head, Recovering};

/// The state that the directory holds, with the log open to go on; the oldest time that is kept; and what it takes to
/// write there.
pub(crate) fn recover(directory: Directory) -> Result<(Head, i64, Recovery, Disk), OpenError> {
    let (head, oldest, recovery, next_segment) = read(&directory)?;
    Ok((head, oldest, recovery, Disk { directory, segments: SegmentWriter::new(next_segment) }))
}

/// The same, and the number that the next segment may have.
fn read(directory: &Directory) -> Result<(Head, i64, Recovery, u64), OpenError> {
    directory.remove_unfinished().map_err(io_error("clean up", &directory.path))?;
    let listing = |prefix| directory.numbers(prefix).map_err(io_error("list", &directory.path));
    let checkpoint = listing("checkpoint-")?.last().copied();
    let logs = listing("log-")?;
    let (mut head, mut oldest, finder) = match checkpoint {
        Some(number) => restore::restore(directory, number)?,
        None => (Head::default(), i64::MIN, Finder::default()),
    };
    let start = checkpoint.unwrap_or(0);
    let newest_log = logs.last().copied();
    if checkpoint.is_none()
        && let Some(first) = logs.first().filter(|first| **first > 0)
    {
        return Err(OpenError::Damaged { file: directory.log_path(*first), what: "the checkpoint before it is gone" });
    }

    let segments_set_aside = finder.set_aside;
    let mut recovery = Recovery { segments_set_aside, ..Recovery::default() };
    let mut state = Recovering::new(&mut head, oldest);
    let mut end = LogEnd { number: start, whole_len: 0, is_whole: true };
    for number in start..=newest_log.unwrap_or(0) {
        let predecessor_len = (number > start).then_some(end.whole_len);
        match read_log(directory, number, predecessor_len, &mut state, &mut recovery)? {
            Some(read) => end = read,
            None => break,
        }
        if !end.is_whole {
            break;
        }
    }
    let (samples_lost, log_samples);
    log_samples = state.samples;
    (oldest, samples_lost) = state.finish();
    recovery.samples_lost = finder.samples_lost + samples_lost;
    recovery.series = head.index.len();
    for number in logs.into_iter().filter(|number| *number > end.number) {
        let path = directory.log_path(number);
        let len = fs::metadata(&path).map_err(io_error("read", &path))?.len();
        // The process ended between making this log and writing its header: there never was anything in it.
        if len < HEADER_LEN as u64 {
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
            continue;
        }
        fs::rename(&path, path.with_extension("unreadable")).map_err(io_error("set aside", &path))?;
        recovery.logs_set_aside += 1;
    }
    // What the process before had not synced has survived its end, but not yet a loss of power.
    for number in start..=end.number {
        let path = directory.log_path(number);
        if path.exists() {
            File::open(&path).and_then(|log| log.sync_data()).map_err(io_error("sync", &path))?;
        }
    }
    head.log = Some(open_log(directory, &end, log_samples)?);
    // What a checkpoint that was cut short had begun.
    let mut segments = Segments::clone(&head.segments);
    segments.remove_unused(directory, |_| true).map_err(io_error("clean up", &directory.path))?;
    let next_segment = directory.next_segment().map_err(io_error("list", &directory.path))?;
    Ok((head, oldest, recovery, next_segment.max(finder.next_number())))
}

/// How far a log could be read.
struct LogEnd {
    number: u64,
    /// Zero where not even its header is whole.
    whole_len: u64,
    is_whole: bool,
}

/// Repeats what a log says; None if there is no such log, or if it does not continue the one before it.
fn read_log(
    directory: &Directory,
    number: u64,
    predecessor_len: Option<u64>,
    state: &mut Recovering<'_>,
    recovery: &mut Recovery,
) -> Result<Option<LogEnd>, OpenError> {
    let path = directory.log_path(number);
    if !path.exists() {
        return Ok(None);
    }
    let mut records = Records::open(&path, LOG_MAGIC)?;
    let continues_at = records.header.map(|header| header.continues_at);
    if predecessor_len.is_some() && continues_at != predecessor_len {
        return Ok(None);
    }
    let mut whole_len = records.whole_len();
    let mut newest = Newest::default();
    while let Some(payload) = records.next().map_err(io_error("read", &path))? {
        if replay(payload, &mut newest, state).is_none() {
            break;
        }
        whole_len = records.whole_len();
        recovery.log_records += 1;
    }
    recovery.cut_bytes += records.file_len() - whole_len;
    Ok(Some(LogEnd { number, whole_len, is_whole: whole_len == records.file_len() && whole_len > 0 }))
}

/// The state that records make, up to the first that cannot be.
pub(crate) fn replay_all<'r>(records: impl IntoIterator<Item = &'r [u8]>) -> (Head, i64) {
    let (mut head, mut newest) = (Head::default(), Newest::default());
    let mut state = Recovering::new(&mut head, i64::MIN);
    let _ = records.into_iter().try_for_each(|payload| replay(payload, &mut newest, &mut state));
    let (oldest, _) = state.finish();
    (head, oldest)
}

fn open_log(directory: &Directory, end: &LogEnd, samples: u64) -> Result<Log, OpenError> {
    let path = directory.log_path(end.number);
    if end.whole_len > 0 {
        return Log::resume(&path, end.number, end.whole_len, samples).map_err(io_error("open", &path));
    }
    let log = Log::create(&path, end.number, 0).map_err(io_error("create", &path))?;
    directory.sync().map_err(io_error("sync", &directory.path))?;
    Ok(log)
}
