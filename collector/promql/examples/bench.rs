//! What queries cost: 100,000 series of 20 samples in memory, one instant query each.
//!
//! `cargo run --release -p promql --example bench`

use std::time::Instant;

use promql::{Engine, Limits, Series, Source, SourceError, parse};
use telemetry::{Labels, Matcher, Timestamp};

struct Memory(Vec<Series>);

impl Source for Memory {
    fn select(&self, matchers: &[Matcher], start: Timestamp, end: Timestamp) -> Result<Vec<Series>, SourceError> {
        let accepts = |s: &&Series| matchers.iter().all(|m| m.matches(s.labels.get(&m.name).unwrap_or_default()));
        let cut = |s: &Series| {
            let from = s.samples.partition_point(|(ts, _)| *ts <= start);
            let to = s.samples.partition_point(|(ts, _)| *ts <= end);
            Series { labels: s.labels.clone(), samples: s.samples[from..to].to_vec() }
        };
        Ok(self.0.iter().filter(accepts).map(cut).collect())
    }
}

fn main() {
    let series = (0..100_000).map(|i: usize| {
        let job = format!("job{}", i % 50);
        let (instance, le) = (format!("10.0.{}.{}", i / 250, i % 250), format!("{}", (i % 12) + 1));
        let labels = [("__name__", "x_total"), ("job", &job), ("instance", &instance), ("le", &le), ("env", "prod")];
        let samples = (0..20).map(|t| (Timestamp::from_millis(t * 15_000), (t * (i as i64 % 7)) as f64));
        Series { labels: Labels::from_pairs(labels), samples: samples.collect() }
    });
    let source = Memory(series.collect());
    let engine = Engine::new(Limits::default());
    let at = Timestamp::from_millis(290_000);
    println!("{:>9} {:>9}  query (100,000 series, 20 samples each)", "ms", "ns/series");
    for query in [
        "count(x_total)",
        "sum by (job) (rate(x_total[5m]))",
        "sum(x_total{job=~\"job1.*\"})",
        "topk(10, x_total)",
        "x_total / on (instance, le) x_total",
        "histogram_quantile(0.9, sum by (le, job) (rate(x_total[5m])))",
    ] {
        let expr = parse(query).expect("the queries above are valid");
        let mut best = f64::INFINITY;
        for _ in 0..5 {
            let start = Instant::now();
            engine.instant(&expr, &source, at).expect("the queries above can be evaluated");
            best = best.min(start.elapsed().as_secs_f64());
        }
        println!("{:>9.1} {:>9.0}  {query}", best * 1e3, best * 1e9 / 100_000.0);
    }
}
