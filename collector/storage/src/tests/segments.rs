//! Blocks on disk: moved while the store goes on, damaged, removed.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use telemetry::stale_nan;

use super::disk::{config, copy_directory, everything, newest_log, open};
use super::*;

const STEP_MS: i64 = 1000;

fn labels(i: usize) -> Labels {
    series(&[("__name__", "m"), ("i", &i.to_string())])
}

fn value(i: usize, round: i64) -> f64 {
    match i % 3 {
        0 => (round * 7) as f64,
        1 => (round as f64).sqrt(),
        _ if round % 50 == 49 => stale_nan(),
        _ => round as f64 / 8.0,
    }
}

/// Rounds of so many series, one batch each.
fn append(storage: &Storage, series: usize, rounds: std::ops::Range<i64>) {
    for round in rounds {
        let time = round * STEP_MS;
        let batch: Vec<_> = (0..series).map(|i| sample(&labels(i), time, value(i, round))).collect();
        assert_eq!(storage.append(&batch, Timestamp(time)).appended, series);
    }
}

pub(super) fn segment_paths(directory: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = all.filter(|path| path.to_str().unwrap().contains("segment-")).collect();
    paths.sort();
    paths
}

fn blocks_in_memory(storage: &Storage) -> usize {
    let head = storage.read();
    head.series.iter().flat_map(|series| series.blocks()).filter(|block| block.is_in_memory()).count()
}

fn samples(all: &[(Labels, Vec<(i64, u64)>)]) -> usize {
    all.iter().map(|(_, samples)| samples.len()).sum()
}

type Held = Vec<(Labels, Vec<(i64, u64)>)>;

/// A directory whose store has blocks in one segment, and what the store holds.
fn with_segment() -> (tempfile::TempDir, Held) {
    let directory = tempfile::tempdir().unwrap();
    let (storage, _) = open(directory.path());
    append(&storage, 3, 0..1300);
    let moved = storage.checkpoint().unwrap().unwrap().blocks_moved;
    assert!(moved >= 6, "{moved}");
    assert_eq!(segment_paths(directory.path()).len(), 1);
    append(&storage, 3, 1300..1310);
    let all = everything(&storage);
    (directory, all)
}

#[test]
fn what_does_not_grow_any_more_lies_on_disk_and_is_read_from_there() {
    let (directory, all) = with_segment();
    let memory = Storage::new(config());
    append(&memory, 3, 0..1310);
    assert!(everything(&memory) == all);
    let (storage, recovery) = open(directory.path());
    assert_eq!((recovery.segments_set_aside, recovery.samples_lost), (0, 0));
    assert!(everything(&storage) == all);
    let stats = storage.stats();
    assert_eq!((stats.segments, stats.samples, stats.unreadable_total), (1, memory.stats().samples, 0));
    assert!(stats.segment_bytes > 0 && stats.sample_bytes < memory.stats().sample_bytes);
    // What was plain came back as a block of each series. The checkpoint behind that finds nothing new to move, and keeps
    // what there is.
    assert_eq!(storage.checkpoint().unwrap().unwrap().blocks_moved, 3);
    assert_eq!(storage.checkpoint().unwrap().unwrap().blocks_moved, 0);
    assert!(everything(&storage) == all && segment_paths(directory.path()).len() == 2);
}

#[test]
fn moving_frees_the_memory_of_what_was_moved() {
    let directory = tempfile::tempdir().unwrap();
    let (storage, _) = open(directory.path());
    append(&storage, 2, 0..1000);
    let (before, all) = (blocks_in_memory(&storage), everything(&storage));
    let moved = storage.checkpoint().unwrap().unwrap().blocks_moved;
    assert!(moved > 0 && before > 0 && blocks_in_memory(&storage) == 0);
    assert!(everything(&storage) == all);
}

