//! The store on disk is tested by ending it in the middle.

use std::fs;
use std::path::{Path, PathBuf};

use telemetry::stale_nan;

use super::segments::segment_paths;
use super::*;
use crate::disk::log::Log;

pub(super) fn open(directory: &Path) -> (Storage, Recovery) {
    Storage::open(directory, config()).unwrap()
}

pub(super) fn config() -> Config {
    Config { retention: Duration::from_secs(3600), ..Config::default() }
}

pub(super) fn everything(storage: &Storage) -> Vec<(Labels, Vec<(i64, u64)>)> {
    selected(storage, &[], i64::MIN, i64::MAX)
}

/// The newest log in the directory.
pub(super) fn newest_log(directory: &Path) -> PathBuf {
    let logs = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    logs.filter(|path| path.to_str().unwrap().contains("log-")).max().unwrap()
}

pub(super) fn copy_directory(from: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

/// A few rounds of counters, gauges, late joiners and ends; every round one batch.
fn rounds(count: i64) -> Vec<Vec<Sample>> {
    let labels = |i: i64| series(&[("__name__", "m"), ("i", &i.to_string()), ("zone", ["a", "é"][i as usize % 2])]);
    let value = |i: i64, round: i64| match i % 4 {
        0 => (round * 7 * i) as f64,
        1 => (round as f64).sqrt(),
        2 if round % 9 == 8 => stale_nan(),
        _ => 1.5,
    };
    let batch = |round: i64| (0..4 + round / 10).map(|i| sample(&labels(i), round * 15_000, value(i, round))).collect();
    (0..count).map(batch).collect()
}

#[test]
fn a_log_cut_anywhere_loses_only_what_was_cut() {
    let directory = tempfile::tempdir().unwrap();
    let (storage, recovery) = open(directory.path());
    assert_eq!(recovery, Recovery::default());
    // After each batch: how long the log is, and what the store holds.
    let mut history = vec![(0, Vec::new())];
    for (round, batch) in rounds(60).iter().enumerate() {
        storage.append(batch, Timestamp(round as i64 * 15_000));
        if round == 30 {
            storage.checkpoint().unwrap().unwrap();
            history.clear();
        }
        history.push((storage.stats().log.unwrap().len_bytes, everything(&storage)));
    }
    drop(storage);

    let log = fs::read(newest_log(directory.path())).unwrap();
    assert_eq!(log.len() as u64, history.last().unwrap().0);
    for cut in 0..=log.len() {
        let copy = copy_directory(directory.path());
        let copied = newest_log(copy.path());
        fs::write(&copied, &log[..cut]).unwrap();
        let (storage, recovery) = open(copy.path());
        // Below the header's length the log counts as empty, which is the state of the checkpoint.
        let (whole, expected) = history.iter().rev().find(|(len, _)| *len <= cut as u64).unwrap_or(&history[0]);
        assert!(everything(&storage) == *expected, "cut at {cut}: the store differs from what was acknowledged");
        assert_eq!(recovery.cut_bytes, (cut as u64).saturating_sub(if cut < 24 { 0 } else { *whole }), "cut at {cut}");

        // And it goes on from there, also across another restart.
        let next = sample(&series(&[("after", "cut")]), 1_000_000, 3.0);
        assert_eq!(storage.append(std::slice::from_ref(&next), Timestamp(1_000_000)).appended, 1);
        let after = everything(&storage);
        drop(storage);
        if cut % 7 == 0 {
            let (storage, recovery) = open(copy.path());
            assert_eq!((everything(&storage) == after, recovery.cut_bytes), (true, 0), "cut at {cut}");
        }
    }
}

#[test]
fn compressed_records_are_whole_or_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let (storage, _) = open(directory.path());
    let labels = |i: i64| series(&[("__name__", "requests_total"), ("i", &i.to_string()), ("path", "/api/orders")]);
    let mut history = Vec::new();
    for round in 0..3i64 {
        let batch: Vec<_> = (0..150).map(|i| sample(&labels(i), round * 15_000, (round * i * i) as f64)).collect();
        storage.append(&batch, Timestamp(round * 15_000));
        history.push((storage.stats().log.unwrap().len_bytes as usize, everything(&storage)));
    }
    drop(storage);
    let log = fs::read(newest_log(directory.path())).unwrap();
    let labels_len = (0..150).map(|i| labels(i).encoded().len()).sum::<usize>();
    assert!(history[0].0 < labels_len / 2, "{} bytes for {labels_len} of labels", history[0].0);
    for (cut, flip) in (history[0].0..=log.len()).step_by(5).flat_map(|at| [(at, false), (at, true)]) {
        let copy = copy_directory(directory.path());
        let mut damaged = log.clone();
        match flip {
            true if cut < log.len() => damaged[cut] ^= 4,
            true => continue,
            false => damaged.truncate(cut),
        }
        fs::write(newest_log(copy.path()), damaged).unwrap();
        let (_, expected) = history.iter().rev().find(|(len, _)| *len <= cut).unwrap();
        assert!(everything(&open(copy.path()).0) == *expected, "cut {cut}, flipped {flip}");
    }
}

