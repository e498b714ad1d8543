//! Series that the sidecar sums up itself, from events that others only send: statsd, spans.
//!
//! Bounded from the first event on: so many metrics, so many series of each. What comes beyond is summed in one series
//! whose labels all say `overflow` (of gauges, where a sum means nothing, it is refused), and counted.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use telemetry::Labels;
use telemetry::exposition::{Exemplar, Family, FamilySample, MetricKind};
use tokio::time::Instant;

use super::limit::OVERFLOW;

/// A handle; clones share the series.
#[derive(Clone)]
pub struct Aggregate(Arc<Mutex<State>>);

struct State {
    metrics_max: usize,
    series_max: usize,
    metrics: BTreeMap<String, Metric>,
    overflowed: BTreeMap<String, u64>,
    refused: u64,
}

struct Metric {
    shape: Shape,
    help: &'static str,
    series: HashMap<Labels, Value>,
}

/// What the events of a metric are made into.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// The name ends in `_total`.
    Counter,
    Gauge,
    Histogram(&'static [f64]),
    /// A gauge of how many different values came in the last full minute.
    Set,
}

/// One event.
#[derive(Clone, Debug)]
pub enum Event {
    Add(f64),
    Set(f64),
    /// `weight` is how many events this one stands for.
    Observe {
        value: f64,
        weight: f64,
    },
    /// A hash of the member.
    Member(u64),
}

enum Value {
    Counter { sum: f64, exemplar: Option<Exemplar> },
    Gauge(f64),
    Histogram(Box<Histogram>),
    Set(Box<Members>),
}

struct Histogram {
    /// One more than there are bounds; not cumulative.
    counts: Vec<f64>,
    sum: f64,
    exemplars: Vec<Option<Exemplar>>,
}

struct Members {
    since: Instant,
    now: HashSet<u64>,
    last: usize,
}

/// How long members are counted as the same.
const SET_WINDOW: Duration = Duration::from_secs(60);
/// More different members than this are not told apart.
const MEMBERS_MAX: usize = 10_000;

/// Why an event was not counted as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Taken,
    Overflowed,
    /// The metric exists with another shape, or there are too many metrics.
    Refused,
}

impl Aggregate {
    pub fn new(metrics_max: usize, series_max: usize) -> Self {
        let (metrics, overflowed) = (BTreeMap::new(), BTreeMap::new());
        Aggregate(Arc::new(Mutex::new(State { metrics_max, series_max, metrics, overflowed, refused: 0 })))
    }

    /// Takes one event in. `name` is a counter's with `_total`.
    pub fn take(
        &self,
        (name, help): (&str, &'static str),
        labels: &Labels,
        shape: Shape,
        event: &Event,
        exemplar: Option<Exemplar>,
    ) -> Outcome {
        let mut state = self.0.lock().expect("no one panics holding it");
        let outcome = state.take((name, help), labels, shape, event, exemplar);
        match outcome {
            Outcome::Overflowed => *state.overflowed.entry(name.to_owned()).or_default() += 1,
            Outcome::Refused => state.refused += 1,
            Outcome::Taken => {}
        }
        outcome
    }

    pub fn families(&self) -> Vec<Family> {
        let mut state = self.0.lock().expect("no one panics holding it");
        state.metrics.iter_mut().map(|(name, metric)| metric.family(name)).collect()
    }

    /// How many events of each metric went into the overflow series, or nowhere.
    pub fn overflowed(&self) -> Vec<(String, u64)> {
        let state = self.0.lock().expect("no one panics holding it");
        state.overflowed.iter().map(|(name, count)| (name.clone(), *count)).collect()
    }
}

impl State {
    fn take(
        &mut self,
        (name, help): (&str, &'static str),
        labels: &Labels,
        shape: Shape,
        event: &Event,
        exemplar: Option<Exemplar>,
    ) -> Outcome {
        if !self.metrics.contains_key(name) {
            if self.metrics.len() >= self.metrics_max {
                return Outcome::Refused;
            }
            self.metrics.insert(name.to_owned(), Metric { shape, help, series: HashMap::new() });
        }
        let Some(metric) = self.metrics.get_mut(name).filter(|m| m.shape == shape) else { return Outcome::Refused };
        if let Some(value) = metric.series.get_mut(labels) {
            value.update(shape, event, exemplar);
            return Outcome::Taken;
        }
        if metric.series.len() < self.series_max {
            let mut value = Value::new(shape);
            value.update(shape, event, exemplar);
            metric.series.insert(labels.clone(), value);
            return Outcome::Taken;
        }
        if shape != Shape::Gauge {
            let overflow: Labels = labels.iter().map(|(name, _)| (name, OVERFLOW)).collect();
            // Label names are the sender's too: of them there may be as many as of values.
            let full = metric.series.len() >= self.series_max * 2;
            let overflow = if full && !metric.series.contains_key(&overflow) {
                Labels::from_pairs([(OVERFLOW, "true")])
            } else {
                overflow
            };
            metric.series.entry(overflow).or_insert_with(|| Value::new(shape)).update(shape, event, None);
        }
        Outcome::Overflowed
    }
}

impl Value {
    fn new(shape: Shape) -> Self {
        match shape {
            Shape::Counter => Value::Counter { sum: 0.0, exemplar: None },
            Shape::Gauge => Value::Gauge(0.0),
            Shape::Histogram(bounds) => {
                let buckets = bounds.len() + 1;
                Value::Histogram(Box::new(Histogram { counts: vec![0.0; buckets], sum: 0.0, exemplars: Vec::new() }))
            }
            Shape::Set => Value::Set(Box::new(Members { since: Instant::now(), now: HashSet::new(), last: 0 })),
        }
    }

