//! A metric's data points to samples.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    DataPointFlags, Exemplar as OtlpExemplar, HistogramDataPoint, Metric, NumberDataPoint, SummaryDataPoint, exemplar,
    number_data_point,
};

use super::attributes::{ResourceLabels, text};
use super::delta::Deltas;
use super::{FamilyInfo, Output, PointFault, Settings, exponential, is_delta, kind, metric_name};
use crate::exposition::Exemplar;
use crate::labels::METRIC_NAME;
use crate::{Histogram, HistogramSample, Labels, Sample, Timestamp, stale_nan};

/// Characters of an exemplar's labels, as OpenMetrics limits them.
const EXEMPLAR_CHARS_MAX: usize = 128;

/// Where a metric stands.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) resource: &'a ResourceLabels<'a>,
    pub(super) scope: &'a [(String, String)],
    pub(super) settings: &'a Settings,
    pub(super) now: Timestamp,
}

/// Turns the points of a metric into samples.
pub(super) struct Points<'a> {
    place: Place<'a>,
    output: &'a mut Output,
    deltas: &'a mut Deltas,
    name: String,
    newest: Option<Timestamp>,
}

/// What a point says besides its value.
struct Point {
    labels: BTreeMap<String, String>,
    at: Timestamp,
    /// The stream ends here.
    is_stale: bool,
    is_delta: bool,
}

impl<'a> Points<'a> {
    pub(super) fn new(place: Place<'a>, output: &'a mut Output, deltas: &'a mut Deltas) -> Self {
        Points { place, output, deltas, name: String::new(), newest: None }
    }

    /// The time of the newest point that gave a sample.
    pub(super) fn newest(&self) -> Option<Timestamp> {
        self.newest
    }

    pub(super) fn metric(&mut self, metric: &Metric) {
        let kind = kind(metric);
        let name = metric_name(&metric.name, &metric.unit, kind, self.place.settings.strategy);
        let (Some(name), Some(data)) = (name, &metric.data) else {
            self.output.fault(PointFault::Name);
            return;
        };
        let info = FamilyInfo { kind, help: metric.description.clone(), unit: metric.unit.clone() };
        self.output.families.entry(name.clone()).or_insert(info);
        self.name = name;
        match data {
            Data::Gauge(gauge) => gauge.data_points.iter().for_each(|point| self.number(point, Some(false))),
            Data::Sum(sum) => {
                let delta = is_delta(sum.aggregation_temporality);
                sum.data_points.iter().for_each(|point| self.number(point, delta));
            }
            Data::Histogram(histogram) => {
                let delta = is_delta(histogram.aggregation_temporality);
                histogram.data_points.iter().for_each(|point| self.histogram(point, delta));
            }
            Data::ExponentialHistogram(histogram) => {
                let delta = is_delta(histogram.aggregation_temporality);
                for point in &histogram.data_points {
                    let Some(of_point) = self.point(&point.attributes, point.time_unix_nano, point.flags, delta) else {
                        continue;
                    };
                    let native = exponential::to_native(point);
                    self.native(&of_point, native, &point.exemplars);
                }
            }
            Data::Summary(summary) => summary.data_points.iter().for_each(|point| self.summary(point)),
        }
    }

    fn point(&mut self, attributes: &[KeyValue], time_ns: u64, flags: u32, delta: Option<bool>) -> Option<Point> {
        let Some(is_delta) = delta else {
            self.output.fault(PointFault::Temporality);
            return None;
        };
        let Place { resource, scope, settings, .. } = self.place;
        Some(Point {
            labels: resource.series(attributes, scope, settings),
            at: millis(time_ns),
            is_stale: flags & DataPointFlags::NoRecordedValueMask as u32 != 0,
            is_delta,
        })
    }

    fn labels(&self, point: &Point, suffix: &str, extra: Option<(&str, &str)>) -> Labels {
        let name = format!("{}{suffix}", self.name);
        let own = point.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Labels::from_pairs(own.chain(extra).chain([(METRIC_NAME, name.as_str())]))
    }

    /// A sample of the point; deltas become totals.
    fn push(&mut self, point: &Point, labels: Labels, value: f64) {
        let value = match (point.is_stale, point.is_delta) {
            (true, _) => Ok(stale_nan()),
            (false, false) => Ok(value),
            (false, true) => self.deltas.add(&labels, point.at, self.place.now, value),
        };
        match value {
            Ok(value) => {
                self.newest = self.newest.max(Some(point.at));
                self.output.samples.push(Sample { labels, timestamp: point.at, value });
            }
            Err(fault) => self.output.fault(fault),
        }
    }

    fn number(&mut self, point: &NumberDataPoint, delta: Option<bool>) {
        let Some(of_point) = self.point(&point.attributes, point.time_unix_nano, point.flags, delta) else { return };
        let value = match point.value {
            Some(number_data_point::Value::AsDouble(value)) => value,
            Some(number_data_point::Value::AsInt(value)) => value as f64,
            None => 0.0,
        };
        let labels = self.labels(&of_point, "", None);
        self.exemplars(&point.exemplars, |_| labels.clone());
        self.push(&of_point, labels, value);
    }

