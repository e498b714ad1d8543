//! What the traffic met, as one line of JSON.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::Serialize;

/// Upper bounds of the latency buckets: a factor of 1.25 from 0.1 ms, enough for a percentile to two digits.
const BUCKETS: usize = 64;
const FIRST_MS: f64 = 0.1;
const FACTOR: f64 = 1.25;

pub struct Summary {
    seed: u64,
    counts: Mutex<Counts>,
}

struct Counts {
    began: Instant,
    requests: u64,
    errors: u64,
    refused: u64,
    dropped: u64,
    by_status: BTreeMap<String, u64>,
    business: BTreeMap<&'static str, u64>,
    latencies: [u64; BUCKETS],
}

/// One answer, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Status(u16),
    NoAnswer,
}

#[derive(Serialize)]
struct Line<'a> {
    elapsed_s: f64,
    requests: u64,
    /// 5xx and requests without an answer.
    errors: u64,
    /// 4xx: declined cards, sold-out products, and the like.
    refused: u64,
    /// Not sent because too many were in flight.
    dropped: u64,
    rate: f64,
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    by_status: &'a BTreeMap<String, u64>,
    #[serde(flatten)]
    business: &'a BTreeMap<&'static str, u64>,
    seed: u64,
    #[serde(rename = "final")]
    last: bool,
}

impl Summary {
    pub fn new(seed: u64) -> Self {
        Summary { seed, counts: Mutex::new(Counts::new()) }
    }

    /// Forgets what the preparation did.
    pub fn begin(&self) {
        *self.counts.lock().expect("no one panics holding it") = Counts::new();
    }

    pub fn answered(&self, outcome: Outcome, took: Duration) {
        let mut counts = self.counts.lock().expect("no one panics holding it");
        counts.requests += 1;
        let status = match outcome {
            Outcome::Status(status) => {
                counts.errors += u64::from(status >= 500);
                counts.refused += u64::from((400..500).contains(&status));
                status.to_string()
            }
            Outcome::NoAnswer => {
                counts.errors += 1;
                "none".to_owned()
            }
        };
        *counts.by_status.entry(status).or_default() += 1;
        counts.latencies[bucket(took)] += 1;
    }

    pub fn dropped(&self) {
        self.counts.lock().expect("no one panics holding it").dropped += 1;
    }

    /// Something that matters to the business happened: `orders`, `paid`, `shipped`.
    pub fn happened(&self, what: &'static str) {
        *self.counts.lock().expect("no one panics holding it").business.entry(what).or_default() += 1;
    }

    pub fn line(&self, last: bool) -> String {
        let counts = self.counts.lock().expect("no one panics holding it");
        let elapsed_s = counts.began.elapsed().as_secs_f64();
        let tenth = |value: f64| (value * 10.0).round() / 10.0;
        let line = Line {
            elapsed_s: tenth(elapsed_s),
            requests: counts.requests,
            errors: counts.errors,
            refused: counts.refused,
            dropped: counts.dropped,
            rate: tenth(counts.requests as f64 / elapsed_s.max(0.001)),
            p50_ms: tenth(counts.percentile_ms(0.50)),
            p95_ms: tenth(counts.percentile_ms(0.95)),
            p99_ms: tenth(counts.percentile_ms(0.99)),
            by_status: &counts.by_status,
            business: &counts.business,
            seed: self.seed,
            last,
        };
        serde_json::to_string(&line).expect("numbers and texts are JSON")
    }
}

impl Counts {
    fn new() -> Self {
        Counts {
            began: Instant::now(),
            requests: 0,
            errors: 0,
            refused: 0,
            dropped: 0,
            by_status: BTreeMap::new(),
            business: BTreeMap::new(),
            latencies: [0; BUCKETS],
        }
    }

    /// The upper bound of the bucket in which the share is reached.
    fn percentile_ms(&self, share: f64) -> f64 {
        let wanted = (self.latencies.iter().sum::<u64>() as f64 * share).ceil();
        let mut seen = 0;
        for (index, count) in self.latencies.iter().enumerate() {
            seen += count;
            if seen > 0 && seen as f64 >= wanted {
                return FIRST_MS * FACTOR.powi(index as i32);
            }
        }
        0.0
    }
}

fn bucket(took: Duration) -> usize {
    let millis = took.as_secs_f64() * 1000.0;
    let index = (millis / FIRST_MS).max(1.0).log(FACTOR).ceil();
    (index as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_errors_refusals_and_percentiles_apart() {
        let summary = Summary::new(7);
        for millis in 1..=100 {
            summary.answered(Outcome::Status(200), Duration::from_millis(millis));
        }
        summary.answered(Outcome::Status(409), Duration::from_millis(1));
        summary.answered(Outcome::Status(500), Duration::from_millis(1));
        summary.answered(Outcome::NoAnswer, Duration::from_millis(1));
        summary.happened("orders");
        let line: serde_json::Value = serde_json::from_str(&summary.line(true)).unwrap();
        assert_eq!((&line["requests"], &line["errors"], &line["refused"]), (&103.into(), &2.into(), &1.into()));
        assert_eq!(line["by_status"], serde_json::json!({"200": 100, "409": 1, "500": 1, "none": 1}));
        assert_eq!((&line["orders"], &line["final"], &line["seed"]), (&1.into(), &true.into(), &7.into()));
        let p95 = line["p95_ms"].as_f64().unwrap();
        assert!((90.0..=120.0).contains(&p95), "{p95}");
    }
}