    fn update(&mut self, shape: Shape, event: &Event, new_exemplar: Option<Exemplar>) {
        match (self, event, shape) {
            (Value::Counter { sum, exemplar }, Event::Add(by), _) => {
                *sum += by;
                if new_exemplar.is_some() {
                    *exemplar = new_exemplar;
                }
            }
            (Value::Gauge(value), Event::Set(new), _) => *value = *new,
            (Value::Gauge(value), Event::Add(by), _) => *value += by,
            (Value::Histogram(histogram), Event::Observe { value, weight }, Shape::Histogram(bounds)) => {
                let bucket = bounds.partition_point(|bound| bound < value);
                histogram.counts[bucket] += weight;
                histogram.sum += value * weight;
                if new_exemplar.is_some() {
                    histogram.exemplars.resize(histogram.counts.len(), None);
                    histogram.exemplars[bucket] = new_exemplar;
                }
            }
            (Value::Set(members), Event::Member(member), _) => {
                members.roll();
                if members.now.len() < MEMBERS_MAX {
                    members.now.insert(*member);
                }
            }
            // The shape decides the event; nobody sends another.
            _ => {}
        }
    }
}

impl Members {
    fn roll(&mut self) {
        let age = self.since.elapsed();
        if age >= SET_WINDOW {
            // After a silence of a whole window the last one was empty.
            self.last = if age >= 2 * SET_WINDOW { 0 } else { self.now.len() };
            self.now.clear();
            self.since = Instant::now();
        }
    }
}

/// A member's hash, the same for as long as the program runs.
pub fn member(text: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

impl Metric {
    fn family(&mut self, name: &str) -> Family {
        let (kind, family) = match self.shape {
            Shape::Counter => (MetricKind::Counter, name.strip_suffix("_total").unwrap_or(name)),
            Shape::Gauge | Shape::Set => (MetricKind::Gauge, name),
            Shape::Histogram(_) => (MetricKind::Histogram, name),
        };
        let mut samples = Vec::new();
        let mut series: Vec<(&Labels, &mut Value)> = self.series.iter_mut().collect();
        series.sort_unstable_by(|a, b| a.0.encoded().cmp(b.0.encoded()));
        for (labels, value) in series {
            expose(&mut samples, name, labels, value, self.shape);
        }
        Family { name: family.to_owned(), kind, help: self.help.to_owned(), unit: String::new(), samples }
    }
}

fn expose(out: &mut Vec<FamilySample>, name: &str, labels: &Labels, value: &mut Value, shape: Shape) {
    let sample = |name: String, labels: Labels, value: f64, exemplar: Option<Exemplar>| FamilySample {
        name,
        labels,
        value,
        timestamp: None,
        exemplar,
    };
    match value {
        Value::Counter { sum, exemplar } => out.push(sample(name.to_owned(), labels.clone(), *sum, exemplar.clone())),
        Value::Gauge(value) => out.push(sample(name.to_owned(), labels.clone(), *value, None)),
        Value::Set(members) => {
            members.roll();
            out.push(sample(name.to_owned(), labels.clone(), members.last.max(members.now.len()) as f64, None));
        }
        Value::Histogram(histogram) => {
            let Shape::Histogram(bounds) = shape else { return };
            let (bucket, mut count) = (format!("{name}_bucket"), 0.0);
            for (index, in_bucket) in histogram.counts.iter().enumerate() {
                count += in_bucket;
                let le = bounds.get(index).map_or_else(|| "+Inf".to_owned(), |bound| format!("{bound:?}"));
                let exemplar = histogram.exemplars.get(index).cloned().flatten();
                out.push(sample(bucket.clone(), labels.with("le", &le), count, exemplar));
            }
            out.push(sample(format!("{name}_sum"), labels.clone(), histogram.sum, None));
            out.push(sample(format!("{name}_count"), labels.clone(), count, None));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use telemetry::exposition::{Format, write};

    fn text(aggregate: &Aggregate) -> String {
        let text = write(&aggregate.families(), Format::Prometheus);
        text.lines().filter(|l| !l.starts_with('#')).collect::<Vec<_>>().join("; ")
    }

    fn labels(user: &str) -> Labels {
        Labels::from_pairs([("user", user)])
    }

    #[test]
    fn events_become_series_and_a_histogram_s_buckets_are_cumulative() {
        let all = Aggregate::new(10, 10);
        let take = |name, shape, event| all.take((name, ""), &labels("a"), shape, &event, None);
        take("c_total", Shape::Counter, Event::Add(2.0));
        take("c_total", Shape::Counter, Event::Add(0.5));
        take("g", Shape::Gauge, Event::Set(5.0));
        take("g", Shape::Gauge, Event::Add(-2.0));
        for (value, weight) in [(0.5, 1.0), (1.0, 1.0), (3.0, 10.0)] {
            take("h", Shape::Histogram(&[1.0, 2.0]), Event::Observe { value, weight });
        }
        assert_eq!(
            text(&all),
            r#"c_total{user="a"} 2.5; g{user="a"} 3; h_bucket{le="1.0",user="a"} 2; h_bucket{le="2.0",user="a"} 2; h_bucket{le="+Inf",user="a"} 12; h_sum{user="a"} 31.5; h_count{user="a"} 12"#
        );
        let taken = take("g", Shape::Counter, Event::Add(1.0));
        assert_eq!(taken, Outcome::Refused, "a name has one meaning");
    }

    #[test]
    fn a_hundred_thousand_label_sets_cost_what_the_budget_allows_and_the_total_is_right() {
        let all = Aggregate::new(2, 3);
        for n in 0..100_000 {
            all.take(("c_total", ""), &labels(&n.to_string()), Shape::Counter, &Event::Add(1.0), None);
            // Label names differ as well.
            let odd = Labels::from_pairs([(format!("l{n}"), "x")]);
            all.take(("odd_total", ""), &odd, Shape::Counter, &Event::Add(1.0), None);
        }
        let families = all.families();
        for family in &families {
            assert!(family.samples.len() <= 7, "{}", family.samples.len());
            assert_eq!(family.samples.iter().map(|s| s.value).sum::<f64>(), 100_000.0);
        }
        assert!(text(&all).contains(r#"c_total{user="overflow"} 99997"#));
        assert_eq!(all.overflowed()[0], ("c_total".to_owned(), 99_997));
        let third = all.take(("more", ""), &Labels::empty(), Shape::Gauge, &Event::Set(1.0), None);
        assert_eq!(third, Outcome::Refused);
    }

    #[tokio::test(start_paused = true)]
    async fn members_are_counted_once_in_a_minute() {
        let all = Aggregate::new(1, 1);
        let add = |text: &[u8]| all.take(("s", ""), &Labels::empty(), Shape::Set, &Event::Member(member(text)), None);
        for text in [b"a", b"b", b"a"] {
            add(text);
        }
        assert_eq!(text(&all), "s 2");
        tokio::time::advance(Duration::from_secs(61)).await;
        add(b"c");
        assert_eq!(text(&all), "s 2", "the last full minute");
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(text(&all), "s 1");
        tokio::time::advance(Duration::from_secs(200)).await;
        assert_eq!(text(&all), "s 0");
    }
}
