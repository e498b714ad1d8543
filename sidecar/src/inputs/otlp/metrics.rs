//! OTLP metrics as series: the last point of each, for whoever scrapes.
//!
//! Cumulative points replace the one before, delta points are added up. Monotonic sums become counters, other sums and
//! gauges gauges, histograms and exponential histograms histograms (the latter with powers of two as bounds), summaries
//! summaries. Names and units follow OpenTelemetry's Prometheus conventions. Bounded in metrics and in series of each;
//! a series that nobody has sent for five minutes is gone.

mod point;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use telemetry::exposition::{Family, MetricKind};
use telemetry::translation::{Strategy, label_name, metric_name};
use telemetry::{Labels, LabelsBuilder};
use tokio::time::Instant;

use self::point::Point;
use super::wire::{self, NotProtobuf, Value, fields, key_of, text_of, value_of};

/// A handle; clones share the series.
#[derive(Clone)]
pub struct OtlpSeries(Arc<Mutex<State>>);

struct State {
    series_max: usize,
    metrics: BTreeMap<String, Metric>,
    /// Points that found no place, by metric.
    cut: BTreeMap<String, u64>,
}

struct Metric {
    kind: MetricKind,
    help: String,
    series: HashMap<Labels, Series>,
}

struct Series {
    point: Point,
    seen: Instant,
}

const METRICS_MAX: usize = 1000;
const SILENT_MAX: Duration = Duration::from_secs(300);
const HELP_CHARS_MAX: usize = 300;
const VALUE_CHARS_MAX: usize = 250;

/// What a Metric message says before its points.
struct Head<'a> {
    name: &'a str,
    description: &'a str,
    unit: &'a str,
    /// Number of the field `data`, and its bytes.
    data: Option<(u64, &'a [u8])>,
}

impl OtlpSeries {
    pub fn new(series_max: usize) -> Self {
        OtlpSeries(Arc::new(Mutex::new(State { series_max, metrics: BTreeMap::new(), cut: BTreeMap::new() })))
    }

    /// Takes an ExportMetricsServiceRequest; returns how many points it had.
    ///
    /// # Errors
    /// Where the bytes are no protobuf; points before that place were taken.
    pub fn take(&self, request: &[u8]) -> Result<u64, NotProtobuf> {
        let mut state = self.0.lock().expect("no one panics holding it");
        let mut count = 0;
        wire::each(request, 1, |of_resource| {
            let origin = origin_of(of_resource);
            wire::each(of_resource, 2, |of_scope| {
                wire::each(of_scope, 2, |metric| {
                    count += state.metric(metric, &origin)?;
                    Ok(())
                })
            })
        })?;
        Ok(count)
    }

    pub fn families(&self) -> Vec<Family> {
        let mut state = self.0.lock().expect("no one panics holding it");
        state.metrics.retain(|_, metric| {
            metric.series.retain(|_, series| series.seen.elapsed() < SILENT_MAX);
            !metric.series.is_empty()
        });
        state.metrics.iter().map(|(name, metric)| metric.family(name)).collect()
    }

    /// How many points of each metric found no place.
    pub fn overflowed(&self) -> Vec<(String, u64)> {
        let state = self.0.lock().expect("no one panics holding it");
        state.cut.iter().map(|(name, count)| (name.clone(), *count)).collect()
    }
}

/// What tells the same metric of two processes apart.
fn origin_of(of_resource: &[u8]) -> LabelsBuilder {
    let mut labels = LabelsBuilder::default();
    for resource in messages(of_resource, 1) {
        for pair in messages(resource, 1) {
            let name = match key_of(pair) {
                b"service.name" => "service",
                b"service.instance.id" => "service_instance_id",
                _ => continue,
            };
            if let Some(value) = text_of(value_of(pair)).filter(|value| !value.starts_with("unknown_service")) {
                labels.set(name, cut(value, VALUE_CHARS_MAX));
            }
        }
    }
    labels
}

/// The metric's name as the collector would have it by OTLP; a counter's family is without the `_total` of its samples.
fn family_name(name: &str, unit: &str, kind: MetricKind) -> Option<String> {
    let mut name = metric_name(name, unit, kind, Strategy::default())?;
    if kind == MetricKind::Counter && name.len() > "_total".len() && name.ends_with("_total") {
        name.truncate(name.len() - "_total".len());
    }
    Some(name)
}

fn messages(message: &[u8], number: u64) -> impl Iterator<Item = &[u8]> {
    fields(message).filter(move |f| f.number == number).filter_map(|f| f.value.bytes())
}

fn cut(text: &str, chars: usize) -> &str {
    text.char_indices().nth(chars).map_or(text, |(end, _)| &text[..end])
}