#[test]
fn what_is_sealed_goes_to_disk_before_a_checkpoint_and_is_joined_there() {
    let directory = tempfile::tempdir().unwrap();
    let (storage, _) = open(directory.path());
    let memory = Storage::new(config());
    for round in (0..1280).step_by(32) {
        append(&storage, 3, round..round + 32);
        append(&memory, 3, round..round + 32);
        assert!(storage.spill().unwrap() > 0 && blocks_in_memory(&storage) == 0, "after {round} rounds");
        assert!(everything(&storage) == everything(&memory), "after {round} rounds");
    }
    // Five large blocks of each, and at most as many small ones as make no large one.
    let blocks = storage.extent().unwrap().blocks;
    assert!((3 * 4..=3 * (5 + 8)).contains(&blocks), "{blocks}");
    assert_eq!(segment_paths(directory.path()).len(), 2);
    // Without any checkpoint the log has it all, and a start removes the segments that nobody names.
    let copy = copy_directory(directory.path());
    let (reopened, recovery) = open(copy.path());
    assert!(everything(&reopened) == everything(&memory) && recovery.samples_lost == 0);
    assert_eq!(segment_paths(copy.path()), [] as [PathBuf; 0]);
    // With one, it names what went to disk before it; what was joined is gone.
    storage.checkpoint().unwrap().unwrap();
    drop(storage);
    let (storage, recovery) = open(directory.path());
    assert!(everything(&storage) == everything(&memory) && recovery.samples_lost == 0);
}

#[test]
fn a_store_moves_blocks_when_enough_samples_came() {
    let directory = tempfile::tempdir().unwrap();
    let (storage, _) = open(directory.path());
    append(&storage, 500, 0..999);
    assert!(!storage.spill_due() && !Storage::new(config()).spill_due());
    append(&storage, 500, 999..1000);
    assert!(storage.spill_due());
    storage.spill().unwrap();
    assert!(!storage.spill_due());
    drop(storage);
    // After a start all that was not moved is in memory, however little came since.
    let (storage, _) = open(directory.path());
    assert!(storage.spill_due());
    storage.checkpoint().unwrap().unwrap();
    assert!(!storage.spill_due());
}

#[test]
fn a_segment_cut_anywhere_costs_its_last_blocks_and_no_more() {
    let (directory, all) = with_segment();
    let path = &segment_paths(directory.path())[0];
    let whole = fs::read(path).unwrap();
    let lens: Vec<usize> = (0..whole.len()).rev().take(600).chain(0..30).collect();
    let mut lost_last = None;
    for len in lens {
        let copy = copy_directory(directory.path());
        fs::write(&segment_paths(copy.path())[0], &whole[..len]).unwrap();
        let (storage, recovery) = open(copy.path());
        let held = everything(&storage);
        assert_eq!(samples(&held) as u64 + recovery.samples_lost, samples(&all) as u64, "cut at {len}");
        assert!(recovery.samples_lost > 0 && recovery.cut_bytes == 0, "cut at {len}");
        assert_eq!(recovery.segments_set_aside, usize::from(len < 24), "cut at {len}");
        for ((labels, held), (other, all)) in held.iter().zip(&all) {
            assert!(labels == other && held.iter().all(|sample| all.binary_search(sample).is_ok()), "cut at {len}");
        }
        lost_last = lost_last.max(Some(recovery.samples_lost));
        if !len.is_multiple_of(16) {
            continue;
        }
        // It goes on, and what is lost is lost once.
        append(&storage, 3, 1310..1320);
        storage.checkpoint().unwrap().unwrap();
        let after = everything(&storage);
        drop(storage);
        let (storage, recovery) = open(copy.path());
        assert!(everything(&storage) == after && recovery.samples_lost == 0, "cut at {len}");
    }
    assert_eq!(lost_last, Some(samples(&all) as u64 - remaining_without_segments(&directory)));
}

/// Samples that do not lie in segments.
fn remaining_without_segments(directory: &tempfile::TempDir) -> u64 {
    let copy = copy_directory(directory.path());
    fs::remove_file(&segment_paths(copy.path())[0]).unwrap();
    let (storage, recovery) = open(copy.path());
    assert_eq!(recovery.segments_set_aside, 1);
    samples(&everything(&storage)) as u64
}

