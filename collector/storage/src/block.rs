//! Sealed samples: a column of times and a column of values, compressed and never changed.
//!
//! Series of one target are scraped at the same times, so their blocks share one column of times. The values of all but
//! the newest lie in a segment on disk, if there is a disk.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use crate::column::{append_values, decode_times, encode_times, encode_values};
use crate::disk::segment::{BlockReader, Place};

/// Cheap to clone: readers take blocks along and decode them without holding the store.
#[derive(Clone)]
pub(crate) struct Block {
    pub(crate) times: Arc<TimeColumn>,
    pub(crate) values: Values,
}

/// A block's values, compressed.
#[derive(Clone)]
pub(crate) enum Values {
    Memory(Arc<[u8]>),
    Stored(Place),
}

pub(crate) struct TimeColumn {
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) count: usize,
    pub(crate) bytes: Box<[u8]>,
}

impl Block {
    /// Seals samples; there is at least one and times ascend.
    pub(crate) fn seal(times: &[i64], values: &[f64], columns: &mut TimeColumns) -> Block {
        Block::over(columns.intern(times), values)
    }

    /// Seals values at times that are sealed already.
    pub(crate) fn over(times: Arc<TimeColumn>, values: &[f64]) -> Block {
        Block { times, values: Values::Memory(encode_values(values).as_slice().into()) }
    }

    pub(crate) fn first(&self) -> i64 {
        self.times.first
    }

    pub(crate) fn last(&self) -> i64 {
        self.times.last
    }

    pub(crate) fn count(&self) -> usize {
        self.times.count
    }

    pub(crate) fn is_in_memory(&self) -> bool {
        matches!(self.values, Values::Memory(_))
    }

    /// Whether this is the same block, and not only one of the same samples.
    pub(crate) fn is(&self, other: &Block) -> bool {
        Arc::ptr_eq(&self.times, &other.times)
            && match (&self.values, &other.values) {
                (Values::Memory(here), Values::Memory(there)) => Arc::ptr_eq(here, there),
                (Values::Stored(here), Values::Stored(there)) => here == there,
                _ => false,
            }
    }

    /// The segment that it is in.
    pub(crate) fn slot(&self) -> Option<u16> {
        match self.values {
            Values::Memory(_) => None,
            Values::Stored(place) => Some(place.slot),
        }
    }

    /// Times and values; None if they cannot be read.
    pub(crate) fn decode(&self, reader: &mut BlockReader) -> Option<(Vec<i64>, Vec<f64>)> {
        let mut values = Vec::with_capacity(self.count());
        self.append_values(reader, &mut values, &mut Vec::new())?;
        Some((self.times.decode(), values))
    }

    /// Decodes behind what `values` has already; None, and nothing added, if they cannot be read.
    pub(crate) fn append_values(
        &self,
        reader: &mut BlockReader,
        values: &mut Vec<f64>,
        scratch: &mut Vec<u64>,
    ) -> Option<()> {
        let (count, before) = (self.times.count, values.len());
        match &self.values {
            Values::Memory(bytes) => append_sealed(bytes, count, values, scratch),
            Values::Stored(place) => {
                let decoded = append_values(reader.read(*place, &self.times)?, count, values, scratch);
                if decoded.is_none() || values.len() != before + count {
                    values.truncate(before);
                    reader.count_unreadable();
                    return None;
                }
            }
        }
        Some(())
    }

    /// Bytes in memory of this block alone; the times are shared.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Block>()
            + match &self.values {
                Values::Memory(bytes) => bytes.len(),
                Values::Stored(_) => 0,
            }
    }
}

/// Decodes what is in memory behind what `values` has already.
pub(crate) fn append_sealed(bytes: &[u8], count: usize, values: &mut Vec<f64>, scratch: &mut Vec<u64>) {
    append_values(bytes, count, values, scratch).expect("sealed by us; what is read back has its checksum")
}

impl TimeColumn {
    pub(crate) fn decode(&self) -> Vec<i64> {
        decode_times(&self.bytes, self.count).expect("sealed by us; what is read back has its checksum")
    }
}

/// Columns of times that a reader has decoded: the series of a target come one after the other and share theirs.
#[derive(Default)]
pub(crate) struct DecodedTimes(Vec<(Arc<TimeColumn>, Vec<i64>)>);

