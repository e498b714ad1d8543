//! Chosen metrics as CloudWatch Embedded Metric Format: lines in the task's log group, of which CloudWatch makes metrics.
//!
//! Only what the allow-list names, under few dimensions: CloudWatch bills every name with every combination of
//! dimensions by the month. Series that differ in other labels are put together: of counters and histograms the
//! increase since the last line is summed, of gauges up to a hundred values go into one line. How much of it there is,
//! and what it costs if it goes on like this, is on `/metrics`.
//! Source: docs.aws.amazon.com, "Specification: Embedded metric format".

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use serde_json::{Map, Value, json};
use service::Shutdown;
use service::metrics::Metrics;
use telemetry::exposition::{Family, MetricKind};
use telemetry::log_record::Level;
use telemetry::names::{sidecar as names, without_total};
use telemetry::{Labels, Timestamp};
use tokio::time::{Instant, MissedTickBehavior};

use super::exposition::Exposition;
use crate::pipeline::intake::Intake;

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Names of families or of samples; empty: no EMF.
    pub metrics: Vec<String>,
    pub namespace: String,
    /// Labels that become dimensions.
    pub dimensions: Vec<String>,
    pub interval: Duration,
    /// Combinations of name and dimensions; those that come later are left out.
    pub metrics_max: usize,
    /// Dollars a month for one metric, and for a GB of log lines.
    pub price_metric: f64,
    pub price_gigabyte: f64,
}

/// Of one line, as the specification has it.
const METRICS_PER_LINE_MAX: usize = 100;
const VALUES_MAX: usize = 100;
/// Of one combination.
pub const DIMENSIONS_MAX: usize = 30;
const DIMENSION_VALUE_CHARS_MAX: usize = 1024;
/// CloudWatch's words.
const COUNT: &str = "Count";
const NO_UNIT: &str = "None";
const PATIENCE: Duration = Duration::from_secs(10);
const SECONDS_PER_MONTH: f64 = 30.4375 * 86_400.0;

pub struct Emf {
    config: Config,
    exposition: Exposition,
    lines: Intake,
    state: State,
    bytes: Counter,
    metrics: Gauge,
    cost: Gauge<f64, AtomicU64>,
}

impl Config {
    /// None where nothing is chosen.
    pub fn build(&self, exposition: Exposition, lines: Intake, metrics: &Metrics) -> Option<Emf> {
        if self.metrics.is_empty() {
            return None;
        }
        let emf = Emf {
            config: self.clone(),
            exposition,
            lines,
            state: State::default(),
            bytes: Counter::default(),
            metrics: Gauge::default(),
            cost: Gauge::default(),
        };
        metrics.register(|r| {
            r.register(names::EMF_METRICS, "Metrics that CloudWatch makes of this task's lines", emf.metrics.clone());
            let name = without_total(names::EMF_BYTES_TOTAL);
            r.register(name, "Bytes of Embedded Metric Format", emf.bytes.clone());
            let help = "What this task's metrics and their lines cost a month if it goes on like this";
            r.register(names::EMF_COST_PER_MONTH_DOLLARS, help, emf.cost.clone());
        });
        Some(emf)
    }
}

impl Emf {
    /// Until it is told to stop, and then once more.
    pub async fn run(mut self, shutdown: Shutdown) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut ticks = tokio::time::interval(self.config.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let stopping = tokio::select! {
                _ = ticks.tick() => false,
                () = shutdown.requested() => true,
            };
            self.once(begun).await;
            if stopping {
                return Ok(());
            }
        }
    }

    async fn once(&mut self, begun: Instant) {
        let now = crate::inputs::now();
        let mut round = Round::default();
        let (config, state) = (&self.config, &mut self.state);
        self.exposition.families(Some(PATIENCE), |family| round.family(family, config, state)).await;
        for line in round.lines(config, now) {
            self.bytes.inc_by(line.len() as u64);
            self.lines.put(line.as_bytes(), now, Level::Info);
        }
        self.lines.commit();
        self.metrics.set(self.state.billed.len() as i64);
        let seconds = begun.elapsed().max(self.config.interval).as_secs_f64();
        let bytes_per_month = self.bytes.get() as f64 / seconds * SECONDS_PER_MONTH;
        self.cost.set(cost(&self.config, self.state.billed.len(), bytes_per_month));
    }
}

