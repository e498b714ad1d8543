//! The sealed samples of groups: together as long as nothing takes a series out of that.

use super::disk::{config, everything, open};
use super::*;

const STEP_MS: i64 = 1000;

fn labels(i: usize) -> Labels {
    series(&[("__name__", "m"), ("i", &i.to_string())])
}

fn value(i: usize, round: i64) -> f64 {
    if i.is_multiple_of(2) { (round * 7) as f64 } else { (round as f64).sqrt() }
}

/// A target's scrapes.
struct Target {
    group: Group,
    slots: Vec<u32>,
}

impl Target {
    fn new(storage: &Storage) -> Self {
        Target { group: storage.group(0), slots: Vec::new() }
    }

    /// A row for each round, of all series but one.
    fn scrape(&mut self, storage: &Storage, series: usize, rounds: std::ops::Range<i64>, without: Option<usize>) {
        for round in rounds {
            let mut row = Row { time: Timestamp(round * STEP_MS), ..Row::default() };
            for i in (0..series).filter(|i| Some(*i) != without) {
                match self.slots.get(i) {
                    Some(slot) => row.values.push((*slot, value(i, round))),
                    None => row.new.push(NewSeries { labels: labels(i), time: None, value: value(i, round) }),
                }
            }
            let report = storage.append_row(&self.group, &row, row.time);
            assert_eq!(report.append.refused.total(), 0);
            self.slots.extend(report.slots.into_iter().flatten());
        }
    }
}

fn push(storage: &Storage, series: usize, rounds: std::ops::Range<i64>) {
    for round in rounds {
        let batch: Vec<_> = (0..series).map(|i| sample(&labels(i), round * STEP_MS, value(i, round))).collect();
        assert_eq!(storage.append(&batch, Timestamp(round * STEP_MS)).appended, series);
    }
}

/// Blocks that series have of their own, and sheets.
fn own_and_sheets(storage: &Storage) -> (usize, usize) {
    let head = storage.read();
    let own = head.series.iter().map(|series| series.blocks().len()).sum();
    (own, head.groups.iter().flatten().map(|rows| rows.sheets.all().count()).sum())
}

/// What a store has that was only pushed to.
fn pushed(series: usize, rounds: std::ops::Range<i64>) -> Storage {
    let storage = Storage::new(config());
    push(&storage, series, rounds);
    storage
}

#[test]
fn a_fleet_that_was_pushed_or_started_again_lies_together_from_its_second_scrape_on() {
    let directory = tempfile::tempdir().unwrap();
    let (storage, _) = open(directory.path());
    push(&storage, 50, 0..400);
    storage.spill().unwrap();
    push(&storage, 50, 400..480);
    assert!(own_and_sheets(&storage).0 >= 100);
    let mut target = Target::new(&storage);
    // Scrapes that failed before do not make it less of a first one.
    target.scrape(&storage, 0, 480..483, None);
    push(&storage, 50, 480..483);
    target.scrape(&storage, 50, 483..485, None);
    let (own, sheets) = own_and_sheets(&storage);
    assert!(own == 0 && sheets >= 2, "{own} blocks, {sheets} sheets");
    target.scrape(&storage, 50, 485..900, None);
    storage.spill().unwrap();
    assert_eq!(own_and_sheets(&storage).0, 0);
    assert!(everything(&storage) == everything(&pushed(50, 0..900)));

    storage.checkpoint().unwrap();
    drop(storage);
    let (storage, recovery) = open(directory.path());
    assert!(own_and_sheets(&storage).0 >= 100 && recovery.samples_lost == 0);
    let mut target = Target::new(&storage);
    target.scrape(&storage, 50, 900..902, None);
    let (own, sheets) = own_and_sheets(&storage);
    assert!(own == 0 && sheets >= 4, "{own} blocks, {sheets} sheets");
    assert!(everything(&storage) == everything(&pushed(50, 0..902)));
}
