//! The way over columns against the general way: the same answers to the bit, with the same notes and statistics.

use std::time::Duration;

use promql::{Engine, Limits, Options, PointSeries, Prepared, SeriesTable, SeriesValue, parse, parse_series};
use telemetry::Timestamp;

use crate::differential::{Random, descriptions, vector};

fn table(random: &mut Random) -> Vec<PointSeries> {
    let mut series: Vec<PointSeries> = Vec::new();
    for (name, values) in descriptions(random) {
        let described = parse_series(&format!("{name} {values}")).unwrap();
        let mut points = PointSeries { labels: described.labels, ..PointSeries::default() };
        for (i, value) in (0..).zip(&described.values) {
            let ts = Timestamp::from_millis(i * 15_000);
            match value {
                // Now and then a series goes stale, or has a value that is none.
                SeriesValue::Float(_) if random.below(40) == 0 => points.floats.push((ts, telemetry::stale_nan())),
                SeriesValue::Float(_) if random.below(60) == 0 => points.floats.push((ts, f64::NAN)),
                SeriesValue::Float(_) if random.below(200) == 0 => points.floats.push((ts, f64::INFINITY)),
                SeriesValue::Float(value) => points.floats.push((ts, *value)),
                SeriesValue::Omitted => {}
                SeriesValue::Histogram { histogram, .. } => points.histograms.push((ts, histogram.clone())),
            }
        }
        if random.below(8) == 0 {
            points.floats.clear();
        }
        if random.below(15) == 0 {
            let text = "h {{schema:1 count:5 sum:20 buckets:[1 2 1 1]}}";
            let SeriesValue::Histogram { histogram, .. } = parse_series(text).unwrap().values[0].clone() else {
                panic!("{text}")
            };
            points.histograms.push((Timestamp::from_millis(400_000), histogram));
            points.floats.retain(|(ts, _)| ts.as_millis() != 400_000);
        }
        series.push(points);
    }
    series
}

/// Nodes that the random queries of the differential test do not have.
fn shape(random: &mut Random) -> String {
    let inner = vector(random, 2);
    match random.below(12) {
        0 => format!("stddev by (job) ({inner})"),
        1 => format!("quantile by (job) (0.{}, {inner})", random.below(10)),
        2 => format!("topk by (job) (2, {inner})"),
        3 => format!("bottomk(3, {inner})"),
        4 => format!("({inner}) * 2 > 3"),
        5 => format!("7 - ({inner})"),
        6 => format!("-({inner})"),
        7 => format!("sum by (job) (clamp_max({inner}, 4))"),
        8 => format!("histogram_quantile(0.9, sum by (le) (rate(d_bucket[{}m])))", 1 + random.below(3)),
        9 => format!("predict_linear(g[2m], 60) + on (job, instance) ({inner})"),
        10 => format!("sum by (job) (rate(c_total[2m] @ 300)) + on (job) group_right () ({inner})"),
        _ => inner,
    }
}

#[test]
fn columns_give_what_the_general_way_gives() {
    let mut random = Random(0x5eed_0c01);
    let engine = Engine::new(Limits { max_samples: 5000, ..Limits::default() });
    let at = |seconds: usize| Timestamp::from_millis(seconds as i64 * 1000);
    let options = Options { step_stats: true, ..Options::default() };
    let mut answered = 0;
    for _ in 0..60 {
        let series = table(&mut random);
        let (columns, copies) = (SeriesTable::new(series.clone()), SeriesTable::new(series).copies_only());
        for _ in 0..40 {
            let query = shape(&mut random);
            let expr = parse(&query).unwrap_or_else(|error| panic!("{query}: {error}"));
            let prepared = Prepared::new(expr.clone());
            // The second time finds what the first has left behind.
            for _ in 0..2 {
                let time = at(200 + random.below(900));
                let fast = engine.instant_prepared(&prepared, &columns, time, options);
                let general = engine.instant_with(&expr, &copies, time, options);
                answered += usize::from(fast.is_ok());
                same(&query, fast.map(without_series), general.map(without_series));
            }
            let (start, step) = (at(200 + random.below(300)), Duration::from_secs(10 + random.below(50) as u64));
            let end = at(700 + random.below(400));
            let fast = engine.range_prepared(&prepared, &columns, start, end, step, options);
            let general = engine.range_with(&expr, &copies, start, end, step, options);
            same(&query, fast.map(without_series), general.map(without_series));
        }
    }
    assert!(answered > 3000, "only {answered} answers");
}

/// Enough series for many shards; resets, holes and staleness markers among them.
fn many(random: &mut Random, series: usize) -> Vec<PointSeries> {
    let one = |i: usize| {
        let labels = telemetry::Labels::from_pairs([
            ("__name__", if i.is_multiple_of(7) { "c" } else { "c_total" }),
            ("job", ["api", "web", "db"][i % 3]),
            ("instance", &i.to_string()),
        ]);
        let mut floats = Vec::new();
        let mut value = 0.0;
        for k in 0..120 {
            let ts = Timestamp::from_millis(k * 15_000 + (i % 11) as i64 * 1000);
            value += random.below(10) as f64 / 7.0;
            match random.below(50) {
                0 => value = 0.0,
                1 => floats.push((ts, telemetry::stale_nan())),
                2 => continue,
                _ => floats.push((ts, value)),
            }
        }
        PointSeries { labels, floats, ..PointSeries::default() }
    };
    (0..series).map(one).collect()
}

#[test]
fn threads_change_neither_answers_nor_statistics() {
    let mut random = Random(0x5eed_0c02);
    let table = SeriesTable::new(many(&mut random, 5000));
    let engine = Engine::default();
    for query in [
        "sum by (job) (rate(c_total[5m]))",
        "avg(increase({job=~'.+'}[3m]))",
        "topk by (job) (2, max_over_time(c_total[2m] offset 1m))",
        "stddev(last_over_time(c_total{job='api'}[1m]) - rate(c_total[10m] @ 900))",
    ] {
        let prepared = Prepared::new(parse(query).unwrap());
        let answer = |threads: usize, max_samples: usize| {
            let options = Options { step_stats: true, threads, ..Options::default() };
            let (start, end) = (Timestamp::from_millis(300_000), Timestamp::from_millis(1_700_000));
            let engine = Engine::new(Limits { max_samples, ..engine.limits().clone() });
            engine.range_prepared(&prepared, &table, start, end, Duration::from_secs(7), options)
        };
        let alone = answer(1, 50_000_000).unwrap();
        assert!(alone.stats.samples > 0, "{query}");
        for threads in [2, 3, 16] {
            same(query, answer(threads, 50_000_000), Ok::<_, promql::EvalError>(alone.clone()));
        }
        same(query, answer(2, 1000), answer(1, 1000));
    }
}

/// Series without samples in the window are counted where samples are copied.
fn without_series(mut answer: promql::Answer) -> promql::Answer {
    answer.stats.series = 0;
    answer
}

fn same<T: std::fmt::Debug, E: std::fmt::Debug>(query: &str, fast: Result<T, E>, general: Result<T, E>) {
    let (fast, general) = (format!("{fast:?}"), format!("{general:?}"));
    assert_eq!(fast, general, "{query}");
}