impl DecodedTimes {
    /// As many as the blocks that a series has in some hours.
    const KEPT: usize = 16;

    pub(crate) fn of(&mut self, column: &Arc<TimeColumn>) -> &[i64] {
        let known = self.0.iter().position(|(other, _)| Arc::ptr_eq(other, column));
        let at = known.unwrap_or_else(|| {
            if self.0.len() == Self::KEPT {
                self.0.remove(0);
            }
            self.0.push((column.clone(), column.decode()));
            self.0.len() - 1
        });
        &self.0[at].1
    }
}

/// The columns of times in use, each held once.
#[derive(Default)]
pub(crate) struct TimeColumns {
    /// Shared by the threads of a start.
    all: Arc<Mutex<HashTable<Arc<TimeColumn>>>>,
    /// What was asked for last: series that are written together have the same times.
    last: Option<(Vec<i64>, Arc<TimeColumn>)>,
    /// What was joined last: the series of a group join theirs one after the other.
    joined: Option<(Vec<Arc<TimeColumn>>, Arc<TimeColumn>)>,
}

impl TimeColumns {
    /// The times of neighbouring columns as one.
    pub(crate) fn join<'c>(
        &mut self,
        columns: impl ExactSizeIterator<Item = &'c Arc<TimeColumn>> + Clone,
    ) -> Arc<TimeColumn> {
        if let Some((parts, joined)) = &self.joined
            && parts.len() == columns.len()
            && parts.iter().zip(columns.clone()).all(|(part, column)| Arc::ptr_eq(part, column))
        {
            return joined.clone();
        }
        let times: Vec<i64> = columns.clone().flat_map(|column| column.decode()).collect();
        let joined = self.intern(&times);
        self.joined = Some((columns.cloned().collect(), joined.clone()));
        joined
    }

    pub(crate) fn intern(&mut self, times: &[i64]) -> Arc<TimeColumn> {
        if let Some((known, column)) = &self.last
            && known == times
        {
            return column.clone();
        }
        let bytes = encode_times(times);
        let (first, last) = (times.first().copied().unwrap_or(0), times.last().copied().unwrap_or(0));
        let column = self.add(TimeColumn { first, last, count: times.len(), bytes: bytes.into() });
        self.last = Some((times.to_vec(), column.clone()));
        column
    }

    pub(crate) fn add(&mut self, column: TimeColumn) -> Arc<TimeColumn> {
        let mut all = self.all();
        if let Some(shared) = known(&all, &column.bytes, column.count) {
            return shared.clone();
        }
        let (hash, column) = (xxh3_64(&column.bytes), Arc::new(column));
        all.insert_unique(hash, column.clone(), |column| xxh3_64(&column.bytes));
        column
    }

    /// The same columns for another thread.
    pub(crate) fn share(&self) -> TimeColumns {
        TimeColumns { all: self.all.clone(), ..TimeColumns::default() }
    }

    /// The column that these bytes are.
    pub(crate) fn encoded(&mut self, bytes: &[u8], count: usize) -> Option<Arc<TimeColumn>> {
        let last = self.last.as_ref().map(|(_, column)| column);
        if let Some(last) = last.filter(|last| last.count == count && *last.bytes == *bytes) {
            return Some(last.clone());
        }
        let known = known(&self.all(), bytes, count).cloned();
        let times = decode_times(bytes, count)?;
        let (first, last) = (*times.first()?, *times.last()?);
        let column = known.unwrap_or_else(|| self.add(TimeColumn { first, last, count, bytes: bytes.into() }));
        self.last = Some((times, column.clone()));
        Some(column)
    }

    /// Forgets columns that no block uses any more.
    pub(crate) fn sweep(&mut self) {
        (self.joined, self.last) = (None, None);
        self.all().retain(|column| Arc::strong_count(column) > 1);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.all().iter().map(|column| size_of::<TimeColumn>() + column.bytes.len()).sum()
    }

    fn all(&self) -> MutexGuard<'_, HashTable<Arc<TimeColumn>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn known<'a>(all: &'a HashTable<Arc<TimeColumn>>, bytes: &[u8], count: usize) -> Option<&'a Arc<TimeColumn>> {
    all.find(xxh3_64(bytes), |other| other.count == count && *other.bytes == *bytes)
}
