//! The messages of opentelemetry-proto 1.x: JSON name, number and kind of each field.

/// One message: its fields.
pub struct Message(pub(super) &'static [Entry]);

pub(super) type Entry = (&'static str, u64, Kind);

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text,
    /// Bytes as hex digits.
    Id,
    /// Bytes as base64.
    Bytes,
    Bool,
    /// uint32, uint64, enum.
    Uint,
    /// int64.
    Int,
    /// sint32.
    Zigzag,
    Fixed32,
    Fixed64,
    /// sfixed64.
    Sfixed64,
    Double,
    One(&'static Message),
    Many(&'static Message),
    /// Packed numbers.
    Fixed64s,
    Doubles,
    Uints,
}

use Kind::{
    Bool, Bytes, Double, Doubles, Fixed32, Fixed64, Fixed64s, Id, Int, Many, One, Sfixed64, Text, Uint, Uints, Zigzag,
};

pub static TRACES: Message = Message(&[("resourceSpans", 1, Many(&RESOURCE_SPANS))]);
pub static METRICS: Message = Message(&[("resourceMetrics", 1, Many(&RESOURCE_METRICS))]);
pub static LOGS: Message = Message(&[("resourceLogs", 1, Many(&RESOURCE_LOGS))]);

static ANY: Message = Message(&[
    ("stringValue", 1, Text),
    ("boolValue", 2, Bool),
    ("intValue", 3, Int),
    ("doubleValue", 4, Double),
    ("arrayValue", 5, One(&ARRAY)),
    ("kvlistValue", 6, One(&ARRAY_OF_PAIRS)),
    ("bytesValue", 7, Bytes),
]);
static ARRAY: Message = Message(&[("values", 1, Many(&ANY))]);
static ARRAY_OF_PAIRS: Message = Message(&[("values", 1, Many(&PAIR))]);
static PAIR: Message = Message(&[("key", 1, Text), ("value", 2, One(&ANY))]);
static RESOURCE: Message = Message(&[("attributes", 1, Many(&PAIR)), ("droppedAttributesCount", 2, Uint)]);
static SCOPE: Message = Message(&[
    ("name", 1, Text),
    ("version", 2, Text),
    ("attributes", 3, Many(&PAIR)),
    ("droppedAttributesCount", 4, Uint),
]);

static RESOURCE_SPANS: Message =
    Message(&[("resource", 1, One(&RESOURCE)), ("scopeSpans", 2, Many(&SCOPE_SPANS)), ("schemaUrl", 3, Text)]);
static SCOPE_SPANS: Message = Message(&[("scope", 1, One(&SCOPE)), ("spans", 2, Many(&SPAN)), ("schemaUrl", 3, Text)]);
static SPAN: Message = Message(&[
    ("traceId", 1, Id),
    ("spanId", 2, Id),
    ("traceState", 3, Text),
    ("parentSpanId", 4, Id),
    ("name", 5, Text),
    ("kind", 6, Uint),
    ("startTimeUnixNano", 7, Fixed64),
    ("endTimeUnixNano", 8, Fixed64),
    ("attributes", 9, Many(&PAIR)),
    ("droppedAttributesCount", 10, Uint),
    ("events", 11, Many(&SPAN_EVENT)),
    ("droppedEventsCount", 12, Uint),
    ("links", 13, Many(&SPAN_LINK)),
    ("droppedLinksCount", 14, Uint),
    ("status", 15, One(&SPAN_STATUS)),
    ("flags", 16, Fixed32),
]);
static SPAN_EVENT: Message = Message(&[
    ("timeUnixNano", 1, Fixed64),
    ("name", 2, Text),
    ("attributes", 3, Many(&PAIR)),
    ("droppedAttributesCount", 4, Uint),
]);
static SPAN_LINK: Message = Message(&[
    ("traceId", 1, Id),
    ("spanId", 2, Id),
    ("traceState", 3, Text),
    ("attributes", 4, Many(&PAIR)),
    ("droppedAttributesCount", 5, Uint),
    ("flags", 6, Fixed32),
]);
static SPAN_STATUS: Message = Message(&[("message", 2, Text), ("code", 3, Uint)]);

static RESOURCE_LOGS: Message =
    Message(&[("resource", 1, One(&RESOURCE)), ("scopeLogs", 2, Many(&SCOPE_LOGS)), ("schemaUrl", 3, Text)]);
static SCOPE_LOGS: Message =
    Message(&[("scope", 1, One(&SCOPE)), ("logRecords", 2, Many(&LOG)), ("schemaUrl", 3, Text)]);
static LOG: Message = Message(&[
    ("timeUnixNano", 1, Fixed64),
    ("observedTimeUnixNano", 11, Fixed64),
    ("severityNumber", 2, Uint),
    ("severityText", 3, Text),
    ("body", 5, One(&ANY)),
    ("attributes", 6, Many(&PAIR)),
    ("droppedAttributesCount", 7, Uint),
    ("flags", 8, Fixed32),
    ("traceId", 9, Id),
    ("spanId", 10, Id),
    ("eventName", 12, Text),
]);

static RESOURCE_METRICS: Message =
    Message(&[("resource", 1, One(&RESOURCE)), ("scopeMetrics", 2, Many(&SCOPE_METRICS)), ("schemaUrl", 3, Text)]);
static SCOPE_METRICS: Message =
    Message(&[("scope", 1, One(&SCOPE)), ("metrics", 2, Many(&METRIC)), ("schemaUrl", 3, Text)]);
static METRIC: Message = Message(&[
    ("name", 1, Text),
    ("description", 2, Text),
    ("unit", 3, Text),
    ("gauge", 5, One(&GAUGE)),
    ("sum", 7, One(&SUM)),
    ("histogram", 9, One(&HISTOGRAM)),
    ("exponentialHistogram", 10, One(&EXPONENTIAL)),
    ("summary", 11, One(&SUMMARY)),
    ("metadata", 12, Many(&PAIR)),
]);
static GAUGE: Message = Message(&[("dataPoints", 1, Many(&NUMBER))]);
static SUM: Message =
    Message(&[("dataPoints", 1, Many(&NUMBER)), ("aggregationTemporality", 2, Uint), ("isMonotonic", 3, Bool)]);
static HISTOGRAM: Message = Message(&[("dataPoints", 1, Many(&HISTOGRAM_POINT)), ("aggregationTemporality", 2, Uint)]);
static EXPONENTIAL: Message =
    Message(&[("dataPoints", 1, Many(&EXPONENTIAL_POINT)), ("aggregationTemporality", 2, Uint)]);
static SUMMARY: Message = Message(&[("dataPoints", 1, Many(&SUMMARY_POINT))]);
static NUMBER: Message = Message(&[
    ("attributes", 7, Many(&PAIR)),
    ("startTimeUnixNano", 2, Fixed64),
    ("timeUnixNano", 3, Fixed64),
    ("asDouble", 4, Double),
    ("asInt", 6, Sfixed64),
    ("exemplars", 5, Many(&EXEMPLAR)),
    ("flags", 8, Uint),
]);
static HISTOGRAM_POINT: Message = Message(&[
    ("attributes", 9, Many(&PAIR)),
    ("startTimeUnixNano", 2, Fixed64),
    ("timeUnixNano", 3, Fixed64),
    ("count", 4, Fixed64),
    ("sum", 5, Double),
    ("bucketCounts", 6, Fixed64s),
    ("explicitBounds", 7, Doubles),
    ("exemplars", 8, Many(&EXEMPLAR)),
    ("flags", 10, Uint),
    ("min", 11, Double),
    ("max", 12, Double),
]);
static EXPONENTIAL_POINT: Message = Message(&[
    ("attributes", 1, Many(&PAIR)),
    ("startTimeUnixNano", 2, Fixed64),
    ("timeUnixNano", 3, Fixed64),
    ("count", 4, Fixed64),
    ("sum", 5, Double),
    ("scale", 6, Zigzag),
    ("zeroCount", 7, Fixed64),
    ("positive", 8, One(&BUCKETS)),
    ("negative", 9, One(&BUCKETS)),
    ("flags", 10, Uint),
    ("exemplars", 11, Many(&EXEMPLAR)),
    ("min", 12, Double),
    ("max", 13, Double),
    ("zeroThreshold", 14, Double),
]);
static BUCKETS: Message = Message(&[("offset", 1, Zigzag), ("bucketCounts", 2, Uints)]);
static SUMMARY_POINT: Message = Message(&[
    ("attributes", 7, Many(&PAIR)),
    ("startTimeUnixNano", 2, Fixed64),
    ("timeUnixNano", 3, Fixed64),
    ("count", 4, Fixed64),
    ("sum", 5, Double),
    ("quantileValues", 6, Many(&QUANTILE)),
    ("flags", 8, Uint),
]);
static QUANTILE: Message = Message(&[("quantile", 1, Double), ("value", 2, Double)]);
static EXEMPLAR: Message = Message(&[
    ("filteredAttributes", 7, Many(&PAIR)),
    ("timeUnixNano", 2, Fixed64),
    ("asDouble", 3, Double),
    ("asInt", 6, Sfixed64),
    ("spanId", 4, Id),
    ("traceId", 5, Id),
]);
