//! A disk on which there is no room: at times, for the log, for segments, for checkpoints.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::disk::{config, copy_directory, everything, open};
use super::segments::segment_paths;
use super::*;
use crate::disk::log::Log;

/// The file with this name takes no byte.
fn full(directory: &Path, name: &str) {
    symlink("/dev/full", directory.join(name)).unwrap();
}

/// A checkpoint of this number cannot be written.
fn no_room_for_checkpoint(directory: &Path, number: u64) {
    full(directory, &format!("checkpoint-{number:08}.unfinished"));
}

fn append(storage: &Storage, rounds: std::ops::Range<i64>) {
    for round in rounds {
        let at =
            |i: i64| sample(&series(&[("__name__", "m"), ("i", &i.to_string())]), round * 1000, (round * i) as f64);
        assert_eq!(storage.append(&[at(1), at(2), at(3)], Timestamp(round * 1000)).appended, 3);
    }
}

fn logs(directory: &Path) -> usize {
    fs::read_dir(directory)
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_str().unwrap().starts_with("log-"))
        .count()
}

/// What a start at this moment would have.
fn as_started(directory: &Path) -> Vec<(Labels, Vec<(i64, u64)>)> {
    let copy = copy_directory(directory);
    let (storage, recovery) = open(copy.path());
    assert_eq!((recovery.samples_lost, recovery.segments_set_aside), (0, 0));
    everything(&storage)
}

fn is_full(result: Result<impl std::fmt::Debug, std::io::Error>) -> bool {
    result.unwrap_err().kind() == std::io::ErrorKind::StorageFull
}

#[test]
fn blocks_that_find_no_room_on_disk_stay_in_memory_and_are_lost_by_no_start() {
    let directory = tempfile::tempdir().unwrap();
    let (storage, _) = open(directory.path());
    append(&storage, 0..1300);
    for number in 0..3 {
        full(directory.path(), &format!("segment-{number:08}"));
    }
    let all = everything(&storage);
    assert!(is_full(storage.spill()) && is_full(storage.checkpoint()));
    // The log has room: nothing is amiss but the memory that it takes.
    assert_eq!(storage.stats().log.unwrap().failure, None);
    append(&storage, 1300..1310);
    assert!(is_full(storage.spill()));
    assert_eq!((segment_paths(directory.path()).len(), storage.stats().segments), (0, 0), "what was begun is gone");
    let all_now = everything(&storage);
    assert!(all_now != all && as_started(directory.path()) == all_now);

    // There is room again.
    assert!(storage.spill().unwrap() >= 6);
    append(&storage, 1310..1320);
    let segments = storage.stats().segments;
    assert!(segments > 0 && segment_paths(directory.path()).len() == segments);
    let all = everything(&storage);
    assert!(as_started(directory.path()) == all);
    storage.checkpoint().unwrap().unwrap();
    assert!(everything(&storage) == all && as_started(directory.path()) == all);
    assert_eq!(storage.stats().unreadable_total, 0);
}

#[test]
fn checkpoints_that_find_no_room_lose_nothing_and_hold_no_logs_open() {
    let directory = tempfile::tempdir().unwrap();
    let (storage, _) = open(directory.path());
    for attempt in 1..=20 {
        append(&storage, attempt * 10..attempt * 10 + 10);
        no_room_for_checkpoint(directory.path(), attempt as u64);
        assert!(is_full(storage.checkpoint()));
        storage.sync().unwrap();
        let open_logs = storage.read().log.as_ref().unwrap().unsynced().count();
        assert_eq!(open_logs, 1, "attempt {attempt}");
    }
    let all = everything(&storage);
    assert!(as_started(directory.path()) == all);
    assert_eq!(logs(directory.path()), 21);
    storage.checkpoint().unwrap().unwrap();
    assert_eq!(logs(directory.path()), 1);
    assert!(as_started(directory.path()) == all);
}

#[test]
fn what_is_written_behind_a_gap_takes_no_room_from_the_checkpoint_that_makes_up_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let (storage, _) = open(directory.path());
    append(&storage, 0..10);
    let before_gap = everything(&storage);
    let file = fs::File::options().write(true).open("/dev/full").unwrap();
    storage.write().log = Some(Log::over(file, 0, 1000));
    append(&storage, 10..20);
    assert!(storage.sync().is_err() && storage.checkpoint_due());
    for attempt in 1..=5 {
        no_room_for_checkpoint(directory.path(), attempt as u64);
        assert!(is_full(storage.checkpoint()));
        append(&storage, attempt * 20..attempt * 20 + 20);
        assert!(storage.sync().is_err() && storage.checkpoint_due());
        assert_eq!(logs(directory.path()), 1, "only the log before the gap is ever read");
    }
    assert!(as_started(directory.path()) == before_gap);

    storage.checkpoint().unwrap().unwrap();
    storage.sync().unwrap();
    append(&storage, 200..210);
    let all = everything(&storage);
    let memory = Storage::new(config());
    append(&memory, 0..120);
    append(&memory, 200..210);
    assert!(all == everything(&memory) && as_started(directory.path()) == all);
}

#[test]
fn a_log_that_finds_no_room_while_a_checkpoint_does_not_either_keeps_what_it_had() {
    let directory = tempfile::tempdir().unwrap();
    let (storage, _) = open(directory.path());
    append(&storage, 0..10);
    no_room_for_checkpoint(directory.path(), 1);
    assert!(is_full(storage.checkpoint()));
    append(&storage, 10..20);
    // The gap comes into the log that goes on from the one before: what stands before the gap is read.
    storage.write().log.as_mut().unwrap().fail(&std::io::Error::other("full"));
    append(&storage, 20..30);
    no_room_for_checkpoint(directory.path(), 2);
    assert!(is_full(storage.checkpoint()));
    let memory = Storage::new(config());
    append(&memory, 0..20);
    assert!(as_started(directory.path()) == everything(&memory));
}