fn cost(config: &Config, metrics: usize, bytes_per_month: f64) -> f64 {
    metrics as f64 * config.price_metric + bytes_per_month / 1e9 * config.price_gigabyte
}

#[derive(Default)]
struct State {
    /// Last values of what only grows.
    last: HashMap<(String, Labels), f64>,
    /// Every combination of name and dimensions that CloudWatch has been told.
    billed: HashSet<(String, Labels)>,
}

/// What one round says, by dimensions and name.
#[derive(Default)]
struct Round {
    groups: BTreeMap<String, Group>,
}

struct Group {
    dimensions: Labels,
    values: BTreeMap<String, Values>,
}

/// What is said of one metric.
struct Values {
    unit: &'static str,
    /// Of what grows one, the sum over all series.
    values: Vec<f64>,
}

impl Round {
    fn family(&mut self, family: &Family, config: &Config, state: &mut State) {
        let chosen = |name: &str| config.metrics.iter().any(|wanted| wanted == name);
        let whole = chosen(&family.name);
        for sample in &family.samples {
            // Of a histogram count and sum: CloudWatch has no buckets.
            let is_part = sample.name.ends_with("_bucket") || sample.name.ends_with("_created");
            if is_part || !(whole || chosen(&sample.name)) || !sample.value.is_finite() {
                continue;
            }
            let grows = match family.kind {
                MetricKind::Counter | MetricKind::Histogram => true,
                MetricKind::Summary => sample.labels.get("quantile").is_none(),
                _ => false,
            };
            let value = if grows {
                let key = (sample.name.clone(), sample.labels.clone());
                match state.last.insert(key, sample.value) {
                    // A counter that begins anew has grown by what it has.
                    Some(before) if before <= sample.value => sample.value - before,
                    Some(_) => sample.value,
                    // Its past is not of this minute.
                    None => continue,
                }
            } else {
                sample.value
            };
            let dimensions = sample.labels.retain(|name| config.dimensions.iter().any(|wanted| wanted == name));
            let Some(metric) = self.metric(&sample.name, dimensions, config, state) else { continue };
            metric.unit = unit(family, &sample.name);
            match &mut metric.values[..] {
                [sum, ..] if grows => *sum += value,
                values if values.len() < VALUES_MAX => metric.values.push(value),
                _ => {}
            }
        }
    }

    /// The place of a metric; None where CloudWatch would bill one more than is allowed.
    fn metric(&mut self, name: &str, dimensions: Labels, config: &Config, state: &mut State) -> Option<&mut Values> {
        let billed = (name.to_owned(), dimensions.clone());
        if !state.billed.contains(&billed) {
            if state.billed.len() >= config.metrics_max {
                return None;
            }
            state.billed.insert(billed);
        }
        let group = self.groups.entry(dimensions.encoded().to_owned());
        let group = group.or_insert_with(|| Group { dimensions, values: BTreeMap::new() });
        Some(group.values.entry(name.to_owned()).or_insert_with(|| Values { unit: NO_UNIT, values: Vec::new() }))
    }

    fn lines(self, config: &Config, now: Timestamp) -> Vec<String> {
        let mut lines = Vec::new();
        for Group { dimensions, values } in self.groups.into_values() {
            let values: Vec<(String, Values)> = values.into_iter().collect();
            for chunk in values.chunks(METRICS_PER_LINE_MAX) {
                lines.push(line(config, &dimensions, chunk, now));
            }
        }
        lines
    }
}

