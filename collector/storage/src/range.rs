//! What a reader takes along of a series.

use smallvec::SmallVec;
use telemetry::Timestamp;

use crate::block::DecodedTimes;
use crate::disk::segment::BlockReader;
use crate::sheet::Piece;

/// Samples on their way to a reader: what is sealed still so, so that the store is not held while they are decoded.
pub(crate) struct SampleRange {
    pieces: SmallVec<[Piece; 4]>,
    hot: Vec<(Timestamp, f64)>,
    start: i64,
    end: i64,
}

impl SampleRange {
    pub(crate) fn new(pieces: SmallVec<[Piece; 4]>, hot: Vec<(Timestamp, f64)>, start: i64, end: i64) -> Self {
        SampleRange { pieces, hot, start, end }
    }

    /// Without what cannot be read.
    pub(crate) fn into_samples(self, decoded: &mut DecodedTimes, reader: &mut BlockReader) -> Vec<(Timestamp, f64)> {
        if self.pieces.is_empty() {
            return self.hot;
        }
        let parts: SmallVec<[(usize, usize); 8]> =
            self.pieces.iter().map(|piece| bounds(decoded.of(piece.times()), self.start, self.end)).collect();
        let sealed_len: usize = parts.iter().map(|(from, to)| to - from).sum();
        let mut samples = Vec::with_capacity(sealed_len + self.hot.len());
        let (mut values, mut scratch) = (Vec::new(), Vec::new());
        for (piece, (from, to)) in self.pieces.iter().zip(parts) {
            values.clear();
            if from < to && piece.append_values(reader, &mut values, &mut scratch).is_some() {
                let times = decoded.of(piece.times())[from..to].iter().map(|time| Timestamp(*time));
                samples.extend(times.zip(values[from..to].iter().copied()));
            }
        }
        samples.extend(self.hot);
        samples
    }
}

/// Where the times after `start` and up to `end` are.
pub(crate) fn bounds(times: &[i64], start: i64, end: i64) -> (usize, usize) {
    let from = times.partition_point(|time| *time <= start);
    let to = times.partition_point(|time| *time <= end);
    (from, to.max(from))
}
