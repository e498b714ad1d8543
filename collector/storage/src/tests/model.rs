//! The store compared with one as simple as can be, over everything that can happen to it.

use std::collections::BTreeMap;

use proptest::prelude::*;
use telemetry::stale_nan;

use super::*;

/// The store said once more, as simply as can be.
struct Model {
    config: Config,
    series: BTreeMap<Labels, BTreeMap<i64, u64>>,
    oldest: i64,
}

impl Model {
    fn append(&mut self, sample: &Sample, now: Timestamp) -> Option<Refusal> {
        let (time, bits) = (sample.timestamp.0, sample.value.to_bits());
        if time < (now - self.config.retention).0.max(self.oldest) {
            return Some(Refusal::TooOld);
        }
        if sample.timestamp > now + self.config.future_tolerance {
            return Some(Refusal::TooNew);
        }
        if !self.series.contains_key(&sample.labels) && self.config.series_max.is_some_and(|m| self.series.len() >= m) {
            return Some(Refusal::SeriesLimit);
        }
        let samples = self.series.entry(sample.labels.clone()).or_default();
        let newest = samples.keys().last().copied();
        let lag = newest.map_or(0, |newest| newest - time);
        let in_window = lag <= self.config.out_of_order_window.as_millis() as i64;
        match samples.get(&time) {
            Some(there) if *there == bits => None,
            Some(_) if lag == 0 || in_window => Some(Refusal::Duplicate),
            None if lag < 0 || newest.is_none() || in_window => {
                samples.insert(time, bits);
                None
            }
            _ => Some(Refusal::OutOfOrder),
        }
    }

    /// A marker, unless something as new is there.
    fn end(&mut self, labels: &Labels, at: Timestamp, now: Timestamp) -> Option<Refusal> {
        let newest = self.series.get(labels).and_then(|samples| samples.keys().last().copied());
        if newest.is_some_and(|newest| newest >= at.0) {
            return None;
        }
        self.append(&Sample { labels: labels.clone(), timestamp: at, value: stale_nan() }, now)
    }

    fn expire(&mut self, now: Timestamp) {
        self.drop_before((now - self.config.retention).0);
    }

    fn drop_before(&mut self, oldest: i64) {
        self.oldest = self.oldest.max(oldest);
        for samples in self.series.values_mut() {
            *samples = samples.split_off(&self.oldest);
        }
        self.series.retain(|_, samples| !samples.is_empty());
    }

    fn select(&self, matchers: &[Matcher], start: i64, end: i64) -> Vec<(Labels, Vec<(i64, u64)>)> {
        let accepted = |labels: &Labels| matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or_default()));
        let within = |samples: &BTreeMap<i64, u64>| -> Vec<(i64, u64)> {
            samples.iter().filter(|(t, _)| **t > start && **t <= end).map(|(t, v)| (*t, *v)).collect()
        };
        let found = self.series.iter().filter(|(labels, _)| accepted(labels));
        found.map(|(l, s)| (l.clone(), within(s))).filter(|(_, s)| !s.is_empty()).collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<(usize, i64, f64)>),
    Row(RowStep),
    Expire,
    Fit,
    Spill,
    Checkpoint,
    Reopen,
}

/// A row of one of two groups.
#[derive(Clone, Debug)]
struct RowStep {
    group: usize,
    lag: i64,
    values: BTreeMap<usize, f64>,
    /// With a time of its own, so far behind.
    timed: Option<(usize, i64, f64)>,
    ended: Option<usize>,
    released: Option<usize>,
    /// The group is given up afterwards.
    closed: bool,
}

/// A group as its writer sees it.
struct Writer {
    group: Group,
    slots: BTreeMap<usize, u32>,
}

impl Writer {
    fn new(storage: &Storage) -> Self {
        Writer { group: storage.group(0), slots: BTreeMap::new() }
    }

    /// The step as a row, and as the samples that it stands for in the order in which they are stored.
    fn row(&self, step: &RowStep, all: &[Labels], now: Timestamp) -> (Row, Vec<Sample>, Vec<usize>) {
        let time = Timestamp(now.0 - step.lag);
        let mut row = Row { time, ..Row::default() };
        let (mut known, mut timed, mut new, mut added) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (series, value) in &step.values {
            let sample = sample(&all[*series], time.0, *value);
            match self.slots.get(series) {
                Some(slot) => {
                    row.values.push((*slot, *value));
                    known.push(sample);
                }
                None => {
                    row.new.push(NewSeries { labels: all[*series].clone(), time: None, value: *value });
                    new.push(sample);
                    added.push(*series);
                }
            }
        }
        if let Some((series, lag, value)) = step.timed {
            let at = Timestamp(now.0 - lag);
            match self.slots.get(&series) {
                Some(slot) => {
                    row.timed.push((*slot, at, value));
                    timed.push(sample(&all[series], at.0, value));
                }
                None => {
                    row.new.push(NewSeries { labels: all[series].clone(), time: Some(at), value });
                    new.push(sample(&all[series], at.0, value));
                    added.push(series);
                }
            }
        }
        row.ended.extend(step.ended.and_then(|series| self.slots.get(&series)));
        row.released.extend(step.released.and_then(|series| self.slots.get(&series)));
        (row, [known, timed, new].concat(), added)
    }
}

