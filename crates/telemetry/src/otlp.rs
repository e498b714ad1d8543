//! OTLP metrics to Prometheus' samples, by Prometheus' own translation rules: names and units, `_total`, resource
//! attributes to `job`, `instance` and `target_info`, delta to cumulative, exponential histograms to native ones.
//!
//! In: a decoded `ExportMetricsServiceRequest`. Out: samples, native histograms, exemplars, what is known of each
//! family, and counts of the points that cannot be said in Prometheus' model. Pure but for the running totals of
//! delta streams, which a [`Translator`] keeps, bounded. Not here: HTTP, compression, limits on bodies.
//! Sources: opentelemetry.io "Prometheus and OpenMetrics Compatibility"; prometheus/otlptranslator and
//! prometheus/storage/remote/otlptranslator for what the specification leaves open.
//!
//! ```
//! use telemetry::otlp::{Encoding, Settings, Translator, decode};
//! use telemetry::Timestamp;
//!
//! let body = br#"{"resourceMetrics": [{
//!     "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "order"}}]},
//!     "scopeMetrics": [{"metrics": [{"name": "http.requests", "unit": "{request}", "sum": {
//!         "aggregationTemporality": 2, "isMonotonic": true,
//!         "dataPoints": [{"timeUnixNano": "1700000000000000000", "asInt": "3"}]}}]}]}]}"#;
//! let request = decode(body, Encoding::Json)?;
//! let output = Translator::new(Settings::default()).translate(&request, Timestamp(1_700_000_000_000));
//! assert_eq!(output.samples[0].labels.to_string(), r#"http_requests_total{job="order"}"#);
//! assert_eq!(output.samples[0].value, 3.0);
//! # Ok::<(), telemetry::otlp::DecodeError>(())
//! ```

mod attributes;
mod delta;
mod exponential;
mod points;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, Metric};
use prost::Message;

use crate::exposition::{Exemplar, MetricKind};
use crate::{HistogramSample, Labels, Sample, Timestamp};

use attributes::ResourceLabels;
use delta::Deltas;
use points::{Place, Points};

pub use crate::translation::{Strategy, label_name, metric_name};

/// Prometheus' `otlp` settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    pub strategy: Strategy,
    /// Resource attributes that become labels of every series.
    pub promote_resource_attributes: Vec<String>,
    /// All of them do, but for `ignore_resource_attributes`.
    pub promote_all_resource_attributes: bool,
    pub ignore_resource_attributes: Vec<String>,
    /// `target_info` also carries `service.name`, `service.namespace` and `service.instance.id`.
    pub keep_identifying_resource_attributes: bool,
    /// The scope's name, version and attributes become labels `otel_scope_…`.
    pub promote_scope_metadata: bool,
}

/// How a request is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `application/x-protobuf`
    Protobuf,
    /// `application/json`
    Json,
}

impl Encoding {
    pub fn from_content_type(content_type: &str) -> Option<Encoding> {
        match content_type.split(';').next()?.trim().to_ascii_lowercase().as_str() {
            "application/x-protobuf" => Some(Encoding::Protobuf),
            "application/json" => Some(Encoding::Json),
            _ => None,
        }
    }
}

/// A body that is no such request.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("the body is no protobuf ExportMetricsServiceRequest: {0}")]
    Protobuf(#[from] prost::DecodeError),
    #[error("the body is no JSON ExportMetricsServiceRequest: {0}")]
    Json(#[from] serde_json::Error),
}

/// # Errors
/// Bytes of another kind.
pub fn decode(body: &[u8], encoding: Encoding) -> Result<ExportMetricsServiceRequest, DecodeError> {
    match encoding {
        Encoding::Protobuf => Ok(ExportMetricsServiceRequest::decode(body)?),
        Encoding::Json => Ok(serde_json::from_slice(body)?),
    }
}

/// Why a data point has no sample; also a metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PointFault {
    /// No metric name is left after the translation, or the metric has no data.
    Name,
    /// Neither delta nor cumulative.
    Temporality,
    /// An exponential histogram below scale -4, or one whose buckets do not add up.
    Histogram,
    /// A delta that is older than what its stream already has.
    OldDelta,
    /// Too many delta streams.
    DeltaStreams,
}

