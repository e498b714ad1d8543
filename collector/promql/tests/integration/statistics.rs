//! What queries count: figures worked out by hand from the definitions of Prometheus' query statistics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use promql::{
    Engine, EvalError, Limits, Options, Series, SeriesValue, Source, SourceError, Stats, parse, parse_series,
};
use telemetry::{Matcher, Timestamp};

struct Fixed(Vec<Series>);

impl Source for Fixed {
    fn select(&self, matchers: &[Matcher], start: Timestamp, end: Timestamp) -> Result<Vec<Series>, SourceError> {
        let accepts = |s: &&Series| matchers.iter().all(|m| m.matches(s.labels.get(&m.name).unwrap_or_default()));
        let cut = |s: &Series| Series {
            labels: s.labels.clone(),
            samples: s.samples.iter().copied().filter(|(ts, _)| *ts > start && *ts <= end).collect(),
        };
        Ok(self.0.iter().filter(accepts).map(cut).collect())
    }
}

/// Two series with a sample every ten seconds.
fn source() -> Fixed {
    let series = |text: &str| {
        let described = parse_series(text).unwrap();
        let samples = (0..).zip(&described.values).map(|(i, value)| match value {
            SeriesValue::Float(value) => (Timestamp::from_millis(i * 10_000), *value),
            other => panic!("{other:?}"),
        });
        Series { labels: described.labels.clone(), samples: samples.collect() }
    };
    Fixed(["m{a=\"1\"} 1+1x60", "m{a=\"2\"} 1+2x60"].map(series).into())
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn run(query: &str, end: i64, limits: Limits) -> Result<Stats, EvalError> {
    let (expr, engine) = (parse(query).unwrap(), Engine::new(limits));
    let options = Options { step_stats: true, ..Options::default() };
    let answer = match end {
        105 => engine.instant_with(&expr, &source(), at(105), options),
        end => engine.range_with(&expr, &source(), at(105), at(end), Duration::from_secs(10), options),
    };
    answer.map(|answer| answer.stats)
}

/// Query, end, samples and samples read of each step, peak.
type Case = (&'static str, i64, &'static [(u64, u64)], u64);

const CASES: [Case; 15] = [
    ("1", 105, &[(0, 0)], 1),
    ("m", 105, &[(2, 2)], 2),
    ("m offset 10s", 105, &[(2, 2)], 2),
    ("timestamp(m)", 105, &[(2, 2)], 4),
    ("m * 2", 105, &[(2, 2)], 8),
    ("vector(1)", 105, &[(0, 0)], 3),
    ("m[30s]", 105, &[(6, 6)], 6),
    ("sum(m)", 105, &[(2, 2)], 2),
    // The first series' result, the second's window and result.
    ("sum(rate(m[30s]))", 105, &[(6, 6)], 5),
    ("rate(m[30s])", 125, &[(6, 6), (6, 2), (6, 2)], 9),
    // Between the windows lie samples that no step reads.
    ("max_over_time(m[7s])", 125, &[(2, 2), (2, 2), (2, 2)], 7),
    // Each step counts as if it had looked, one has read.
    ("m @ 30", 125, &[(2, 2), (2, 0), (2, 0)], 6),
    ("sum_over_time(m[20s:10s])", 105, &[(4, 4)], 8),
    ("sum_over_time(m[20s:10s])", 125, &[(4, 4), (4, 2), (4, 2)], 16),
    ("m and m", 125, &[(4, 4), (4, 4), (4, 4)], 22),
];

#[test]
fn samples_are_counted_as_prometheus_counts_them() {
    for (query, end, steps, peak) in CASES {
        let stats = run(query, end, Limits::default()).unwrap();
        let found: Vec<(u64, u64)> = stats.steps.iter().map(|s| (s.samples, s.samples_read)).collect();
        assert_eq!(found, steps, "{query} to {end}");
        assert_eq!(stats.steps[0].timestamp, at(105));
        let total = steps.iter().fold((0, 0), |sum, step| (sum.0 + step.0, sum.1 + step.1));
        assert_eq!((stats.samples, stats.samples_read), total, "{query} to {end}");
        assert_eq!(stats.peak_samples, peak, "{query} to {end}");
    }
}

#[test]
fn the_peak_is_what_the_limit_is_compared_with() {
    for (query, end, _, peak) in CASES {
        let max_samples = usize::try_from(peak).unwrap();
        run(query, end, Limits { max_samples, ..Limits::default() }).unwrap();
        let short = run(query, end, Limits { max_samples: max_samples - 1, ..Limits::default() });
        assert!(matches!(short, Err(EvalError::TooManySamples { .. })), "{query} to {end}: {short:?}");
    }
}

#[test]
fn a_series_is_counted_at_each_selector_and_steps_are_only_where_wanted() {
    let expr = parse("m / on (a) m").unwrap();
    let stats = Engine::default().instant(&expr, &source(), at(105)).unwrap().stats;
    assert_eq!((stats.series, stats.steps.len()), (4, 0));
    assert_eq!(stats.timings, promql::Timings::default());
}

#[test]
fn phases_are_timed_by_the_clock_that_was_handed_in() {
    // Each look at the clock takes a millisecond.
    let ticks = AtomicU64::new(0);
    let clock = || Duration::from_millis(ticks.fetch_add(1, Ordering::Relaxed));
    let options = Options { clock: Some(&clock), ..Options::default() };
    let expr = parse("m").unwrap();
    let answer =
        Engine::default().range_with(&expr, &source(), at(105), at(125), Duration::from_secs(10), options).unwrap();
    let mut timings = answer.stats.timings;
    let phases = [timings.preparation, timings.inner_eval, timings.result_sort];
    assert_eq!(phases, [Duration::from_millis(1); 3]);
    assert_eq!((timings.eval_total, timings.exec_total), (Duration::from_millis(4), Duration::from_millis(4)));
    timings.queued(Duration::from_millis(6));
    assert_eq!((timings.exec_queue, timings.exec_total), (Duration::from_millis(6), Duration::from_millis(10)));
}

#[test]
fn intermediate_results_are_limited_in_bytes_and_a_query_stops_in_the_middle() {
    let limits = Limits { max_bytes: 10_000, ..Limits::default() };
    run("sum(rate(m[30s]))", 125, limits.clone()).unwrap();
    let error = run("m", 105 + 10 * 1000, limits.clone()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "query processing would hold more than 10000 bytes of samples and intermediate results"
    );
    let error = run("sum_over_time(m[10m:1s])", 105, limits).unwrap_err();
    assert!(matches!(error, EvalError::TooManyBytes { limit: 10_000 }), "{error}");
}