/// Few series, times near a clock that moves on, values that compress well and values that do not.
fn steps() -> impl Strategy<Value = Vec<(i64, Step)>> {
    let value = prop_oneof![
        8 => (0..50i64).prop_map(|v| v as f64),
        2 => (0..50_000i64).prop_map(|v| v as f64 / 1000.0),
        1 => (0..20_000_000_000i64).prop_map(|v| v as f64),
        2 => any::<f64>(),
        1 => Just(stale_nan()),
        1 => Just(f64::INFINITY),
    ];
    let lag = prop_oneof![30 => Just(0i64), 2 => -700..8_000i64, 1 => 0..200_000i64];
    let append = prop::collection::vec((0..6usize, lag.clone(), value.clone()), 1..8).prop_map(Step::Append);
    let rarely = |series: std::ops::Range<usize>| prop_oneof![9 => Just(None), 1 => series.prop_map(Some)];
    let values = prop::collection::btree_map(0..6usize, value.clone(), 0..6);
    let timed = prop_oneof![9 => Just(None), 1 => (0..6usize, lag.clone(), value.clone()).prop_map(Some)];
    let closed = prop_oneof![40 => Just(false), 1 => Just(true)];
    let row = (0..2usize, lag.clone(), values, timed, rarely(0..6), rarely(0..6), closed).prop_map(
        |(group, lag, values, timed, ended, released, closed)| {
            Step::Row(RowStep { group, lag, values, timed, ended, released, closed })
        },
    );
    let fleet = fleet(value.clone(), lag);
    let step = prop_oneof![
        20 => append,
        60 => row,
        2 => Just(Step::Expire),
        1 => Just(Step::Fit),
        1 => Just(Step::Spill),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Reopen),
    ];
    // Often enough for blocks to be sealed and joined, and for retention to reach them.
    prop_oneof![
        prop::collection::vec((0..2_000i64, step.clone()), 1..120),
        prop::collection::vec((1..200i64, step), 200..500),
        prop::collection::vec((1..250i64, fleet), 100..600),
    ]
}

/// Targets as they are: row after row of nearly all series, so that what is sealed of them lies together; and from time to
/// time what takes a series out of that.
fn fleet(
    value: impl Strategy<Value = f64> + Clone,
    lag: impl Strategy<Value = i64> + Clone,
) -> impl Strategy<Value = Step> {
    let rarely = |series: std::ops::Range<usize>| prop_oneof![150 => Just(None), 1 => series.prop_map(Some)];
    let values = prop::collection::vec(value.clone(), 5);
    let timed = prop_oneof![150 => Just(None), 1 => (0..6usize, lag, value.clone()).prop_map(Some)];
    let closed = prop_oneof![400 => Just(false), 1 => Just(true)];
    // The sixth series is new from time to time.
    let row = (values, rarely(0..5), 0..40u8, timed, rarely(0..6), rarely(0..6), closed).prop_map(
        |(values, missing, new, timed, ended, released, closed)| {
            let mut values: BTreeMap<usize, f64> = values.into_iter().enumerate().collect();
            if new == 0 {
                values.insert(5, 1.0);
            }
            values.retain(|series, _| Some(*series) != missing);
            Step::Row(RowStep { group: 0, lag: 0, values, timed, ended, released, closed })
        },
    );
    let late = (0..6usize, 0..60_000i64, value);
    let append = late.prop_map(|(series, lag, value)| Step::Append(vec![(series, lag, value)]));
    prop_oneof![
        200 => row,
        1 => append,
        1 => Just(Step::Expire),
        1 => Just(Step::Fit),
        6 => Just(Step::Spill),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Reopen),
    ]
}

fn configs() -> impl Strategy<Value = Config> {
    let size = prop_oneof![2 => Just(None), 1 => (500..3_000u64).prop_map(Some)];
    (prop_oneof![Just(0u64), Just(5_000), Just(60_000)], prop_oneof![Just(None), Just(Some(4usize))], size).prop_map(
        |(window, series_max, size_max)| Config {
            retention: Duration::from_secs(60),
            size_max,
            out_of_order_window: Duration::from_millis(window),
            future_tolerance: Duration::from_millis(500),
            series_max,
            ..Config::default()
        },
    )
}

fn some_series() -> Vec<Labels> {
    vec![
        series(&[("__name__", "up"), ("job", "a")]),
        series(&[("__name__", "up"), ("job", "b"), ("zone", "x")]),
        series(&[("__name__", "up"), ("job", "a"), ("zone", "y")]),
        series(&[("__name__", "down")]),
        series(&[("job", "a")]),
        series(&[]),
    ]
}

