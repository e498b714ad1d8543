//! The text formats in which metrics are exposed: Prometheus 0.0.4 and OpenMetrics 1.0.
//!
//! In: the body of a scrape. Out: its lines, borrowed ([`Parser`], [`parse_text`]) or as owned families ([`parse`]);
//! and back again as text ([`write`], [`Writer`]).
//!
//! The parser accepts what Prometheus accepts when it scrapes and refuses the rest with the line and what is wrong
//! with it. What the OpenMetrics specification demands beyond that is judged by [`strict::check`] alone.
//! The protobuf format, which a scraper may be given too, is read by [`protobuf`] into the same families or lines.
//! Not here: content negotiation over HTTP, limits on bodies.
//!
//! ```
//! use telemetry::exposition::{parse_text, Format, Line};
//!
//! let body = "# TYPE http_requests_total counter\nhttp_requests_total{path=\"/\"} 3 1700000000000\n";
//! let mut total = 0.0;
//! parse_text(body, Format::Prometheus, |line| {
//!     if let Line::Sample(sample) = line {
//!         assert_eq!(sample.series, "http_requests_total{path=\"/\"}");
//!         assert_eq!(sample.to_labels().get("path"), Some("/"));
//!         total += sample.value;
//!     }
//! })?;
//! assert_eq!(total, 3.0);
//!
//! // Owned, to change and to expose again:
//! let mut families = telemetry::exposition::parse(body, Format::Prometheus)?;
//! for sample in &mut families[0].samples {
//!     sample.labels = sample.labels.with("service", "order");
//! }
//! let text = telemetry::exposition::write(&families, Format::OpenMetrics);
//! assert_eq!(
//!     text,
//!     "# TYPE http_requests counter\nhttp_requests_total{path=\"/\",service=\"order\"} 3.0 1700000000\n# EOF\n"
//! );
//! # Ok::<(), telemetry::exposition::ParseError>(())
//! ```

mod family;
mod float;
mod lex;
mod lines;
mod parser;
pub mod protobuf;
pub mod strict;
mod writer;

#[cfg(test)]
mod tests;

pub use family::{Exemplar, Family, FamilySample, parse};
pub use float::canonical_float;
pub use lines::{KnownSample, LinePool, Lines, Order, Receiver, Remembered};
pub use parser::{ExemplarRef, LabelRef, Line, Parser, SampleLine, parse_text};
pub use writer::{Writer, write};

/// Which of the two text formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `text/plain; version=0.0.4`
    Prometheus,
    /// `application/openmetrics-text; version=1.0.0`
    OpenMetrics,
}

impl Format {
    /// What a scraper that reads both formats sends as `Accept`.
    pub const ACCEPT: &'static str =
        "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

    /// The format that a `Content-Type` names. Prometheus reads an absent or foreign type as 0.0.4 only where the
    /// configuration says so (`fallback_scrape_protocol`); that decision stays with the caller.
    pub fn from_content_type(content_type: &str) -> Option<Format> {
        match content_type.split(';').next()?.trim().to_ascii_lowercase().as_str() {
            "application/openmetrics-text" => Some(Format::OpenMetrics),
            "text/plain" => Some(Format::Prometheus),
            _ => None,
        }
    }

    /// The better of the two formats that an `Accept` header allows; no header means 0.0.4.
    pub fn negotiate(accept: &str) -> Format {
        let quality = |wanted: &str| {
            let mut best = None;
            for item in accept.split(',') {
                let mut parts = item.split(';').map(str::trim);
                if parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case(wanted)) {
                    let q = parts.find_map(|p| p.strip_prefix("q=")).and_then(|q| q.parse::<f32>().ok()).unwrap_or(1.0);
                    best = best.max(Some((q * 1000.0) as u32));
                }
            }
            best.unwrap_or(0)
        };
        let open_metrics = quality("application/openmetrics-text");
        if open_metrics > 0 && open_metrics >= quality("text/plain") { Format::OpenMetrics } else { Format::Prometheus }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What a family's samples mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum MetricKind {
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    StateSet,
    /// `unknown` in OpenMetrics, `untyped` in 0.0.4.
    #[default]
    Unknown,
}

impl MetricKind {
    /// The name in OpenMetrics and in the metadata API, `unknown` for both spellings of it.
    pub fn as_str(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
            MetricKind::GaugeHistogram => "gaugehistogram",
            MetricKind::Summary => "summary",
            MetricKind::Info => "info",
            MetricKind::StateSet => "stateset",
            MetricKind::Unknown => "unknown",
        }
    }

    /// The kind with this name in OpenMetrics.
    pub fn named(name: &str) -> Option<Self> {
        MetricKind::parse(name, Format::OpenMetrics)
    }

    fn parse(text: &str, format: Format) -> Option<Self> {
        Some(match (text, format) {
            ("counter", _) => MetricKind::Counter,
            ("gauge", _) => MetricKind::Gauge,
            ("histogram", _) => MetricKind::Histogram,
            ("summary", _) => MetricKind::Summary,
            ("untyped", Format::Prometheus) | ("unknown", Format::OpenMetrics) => MetricKind::Unknown,
            ("gaugehistogram", Format::OpenMetrics) => MetricKind::GaugeHistogram,
            ("info", Format::OpenMetrics) => MetricKind::Info,
            ("stateset", Format::OpenMetrics) => MetricKind::StateSet,
            _ => return None,
        })
    }

    /// What a sample's name may append to the family's name as OpenMetrics has it.
    fn suffixes(self) -> &'static [&'static str] {
        match self {
            MetricKind::Counter => &["_total", "_created"],
            MetricKind::Histogram => &["_bucket", "_count", "_sum", "_created"],
            MetricKind::GaugeHistogram => &["_bucket", "_gcount", "_gsum"],
            MetricKind::Summary => &["", "_count", "_sum", "_created"],
            MetricKind::Info => &["_info"],
            MetricKind::Gauge | MetricKind::StateSet | MetricKind::Unknown => &[""],
        }
    }
}

/// Where a body stopped making sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ParseError {
    /// Counted from one.
    pub line: usize,
    pub message: String,
}