#[test]
fn a_segment_that_is_none_is_set_aside_by_name() {
    let (directory, all) = with_segment();
    let path = &segment_paths(directory.path())[0];
    let mut bytes = fs::read(path).unwrap();
    bytes[3] ^= 1;
    fs::write(path, bytes).unwrap();
    let (storage, recovery) = open(directory.path());
    assert_eq!(recovery.segments_set_aside, 1);
    assert_eq!(samples(&everything(&storage)) as u64 + recovery.samples_lost, samples(&all) as u64);
    assert_eq!(segment_paths(directory.path()), [path.with_extension("unreadable")]);
    // Its number is not used again.
    append(&storage, 3, 1310..2000);
    storage.checkpoint().unwrap().unwrap();
    let paths = segment_paths(directory.path());
    let names: Vec<_> = paths.iter().map(|path| path.file_name().unwrap()).collect();
    assert_eq!(names, ["segment-00000000.unreadable", "segment-00000001", "segment-00000002"]);
}

#[test]
fn a_flipped_bit_costs_one_block_which_is_counted_and_left_out() {
    let (directory, all) = with_segment();
    let path = &segment_paths(directory.path())[0];
    let whole = fs::read(path).unwrap();
    for position in (24..whole.len()).step_by(whole.len() / 40) {
        let copy = copy_directory(directory.path());
        let mut damaged = whole.clone();
        damaged[position] ^= 1 << (position % 8);
        fs::write(&segment_paths(copy.path())[0], damaged).unwrap();
        let (storage, _) = open(copy.path());
        let held = everything(&storage);
        assert_eq!((samples(&all) - samples(&held), storage.stats().unreadable_total), (256, 1), "bit {position}");
        // A reader in columns leaves out the same, and the next series is whole.
        let (ids, _) = storage.resolve(&[]);
        let mut scanned = 0;
        storage.scan(&ids, Timestamp::MIN, Timestamp::MAX, &mut |_, columns| {
            assert_eq!(columns.times.len(), columns.values.len());
            scanned += columns.times.len();
            std::ops::ControlFlow::Continue(())
        });
        assert_eq!(scanned, samples(&held), "bit {position}");
        // The next checkpoint passes on what it cannot read.
        storage.checkpoint().unwrap().unwrap();
        assert!(everything(&storage) == held);
    }
}

#[test]
fn a_late_sample_goes_into_a_block_on_disk_or_is_refused_where_that_cannot_be_read() {
    let (directory, mut all) = with_segment();
    let config = Config { out_of_order_window: Duration::from_secs(3600), ..config() };
    let late = sample(&labels(0), 5 * STEP_MS + 1, 0.5);
    let now = Timestamp(1310 * STEP_MS);
    let copy = copy_directory(directory.path());
    let (storage, _) = Storage::open(copy.path(), config.clone()).unwrap();
    storage.checkpoint().unwrap().unwrap();
    assert_eq!(storage.append(&[late.clone(), late.clone()], now).appended, 2);
    all[0].1.insert(6, (late.timestamp.0, late.value.to_bits()));
    assert!(everything(&storage) == all);
    assert_eq!(storage.checkpoint().unwrap().unwrap().blocks_moved, 1);
    assert!(everything(&storage) == all);
    drop(storage);
    let (storage, recovery) = Storage::open(copy.path(), config.clone()).unwrap();
    assert!(everything(&storage) == all && recovery.samples_lost == 0);
    drop(storage);

    // The block that the sample belongs to is the first in the segment.
    let path = &segment_paths(directory.path())[0];
    let mut bytes = fs::read(path).unwrap();
    bytes[26] ^= 1;
    fs::write(path, bytes).unwrap();
    let (storage, _) = Storage::open(directory.path(), config).unwrap();
    let report = storage.append(&[late], now);
    assert_eq!((report.appended, report.refused.get(Refusal::Unreadable)), (0, 1));
}

