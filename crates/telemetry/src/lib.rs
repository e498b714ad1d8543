//! The language of the suite: what a label set, a sample, a log record and a trace id are, how they
//! are written on the wire, and what every metric is called.
//!
//! Pure: no sockets, no tasks, no clock. Bytes come in, values come out; `now` is always an argument.

mod alike;
pub mod duration;
pub mod exposition;
pub mod histogram;
pub mod labels;
pub mod log_record;
pub mod matcher;
pub mod names;
#[cfg(feature = "otlp")]
pub mod otlp;
mod protobuf;
pub mod remote_write;
pub mod sample;
pub mod time;
pub mod trace;
pub mod translation;

pub use alike::Alike;
pub use histogram::{Histogram, HistogramSample};
pub use labels::{Labels, LabelsBuilder};
pub use matcher::{MatchOp, Matcher};
pub use sample::{STALE_NAN_BITS, Sample, is_stale_nan, stale_nan};
pub use time::Timestamp;
