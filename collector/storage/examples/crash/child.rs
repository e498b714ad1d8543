//! The process that is killed.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use storage::{Group, NewSeries, Row, Storage};
use telemetry::{Timestamp, stale_nan};

use crate::batches::{Batch, GROUPS, batch, config, random, row_labels, time_of};
use crate::files::{newest, numbered};

/// The places of a group's series.
#[derive(Clone, Default)]
struct Slots {
    of: BTreeMap<u64, u32>,
    /// Those of series that began with their end: the next row gives them back.
    superfluous: Vec<u32>,
}

/// Appends from a batch on, until it is killed.
pub(crate) fn child(directory: &Path, seed: u64, from: u64) {
    let (storage, _) = Storage::open(directory, config()).expect("the parent has opened it before");
    let groups: Vec<Group> = (0..GROUPS).map(|_| storage.group(12)).collect();
    let mut slots = vec![Slots::default(); GROUPS as usize];
    let done = AtomicU64::new(from);
    std::thread::scope(|scope| {
        scope.spawn(|| upkeep(&storage, directory, &done, seed));
        for number in from.. {
            append(&storage, &groups, &mut slots, seed, number);
            done.store(number + 1, Ordering::SeqCst);
            say(&format!("A {}", number + 1));
        }
    });
}

/// One write for each line, so that a killed child leaves whole ones.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
}

fn upkeep(storage: &Storage, directory: &Path, done: &AtomicU64, seed: u64) {
    for turn in 0u64.. {
        let synced = done.load(Ordering::SeqCst);
        let (log, len) = newest(directory, "log-").expect("an open store has a log");
        storage.sync().expect("there is room");
        say(&format!("S {synced} {len} {}", log.display()));
        match random(seed ^ synced, turn) % 6 {
            0 => {
                say(&writing(directory));
                storage.checkpoint().expect("there is room");
            }
            1 | 2 => {
                say(&writing(directory));
                storage.spill().expect("there is room");
            }
            _ => {}
        }
        std::thread::sleep(Duration::from_millis(random(seed, synced) % 12));
    }
}

/// `C CHECKPOINT LENGTH SEGMENT …`: what is durable when the store begins to write to segments; `-` for no checkpoint.
fn writing(directory: &Path) -> String {
    let checkpoint = newest(directory, "checkpoint-").map_or("-".to_owned(), |(path, _)| path.display().to_string());
    let segments = numbered(directory, "segment-").into_iter().map(|path| {
        let len = std::fs::metadata(&path).map_or(0, |meta| meta.len());
        format!(" {len} {}", path.display())
    });
    format!("C {checkpoint}{}", segments.collect::<String>())
}

fn append(storage: &Storage, groups: &[Group], slots: &mut [Slots], seed: u64, number: u64) {
    let now = Timestamp(time_of(number));
    let (report, expected) = match batch(seed, number) {
        Batch::Row(group, values, ended) => {
            let slots = &mut slots[group as usize];
            let mut row = Row { time: now, released: std::mem::take(&mut slots.superfluous), ..Row::default() };
            let mut new = Vec::new();
            let all = values.iter().map(|(s, v)| (*s, Some(*v))).chain(ended.iter().map(|s| (*s, None)));
            let mut expected = 0;
            for (series, value) in all {
                expected += 1;
                match (slots.of.get(&series).copied(), value) {
                    (Some(slot), Some(value)) => row.values.push((slot, value)),
                    (Some(slot), None) => {
                        slots.of.remove(&series);
                        row.ended.push(slot);
                        row.released.push(slot);
                    }
                    (None, value) => {
                        let (labels, first) = (row_labels(group, series), value.unwrap_or(stale_nan()));
                        row.new.push(NewSeries { labels, time: None, value: first });
                        new.push((series, value.is_none()));
                    }
                }
            }
            let report = storage.append_row(&groups[group as usize], &row, now);
            for ((series, has_ended), slot) in new.into_iter().zip(report.slots) {
                match has_ended {
                    true => slots.superfluous.extend(slot),
                    false => slots.of.extend(slot.map(|slot| (series, slot))),
                }
            }
            (report.append, expected)
        }
        Batch::Samples(samples) => (storage.append(&samples, now), samples.len()),
        Batch::Histogram(sample) => (storage.append_histograms(&[sample], now), 1),
        Batch::Expire => return storage.expire(now),
    };
    assert_eq!((report.appended, report.refused.total()), (expected, 0), "batch {number}");
}