#[test]
fn a_checkpoint_cut_short_leaves_nothing_behind_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (storage, _) = open(directory.path());
    append(&storage, 3, 0..700);
    storage.checkpoint().unwrap().unwrap();
    append(&storage, 3, 700..1300);
    let (all, before) = (everything(&storage), copy_directory(directory.path()));
    let before_len = segment_paths(before.path()).len();
    storage.checkpoint().unwrap().unwrap();
    drop(storage);
    // The process ended after any part of the segment was written, before the checkpoint had its name: there is more in
    // the segment than the old checkpoint knows, and another segment that it does not know at all.
    let old_len = fs::metadata(&segment_paths(before.path())[0]).unwrap().len() as usize;
    let new = fs::read(&segment_paths(directory.path())[0]).unwrap();
    assert!(new.len() > old_len);
    for len in (old_len..=new.len()).step_by(61) {
        let copy = copy_directory(before.path());
        fs::write(&segment_paths(copy.path())[0], &new[..len]).unwrap();
        fs::write(copy.path().join("segment-00000007"), &new[..len % 100]).unwrap();
        fs::write(copy.path().join("checkpoint-00000002.unfinished"), b"some").unwrap();
        let (storage, recovery) = open(copy.path());
        assert!(everything(&storage) == all && recovery.samples_lost == 0, "{len} bytes");
        assert_eq!(segment_paths(copy.path()).len(), before_len, "{len} bytes");
        storage.checkpoint().unwrap().unwrap();
        drop(storage);
        assert!(everything(&open(copy.path()).0) == all, "{len} bytes");
    }
}

#[test]
fn a_segment_that_cannot_be_written_leaves_the_store_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let (storage, _) = open(directory.path());
    append(&storage, 2, 0..1000);
    let (all, in_memory) = (everything(&storage), blocks_in_memory(&storage));
    // No file can be made where a directory is.
    let in_the_way = directory.path().join("segment-00000000");
    fs::create_dir(&in_the_way).unwrap();
    assert!(storage.checkpoint().is_err());
    assert!(everything(&storage) == all && blocks_in_memory(&storage) == in_memory);
    let unfinished = fs::read_dir(directory.path()).unwrap();
    assert!(!unfinished.flatten().any(|entry| entry.path().extension().is_some_and(|e| e == "unfinished")));
    // Acknowledged all the same, and there after a restart.
    append(&storage, 2, 1000..1010);
    let all = everything(&storage);
    fs::remove_dir(&in_the_way).unwrap();
    assert!(everything(&open(copy_directory(directory.path()).path()).0) == all);
    assert!(storage.checkpoint().unwrap().unwrap().blocks_moved > 0);
    assert!(everything(&storage) == all);
    drop(storage);
    assert!(everything(&open(directory.path()).0) == all);
}

#[test]
fn a_segment_goes_when_all_of_it_has_expired() {
    let directory = tempfile::tempdir().unwrap();
    let (storage, _) = open(directory.path());
    append(&storage, 2, 0..800);
    storage.checkpoint().unwrap().unwrap();
    drop(storage);
    let first = segment_paths(directory.path());
    let (storage, _) = open(directory.path());
    append(&storage, 2, 800..1600);
    storage.checkpoint().unwrap().unwrap();
    // Large blocks, and small ones that made a large one since.
    let (kept, of_small): (Vec<_>, Vec<_>) = first.into_iter().partition(|path| path.exists());
    assert_eq!((kept.len(), of_small.len()), (1, 1));
    let now = Timestamp(1000 * STEP_MS) + config().retention;
    storage.expire(now);
    let all = everything(&storage);
    let before = storage.stats().segments;
    assert!(all[0].1[0].0 == 1000 * STEP_MS && before == segment_paths(directory.path()).len());
    storage.checkpoint().unwrap().unwrap();
    assert!(!kept[0].exists() && storage.stats().segments == before - 1);
    assert_eq!(segment_paths(directory.path()).len(), before - 1);
    assert!(everything(&storage) == all);
    drop(storage);
    assert!(everything(&open(directory.path()).0) == all);
}

