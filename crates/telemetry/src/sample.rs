//! One measured value, and the marker that says that a series has ended.

use crate::{Labels, Timestamp};

/// The bit pattern of Prometheus' staleness marker, a NaN that no arithmetic yields
/// (prometheus model/value/value.go, `StaleNaN`).
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The staleness marker as a float.
pub fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// Whether `value` is the staleness marker; an ordinary NaN is not.
pub fn is_stale_nan(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// A value of one series at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub labels: Labels,
    pub timestamp: Timestamp,
    pub value: f64,
}
