//! What queries cost: 100,000 series with a sample every 15 seconds, in memory: the last 24 samples of each, as a
//! store keeps those that rules look at, and 280 for a query over an hour.
//!
//! `cargo run --release -p promql --example bench [RUNS]` prints processor time for each series that the query reads:
//! the median of the runs and their spread. Series of one target share their sample times, as scraped ones do.

use std::time::Duration;

use promql::{Engine, Limits, Options, PointSeries, Prepared, SeriesTable, parse};
use telemetry::{Labels, Timestamp};

const SERIES: usize = 100_000;
const TARGETS: usize = 200;
const SAMPLES: i64 = 280;
const RECENT: usize = 24;
/// Evaluations of one run: the system counts processor time in ticks.
const REPEATS: u32 = 8;

/// Of each twenty series of a target: twelve buckets, three of another kind to join with, five counters.
fn series(target: usize, n: usize) -> PointSeries {
    let (job, instance) = (format!("job{}", target % 50), format!("10.0.{}.{}", target / 250, target % 250));
    let path = format!("/api/v1/things/{}", n / 20);
    let le = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"];
    let (name, code, le) = match n % 20 {
        k @ 0..12 => ("latency_bucket", "200", le[k]),
        k @ 12..15 => ("errors_total", ["200", "404", "500"][k - 12], ""),
        k => ("requests_total", ["200", "404", "500", "503", "201"][k - 15], ""),
    };
    let labels = [
        ("__name__", name),
        ("job", &job),
        ("instance", &instance),
        ("path", &path),
        ("code", code),
        ("le", le),
        ("env", "prod"),
    ];
    let slope = ((target * 31 + n * 7) % 97) as i64;
    let offset = (target % 15) as i64 * 1000;
    let floats = (0..SAMPLES).map(|i| (Timestamp::from_millis(i * 15_000 + offset), (i * slope) as f64));
    PointSeries { labels: Labels::from_pairs(labels), floats: floats.collect(), ..PointSeries::default() }
}

/// Processor time of this process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanos = stat.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    Duration::from_nanos(nanos)
}

enum Kind {
    Warm,
    Cold,
    Hour,
    General,
}

fn main() {
    let runs = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(9);
    let all = (0..TARGETS).flat_map(|target| (0..SERIES / TARGETS).map(move |n| series(target, n)));
    // All series have this name in the first queries, so that it is 100,000 that they read.
    let renamed = all.clone().map(|s| PointSeries { labels: s.labels.with("__name__", "x_total"), ..s });
    let renamed = renamed.enumerate().map(|(i, s)| PointSeries { labels: s.labels.with("n", &i.to_string()), ..s });
    let recent = |mut s: PointSeries| {
        s.floats = s.floats.split_off(s.floats.len() - RECENT);
        s
    };
    let long = SeriesTable::new(renamed.clone());
    let uniform = SeriesTable::new(renamed.map(recent));
    let mixed = SeriesTable::new(all.map(recent));
    let copied = uniform.clone().copies_only();
    let engine = Engine::new(Limits::default());
    let (at, hour) = (Timestamp::from_millis(4_190_000), Timestamp::from_millis(4_190_000 - 3_600_000));
    let rate = "sum by (job) (rate(x_total[5m]))";
    let cases: [(&str, &str, Kind, &SeriesTable, usize); 15] = [
        ("warm plan", rate, Kind::Warm, &uniform, SERIES),
        ("cold plan", rate, Kind::Cold, &uniform, SERIES),
        ("general way", rate, Kind::General, &copied, SERIES),
        ("1 h, 30 s steps", rate, Kind::Hour, &long, SERIES),
        ("count", "count(x_total)", Kind::Warm, &uniform, SERIES),
        ("sum_over_time", "sum(sum_over_time(x_total[15m]))", Kind::Warm, &long, SERIES),
        ("topk", "topk(10, x_total)", Kind::Warm, &uniform, SERIES),
        ("topk of rates", "topk(10, rate(x_total[5m]))", Kind::Warm, &uniform, SERIES),
        ("100,000 results", "rate(x_total[5m])", Kind::Warm, &uniform, SERIES),
        ("regex", "sum(rate(x_total{job=~\"job1.*\"}[5m]))", Kind::Warm, &uniform, SERIES * 11 / 50),
        ("regex, cold", "sum(rate(x_total{job=~\"job1.*\"}[5m]))", Kind::Cold, &uniform, SERIES * 11 / 50),
        ("60,000 buckets", "histogram_quantile(0.9, rate(latency_bucket[5m]))", Kind::Warm, &mixed, 60_000),
        (
            "48,000 buckets, summed",
            "histogram_quantile(0.9, sum by (le, job) (rate(latency_bucket{path!~\".*/[2-6]\"}[5m])))",
            Kind::Warm,
            &mixed,
            48_000,
        ),
        (
            "join",
            "rate(errors_total[5m]) / on (instance, path, code) rate(requests_total[5m]) > 0.01",
            Kind::Warm,
            &mixed,
            40_000,
        ),
        ("ratio of sums", "sum(rate(errors_total[5m])) / sum(rate(requests_total[5m]))", Kind::Warm, &mixed, 40_000),
    ];
    println!("{:>10} {:>10} {:>10} {:>9} {:>8}  query", "ns/series", "least", "most", "series", "results");
    for (name, query, kind, source, read) in cases {
        let expr = parse(query).expect("the queries above are valid");
        let prepared = Prepared::new(expr.clone());
        let ask = || match kind {
            Kind::Warm => engine.instant_prepared(&prepared, source, at, Options::default()),
            Kind::Cold | Kind::General => engine.instant(&expr, source, at),
            Kind::Hour => {
                let step = Duration::from_secs(30);
                engine.range_prepared(&prepared, source, hour, at, step, Options::default())
            }
        };
        let answer = ask().expect("the queries above can be evaluated");
        let results = match &answer.value {
            promql::Value::Vector(samples) => samples.len(),
            promql::Value::Matrix(series) => series.len(),
            _ => 1,
        };
        let mut costs: Vec<f64> = (0..runs)
            .map(|_| {
                let before = cpu();
                for _ in 0..REPEATS {
                    std::hint::black_box(ask().expect("the queries above can be evaluated"));
                }
                ((cpu() - before) / REPEATS).as_nanos() as f64 / read as f64
            })
            .collect();
        costs.sort_by(f64::total_cmp);
        let (least, most) = (costs[0], costs[costs.len() - 1]);
        println!("{:>10.1} {least:>10.1} {most:>10.1} {read:>9} {results:>8}  {name}: {query}", costs[costs.len() / 2]);
    }
}
