//! What a sample costs: `cargo run --profile ci -p storage --example bench [SERIES [ROUNDS]]`.
//!
//! Counters and gauges of a made-up fleet are written as one exposition body per round, parsed, appended (in memory,
//! and with the log), and selected. Prints nanoseconds of this thread's processor time and bytes per series; asserts
//! nothing.

use std::fmt::Write as _;
use std::time::Duration;

use storage::{Config, Storage};
use telemetry::exposition::{Format, Line, Parser, parse};
use telemetry::{Labels, MatchOp, Matcher, Sample, Timestamp};

const INTERVAL_MS: i64 = 15_000;
const START_MS: i64 = 1_700_000_000_000;
/// Series of one target; a batch is one scrape.
const TARGET_SERIES: usize = 1000;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>().expect("a number"));
    let series = arguments.next().unwrap_or(100_000);
    let rounds = arguments.next().unwrap_or(60);
    println!("{series} series, {rounds} rounds of {INTERVAL_MS} ms");

    let body = body(series, 7);
    let parse_only = best(5, || {
        let mut parser = Parser::new(&body, Format::Prometheus);
        let mut sum = 0.0;
        while let Some(line) = parser.next_line().expect("valid") {
            if let Line::Sample(sample) = line {
                sum += sample.value;
            }
        }
        sum
    });
    report("parse", parse_only, series);
    report("parse to owned families", best(3, || parse(&body, Format::Prometheus).expect("valid").len()), series);

    let labels = label_sets(&body);
    let directory = std::env::temp_dir().join(format!("picket-storage-bench-{}", std::process::id()));
    let config = Config { retention: Duration::from_secs(24 * 3600), ..Config::default() };
    let on_disk = Storage::open(&directory, config.clone()).expect("an empty directory").0;
    for (name, storage) in [("in memory", &Storage::new(config.clone())), ("with log", &on_disk)] {
        let before = resident_bytes();
        let (mut first, mut later) = (Duration::ZERO, Duration::ZERO);
        for round in 0..rounds {
            let time = Timestamp(START_MS + round as i64 * INTERVAL_MS);
            for (target, chunk) in labels.chunks(TARGET_SERIES).enumerate() {
                let start = target * TARGET_SERIES;
                let sample = |(i, labels): (usize, &Labels)| Sample {
                    labels: labels.clone(),
                    timestamp: time,
                    value: value(start + i, round),
                };
                let batch: Vec<Sample> = chunk.iter().enumerate().map(sample).collect();
                let begun = busy();
                assert_eq!(storage.append(&batch, time).appended, batch.len());
                *(if round == 0 { &mut first } else { &mut later }) += busy().saturating_sub(begun);
            }
        }
        report(&format!("append {name}, series new"), first, series);
        report(&format!("append {name}, series known"), later, series * (rounds - 1).max(1));
        let stats = storage.stats();
        println!(
            "{:<36} {:>8} B/series for samples, {:.2} B/sample, resident {} B/series",
            "",
            stats.sample_bytes / series,
            stats.sample_bytes as f64 / stats.samples as f64,
            resident_bytes().saturating_sub(before) / series
        );
        if let Some(log) = stats.log {
            println!("{:<36} {:>8.2} B/sample", "log", log.len_bytes as f64 / stats.samples as f64);
        }
    }

    let now = Timestamp(START_MS + (rounds as i64 - 1) * INTERVAL_MS);
    let matcher = |name: &str, op, value: &str| Matcher::new(name, op, value).expect("valid");
    let all = [matcher("__name__", MatchOp::Equal, "http_requests_total")];
    let errors = [all[0].clone(), matcher("status", MatchOp::Regex, "5..")];
    let one = [all[0].clone(), matcher("i", MatchOp::Equal, "77")];
    let window = |minutes: u64| now - Duration::from_secs(minutes * 60);
    for (name, matchers, start) in [
        ("select 5 m, all", &all[..], window(5)),
        ("select 1 h, all", &all[..], window(60)),
        ("select 5 m, status=~5..", &errors[..], window(5)),
    ] {
        let found = on_disk.select(matchers, start, now).len();
        report(name, best(3, || on_disk.select(matchers, start, now)), found);
    }
    report("select 5 m, one series", best(5, || on_disk.select(&one, window(5), now)), 1);

    let begun = busy();
    let checkpoint = on_disk.checkpoint().expect("space on disk").expect("a store on disk");
    println!(
        "{:<36} {:>8.1} ms, {:.1} MB",
        "checkpoint",
        millis(busy().saturating_sub(begun)),
        checkpoint.bytes as f64 / 1e6
    );
    drop(on_disk);
    let begun = busy();
    let (reopened, recovery) = Storage::open(&directory, config).expect("just written");
    println!(
        "{:<36} {:>8.1} ms, {} series",
        "open from checkpoint",
        millis(busy().saturating_sub(begun)),
        recovery.series
    );
    drop(reopened);
    std::fs::remove_dir_all(&directory).expect("our own directory");
}

fn body(series: usize, round: usize) -> String {
    let mut body = String::from("# HELP http_requests_total Requests.\n# TYPE http_requests_total counter\n");
    for i in 0..series {
        writeln!(
            body,
            "http_requests_total{{service=\"service-{}\",environment=\"production\",task_id=\"{:016x}\",method=\"{}\",path=\
             \"/api/v1/orders/{}\",status=\"{}\",i=\"{i}\"}} {}",
            i % 40,
            i / TARGET_SERIES * 7_919_113,
            ["GET", "POST", "PUT"][i % 3],
            i % 25,
            [200, 201, 404, 500, 503][i % 5],
            value(i, round)
        )
        .expect("writing into a String cannot fail");
    }
    body
}

/// Three in four are counters of whole numbers, the rest move like seconds and ratios.
fn value(i: usize, round: usize) -> f64 {
    match i % 4 {
        0 => ((i * 31 + round * 17) % 1000) as f64 / 1000.0,
        _ => (i * 1000 + round * (i % 97) + (round * i) % 7) as f64,
    }
}

fn label_sets(body: &str) -> Vec<Labels> {
    let mut sets = Vec::new();
    let mut parser = Parser::new(body, Format::Prometheus);
    while let Some(line) = parser.next_line().expect("valid") {
        if let Line::Sample(sample) = line {
            sets.push(sample.to_labels());
        }
    }
    sets
}

fn best<T>(times: usize, mut work: impl FnMut() -> T) -> Duration {
    let timed = |_| {
        let begun = busy();
        std::hint::black_box(work());
        busy().saturating_sub(begun)
    };
    (0..times).map(timed).min().unwrap_or_default()
}

fn report(name: &str, took: Duration, count: usize) {
    println!("{name:<36} {:>8.1} ns each, {:.1} ms", took.as_nanos() as f64 / count as f64, millis(took));
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}

/// Zero where the system does not tell.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<usize>().ok()).unwrap_or(0) * 1024
}

/// Processor time of this thread, so that a busy machine does not count; Linux only.
fn busy() -> Duration {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    Duration::from_nanos(schedstat.split(' ').next().and_then(|ns| ns.parse().ok()).expect("nanoseconds first"))
}
