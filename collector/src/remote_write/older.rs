//! Batches of 2.0 as 1.0, for servers that know no other.

use telemetry::Labels;
use telemetry::remote_write::{DecodeError, Decoder, Encoder, Limits, Message, TimeSeries, decompress};

use super::counts::Counts;
use super::log::Record;

/// The batch, and the histograms that 1.0 cannot say. What was known of the metrics stays behind: 1.0 has it in
/// requests of its own.
///
/// # Errors
/// A body that is not what was encoded.
pub(super) fn as_v1(record: &Record) -> Result<(Record, Counts), DecodeError> {
    let limits = Limits { message_bytes_max: usize::MAX, ..Limits::default() };
    let bytes = decompress(&record.body, &limits)?;
    let mut decoder = Decoder::new(Message::V2, &bytes, &limits)?;
    let mut encoder = Encoder::new(Message::V1);
    let mut lost = Counts::NONE;
    while let Some(series) = decoder.next_series()? {
        let labels = Labels::from_pairs(series.labels.iter().copied());
        let mut histograms = Vec::new();
        for point in &series.histograms {
            match &point.histogram {
                Ok(histogram) if !histogram.uses_custom_buckets() => histograms.push((point.timestamp, histogram)),
                _ => lost += Counts::histograms(1),
            }
        }
        let (samples, exemplars) = (&*series.samples, &*series.exemplars);
        if samples.is_empty() && histograms.is_empty() && exemplars.is_empty() {
            continue;
        }
        encoder.series(&TimeSeries { labels: &labels, samples, histograms: &histograms, exemplars, metadata: None });
    }
    let counts = Counts { metadata: 0, ..record.counts - lost };
    let body = encoder.finish().into();
    Ok((Record { message: Message::V1, counts, body, shard: record.shard, newest: record.newest }, lost))
}