impl PointFault {
    pub fn as_str(self) -> &'static str {
        match self {
            PointFault::Name => "name",
            PointFault::Temporality => "temporality",
            PointFault::Histogram => "histogram",
            PointFault::OldDelta => "old_delta",
            PointFault::DeltaStreams => "delta_streams",
        }
    }
}

/// What is known of a family, under its translated name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FamilyInfo {
    pub kind: MetricKind,
    pub help: String,
    pub unit: String,
}

/// A request in Prometheus' model.
#[derive(Clone, Debug, Default)]
pub struct Output {
    pub samples: Vec<Sample>,
    pub histograms: Vec<HistogramSample>,
    /// With the series that they belong to; of histograms, the bucket's.
    pub exemplars: Vec<(Labels, Exemplar)>,
    pub families: BTreeMap<String, FamilyInfo>,
    /// Data points left out.
    pub faults: BTreeMap<PointFault, usize>,
}

impl Output {
    fn fault(&mut self, fault: PointFault) {
        *self.faults.entry(fault).or_default() += 1;
    }
}

/// Translates; keeps the totals of delta streams between requests.
pub struct Translator {
    settings: Settings,
    deltas: Deltas,
}

impl Translator {
    pub fn new(settings: Settings) -> Self {
        Translator { settings, deltas: Deltas::default() }
    }

    /// Delta streams that have a total; see [`Translator::forget_streams`].
    pub fn streams(&self) -> usize {
        self.deltas.len()
    }

    /// Ends delta streams without a point since `before`; when one goes on it counts from 0 again.
    pub fn forget_streams(&mut self, before: Timestamp) {
        self.deltas.forget(before);
    }

    /// `now` is when the request came in, by which streams are forgotten.
    pub fn translate(&mut self, request: &ExportMetricsServiceRequest, now: Timestamp) -> Output {
        let mut output = Output::default();
        for of_resource in &request.resource_metrics {
            let attributes = of_resource.resource.as_ref().map(|r| r.attributes.as_slice()).unwrap_or_default();
            let resource = ResourceLabels::new(attributes, &self.settings);
            let mut newest = None;
            for of_scope in &of_resource.scope_metrics {
                let scope = attributes::scope_labels(of_scope, &self.settings);
                for metric in &of_scope.metrics {
                    let place = Place { resource: &resource, scope: &scope, settings: &self.settings, now };
                    let mut points = Points::new(place, &mut output, &mut self.deltas);
                    points.metric(metric);
                    newest = newest.max(points.newest());
                }
            }
            if let (Some(labels), Some(timestamp)) = (resource.target_info(&self.settings), newest) {
                output.samples.push(Sample { labels, timestamp, value: 1.0 });
                let help = "Target metadata".to_owned();
                let info = FamilyInfo { kind: MetricKind::Gauge, help, unit: String::new() };
                output.families.insert("target_info".to_owned(), info);
            }
        }
        output
    }
}

/// What a metric becomes.
fn kind(metric: &Metric) -> MetricKind {
    match &metric.data {
        Some(Data::Gauge(_)) => MetricKind::Gauge,
        Some(Data::Sum(sum)) if sum.is_monotonic => MetricKind::Counter,
        Some(Data::Sum(_)) => MetricKind::Gauge,
        Some(Data::Histogram(_) | Data::ExponentialHistogram(_)) => MetricKind::Histogram,
        Some(Data::Summary(_)) => MetricKind::Summary,
        None => MetricKind::Unknown,
    }
}

/// Some(true) for deltas; None where the sender does not say.
fn is_delta(temporality: i32) -> Option<bool> {
    match AggregationTemporality::try_from(temporality) {
        Ok(AggregationTemporality::Delta) => Some(true),
        Ok(AggregationTemporality::Cumulative) => Some(false),
        _ => None,
    }
}