fn some_selectors() -> Vec<Vec<Matcher>> {
    vec![
        vec![],
        vec![matcher("__name__", "=", "up")],
        vec![matcher("job", "!=", "a")],
        vec![matcher("zone", "=", "")],
        vec![matcher("__name__", "=", "up"), matcher("zone", "!=", "")],
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn the_store_equals_a_naive_model(config in configs(), steps in steps(), on_disk in any::<bool>()) {
        let directory = tempfile::tempdir().unwrap();
        let mut storage = if on_disk {
            Storage::open(directory.path(), config.clone()).unwrap().0
        } else {
            Storage::new(config.clone())
        };
        let mut model = Model { config: config.clone(), series: BTreeMap::new(), oldest: i64::MIN };
        let all = some_series();
        let mut writers = [Writer::new(&storage), Writer::new(&storage)];
        let mut now = Timestamp(1_000_000);
        for (passed, step) in steps {
            now = Timestamp(now.0 + passed);
            match step {
                Step::Append(batch) => {
                    let batch: Vec<_> = batch.iter().map(|(i, lag, v)| sample(&all[*i], now.0 - lag, *v)).collect();
                    let report = storage.append(&batch, now);
                    let mut expected = RefusedCounts::default();
                    batch.iter().filter_map(|s| model.append(s, now)).for_each(|reason| expected.count(reason));
                    prop_assert_eq!(report.refused, expected);
                    prop_assert_eq!(report.appended as u64 + expected.total(), batch.len() as u64);
                }
                // Series without samples that a group still holds count towards the limit; the model knows none.
                Step::Row(_) if config.series_max.is_some() => {}
                Step::Row(step) => {
                    let writer = &mut writers[step.group];
                    let (row, samples, added) = writer.row(&step, &all, now);
                    let report = storage.append_row(&writer.group, &row, now);
                    let mut expected = RefusedCounts::default();
                    samples.iter().filter_map(|s| model.append(s, now)).for_each(|reason| expected.count(reason));
                    let ended = step.ended.filter(|_| !row.ended.is_empty());
                    let refusal = ended.and_then(|series| model.end(&all[series], row.time, now));
                    refusal.into_iter().for_each(|reason| expected.count(reason));
                    prop_assert_eq!(report.append.refused, expected);
                    prop_assert_eq!(report.slots.len(), added.len());
                    for (series, slot) in added.iter().zip(&report.slots) {
                        if let Some(slot) = slot {
                            writer.slots.insert(*series, *slot);
                        }
                    }
                    if let Some(series) = step.released.filter(|_| !row.released.is_empty()) {
                        writer.slots.remove(&series);
                    }
                    if step.closed {
                        *writer = Writer::new(&storage);
                    }
                }
                Step::Expire => {
                    storage.expire(now);
                    model.expire(now);
                    // Their slots may be without a series now; a writer hears that at its next row.
                    for writer in &mut writers {
                        writer.slots.retain(|series, _| model.series.contains_key(&all[*series]));
                    }
                }
                Step::Fit => {
                    let fitted = storage.fit(now).unwrap();
                    let is_over = on_disk && config.size_max.is_some_and(|max| storage.disk_bytes() > max);
                    if let Some(Fitted { oldest, .. }) = fitted {
                        prop_assert!(on_disk && oldest <= now - retention::KEPT_MIN);
                        model.drop_before(oldest.0);
                        for writer in &mut writers {
                            writer.slots.retain(|series, _| model.series.contains_key(&all[*series]));
                        }
                    }
                    // Only what is too young to go may be too much.
                    let floor = (now - retention::KEPT_MIN).0;
                    let begins = storage.extent().map_or(i64::MAX, |extent| extent.oldest.0.max(model.oldest));
                    prop_assert!(!is_over || begins >= floor, "{} bytes", storage.disk_bytes());
                }
                Step::Spill => drop(storage.spill().unwrap()),
                Step::Checkpoint => drop(storage.checkpoint().unwrap()),
                Step::Reopen if on_disk => {
                    drop(storage);
                    let (reopened, recovery) = Storage::open(directory.path(), config.clone()).unwrap();
                    prop_assert_eq!((recovery.cut_bytes, recovery.logs_set_aside), (0, 0));
                    storage = reopened;
                    writers = [Writer::new(&storage), Writer::new(&storage)];
                }
                Step::Reopen => {}
            }
            let stats = storage.stats();
            prop_assert!(stats.series >= model.series.len());
            prop_assert!(config.series_max.is_none() || stats.series == model.series.len());
            // Samples of a block that has expired in part are hidden, but still there.
            prop_assert!(stats.samples >= model.series.values().map(BTreeMap::len).sum::<usize>());
        }
        for selector in some_selectors() {
            for (start, end) in [(i64::MIN, i64::MAX), (now.0 - 20_000, now.0), (now.0 - 5_000, now.0 - 4_000)] {
                prop_assert_eq!(selected(&storage, &selector, start, end), model.select(&selector, start, end));
            }
        }
    }
}