    fn histogram(&mut self, point: &HistogramDataPoint, delta: Option<bool>) {
        let Some(of_point) = self.point(&point.attributes, point.time_unix_nano, point.flags, delta) else { return };
        if let Some(sum) = point.sum {
            let labels = self.labels(&of_point, "_sum", None);
            self.push(&of_point, labels, sum);
        }
        let labels = self.labels(&of_point, "_count", None);
        self.push(&of_point, labels, point.count as f64);
        let mut below = 0u64;
        for (bound, count) in point.explicit_bounds.iter().zip(&point.bucket_counts) {
            below = below.saturating_add(*count);
            let labels = self.labels(&of_point, "_bucket", Some(("le", &number(*bound))));
            self.push(&of_point, labels, below as f64);
        }
        let labels = self.labels(&of_point, "_bucket", Some(("le", "+Inf")));
        self.push(&of_point, labels, point.count as f64);
        if !point.exemplars.is_empty() {
            let bounds = &point.explicit_bounds;
            let found: Vec<Labels> = point
                .exemplars
                .iter()
                .map(|exemplar| {
                    let bound = bounds.iter().find(|bound| value_of(exemplar) <= **bound);
                    let le = bound.map_or_else(|| "+Inf".to_owned(), |bound| number(*bound));
                    self.labels(&of_point, "_bucket", Some(("le", &le)))
                })
                .collect();
            self.exemplars(&point.exemplars, |i| found[i].clone());
        }
    }

    fn native(&mut self, point: &Point, native: Result<Histogram, PointFault>, exemplars: &[OtlpExemplar]) {
        let labels = self.labels(point, "", None);
        let histogram = match (point.is_stale, native) {
            (true, _) => Ok(Histogram::stale()),
            (false, Ok(delta)) if point.is_delta => {
                self.deltas.add_histogram(&labels, point.at, self.place.now, &delta)
            }
            (false, native) => native,
        };
        match histogram {
            Ok(histogram) => {
                self.exemplars(exemplars, |_| labels.clone());
                self.newest = self.newest.max(Some(point.at));
                self.output.histograms.push(HistogramSample { labels, timestamp: point.at, histogram });
            }
            Err(fault) => self.output.fault(fault),
        }
    }

    fn summary(&mut self, point: &SummaryDataPoint) {
        let Some(of_point) = self.point(&point.attributes, point.time_unix_nano, point.flags, Some(false)) else {
            return;
        };
        let labels = self.labels(&of_point, "_sum", None);
        self.push(&of_point, labels, point.sum);
        let labels = self.labels(&of_point, "_count", None);
        self.push(&of_point, labels, point.count as f64);
        for quantile in &point.quantile_values {
            let labels = self.labels(&of_point, "", Some(("quantile", &number(quantile.quantile))));
            self.push(&of_point, labels, quantile.value);
        }
    }

    fn exemplars(&mut self, exemplars: &[OtlpExemplar], series: impl Fn(usize) -> Labels) {
        for (i, exemplar) in exemplars.iter().enumerate() {
            let mut labels = Vec::new();
            if !exemplar.trace_id.is_empty() {
                labels.push(("trace_id".to_owned(), hex(&exemplar.trace_id)));
            }
            if !exemplar.span_id.is_empty() {
                labels.push(("span_id".to_owned(), hex(&exemplar.span_id)));
            }
            let further = exemplar.filtered_attributes.iter().map(|kv| (kv.key.clone(), text(kv.value.as_ref())));
            let further: Vec<_> = further.collect();
            let chars: usize = labels.iter().chain(&further).map(|(n, v)| n.chars().count() + v.chars().count()).sum();
            if chars <= EXEMPLAR_CHARS_MAX {
                labels.extend(further);
            }
            let at = exemplar.time_unix_nano;
            let timestamp = (at > 0).then(|| millis(at));
            let value = value_of(exemplar);
            let labels = Labels::from_pairs(labels);
            self.output.exemplars.push((series(i), Exemplar { labels, value, timestamp }));
        }
    }
}

fn value_of(exemplar: &OtlpExemplar) -> f64 {
    match exemplar.value {
        Some(exemplar::Value::AsDouble(value)) => value,
        Some(exemplar::Value::AsInt(value)) => value as f64,
        None => 0.0,
    }
}

/// Rounded down, as Prometheus does.
fn millis(ns: u64) -> Timestamp {
    Timestamp(i64::try_from(ns / 1_000_000).unwrap_or(i64::MAX))
}

/// The shortest decimal without an exponent.
fn number(value: f64) -> String {
    if value == f64::INFINITY { "+Inf".to_owned() } else { value.to_string() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
