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

#[test]
fn a_series_that_falls_out_of_step_takes_its_own_along_and_the_others_stay() {
    let storage = Storage::new(config());
    let mut target = Target::new(&storage);
    target.scrape(&storage, 20, 0..300, None);
    let (own, sheets) = own_and_sheets(&storage);
    assert!(own == 0 && sheets > 1, "{own} blocks, {sheets} sheets");
    target.scrape(&storage, 20, 300..302, Some(7));
    assert_eq!(own_and_sheets(&storage).0, 0);
    // It comes back: what was before the gap is a block of its own, and all before that.
    target.scrape(&storage, 20, 302..303, None);
    let (own, _) = own_and_sheets(&storage);
    assert!((sheets..=sheets + 1).contains(&own), "{own} blocks, {sheets} sheets");
    target.scrape(&storage, 20, 303..600, None);
    // Nor is it in those that are joined with what it missed: three of 64 samples and four of 16 at most.
    let more = own_and_sheets(&storage).0 - own;
    assert!(more <= 8, "{more} blocks");
    let expected = pushed(20, 0..300);
    for round in 300..600 {
        let there = (0..20).filter(|i| *i != 7 || round >= 302);
        let batch: Vec<_> = there.map(|i| sample(&labels(i), round * STEP_MS, value(i, round))).collect();
        expected.append(&batch, Timestamp(round * STEP_MS));
    }
    assert!(everything(&storage) == everything(&expected));
    // Its target goes: all that is sealed is the series' own, and nothing is lost.
    drop(target);
    storage.expire(Timestamp(600 * STEP_MS));
    assert_eq!(own_and_sheets(&storage).1, 0);
    assert!(everything(&storage) == everything(&expected));
}

#[test]
fn a_late_sample_takes_its_series_out_of_the_sheets_and_one_that_is_known_does_not() {
    let config = Config { out_of_order_window: Duration::from_secs(3600), ..config() };
    let storage = Storage::new(config.clone());
    let mut target = Target::new(&storage);
    target.scrape(&storage, 10, 0..300, None);
    let now = Timestamp(300 * STEP_MS);
    let known = storage.append(&[sample(&labels(3), 100 * STEP_MS, value(3, 100))], now);
    assert_eq!((known.appended, own_and_sheets(&storage).0), (1, 0));
    let contradiction = storage.append(&[sample(&labels(3), 100 * STEP_MS, -1.0)], now);
    assert_eq!((contradiction.refused.total(), own_and_sheets(&storage).0), (1, 0));
    let late = sample(&labels(3), 100 * STEP_MS + 1, -1.0);
    assert_eq!(storage.append(std::slice::from_ref(&late), now).appended, 1);
    assert!(own_and_sheets(&storage).0 > 0);
    target.scrape(&storage, 10, 300..400, None);
    let expected = Storage::new(config);
    push(&expected, 10, 0..400);
    expected.append(&[late], now);
    assert!(everything(&storage) == everything(&expected));
}

#[test]
fn a_slot_that_another_series_gets_shows_it_nothing_of_the_one_before() {
    let storage = Storage::new(config());
    let mut target = Target::new(&storage);
    target.scrape(&storage, 4, 0..200, None);
    let gone = target.slots[1];
    let end = Timestamp(200 * STEP_MS);
    storage.append_row(&target.group, &Row { time: end, released: vec![gone], ..Row::default() }, end);
    let other = series(&[("__name__", "other")]);
    for round in 201..400 {
        let new = NewSeries { labels: other.clone(), time: None, value: 1.0 };
        let mut row = Row { time: Timestamp(round * STEP_MS), ..Row::default() };
        match round {
            201 => row.new.push(new),
            _ => row.values.push((gone, 1.0)),
        }
        let report = storage.append_row(&target.group, &row, row.time);
        assert!(round > 201 || report.slots == [Some(gone)]);
    }
    let of = |name: &str| selected(&storage, &[matcher("__name__", "=", name)], i64::MIN, i64::MAX);
    assert_eq!((of("other").len(), of("other")[0].1.len()), (1, 199));
    let before = selected(&storage, &[matcher("i", "=", "1")], i64::MIN, i64::MAX);
    assert_eq!((before.len(), before[0].1.len()), (1, 200));
}
