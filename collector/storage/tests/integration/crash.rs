//! A process that appends is killed at any moment; what it acknowledged is there afterwards, and nothing else.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use storage::{Config, Storage};
use telemetry::{Labels, Sample, Timestamp};

const DIRECTORY: &str = "STORAGE_CRASH_DIRECTORY";
const KILLS: u64 = 15;
const INTERVAL_MS: i64 = 15_000;

fn config() -> Config {
    Config { retention: Duration::from_secs(365 * 86_400), ..Config::default() }
}

/// Batch number `round`: counters, ratios, and a series that is new every tenth round.
fn batch(round: i64) -> Vec<Sample> {
    let labels = |i: i64| Labels::from_pairs([("__name__", "m"), ("i", &i.to_string())]);
    let value = |i: i64| if i % 3 == 0 { (round * i) as f64 / 7.0 } else { (round * i + round % 5) as f64 };
    let series = (0..20).chain((round % 10 == 0).then_some(1000 + round));
    series.map(|i| Sample { labels: labels(i), timestamp: Timestamp(round * INTERVAL_MS), value: value(i) }).collect()
}

/// How many batches the store holds; that it holds exactly those is asserted.
fn rounds_held(storage: &Storage) -> i64 {
    let mut held: Vec<(Labels, Timestamp, u64)> = Vec::new();
    for series in storage.select(&[], Timestamp::MIN, Timestamp::MAX) {
        held.extend(series.samples.iter().map(|(time, value)| (series.labels.clone(), *time, value.to_bits())));
    }
    let rounds = held.iter().map(|(_, time, _)| time.0 / INTERVAL_MS + 1).max().unwrap_or(0);
    let expected = (0..rounds).flat_map(batch).map(|s| (s.labels, s.timestamp, s.value.to_bits()));
    let mut expected: Vec<_> = expected.collect();
    held.sort();
    expected.sort();
    assert!(held == expected, "the store does not hold exactly the first {rounds} batches");
    rounds
}

#[test]
#[ignore = "the process that is killed; the test below starts it"]
fn append_until_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let (storage, _) = Storage::open(Path::new(&directory), config()).unwrap();
    let start = storage.select(&[], Timestamp::MIN, Timestamp::MAX);
    let newest = start.iter().filter_map(|s| s.samples.last()).map(|(time, _)| time.0).max();
    let mut round = newest.map_or(0, |time| time / INTERVAL_MS + 1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                storage.checkpoint().unwrap();
                storage.sync().unwrap();
            }
        });
        loop {
            let batch = batch(round);
            assert_eq!(storage.append(&batch, batch[0].timestamp).appended, batch.len());
            round += 1;
            writeln!(std::io::stdout(), "acknowledged {round}").unwrap();
        }
    });
}

#[test]
fn what_was_acknowledged_survives_being_killed_and_nothing_is_invented() {
    let directory = tempfile::tempdir().unwrap();
    let mut last = 0;
    for kill in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::append_until_killed", "--ignored", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let acknowledged = |line: String| line.strip_prefix("acknowledged ").and_then(|n| n.parse::<i64>().ok());
        // A different number of batches every time, few and many.
        let wanted = 1 + (kill * kill * 7) % 150;
        let mut seen = last;
        for _ in 0..wanted {
            seen = output.by_ref().map_while(Result::ok).find_map(acknowledged).expect("the child appends");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        seen = output.map_while(Result::ok).filter_map(acknowledged).last().unwrap_or(seen);

        let (storage, recovery) = Storage::open(directory.path(), config()).unwrap();
        let held = rounds_held(&storage);
        assert!(held >= seen, "{seen} batches were acknowledged, {held} are there");
        // A batch may have been written and its acknowledgement not.
        assert!(held <= seen + 1, "{seen} batches were acknowledged, {held} are there");
        assert_eq!(recovery.logs_set_aside, 0);
        last = held;
    }
    assert!(last > 0);
}