#[test]
fn a_reader_keeps_what_it_reads_while_segments_go() {
    let (directory, all) = with_segment();
    let (storage, _) = open(directory.path());
    let (ids, _) = storage.resolve(&[]);
    let mut seen = 0;
    let segments = storage.read().segments.clone();
    storage.expire(Timestamp(1310 * STEP_MS) + config().retention);
    storage.checkpoint().unwrap().unwrap();
    assert_eq!(segment_paths(directory.path()), [] as [PathBuf; 0]);
    assert_eq!((segments.usage().0, storage.stats().segments), (1, 0));
    storage.scan(&ids, Timestamp::MIN, Timestamp::MAX, &mut |_, columns| {
        seen += columns.times.len();
        std::ops::ControlFlow::Continue(())
    });
    assert!(seen < samples(&all));
}

/// A directory of the format before segments: the crash example's, killed, and its log cut.
#[test]
fn a_directory_of_format_4_is_read_and_goes_on() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/format-4");
    let directory = copy_directory(&fixture);
    let config = Config { retention: Duration::from_secs(1800), ..Config::default() };
    let (storage, recovery) = Storage::open(directory.path(), config.clone()).unwrap();
    // What the program that wrote it reads in it.
    assert_eq!((recovery.series, recovery.log_records, recovery.cut_bytes), (57, 165, 31));
    let before = everything(&storage);
    assert_eq!((samples(&before), storage.stats().histograms), (14_195, 43));
    assert!(storage.checkpoint().unwrap().unwrap().blocks_moved > 0);
    assert!(everything(&storage) == before);
    drop(storage);
    let (storage, recovery) = Storage::open(directory.path(), config).unwrap();
    assert!(everything(&storage) == before && recovery.samples_lost == 0);
    assert!(!newest_log(directory.path()).ends_with("log-00000001"));
}

/// A directory of the format whose checkpoints have labels as text: twelve series with some labels and one with few, the
/// log cut.
#[test]
fn a_directory_of_format_5_is_read_and_goes_on() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/format-5");
    let directory = copy_directory(&fixture);
    let (storage, recovery) = open(directory.path());
    // What the program that wrote it reads in it.
    assert_eq!((recovery.series, recovery.log_records, recovery.samples_lost), (12, 19, 0));
    let before = everything(&storage);
    assert_eq!(samples(&before), 12 * 349);
    assert_eq!(selected(&storage, &[matcher("path", "=", "")], i64::MIN, i64::MAX).len(), 1);
    assert_eq!(selected(&storage, &[matcher("instance", "=", "é:2")], i64::MIN, i64::MAX).len(), 6);
    storage.checkpoint().unwrap();
    drop(storage);
    let (storage, _) = open(directory.path());
    assert!(everything(&storage) == before);
}