#[test]
fn a_flipped_bit_ends_the_log_there() {
    let directory = tempfile::tempdir().unwrap();
    let (storage, _) = open(directory.path());
    let mut states = vec![everything(&storage)];
    for (round, batch) in rounds(12).iter().enumerate() {
        storage.append(batch, Timestamp(round as i64 * 15_000));
        states.push(everything(&storage));
    }
    drop(storage);
    let log = fs::read(newest_log(directory.path())).unwrap();
    for position in (24..log.len()).step_by(3) {
        let copy = copy_directory(directory.path());
        let mut damaged = log.clone();
        damaged[position] ^= 1 << (position % 8);
        fs::write(newest_log(copy.path()), damaged).unwrap();
        let (storage, recovery) = open(copy.path());
        assert!(recovery.cut_bytes > 0, "bit {position}");
        assert!(states.contains(&everything(&storage)), "bit {position}: something was invented");
    }
}

#[test]
fn what_power_loss_leaves_is_read_as_far_as_it_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (storage, _) = open(directory.path());
    let batches = rounds(3);
    storage.append(&batches[0], Timestamp(0));
    storage.sync().unwrap();
    let synced = everything(&storage);
    let synced_len = storage.stats().log.unwrap().len_bytes as usize;
    storage.append(&batches[1], Timestamp(15_000));
    storage.append(&batches[2], Timestamp(30_000));
    drop(storage);
    // The file has its full length, but the pages after the last sync were never written.
    let path = newest_log(directory.path());
    let mut log = fs::read(&path).unwrap();
    log[synced_len..].fill(0);
    fs::write(&path, log).unwrap();
    assert!(everything(&open(directory.path()).0) == synced);
}

#[test]
fn a_log_behind_a_shortened_one_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let (storage, _) = open(directory.path());
    let batches = rounds(4);
    storage.append(&batches[0], Timestamp(0));
    let first = everything(&storage);
    storage.append(&batches[1], Timestamp(15_000));
    let old = copy_directory(directory.path());
    storage.checkpoint().unwrap().unwrap();
    storage.append(&batches[2], Timestamp(30_000));
    let all = everything(&storage);
    drop(storage);

    // As if the process had ended before the checkpoint was in its place: both logs are read.
    let both = copy_directory(old.path());
    fs::copy(newest_log(directory.path()), both.path().join("log-00000001")).unwrap();
    let (storage, recovery) = open(both.path());
    assert!(everything(&storage) == all && recovery.logs_set_aside == 0);
    drop(storage);

    // As if the first log's last record had been lost with the power: the second log does not fit.
    let shortened = copy_directory(old.path());
    fs::copy(newest_log(directory.path()), shortened.path().join("log-00000001")).unwrap();
    let log = shortened.path().join("log-00000000");
    let len = fs::metadata(&log).unwrap().len();
    fs::File::options().write(true).open(&log).unwrap().set_len(len - 1).unwrap();
    let (storage, recovery) = open(shortened.path());
    assert!(everything(&storage) == first && recovery.logs_set_aside == 1);
}

#[test]
fn a_log_without_its_header_holds_nothing_and_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let (storage, _) = open(directory.path());
    storage.append(&rounds(1)[0], Timestamp(0));
    let all = everything(&storage);
    drop(storage);
    // As if the process had ended while it made the next log, before or in the middle of the header.
    for begun in [&b""[..], b"pick"] {
        let next = directory.path().join("log-00000001");
        fs::write(&next, begun).unwrap();
        let (storage, recovery) = open(directory.path());
        assert!(everything(&storage) == all && recovery.logs_set_aside == 0);
        assert!(!next.exists() && !next.with_extension("unreadable").exists());
    }
}

#[test]
fn a_checkpoint_holds_everything_and_replaces_the_logs_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let (storage, _) = open(directory.path());
    for (round, batch) in rounds(300).iter().enumerate() {
        storage.append(batch, Timestamp(round as i64 * 15_000));
    }
    storage.expire(Timestamp(299 * 15_000));
    let before = everything(&storage);
    let checkpoint = storage.checkpoint().unwrap().unwrap();
    assert_eq!(checkpoint.series, storage.stats().series);
    assert_eq!(storage.checkpoint().unwrap().unwrap().series, checkpoint.series);
    drop(storage);
    let mut files: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    let segments = ["segment-00000000", "segment-00000001"];
    assert_eq!(files, [&["LOCK", "checkpoint-00000002", "log-00000002"], &segments[..]].concat());
    let (storage, recovery) = open(directory.path());
    assert!(everything(&storage) == before);
    assert_eq!((recovery.series, recovery.log_records, recovery.cut_bytes), (checkpoint.series, 0, 0));
    // What had expired stays so, even for a reader that asks for it.
    let oldest = (Timestamp(299 * 15_000) - config().retention).0;
    assert!(before.iter().all(|(_, samples)| samples.iter().all(|(time, _)| *time >= oldest)));
}

