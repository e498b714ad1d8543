//! The remote write protocol's messages: 1.0 (`prometheus.WriteRequest`) and 2.0 (`io.prometheus.write.v2.Request`),
//! snappy-compressed, in both directions. Samples, native histograms, exemplars and metadata.
//!
//! Decoding borrows all texts from the message and hands out one series at a time; limits hold before memory is
//! taken. A series or histogram that is unsound on its own does not spoil the request: its fault is handed out in
//! its place. Not here: HTTP, retries, queues.
//! Sources: prometheus.io/docs/specs/prw/remote_write_spec{,_2_0}, prompb/{remote,types}.proto, write/v2/types.proto.
//!
//! ```
//! use telemetry::remote_write::{Decoder, Encoder, Limits, Message, Point, TimeSeries, decompress};
//! use telemetry::{Labels, Timestamp};
//!
//! let labels = Labels::from_pairs([("__name__", "up"), ("job", "order")]);
//! let mut encoder = Encoder::new(Message::V2);
//! encoder.series(&TimeSeries::of_samples(&labels, &[Point::new(Timestamp(1_000), 1.0)]));
//! let body = encoder.finish(); // send it with Message::content_type() and Message::version()
//!
//! let limits = Limits::default();
//! let message = decompress(&body, &limits)?;
//! let mut decoder = Decoder::new(Message::V2, &message, &limits)?;
//! while let Some(series) = decoder.next_series()? {
//!     assert_eq!(series.to_labels()?, labels);
//!     assert_eq!(series.samples[0].value, 1.0);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod blocks;
mod decode;
mod encode;
mod histogram;

#[cfg(test)]
mod tests;

use crate::exposition::{Exemplar, MetricKind};
use crate::histogram::{Histogram, HistogramFault};
use crate::protobuf::Malformed;
use crate::{Labels, Timestamp};

pub use decode::{Decoder, Series, decompress};
pub use encode::Encoder;

/// Which of the two messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// `prometheus.WriteRequest`, of protocol 1.0.
    V1,
    /// `io.prometheus.write.v2.Request`, of protocol 2.0.
    V2,
}

/// The media type of both.
const MEDIA_TYPE: &str = "application/x-protobuf";

impl Message {
    /// The `Content-Encoding` of both; the block format, without frames.
    pub const ENCODING: &'static str = "snappy";
    /// The header that carries [`Message::version`].
    pub const VERSION_HEADER: &'static str = "X-Prometheus-Remote-Write-Version";
    /// What a receiver of 2.0 says that it has stored.
    pub const SAMPLES_WRITTEN_HEADER: &'static str = "X-Prometheus-Remote-Write-Samples-Written";
    pub const HISTOGRAMS_WRITTEN_HEADER: &'static str = "X-Prometheus-Remote-Write-Histograms-Written";
    pub const EXEMPLARS_WRITTEN_HEADER: &'static str = "X-Prometheus-Remote-Write-Exemplars-Written";

    /// The message's full name, as configurations and content types have it.
    pub fn name(self) -> &'static str {
        match self {
            Message::V1 => "prometheus.WriteRequest",
            Message::V2 => "io.prometheus.write.v2.Request",
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            // Without the parameter: receivers of 1.0 compare the whole header.
            Message::V1 => MEDIA_TYPE,
            Message::V2 => "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        }
    }

    pub fn version(self) -> &'static str {
        match self {
            Message::V1 => "0.1.0",
            Message::V2 => "2.0.0",
        }
    }

    /// What a `Content-Type` announces; without the parameter `proto` it is 1.0.
    ///
    /// # Errors
    /// Another media type or message, to be answered with 415.
    pub fn from_content_type(content_type: &str) -> Result<Message, UnsupportedMessage> {
        let unsupported = || UnsupportedMessage(content_type.to_owned());
        let mut parts = content_type.split(';').map(str::trim);
        if !parts.next().is_some_and(|media| media.eq_ignore_ascii_case(MEDIA_TYPE)) {
            return Err(unsupported());
        }
        let Some(name) = parts.find_map(|p| p.split_once('=').filter(|(key, _)| key.trim() == "proto")) else {
            return Ok(Message::V1);
        };
        let name = name.1.trim().trim_matches('"');
        [Message::V1, Message::V2].into_iter().find(|message| message.name() == name).ok_or_else(unsupported)
    }
}