#[derive(Clone, Debug)]
enum Step {
    /// So many rounds.
    Append(u8),
    Late(usize, i64, u8),
    Expire,
    Spill,
    Checkpoint,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..120u8).prop_map(Step::Append),
        2 => (0..2usize, 1..900i64, any::<u8>()).prop_map(|(i, lag, v)| Step::Late(i, lag, v)),
        1 => Just(Step::Expire),
        5 => Just(Step::Spill),
        2 => Just(Step::Checkpoint),
        2 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Which is held to a naive model itself; see [`super::model`].
    #[test]
    fn a_store_with_segments_equals_one_in_memory(steps in steps()) {
        let config = Config {
            retention: Duration::from_secs(900),
            out_of_order_window: Duration::from_secs(600),
            ..Config::default()
        };
        let directory = tempfile::tempdir().unwrap();
        let mut storage = Storage::open(directory.path(), config.clone()).unwrap().0;
        let memory = Storage::new(config.clone());
        let mut round = 0;
        for step in steps {
            let now = Timestamp(round * STEP_MS);
            match step {
                Step::Append(rounds) => {
                    append(&storage, 2, round..round + i64::from(rounds));
                    append(&memory, 2, round..round + i64::from(rounds));
                    round += i64::from(rounds);
                }
                Step::Late(i, lag, value) => {
                    let late = [sample(&labels(i), (round - lag) * STEP_MS + 500, f64::from(value))];
                    prop_assert_eq!(storage.append(&late, now), memory.append(&late, now));
                }
                Step::Expire => [&storage, &memory].into_iter().for_each(|store| store.expire(now)),
                Step::Spill => drop(storage.spill().unwrap()),
                Step::Checkpoint => drop(storage.checkpoint().unwrap()),
                Step::Reopen => {
                    drop(storage);
                    let (reopened, recovery) = Storage::open(directory.path(), config.clone()).unwrap();
                    prop_assert_eq!((recovery.cut_bytes, recovery.samples_lost), (0, 0));
                    storage = reopened;
                }
            }
            prop_assert_eq!(storage.stats().unreadable_total, 0);
        }
        for (start, end) in [(i64::MIN, i64::MAX), ((round - 700) * STEP_MS, (round - 300) * STEP_MS)] {
            prop_assert!(selected(&storage, &[], start, end) == selected(&memory, &[], start, end));
        }
    }
}

#[test]
fn the_oldest_segments_go_when_the_files_are_too_large() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { size_max: Some(24 << 10), ..config() };
    let storage = Storage::open(directory.path(), config.clone()).unwrap().0;
    let memory = Storage::new(config.clone());
    let mut dropped = 0;
    for round in (0..3400).step_by(200) {
        append(&storage, 5, round..round + 200);
        append(&memory, 5, round..round + 200);
        let now = Timestamp((round + 199) * STEP_MS);
        dropped += storage.fit(now).unwrap().map_or(0, |fitted| fitted.dropped);
        assert!(storage.disk_bytes() <= 24 << 10, "{} bytes after {round} rounds", storage.disk_bytes());
    }
    let stats = storage.stats();
    assert!(stats.segments > 3 && stats.disk_bytes == storage.disk_bytes(), "{stats:?}");
    assert_eq!(stats.expired_total, Expired { by_time: 0, by_size: dropped });
    assert_eq!(storage.fit(Timestamp(3399 * STEP_MS)).unwrap(), None);
    // All series were cut at one time, and nothing else is missing; after a start too.
    let oldest = everything(&storage).iter().map(|(_, samples)| samples[0].0).max().unwrap();
    assert!(oldest > 1_000 * STEP_MS, "{oldest}");
    let mut left = everything(&memory);
    left.iter_mut().for_each(|(_, samples)| samples.retain(|(time, _)| *time >= oldest));
    assert!(everything(&storage) == left);
    drop(storage);
    let storage = Storage::open(directory.path(), config).unwrap().0;
    assert!(everything(&storage) == left);
    assert_eq!(storage.append(&[sample(&labels(0), oldest - 1, 1.0)], Timestamp(3400 * STEP_MS)).appended, 0);
}

#[test]
fn a_segment_that_went_while_it_was_being_written_is_not_written_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let (storage, _) = open(directory.path());
    append(&storage, 2, 0..1000);
    assert!(storage.checkpoint().unwrap().unwrap().blocks_moved > 0);
    // An hour without samples: all there was has expired, and the segment with it.
    storage.expire(Timestamp(1000 * STEP_MS) + config().retention);
    storage.checkpoint().unwrap().unwrap();
    assert_eq!(segment_paths(directory.path()).len(), 0);
    append(&storage, 2, 5000..6000);
    assert!(storage.checkpoint().unwrap().unwrap().blocks_moved > 0);
    let memory = Storage::new(config());
    append(&memory, 2, 5000..6000);
    assert!(everything(&storage) == everything(&memory));
    assert_eq!(storage.stats().unreadable_total, 0);
}