#[test]
fn a_checkpoint_falls_due_by_samples_however_short_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let (storage, _) = open(directory.path());
    let at = |time: i64| sample(&series(&[("a", "b")]), time, 1.0);
    storage.append(&[at(0)], Timestamp(0));
    // A log with nearly as many samples as are read in time.
    let log = newest_log(directory.path());
    let len = storage.stats().log.unwrap().len_bytes;
    storage.write().log = Some(Log::resume(&log, 0, len, 2_999_999).unwrap());
    storage.append(&[at(1)], Timestamp(1));
    assert!(!storage.checkpoint_due());
    storage.append(&[at(2), at(3)], Timestamp(3));
    assert!(storage.checkpoint_due());
    storage.checkpoint().unwrap().unwrap();
    assert!(!storage.checkpoint_due());
    storage.append(&[at(4), at(5)], Timestamp(5));
    assert_eq!(storage.read().log.as_ref().unwrap().samples(), 2);
    drop(storage);
    let (storage, _) = open(directory.path());
    assert_eq!(storage.read().log.as_ref().unwrap().samples(), 2);
    storage.append(&[at(6)], Timestamp(6));
    assert_eq!(storage.read().log.as_ref().unwrap().samples(), 3);
}

#[test]
fn appends_go_on_beside_checkpoints_and_none_waits_for_the_other_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let storage = Arc::new(open(directory.path()).0);
    let labels = |i: i64| series(&[("__name__", "m"), ("i", &i.to_string())]);
    let all: Vec<Labels> = (0..3000).map(labels).collect();
    let (done, ended) = std::sync::mpsc::channel();
    let is_over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    for series in [all[..1500].to_vec(), all[1500..].to_vec()] {
        let (storage, is_over, done) = (storage.clone(), is_over.clone(), done.clone());
        std::thread::spawn(move || {
            for time in 0.. {
                let batch: Vec<_> = series.iter().take(50).map(|labels| sample(labels, time, 1.0)).collect();
                storage.append(&batch, Timestamp(time));
                if time == 0 {
                    let batch: Vec<_> = series.iter().map(|labels| sample(labels, 1, 1.0)).collect();
                    storage.append(&batch, Timestamp(1));
                }
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
            }
            done.send(()).unwrap();
        });
    }
    std::thread::spawn(move || {
        (0..60).for_each(|_| assert!(storage.checkpoint().unwrap().is_some()));
        is_over.store(true, Ordering::Relaxed);
        done.send(()).unwrap();
    });
    for _ in 0..3 {
        assert_eq!(ended.recv_timeout(Duration::from_secs(60)), Ok(()), "somebody waits for ever");
    }
}

#[test]
fn many_series_come_back_from_a_log_with_what_was_late_and_what_a_checkpoint_knows() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { out_of_order_window: Duration::from_secs(300), ..config() };
    let storage = Storage::open(directory.path(), config.clone()).unwrap().0;
    let labels = |i: i64| series(&[("__name__", "m"), ("i", &i.to_string())]);
    let all: Vec<Labels> = (0..2500).map(labels).collect();
    for round in 0..80i64 {
        let batch = all.iter().enumerate().filter(|(i, _)| (*i as i64 + round) % 7 != 0).map(|(i, labels)| {
            let lag = if (i as i64 * 31 + round) % 97 == 0 { 45_000 } else { 0 };
            sample(labels, round * 15_000 - lag - i as i64 % 3, (round * i as i64) as f64)
        });
        storage.append(&batch.collect::<Vec<_>>(), Timestamp(round * 15_000));
        if round == 20 {
            storage.checkpoint().unwrap().unwrap();
        }
    }
    let (before, samples) = (everything(&storage), storage.stats().samples);
    // What a checkpoint has and the log after it says again, as where appends go on while it is written.
    let old = copy_directory(directory.path());
    storage.checkpoint().unwrap().unwrap();
    drop(storage);
    let newer = directory.path().join("checkpoint-00000002");
    fs::copy(newer, old.path().join("checkpoint-00000001")).unwrap();
    for segment in segment_paths(directory.path()) {
        fs::copy(&segment, old.path().join(segment.file_name().unwrap())).unwrap();
    }
    for directory in [directory.path(), old.path()] {
        let storage = Storage::open(directory, config.clone()).unwrap().0;
        assert_eq!(storage.stats().samples, samples);
        assert!(everything(&storage) == before);
    }
}

