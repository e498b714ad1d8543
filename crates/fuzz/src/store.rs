//! What the store reads back from its disk.

use std::collections::BTreeMap;

use ::telemetry::{Labels, Timestamp};
use storage::Storage;

use crate::Target;

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "storage_log", run: log, seeds: LOGS },
    Target { name: "storage_checkpoint", run: checkpoint, seeds: CHECKPOINTS },
    Target { name: "storage_block", run: block, seeds: BLOCKS },
];

/// Between the records of an input.
const SEPARATOR: [u8; 2] = [0xfe, 0xfe];

/// A series with samples, whole and late ones, what has expired, and a histogram.
const LOGS: &[&[u8]] = &[
    b"\x01\x03\0\x05\x01\x01a\x01b\x21\xd0\x0f\0\x21\xd0\x0f\0\x13\0\xdc\x0b\0\0\0\0\0\0\xf0\x3f\xfe\xfe\x02\xdc\x0b",
    b"\x01\x03\0\x05\x01\x01a\x01b\x03\x01\x05\x01\x01a\x01c\x21\xd0\x0f\0\x2d\x23\0\xfe\xfe\x03\xfe\xfe\x01\x00\x64\0\x42\xd0\x0f\0\0\0\0\x3f",
    b"\x01\x03\0\x05\x01\x01a\x01b\xf1\xd0\x0f\0\xe8\x07\xfe\xfe\x02\xa0\x1f\0\xfe\xfe\x01\x03\0\x05\x01\x01a\x01d\x21\xd0\x0f\0",
    b"\x01\x03\0\x05\x01\x01a\x01b\xfe\xfe\x04\0\xe8\x07\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
];

/// An input's records.
fn records(data: &[u8]) -> Vec<Vec<u8>> {
    let mut records = vec![Vec::new()];
    let mut rest = data;
    while let Some((byte, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(&SEPARATOR) {
            records.push(Vec::new());
            rest = after;
            continue;
        }
        records.last_mut().expect("never empty").push(*byte);
        rest = after;
    }
    records
}

/// Series with labels as what differs from the series before, with samples here and in a segment; and with labels as text.
const CHECKPOINTS: &[&[u8]] = &[
    b"\x01\0\x02\xfe\xfe\x05\0\x03\x03\0\x01\x04\x01a\x01b\x04\x01c\x01d\0\0\0\0\0\x01\x03\x02\x02\x04\x01c\x01e\0\0\0\0\0\xfe\xfe\x03\x02\x02",
    b"\x05\x07\x02\x01\0\x04\x01a\x01b\x02\x03\x02\0\0\x01\0\x02\0\0\x02\0\x02\x01\x02\x02\x02\0\0\x05\x05\x03\0\0\0",
    b"\x04\0\x05\x01\x01a\x01b\0\0\0\0\0\x01\x05\x01\x01a\x01c\0\0\0\0\0",
    // More plain samples at even times than there is memory for.
    b"\x05\x07\x02\x01\0\x04\x01a\x01b\xff\xff\xff\xff\xff\x7f\x05\0\x01\0\0\0\0\0\0",
];

/// How many samples, then even times, and values: a constant, a whole number, floats by their bits, whole numbers with
/// differences of either sign and a staleness marker aside, and as they were written before.
const BLOCKS: &[&[u8]] = &[
    b"\x04\0\0\x01\xd0\x0f\0\0\xfe\xfe\0\0\0\0\0\0\0\xf8\x3f",
    b"\x04\0\0\x01\xd0\x0f\0\0\xfe\xfe\x03\x0a",
    b"\x02\0\0\x01\xd0\x0f\0\0\xfe\xfe\x02\x3f\xf8\0\0\0\0\0\0\x80\0",
    b"\x04\0\0\x01\xd0\x0f\0\0\xfe\xfe\x43\x01\x02\x02\0\0\0\0\0\xf0\x7f\x0a\x02\x1b",
    b"\x04\0\0\x01\xd0\x0f\0\0\xfe\xfe\xc4\x0a\x01\x01\x02\x05\x05",
    b"\x04\0\0\x01\xd0\x0f\0\0\xfe\xfe\x01\0\0\x0a\x01\x02\x01\0\x05",
];

/// Whatever the bytes are, they are a block of as many samples as it says, or none.
fn block(data: &[u8]) {
    let Some((count, rest)) = data.split_first_chunk() else { return };
    let count = u16::from_le_bytes(*count);
    let at = rest.windows(SEPARATOR.len()).position(|bytes| bytes == SEPARATOR);
    let (times, values) = at.map_or((rest, [].as_slice()), |at| (&rest[..at], &rest[at + SEPARATOR.len()..]));
    if let Some((times, values)) = Storage::block_of(times, values, count) {
        assert_eq!((times.len(), values.len()), (usize::from(count), usize::from(count)));
    }
}

/// Whatever the records say, the labels of their series are labels, and a second reading finds the same.
fn checkpoint(data: &[u8]) {
    let records = records(data);
    let read = || Storage::labels_in_checkpoint(records.iter().map(Vec::as_slice));
    let found = read();
    for labels in &found {
        assert_eq!(Labels::from_encoded(labels.encoded()).as_ref(), Some(labels));
    }
    assert_eq!(read(), found);
}

/// Whatever the records say, what they make is a store: each series once, its samples sorted, one per time, and a
/// second reading finds the same.
fn log(data: &[u8]) {
    let records = records(data);
    let read = || {
        let storage = Storage::replayed(records.iter().map(Vec::as_slice));
        let mut found = BTreeMap::new();
        for series in storage.select(&[], Timestamp::MIN, Timestamp::MAX) {
            assert!(series.samples.windows(2).all(|pair| pair[0].0 < pair[1].0), "{series:?}");
            assert!(series.histograms.windows(2).all(|pair| pair[0].0 < pair[1].0), "{series:?}");
            let samples: Vec<_> = series.samples.iter().map(|(at, value)| (*at, value.to_bits())).collect();
            assert!(found.insert(series.labels, samples).is_none(), "a series is there twice");
        }
        found
    };
    assert_eq!(read(), read());
}
