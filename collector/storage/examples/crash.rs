//! The store killed, and cut off from its power: `cargo xtask soak store [ROUNDS [SEED]]`.
//!
//! A child process appends batches of rows, single samples, late samples, ends and histograms as fast as it can, while
//! it syncs and writes checkpoints beside that, and says which batches were acknowledged and which were synced. It is
//! killed (SIGKILL) at a random moment. In every third round the power fails with it: what was not synced is cut off or
//! turned to zeros, page by page. Then the directory is opened and compared with a model that has the same batches: no
//! acknowledged batch may be missing (after a loss of power: no synced one), nothing may be there that was not
//! appended. The next child goes on in the same directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use storage::{Config, Group, NewSeries, Row, Storage};
use telemetry::{Histogram, HistogramSample, Labels, Sample, Timestamp, stale_nan};

const GROUPS: u64 = 2;
const SERIES: u64 = 24;
const LOOSE: u64 = 8;
const STEP_MS: i64 = 1000;
const START_MS: i64 = 1_700_000_000_000;
const RETENTION: Duration = Duration::from_secs(1800);
const PAGE: u64 = 4096;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default: u64| arguments.get(index).map_or(default, |a| a.parse().expect("a number"));
    if arguments.first().is_some_and(|first| first == "child") {
        child(Path::new(&arguments[1]), number(2, 0), number(3, 0));
        return ExitCode::SUCCESS;
    }
    let (rounds, seed) = (number(0, 200), number(1, u64::from(std::process::id())));
    println!("{rounds} rounds, seed {seed}");
    match run(rounds, seed) {
        Ok(done) => {
            println!("{done}");
            ExitCode::SUCCESS
        }
        Err(fault) => {
            eprintln!("{fault} (seed {seed})");
            ExitCode::FAILURE
        }
    }
}