fn line(config: &Config, dimensions: &Labels, values: &[(String, Values)], now: Timestamp) -> String {
    let mut root = Map::new();
    let names: Vec<&str> = dimensions.iter().map(|(name, _)| name).collect();
    let metrics: Vec<Value> = values.iter().map(|(name, metric)| json!({"Name": name, "Unit": metric.unit})).collect();
    root.insert(
        "_aws".to_owned(),
        json!({
            "Timestamp": now.as_millis(),
            "CloudWatchMetrics": [{"Namespace": config.namespace, "Dimensions": [names], "Metrics": metrics}],
        }),
    );
    for (name, value) in dimensions.iter() {
        let end = value.char_indices().nth(DIMENSION_VALUE_CHARS_MAX).map_or(value.len(), |(end, _)| end);
        root.insert(name.to_owned(), value[..end].into());
    }
    for (name, Values { values, .. }) in values {
        let value = if let [one] = values[..] { json!(one) } else { json!(values) };
        root.insert(name.clone(), value);
    }
    Value::Object(root).to_string()
}

/// CloudWatch's word for what a sample counts or measures.
fn unit(family: &Family, sample: &str) -> &'static str {
    // How often something was measured has not the unit of what was measured.
    let is_count = match family.kind {
        MetricKind::Histogram | MetricKind::Summary => sample.ends_with("_count"),
        MetricKind::GaugeHistogram => sample.ends_with("_gcount"),
        _ => false,
    };
    if is_count {
        return COUNT;
    }
    let name = sample.strip_suffix("_total").unwrap_or(sample);
    let base = name.strip_suffix("_gsum").or(name.strip_suffix("_sum")).unwrap_or(name);
    let says = |unit: &str| family.unit == unit || base.strip_suffix(unit).is_some_and(|before| before.ends_with('_'));
    match () {
        () if says("seconds") => "Seconds",
        () if says("bytes") => "Bytes",
        () if family.kind == MetricKind::Counter => COUNT,
        () => NO_UNIT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use telemetry::exposition::{Format, parse};

    fn config() -> Config {
        Config {
            metrics: vec!["http_requests_total".into(), "wait_seconds".into(), "depth".into()],
            namespace: "Picket".into(),
            dimensions: vec!["service".into()],
            interval: Duration::from_secs(60),
            metrics_max: 4,
            price_metric: 0.30,
            price_gigabyte: 0.50,
        }
    }

    fn round(text: &str, state: &mut State) -> Vec<Value> {
        let mut round = Round::default();
        for family in parse(text, Format::Prometheus).expect("parses") {
            round.family(&family, &config(), state);
        }
        let lines = round.lines(&config(), Timestamp::from_millis(1_700_000_000_000));
        lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn body(requests: [u32; 2], waits: u32, depths: [u32; 2]) -> String {
        format!(
            "# TYPE http_requests_total counter\nhttp_requests_total{{service=\"a\",path=\"/\"}} {}\n\
             http_requests_total{{service=\"a\",path=\"/x\"}} {}\n\
             # TYPE wait_seconds histogram\nwait_seconds_bucket{{service=\"a\",le=\"+Inf\"}} {waits}\n\
             wait_seconds_sum{{service=\"a\"}} {waits}\nwait_seconds_count{{service=\"a\"}} {waits}\n\
             # TYPE depth gauge\ndepth{{service=\"a\",queue=\"m\"}} {}\ndepth{{service=\"a\",queue=\"n\"}} {}\n\
             # TYPE other gauge\nother 1\n",
            requests[0], requests[1], depths[0], depths[1]
        )
    }

    #[test]
    fn increases_are_summed_over_labels_that_are_no_dimensions() {
        let mut state = State::default();
        let first = round(&body([10, 100], 5, [3, 4]), &mut state);
        assert_eq!(first.len(), 1, "nothing has grown yet, gauges are there: {first:?}");
        assert_eq!(first[0]["depth"], json!([3.0, 4.0]));
        assert_eq!(first[0].get("http_requests_total"), None);
        // One path began anew at 2.
        let second = round(&body([13, 2], 9, [3, 4]), &mut state);
        let [line] = &second[..] else { panic!("{second:?}") };
        assert_eq!(line["http_requests_total"], json!(5.0));
        assert_eq!(line["wait_seconds_sum"], json!(4.0));
        assert_eq!(line["wait_seconds_count"], json!(4.0));
        assert_eq!((&line["service"], line.get("other"), line.get("queue")), (&json!("a"), None, None));
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(line["_aws"]["Timestamp"], json!(1_700_000_000_000i64));
        assert_eq!((&directive["Namespace"], &directive["Dimensions"]), (&json!("Picket"), &json!([["service"]])));
        let names: Vec<(&str, &str)> = directive["Metrics"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|m| (m["Name"].as_str().expect("a name"), m["Unit"].as_str().expect("a unit")))
            .collect();
        assert_eq!(
            names,
            [
                ("depth", "None"),
                ("http_requests_total", "Count"),
                ("wait_seconds_count", "Count"),
                ("wait_seconds_sum", "Seconds"),
            ]
        );
        // Four metrics at 0.30 and 3 GB at 0.50.
        assert_eq!(state.billed.len(), 4);
        assert!((cost(&config(), state.billed.len(), 3e9) - 2.7).abs() < 1e-9);
    }

    #[test]
    fn a_unit_is_that_of_what_is_measured() {
        let body = "# TYPE a_total counter\na_total 1\n# TYPE b_seconds_total counter\nb_seconds_total 1\n\
            # TYPE c_total counter\nc_total 1\n# TYPE order_value histogram\norder_value_sum 1\norder_value_count 1\n\
            # TYPE body_bytes summary\nbody_bytes{quantile=\"0.5\"} 1\nbody_bytes_sum 1\nbody_bytes_count 1\n\
            # TYPE wait_seconds histogram\nwait_seconds_sum 1\nwait_seconds_count 1\n\
            # TYPE load gauge\nload 1\n# TYPE age_seconds gauge\nage_seconds 1\n# TYPE milliseconds gauge\nmilliseconds 1\n\
            # TYPE unit_sum gauge\nunit_sum 1\n";
        let units: Vec<(String, &str)> = parse(body, Format::Prometheus)
            .expect("parses")
            .iter()
            .flat_map(|family| family.samples.iter().map(|sample| (sample.name.clone(), unit(family, &sample.name))))
            .collect();
        let units: Vec<(&str, &str)> = units.iter().map(|(name, unit)| (name.as_str(), *unit)).collect();
        let expected = [
            ("a_total", "Count"),
            ("b_seconds_total", "Seconds"),
            ("c_total", "Count"),
            ("order_value_sum", "None"),
            ("order_value_count", "Count"),
            ("body_bytes", "Bytes"),
            ("body_bytes_sum", "Bytes"),
            ("body_bytes_count", "Count"),
            ("wait_seconds_sum", "Seconds"),
            ("wait_seconds_count", "Count"),
            ("load", "None"),
            ("age_seconds", "Seconds"),
            ("milliseconds", "None"),
            ("unit_sum", "None"),
        ];
        assert_eq!(units, expected);
        // Whose name does not say it may say it by `# UNIT`.
        let family = Family {
            unit: "seconds".to_owned(),
            name: "wait".to_owned(),
            kind: MetricKind::Histogram,
            ..Family::default()
        };
        assert_eq!((unit(&family, "wait_sum"), unit(&family, "wait_count")), ("Seconds", "Count"));
    }

    #[test]
    fn what_would_be_billed_beyond_the_bound_is_left_out() {
        let mut state = State::default();
        let gauges: String = (0..50).map(|n| format!("depth{{service=\"s{n}\"}} 1\n")).collect();
        let lines = round(&format!("# TYPE depth gauge\n{gauges}"), &mut state);
        assert_eq!((lines.len(), state.billed.len()), (4, 4));
    }
}