/// A content type that is no remote write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "content type {0:?} is no remote write: send application/x-protobuf, for 2.0 with proto=io.prometheus.write.v2.Request"
)]
pub struct UnsupportedMessage(String);

/// What one request may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of the message after decompression.
    pub message_bytes_max: usize,
    pub series_max: usize,
    pub labels_per_series_max: usize,
    /// Samples, histograms and exemplars of one series, each.
    pub points_per_series_max: usize,
    /// Of the table of 2.0.
    pub symbols_max: usize,
}

impl Default for Limits {
    /// A sender's batch is 2,000 samples by default and 10,000 at most in practice; this is far above both.
    fn default() -> Self {
        Limits {
            message_bytes_max: 32 << 20,
            series_max: 1_000_000,
            labels_per_series_max: 1_000,
            points_per_series_max: 1_000_000,
            symbols_max: 4_000_000,
        }
    }
}

/// A request that cannot be read at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the body is not compressed with snappy: {0}")]
    Snappy(String),
    #[error("the message has {len} bytes, the limit is {max}")]
    TooLarge { len: usize, max: usize },
    #[error("more than {max} {what} in one request")]
    TooMany { what: &'static str, max: usize },
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl DecodeError {
    /// Whether the request is merely too big (413), not wrong (400).
    pub fn is_too_large(&self) -> bool {
        matches!(self, DecodeError::TooLarge { .. } | DecodeError::TooMany { .. })
    }
}

/// Why a series' labels cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelFault {
    #[error("a label that is not UTF-8")]
    NotUtf8,
    #[error("a reference to symbol {0}, which is not there")]
    UnknownSymbol(u64),
    #[error("an odd number of label references")]
    OddReferences,
    #[error("no metric name in {0}")]
    NoMetricName(String),
    #[error("a label without a name in {0}")]
    EmptyName(String),
    #[error("label {0:?} appears twice")]
    Duplicate(String),
}

/// A value at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    pub timestamp: Timestamp,
    pub value: f64,
    /// Since when the value counts; in 2.0 only.
    pub start: Option<Timestamp>,
}

impl Point {
    pub fn new(timestamp: Timestamp, value: f64) -> Self {
        Point { timestamp, value, start: None }
    }
}

/// A histogram at a time, or what is wrong with it.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramPoint {
    pub timestamp: Timestamp,
    pub start: Option<Timestamp>,
    pub histogram: Result<Histogram, HistogramFault>,
}

/// What is known of a metric; the texts may be empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Metadata<'a> {
    pub kind: MetricKind,
    pub help: &'a str,
    pub unit: &'a str,
}

/// A series to send.
#[derive(Clone, Copy, Debug)]
pub struct TimeSeries<'a> {
    pub labels: &'a Labels,
    pub samples: &'a [Point],
    pub histograms: &'a [(Timestamp, &'a Histogram)],
    pub exemplars: &'a [Exemplar],
    /// Sent with the series in 2.0; for 1.0 see [`Encoder::metadata`].
    pub metadata: Option<Metadata<'a>>,
}

impl<'a> TimeSeries<'a> {
    pub fn of_samples(labels: &'a Labels, samples: &'a [Point]) -> Self {
        TimeSeries { labels, samples, histograms: &[], exemplars: &[], metadata: None }
    }
}

/// The numbers of `MetricType`, equal in both protocols.
const KINDS: [MetricKind; 8] = [
    MetricKind::Unknown,
    MetricKind::Counter,
    MetricKind::Gauge,
    MetricKind::Histogram,
    MetricKind::GaugeHistogram,
    MetricKind::Summary,
    MetricKind::Info,
    MetricKind::StateSet,
];

fn kind_number(kind: MetricKind) -> u64 {
    KINDS.iter().position(|other| *other == kind).unwrap_or(0) as u64
}

fn kind_of(number: u64) -> MetricKind {
    usize::try_from(number).ok().and_then(|i| KINDS.get(i)).copied().unwrap_or_default()
}