impl<'a> Head<'a> {
    fn of(metric: &'a [u8]) -> Result<Self, NotProtobuf> {
        let mut head = Head { name: "", description: "", unit: "", data: None };
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
        let mut walk = fields(metric);
        for field in walk.by_ref() {
            match (field.number, field.value) {
                (1, Value::Bytes(bytes)) => head.name = text(bytes),
                (2, Value::Bytes(bytes)) => head.description = text(bytes),
                (3, Value::Bytes(bytes)) => head.unit = text(bytes),
                (5 | 7 | 9 | 10 | 11, Value::Bytes(bytes)) => head.data = Some((field.number, bytes)),
                _ => {}
            }
        }
        if walk.is_sound() { Ok(head) } else { Err(NotProtobuf) }
    }
}

impl State {
    fn metric(&mut self, metric: &[u8], origin: &LabelsBuilder) -> Result<u64, NotProtobuf> {
        let head = Head::of(metric)?;
        let Some((field, data)) = head.data.filter(|_| !head.name.is_empty()) else { return Ok(0) };
        let flags = |number| fields(data).find(|f| f.number == number).map(|f| f.value);
        let is_delta = flags(2) == Some(Value::Varint(1));
        let is_monotonic = matches!(flags(3), Some(Value::Varint(b)) if b != 0);
        let kind = match field {
            7 if is_monotonic => MetricKind::Counter,
            9 | 10 => MetricKind::Histogram,
            11 => MetricKind::Summary,
            _ => MetricKind::Gauge,
        };
        let Some(name) = family_name(head.name, head.unit, kind) else {
            return self.nameless(data);
        };
        let mut count = 0;
        wire::each(data, 1, |bytes| {
            count += 1;
            let (point, mut labels) = Point::of(field, bytes, origin.clone())?;
            self.point(&name, kind, head.description, labels.build_checked(), point, is_delta);
            Ok(())
        })?;
        Ok(count)
    }

    /// A metric whose name says nothing in Prometheus' words, such as `...`.
    fn nameless(&mut self, data: &[u8]) -> Result<u64, NotProtobuf> {
        let mut count = 0;
        wire::each(data, 1, |_| {
            count += 1;
            Ok(())
        })?;
        *self.cut.entry("without_name".to_owned()).or_default() += count;
        Ok(count)
    }

    fn point(
        &mut self,
        name: &str,
        kind: MetricKind,
        help: &str,
        labels: Labels,
        point: Option<Point>,
        is_delta: bool,
    ) {
        let full = self.metrics.len() >= METRICS_MAX;
        if !self.metrics.contains_key(name) && !full {
            let help = cut(help, HELP_CHARS_MAX).to_owned();
            self.metrics.insert(name.to_owned(), Metric { kind, help, series: HashMap::new() });
        }
        let metric = self.metrics.get_mut(name).filter(|metric| metric.kind == kind);
        let Some(metric) = metric else {
            // Too many metrics, or the name has another meaning already. The names are the sender's: few are kept.
            let counted = if full { "too_many_metrics" } else { name };
            *self.cut.entry(counted.to_owned()).or_default() += 1;
            return;
        };
        let Some(point) = point else {
            // "No recorded value": the series ends.
            metric.series.remove(&labels);
            return;
        };
        let (room, seen) = (metric.series.len() < self.series_max, Instant::now());
        match metric.series.get_mut(&labels) {
            Some(series) => {
                series.seen = seen;
                if is_delta { series.point.add(point) } else { series.point = point }
            }
            None if room => drop(metric.series.insert(labels, Series { point, seen })),
            None => *self.cut.entry(name.to_owned()).or_default() += 1,
        }
    }
}

impl Metric {
    fn family(&self, name: &str) -> Family {
        let mut samples = Vec::new();
        let mut series: Vec<(&Labels, &Series)> = self.series.iter().collect();
        series.sort_unstable_by(|a, b| a.0.encoded().cmp(b.0.encoded()));
        for (labels, series) in series {
            series.point.expose(&mut samples, name, labels, self.kind);
        }
        Family { name: name.to_owned(), kind: self.kind, help: self.help.clone(), unit: String::new(), samples }
    }
}

/// Attributes as labels.
struct PointLabels(LabelsBuilder);

impl PointLabels {
    fn set(&mut self, pair: &[u8]) {
        let name = label_name(std::str::from_utf8(key_of(pair)).unwrap_or_default(), Strategy::default());
        if name.is_empty() || name.starts_with("__") || name == "le" || name == "quantile" {
            return;
        }
        let any = value_of(pair);
        let value = match fields(any).last().map(|f| (f.number, f.value)) {
            Some((1, Value::Bytes(text))) => String::from_utf8_lossy(text).into_owned(),
            Some((2, Value::Varint(b))) => (b != 0).to_string(),
            Some((3, Value::Varint(n))) => n.cast_signed().to_string(),
            Some((4, Value::Fixed64(bits))) => f64::from_bits(bits).to_string(),
            None => String::new(),
            // Lists and objects have no order that would make them the same each time.
            Some(_) => "…".to_owned(),
        };
        self.0.set(&name, cut(&value, VALUE_CHARS_MAX));
    }

    fn build_checked(&mut self) -> Labels {
        std::mem::take(&mut self.0).build()
    }
}

#[cfg(test)]
mod tests;