/// Small and seeded; no two calls of one argument differ.
fn random(seed: u64, salt: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn config() -> Config {
    Config { retention: RETENTION, out_of_order_window: Duration::from_secs(60), ..Config::default() }
}

fn time_of(batch: u64) -> i64 {
    START_MS + batch as i64 * STEP_MS
}

/// What a batch does; told by its number and the seed alone.
enum Batch {
    /// A row: its group, the values of the series that it has, the series that end with it.
    Row(u64, Vec<(u64, f64)>, Vec<u64>),
    Samples(Vec<Sample>),
    Histogram(HistogramSample),
    Expire,
}

fn row_labels(group: u64, series: u64) -> Labels {
    Labels::from_pairs([("__name__", "row".to_owned()), ("g", group.to_string()), ("s", series.to_string())])
}

fn value(seed: u64, batch: u64, series: u64) -> f64 {
    let chance = random(seed, batch * 31 + series);
    match series % 5 {
        0 | 1 => (batch * (series + 1)) as f64,
        2 => (chance % 1000) as f64 / 8.0,
        3 => f64::from_bits(chance),
        _ => (batch * 5_000_000_000 * (chance % 2)) as f64,
    }
}

/// Whether the series is in the row of this batch; changes every 40 batches.
fn is_present(seed: u64, batch: u64, group: u64, series: u64) -> bool {
    !random(seed, batch / 40 * 1000 + group * 100 + series).is_multiple_of(8)
}

fn kind(seed: u64, batch: u64) -> u64 {
    random(seed, batch) % 100
}

fn row_group(seed: u64, batch: u64) -> Option<u64> {
    let kind = kind(seed, batch);
    (kind < 70).then_some(kind % GROUPS)
}

fn batch(seed: u64, number: u64) -> Batch {
    let time = Timestamp(time_of(number));
    match kind(seed, number) {
        0..70 => {
            let group = kind(seed, number) % GROUPS;
            let present = |batch: u64| move |series: &u64| is_present(seed, batch, group, *series);
            let values = (0..SERIES).filter(present(number)).map(|s| (s, value(seed, number, s))).collect();
            let before = (0..number).rev().take(1000).find(|b| row_group(seed, *b) == Some(group));
            let ended = before.map_or(Vec::new(), |before| {
                (0..SERIES).filter(present(before)).filter(|s| !present(number)(s)).collect()
            });
            Batch::Row(group, values, ended)
        }
        70..92 => {
            let late = random(seed, number + 7).is_multiple_of(4);
            let sample = |series: u64| Sample {
                labels: Labels::from_pairs([("__name__", "loose".to_owned()), ("s", series.to_string())]),
                // Half a step off, so that no other sample has the time.
                timestamp: if late { Timestamp(time.0 - 20 * STEP_MS + STEP_MS / 2) } else { time },
                value: value(seed, number, series),
            };
            Batch::Samples((0..LOOSE).map(sample).collect())
        }
        92..98 => Batch::Histogram(HistogramSample {
            labels: Labels::from_pairs([("__name__", "histogram")]),
            timestamp: time,
            histogram: Histogram {
                count: number as f64,
                sum: number as f64 / 3.0,
                positive: vec![(3, number as f64)],
                ..Histogram::default()
            },
        }),
        _ => Batch::Expire,
    }
}

/// The places of a group's series.
#[derive(Clone, Default)]
struct Slots {
    of: BTreeMap<u64, u32>,
    /// Those of series that began with their end: the next row gives them back.
    superfluous: Vec<u32>,
}

/// Appends from a batch on, until it is killed.
fn child(directory: &Path, seed: u64, from: u64) {
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
        let log = newest_log(directory);
        let len = fs::metadata(&log).map_or(0, |meta| meta.len());
        storage.sync().expect("there is room");
        say(&format!("S {synced} {len} {}", log.display()));
        if random(seed ^ synced, turn).is_multiple_of(5) {
            storage.checkpoint().expect("there is room");
        }
        std::thread::sleep(Duration::from_millis(random(seed, synced) % 12));
    }
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

type Samples = BTreeMap<Labels, BTreeMap<i64, u64>>;

/// All that was appended.
#[derive(Default)]
struct Model {
    samples: Samples,
    histograms: BTreeMap<i64, u64>,
    batches: u64,
}

impl Model {
    fn go_on_to(&mut self, seed: u64, batches: u64) {
        for number in self.batches..batches {
            let time = time_of(number);
            let mut put = |labels: Labels, time: i64, value: f64| {
                self.samples.entry(labels).or_default().insert(time, value.to_bits());
            };
            match batch(seed, number) {
                Batch::Row(group, values, ended) => {
                    values.into_iter().for_each(|(s, v)| put(row_labels(group, s), time, v));
                    ended.into_iter().for_each(|s| put(row_labels(group, s), time, stale_nan()));
                }
                Batch::Samples(samples) => samples.into_iter().for_each(|s| put(s.labels, s.timestamp.0, s.value)),
                Batch::Histogram(s) => drop(self.histograms.insert(time, s.histogram.sum.to_bits())),
                Batch::Expire => {}
            }
        }
        self.batches = batches;
        let oldest = self.oldest();
        self.samples.values_mut().for_each(|samples| *samples = samples.split_off(&oldest));
        self.samples.retain(|_, samples| !samples.is_empty());
        self.histograms = self.histograms.split_off(&oldest);
    }

    /// Older samples may have expired or not.
    fn oldest(&self) -> i64 {
        time_of(self.batches) - RETENTION.as_millis() as i64
    }

    /// The samples of the store that cannot have expired.
    fn of(storage: &Storage, oldest: i64) -> (Samples, BTreeMap<i64, u64>) {
        let (mut samples, mut histograms) = (Samples::new(), BTreeMap::new());
        for series in storage.select(&[], Timestamp(oldest - 1), Timestamp::MAX) {
            histograms.extend(series.histograms.iter().map(|(at, h)| (at.0, h.sum.to_bits())));
            let own: BTreeMap<i64, u64> = series.samples.iter().map(|(at, v)| (at.0, v.to_bits())).collect();
            if !own.is_empty() {
                samples.insert(series.labels, own);
            }
        }
        (samples, histograms)
    }

    fn equals(&self, storage: &Storage) -> bool {
        Model::of(storage, self.oldest()) == (self.samples.clone(), self.histograms.clone())
    }
}

/// What a child said before it was killed.
struct Heard {
    acknowledged: u64,
    synced: u64,
    synced_log: Option<(PathBuf, u64)>,
}

fn run(rounds: u64, seed: u64) -> Result<String, String> {
    let place = std::env::temp_dir().join(format!("picket-crash-{}", std::process::id()));
    let directory = place.join("data");
    let (mut model, mut batches, mut lost, mut kills_in_checkpoint) = (Model::default(), 0, 0u64, 0u64);
    let began = Instant::now();
    for round in 0..rounds {
        drop(Storage::open(&directory, config()).map_err(|e| e.to_string())?);
        let heard = kill_child(&directory, seed, batches, random(seed, round ^ 0xc0ffee))?;
        let is_unfinished = |entry: &fs::DirEntry| entry.path().extension().is_some_and(|e| e == "unfinished");
        let listing = fs::read_dir(&directory).map_err(|e| e.to_string())?;
        kills_in_checkpoint += u64::from(listing.flatten().any(|entry| is_unfinished(&entry)));
        let power_fails = round % 3 == 2;
        let least = match power_fails {
            true => {
                lose_power(&directory, &heard, random(seed, round ^ 0xdead)).map_err(|e| e.to_string())?;
                heard.synced
            }
            false => heard.acknowledged,
        };
        let (storage, recovery) = Storage::open(&directory, config()).map_err(|e| format!("round {round}: {e}"))?;
        // The batch under way may be there too, whole.
        let most = heard.acknowledged + 1;
        let found = (least..=most).rev().find(|count| {
            let mut candidate = Model { batches: model.batches, ..Model::default() };
            (candidate.samples, candidate.histograms) = (model.samples.clone(), model.histograms.clone());
            newest_time(&storage) == newest_of(seed, *count) && {
                candidate.go_on_to(seed, *count);
                candidate.equals(&storage)
            }
        });
        let Some(found) = found else {
            return Err(format!(
                "round {round}: the store equals no state from batch {least} to {most} (recovered: {recovery:?}); it is \
                 kept in {}",
                directory.display()
            ));
        };
        lost += heard.acknowledged.saturating_sub(found);
        model.go_on_to(seed, found);
        batches = found;
    }
    fs::remove_dir_all(&place).map_err(|e| e.to_string())?;
    Ok(format!(
        "{batches} batches in {:.0} s, {rounds} kills, {} of them with a loss of power ({lost} unsynced batches lost by \
         that), {kills_in_checkpoint} in the middle of a checkpoint: nothing acknowledged lost, nothing invented",
        began.elapsed().as_secs_f64(),
        rounds / 3,
    ))
}

/// The newest time in the store, of samples and histograms; quick to compare.
fn newest_time(storage: &Storage) -> Option<i64> {
    let series = storage.select(&[], Timestamp::MIN, Timestamp::MAX);
    let newest =
        |s: &storage::SeriesData| s.samples.last().map(|(at, _)| at.0).max(s.histograms.last().map(|(at, _)| at.0));
    series.iter().filter_map(newest).max()
}

/// The newest time after so many batches.
fn newest_of(seed: u64, batches: u64) -> Option<i64> {
    let times = |number: u64| match batch(seed, number) {
        Batch::Row(_, values, ended) => (!values.is_empty() || !ended.is_empty()).then(|| time_of(number)),
        Batch::Samples(samples) => samples.iter().map(|s| s.timestamp.0).max(),
        Batch::Histogram(_) => Some(time_of(number)),
        Batch::Expire => None,
    };
    (0..batches).rev().take(200).filter_map(times).max()
}

fn kill_child(directory: &Path, seed: u64, from: u64, chance: u64) -> Result<Heard, String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut command = Command::new(program);
    command.arg("child").arg(directory).arg(seed.to_string()).arg(from.to_string()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    let out = child.stdout.take().ok_or("no standard output")?;
    let mut heard = Heard { acknowledged: from, synced: from, synced_log: None };
    let mut lines = BufReader::new(out).lines().map_while(Result::ok);
    // Counted from the first batch on, so that a slow start is not all that is killed.
    let first = lines.next();
    let begun = Instant::now();
    let lives = Duration::from_micros(chance % 400_000);
    let mut killed = false;
    for line in first.into_iter().chain(lines) {
        hear(&mut heard, &line);
        if !killed && begun.elapsed() >= lives {
            child.kill().map_err(|e| e.to_string())?;
            killed = true;
        }
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    if !killed {
        return Err(format!("the child ended by itself: {status}"));
    }
    Ok(heard)
}

fn hear(heard: &mut Heard, line: &str) {
    let mut words = line.splitn(4, ' ');
    let kind = words.next();
    let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
    match kind {
        Some("A") => heard.acknowledged = number().unwrap_or(heard.acknowledged),
        Some("S") => {
            if let (Some(synced), Some(len)) = (number(), number())
                && let Some(log) = words.next()
            {
                heard.synced = heard.synced.max(synced);
                heard.synced_log = Some((PathBuf::from(log), len));
            }
        }
        _ => {}
    }
}

/// Cuts or blanks what no sync had covered. Whatever was there when the child began is durable.
fn lose_power(directory: &Path, heard: &Heard, chance: u64) -> std::io::Result<()> {
    let Some((synced_log, synced_len)) = &heard.synced_log else { return Ok(()) };
    for log in logs(directory) {
        let durable = match log.cmp(synced_log) {
            std::cmp::Ordering::Less => continue,
            std::cmp::Ordering::Equal => *synced_len,
            std::cmp::Ordering::Greater => 0,
        };
        let len = fs::metadata(&log)?.len();
        let kept = durable + random(chance, 1) % (len - durable + 1);
        let file = fs::File::options().write(true).open(&log)?;
        file.set_len(kept)?;
        if random(chance, 2).is_multiple_of(2) {
            file.set_len(len)?;
        }
        let mut bytes = fs::read(&log)?;
        let pages: BTreeSet<u64> =
            (durable / PAGE..=len / PAGE).filter(|p| random(chance, p + 3).is_multiple_of(4)).collect();
        for page in pages {
            let (from, to) = ((page * PAGE).max(durable), ((page + 1) * PAGE).min(bytes.len() as u64));
            if from < to {
                bytes[from as usize..to as usize].fill(0);
            }
        }
        fs::write(&log, bytes)?;
    }
    Ok(())
}

fn logs(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_log = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.strip_prefix("log-").is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
    };
    let mut logs: Vec<PathBuf> = entries.filter(is_log).collect();
    logs.sort();
    logs
}

fn newest_log(directory: &Path) -> PathBuf {
    logs(directory).pop().expect("an open store has a log")
}
