//! Exponential histograms to native ones.

use opentelemetry_proto::tonic::metrics::v1::ExponentialHistogramDataPoint;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;

use super::PointFault;
use crate::histogram::{Histogram, IndexedCount, SCHEMA_MAX, SCHEMA_MIN};

/// The half width of the zero bucket where a point does not say: as client_golang has it.
const ZERO_THRESHOLD: f64 = 1e-128;

/// # Errors
/// A scale that Prometheus cannot hold, or counts that do not add up.
pub(super) fn to_native(point: &ExponentialHistogramDataPoint) -> Result<Histogram, PointFault> {
    if point.scale < SCHEMA_MIN {
        return Err(PointFault::Histogram);
    }
    let mut histogram = Histogram {
        schema: point.scale,
        zero_threshold: if point.zero_threshold > 0.0 { point.zero_threshold } else { ZERO_THRESHOLD },
        zero_count: point.zero_count as f64,
        count: point.count as f64,
        // Without a sum there is none of the values: it is as good as unknown.
        sum: point.sum.unwrap_or(0.0),
        positive: buckets(point.positive.as_ref())?,
        negative: buckets(point.negative.as_ref())?,
        ..Histogram::default()
    };
    histogram.limit_schema(SCHEMA_MAX);
    histogram.check().map_err(|_| PointFault::Histogram)?;
    Ok(histogram)
}

/// OTLP's bucket i reaches from base^i to base^(i+1), Prometheus' up to base^i.
fn buckets(buckets: Option<&Buckets>) -> Result<Vec<IndexedCount>, PointFault> {
    let Some(buckets) = buckets else { return Ok(Vec::new()) };
    let counts = buckets.bucket_counts.iter().zip(i64::from(buckets.offset) + 1..).filter(|(count, _)| **count > 0);
    counts.map(|(count, index)| Ok((i32::try_from(index).map_err(|_| PointFault::Histogram)?, *count as f64))).collect()
}