#[test]
fn a_directory_is_used_by_one_store_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let (storage, _) = open(directory.path());
    let error = Storage::open(directory.path(), config()).err().unwrap();
    assert!(matches!(error, OpenError::Locked(_)));
    let expected = format!(
        "data directory {} is in use by another process; stop it or use another directory",
        directory.path().display()
    );
    assert_eq!(error.to_string(), expected);
    drop(storage);
    open(directory.path());
}

#[test]
fn files_that_must_not_be_guessed_at_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let (storage, _) = open(directory.path());
    storage.append(&rounds(1)[0], Timestamp(0));
    storage.checkpoint().unwrap();
    drop(storage);
    let message = |directory: &Path| Storage::open(directory, config()).err().unwrap().to_string();

    let newer = copy_directory(directory.path());
    let log = newest_log(newer.path());
    let mut bytes = fs::read(&log).unwrap();
    bytes[8] = 9;
    fs::write(&log, bytes).unwrap();
    assert!(message(newer.path()).contains("log-00000001 has format version 9, this program reads versions 4 to 6"));

    let checkpoint = |directory: &Path| directory.join("checkpoint-00000001");
    let short = copy_directory(directory.path());
    let bytes = fs::read(checkpoint(short.path())).unwrap();
    fs::write(checkpoint(short.path()), &bytes[..bytes.len() - 3]).unwrap();
    assert!(message(short.path()).contains("checkpoint-00000001 is damaged (it ends too early)"));

    let gone = copy_directory(directory.path());
    fs::remove_file(checkpoint(gone.path())).unwrap();
    assert!(message(gone.path()).contains("log-00000001 is damaged (the checkpoint before it is gone)"));
}

#[test]
fn a_full_disk_keeps_samples_in_memory_until_a_checkpoint_makes_up_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let (storage, _) = open(directory.path());
    let batches = rounds(4);
    storage.append(&batches[0], Timestamp(0));
    // Every write to this device fails for want of space.
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    storage.write().log = Some(Log::over(full, 0, 1000));
    assert_eq!(storage.append(&batches[1], Timestamp(15_000)).appended, batches[1].len());
    assert_eq!(storage.append(&batches[2], Timestamp(30_000)).appended, batches[2].len());
    let log = storage.stats().log.unwrap();
    assert!(log.failure.is_some_and(|failure| failure.contains("No space left")));
    assert_eq!(log.errors_total, 1);
    assert!(storage.sync().is_err() && storage.checkpoint_due());

    storage.checkpoint().unwrap().unwrap();
    assert_eq!(storage.stats().log.unwrap().failure, None);
    storage.sync().unwrap();
    storage.append(&batches[3], Timestamp(45_000));
    let all = everything(&storage);
    assert_eq!(all.len(), 4);
    drop(storage);
    assert!(everything(&open(directory.path()).0) == all);
}

#[test]
fn histograms_outlive_a_restart_and_a_checkpoint_and_expire() {
    let directory = tempfile::tempdir().unwrap();
    let (mut storage, _) = open(directory.path());
    let labels = series(&[("__name__", "h")]);
    let histogram = |at: i64| telemetry::HistogramSample {
        labels: labels.clone(),
        timestamp: Timestamp(at),
        histogram: telemetry::Histogram {
            count: at as f64,
            sum: 0.5,
            positive: vec![(3, at as f64)],
            ..Default::default()
        },
    };
    let held = |storage: &Storage| -> Vec<(i64, f64)> {
        let found = storage.select(&[], ALWAYS.0, ALWAYS.1);
        found.iter().flat_map(|s| s.histograms.iter().map(|(at, h)| (at.0, h.positive[0].1))).collect()
    };
    for (round, at) in [1_000, 2_000, 3_000].into_iter().enumerate() {
        let report = storage.append_histograms(&[histogram(at), histogram(at), histogram(at - 500)], Timestamp(at));
        assert_eq!((report.appended, report.refused.get(Refusal::OutOfOrder)), (2, 1));
        if round == 1 {
            storage.checkpoint().unwrap().unwrap();
        }
        drop(storage);
        (storage, _) = open(directory.path());
    }
    assert_eq!(held(&storage), [(1_000, 1_000.0), (2_000, 2_000.0), (3_000, 3_000.0)]);
    storage.expire(Timestamp(2_500) + config().retention);
    assert_eq!((held(&storage), storage.stats().histograms), (vec![(3_000, 3_000.0)], 1));
    storage.expire(Timestamp(3_500) + config().retention);
    assert_eq!(storage.stats().series, 0);
}
