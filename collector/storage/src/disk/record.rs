//! What a log's records say: batches of samples, and expiries.
//!
//! A sample is written as the difference to the newest one of its series that the same log has, mostly in one to
//! three bytes; the first as the difference to zero.

use telemetry::{Histogram, Labels};

use crate::column::{Reader, decimals, from_decimals, push_varint, scaled, unzigzag, whole, zigzag};
use crate::histograms;

const BATCH: u8 = 1;
const EXPIRY: u8 = 2;
/// What follows refers to nothing before it: the log was opened again.
const AFRESH: u8 = 3;
const HISTOGRAMS: u8 = 4;

// The low bits of an entry's first byte.
const UNCHANGED: u8 = 0;
const DIFFERENCE: u8 = 1;
/// The high bits say how: below 8 so many low bytes are unchanged and the others follow; above, a difference in the
/// last of that many decimal places less [`PLACES`] follows.
const CHANGED: u8 = 2;
const SPECIAL: u8 = 3;
// The high bits of what is special.
const NEW_SERIES: u8 = SPECIAL;
/// A sample that is not the newest of its series, with its whole value.
const LATE: u8 = SPECIAL | 1 << 4;
/// The next sample of this series is written as a first one.
const FIRST: u8 = SPECIAL | 2 << 4;
const KIND: u8 = 0b11;
const SAME_TIME: u8 = 0b100;
const NEXT_ID: u8 = 0b1000;
/// The high bits hold a difference below this, or say with it that the difference follows.
const DIFFERENCE_FOLLOWS: u64 = 15;

const PLACES: u32 = 7;

/// Collects the entries of one record.
#[derive(Default)]
pub(crate) struct BatchEncoder {
    payload: Vec<u8>,
    last: Position,
}

/// Against what the next entry is written.
#[derive(Clone, Copy, Default)]
struct Position {
    id: u32,
    time: i64,
}

impl BatchEncoder {
    pub(crate) fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    pub(crate) fn clear(&mut self) {
        self.payload.clear();
        self.last = Position::default();
    }

    pub(crate) fn series(&mut self, id: u32, labels: &Labels) {
        self.start();
        self.payload.push(NEW_SERIES);
        push_varint(&mut self.payload, u64::from(id));
        push_varint(&mut self.payload, labels.encoded().len() as u64);
        self.payload.extend_from_slice(labels.encoded().as_bytes());
    }

    /// See [`LATE`].
    pub(crate) fn late(&mut self, id: u32, time: i64, value: f64) {
        self.start();
        self.payload.push(LATE);
        push_varint(&mut self.payload, u64::from(id));
        push_varint(&mut self.payload, zigzag(time));
        self.payload.extend_from_slice(&value.to_bits().to_le_bytes());
    }

    /// See [`FIRST`].
    pub(crate) fn first(&mut self, id: u32) {
        self.start();
        self.payload.push(FIRST);
        push_varint(&mut self.payload, u64::from(id));
    }

    /// `previous` is the newest value of the series that this log has.
    pub(crate) fn sample(&mut self, id: u32, time: i64, value: f64, previous: Option<f64>) {
        self.start();
        let previous = previous.unwrap_or(0.0);
        let mut first = 0;
        if time == self.last.time {
            first |= SAME_TIME;
        }
        if id == self.last.id.wrapping_add(1) {
            first |= NEXT_ID;
        }
        let difference = whole(previous).zip(whole(value)).map(|(before, now)| zigzag(now - before));
        let changed = previous.to_bits() ^ value.to_bits();
        let places = if difference.is_none() { decimals(previous, value) } else { None };
        first |= match (difference, places) {
            _ if changed == 0 => UNCHANGED,
            (Some(difference), _) => DIFFERENCE | (difference.min(DIFFERENCE_FOLLOWS) as u8) << 4,
            (None, Some((places, ..))) => CHANGED | ((places + PLACES) as u8) << 4,
            (None, None) => CHANGED | ((changed.trailing_zeros() / 8) as u8) << 4,
        };
        self.payload.push(first);
        if first & SAME_TIME == 0 {
            push_varint(&mut self.payload, zigzag(time.wrapping_sub(self.last.time)));
        }
        if first & NEXT_ID == 0 {
            push_varint(&mut self.payload, zigzag(i64::from(id) - i64::from(self.last.id)));
        }
        match (first & KIND, difference, places) {
            (DIFFERENCE, Some(difference), _) if difference >= DIFFERENCE_FOLLOWS => {
                push_varint(&mut self.payload, difference - DIFFERENCE_FOLLOWS);
            }
            (CHANGED, _, Some((_, before, now))) => push_varint(&mut self.payload, zigzag(now - before)),
            (CHANGED, ..) => {
                let trailing = changed.trailing_zeros() / 8;
                self.payload.extend_from_slice(&changed.to_le_bytes()[trailing as usize..]);
            }
            _ => {}
        }
        self.last = Position { id, time };
    }

    fn start(&mut self) {
        if self.payload.is_empty() {
            self.payload.push(BATCH);
        }
    }
}

/// Samples before `oldest` go, and so do these series.
pub(crate) fn expiry(oldest: i64, dead: &[u32]) -> Vec<u8> {
    let mut payload = vec![EXPIRY];
    push_varint(&mut payload, zigzag(oldest));
    let mut last = 0;
    for id in dead {
        push_varint(&mut payload, u64::from(id - last));
        last = *id;
    }
    payload
}

/// A native histogram of a series that is known.
pub(crate) fn histogram(id: u32, time: i64, encoded: &[u8]) -> Vec<u8> {
    let mut payload = vec![HISTOGRAMS];
    push_varint(&mut payload, u64::from(id));
    push_varint(&mut payload, zigzag(time));
    payload.extend_from_slice(encoded);
    payload
}

pub(crate) fn afresh() -> [u8; 1] {
    [AFRESH]
}

/// Does again what a log says.
pub(crate) trait Replay {
    /// How many ids there are: a record that names a higher one is damaged, and must not cost memory up to there.
    fn ids_len(&self) -> usize;
    fn series(&mut self, id: u32, labels: Labels) -> Option<()>;
    fn sample(&mut self, id: u32, time: i64, value: f64) -> Option<()>;
    fn histogram(&mut self, id: u32, time: i64, histogram: &Histogram) -> Option<()>;
    fn expire(&mut self, oldest: i64);
    fn remove(&mut self, ids: &[u32]);
}

/// The newest value of each series that a log has had so far.
#[derive(Default)]
pub(crate) struct Newest(Vec<f64>);

impl Newest {
    fn of(&mut self, id: u32, ids_len: usize) -> Option<&mut f64> {
        let id = id as usize;
        if id >= ids_len {
            return None;
        }
        if id >= self.0.len() {
            self.0.resize(id + 1, 0.0);
        }
        self.0.get_mut(id)
    }
}

/// Reads a record; None if it says what cannot be.
pub(crate) fn replay(payload: &[u8], newest: &mut Newest, state: &mut impl Replay) -> Option<()> {
    let mut reader = Reader::new(payload);
    match reader.byte()? {
        BATCH => replay_batch(&mut reader, newest, state),
        EXPIRY => replay_expiry(&mut reader, state),
        AFRESH => {
            newest.0.clear();
            Some(())
        }
        HISTOGRAMS => {
            let id = u32::try_from(reader.varint()?).ok()?;
            let time = unzigzag(reader.varint()?);
            state.histogram(id, time, &histograms::decode(reader.rest())?)
        }
        _ => None,
    }
}

fn replay_expiry(reader: &mut Reader<'_>, state: &mut impl Replay) -> Option<()> {
    state.expire(unzigzag(reader.varint()?));
    let (mut dead, mut last) = (Vec::new(), 0u32);
    while !reader.is_empty() {
        last = last.checked_add(u32::try_from(reader.varint()?).ok()?)?;
        dead.push(last);
    }
    state.remove(&dead);
    Some(())
}

fn replay_batch(reader: &mut Reader<'_>, newest: &mut Newest, state: &mut impl Replay) -> Option<()> {
    let mut last = Position::default();
    while !reader.is_empty() {
        let first = reader.byte()?;
        if first & KIND == SPECIAL {
            replay_special(first, reader, newest, state)?;
            continue;
        }
        if first & SAME_TIME == 0 {
            last.time = last.time.wrapping_add(unzigzag(reader.varint()?));
        }
        last.id = if first & NEXT_ID != 0 {
            last.id.wrapping_add(1)
        } else {
            u32::try_from(i64::from(last.id).checked_add(unzigzag(reader.varint()?))?).ok()?
        };
        let newest = newest.of(last.id, state.ids_len())?;
        *newest = replay_value(first, *newest, reader)?;
        state.sample(last.id, last.time, *newest)?;
    }
    Some(())
}

fn replay_special(first: u8, reader: &mut Reader<'_>, newest: &mut Newest, state: &mut impl Replay) -> Option<()> {
    let id = u32::try_from(reader.varint()?).ok()?;
    match first {
        NEW_SERIES => {
            let length = usize::try_from(reader.varint()?).ok()?;
            let text = std::str::from_utf8(reader.take(length)?).ok()?;
            state.series(id, Labels::from_encoded(text)?)?;
            *newest.of(id, state.ids_len())? = 0.0;
        }
        LATE => {
            let time = unzigzag(reader.varint()?);
            state.sample(id, time, f64::from_bits(reader.u64()?))?;
        }
        FIRST => *newest.of(id, state.ids_len())? = 0.0,
        _ => return None,
    }
    Some(())
}

fn replay_value(first: u8, previous: f64, reader: &mut Reader<'_>) -> Option<f64> {
    match first & KIND {
        UNCHANGED => Some(previous),
        DIFFERENCE => {
            let mut difference = u64::from(first >> 4);
            if difference == DIFFERENCE_FOLLOWS {
                difference = difference.checked_add(reader.varint()?)?;
            }
            Some(whole(previous)?.checked_add(unzigzag(difference))? as f64)
        }
        _ if u32::from(first >> 4) > PLACES => {
            let places = u32::from(first >> 4) - PLACES;
            let before = scaled(previous, places)?;
            from_decimals(before.checked_add(unzigzag(reader.varint()?))?, places)
        }
        _ => {
            let trailing = usize::from(first >> 4);
            let mut changed = [0; 8];
            let kept = changed.get_mut(trailing..)?;
            kept.copy_from_slice(reader.take(kept.len())?);
            Some(f64::from_bits(previous.to_bits() ^ u64::from_le_bytes(changed)))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use telemetry::stale_nan;

    use super::*;

    #[derive(Default)]
    struct Heard {
        series: Vec<(u32, Labels)>,
        samples: Vec<(u32, i64, u64)>,
        expired: Vec<(i64, Vec<u32>)>,
    }

    impl Replay for Heard {
        fn ids_len(&self) -> usize {
            1000
        }
        fn series(&mut self, id: u32, labels: Labels) -> Option<()> {
            self.series.push((id, labels));
            Some(())
        }
        fn sample(&mut self, id: u32, time: i64, value: f64) -> Option<()> {
            self.samples.push((id, time, value.to_bits()));
            Some(())
        }
        fn histogram(&mut self, id: u32, time: i64, histogram: &Histogram) -> Option<()> {
            self.samples.push((id, time, histogram.sum.to_bits()));
            Some(())
        }
        fn expire(&mut self, oldest: i64) {
            self.expired.push((oldest, Vec::new()));
        }
        fn remove(&mut self, ids: &[u32]) {
            self.expired.last_mut().unwrap().1.extend(ids);
        }
    }

    proptest! {
        #[test]
        fn batches_come_back(samples in prop::collection::vec((0..5u32, 0..3i64, prop_oneof![
            (-20i64..20).prop_map(|v| v as f64), (0..1i64 << 53).prop_map(|v| v as f64), any::<u64>().prop_map(f64::from_bits),
            Just(stale_nan()), Just(-0.0), (0..2000i64).prop_map(|v| v as f64 / 1000.0), any::<f64>(),
        ]), 1..50)) {
            let mut heard = Heard::default();
            let mut encoder = BatchEncoder::default();
            let labels = Labels::from_pairs([("a", "b")]);
            encoder.series(7, &labels);
            for (id, time, value) in &samples {
                let previous = heard.samples.iter().rev().find(|(i, ..)| i == id).map(|(.., bits)| f64::from_bits(*bits));
                encoder.sample(*id, i64::MAX - time, *value, previous);
                heard.samples.push((*id, i64::MAX - time, value.to_bits()));
            }
            let mut again = Heard::default();
            prop_assert_eq!(replay(encoder.payload(), &mut Newest::default(), &mut again), Some(()));
            prop_assert_eq!(again.samples, heard.samples);
            prop_assert_eq!(again.series, vec![(7, labels)]);
        }

        #[test]
        fn nonsense_does_not_panic(payload in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = replay(&payload, &mut Newest::default(), &mut Heard::default());
        }
    }

    #[test]
    fn what_is_late_or_first_or_gone_is_said() {
        let mut encoder = BatchEncoder::default();
        encoder.sample(1, 1_000, 7.0, None);
        encoder.late(1, 500, 0.25);
        encoder.sample(1, 2_000, 9.0, Some(7.0));
        encoder.first(1);
        encoder.sample(1, 3_000, 11.0, None);
        let (mut heard, mut newest) = (Heard::default(), Newest::default());
        assert_eq!(replay(encoder.payload(), &mut newest, &mut heard), Some(()));
        let values: Vec<_> = heard.samples.iter().map(|(_, time, bits)| (*time, f64::from_bits(*bits))).collect();
        assert_eq!(values, [(1_000, 7.0), (500, 0.25), (2_000, 9.0), (3_000, 11.0)]);

        let whole = histograms::encode(&Histogram { sum: 2.5, ..Histogram::default() });
        assert_eq!(replay(&histogram(1, 4_000, &whole), &mut newest, &mut heard), Some(()));
        assert_eq!(heard.samples.last(), Some(&(1, 4_000, 2.5f64.to_bits())));

        assert_eq!(replay(&afresh(), &mut newest, &mut heard), Some(()));
        assert_eq!(newest.of(1, 2), Some(&mut 0.0));
        assert_eq!(newest.of(2, 2), None);
        assert_eq!(replay(&expiry(-5, &[3, 9, 10]), &mut newest, &mut heard), Some(()));
        assert_eq!(heard.expired, [(-5, vec![3, 9, 10])]);
    }

    #[test]
    fn ratios_of_few_places_take_little_more() {
        let mut encoder = BatchEncoder::default();
        (1..=100).for_each(|id| encoder.sample(id, 1_700_000_000_000, 0.75, Some(0.5)));
        assert!(encoder.payload().len() <= 210, "{}", encoder.payload().len());
    }

    #[test]
    fn the_next_scrape_of_a_counter_takes_a_byte_per_series() {
        let mut encoder = BatchEncoder::default();
        (1..=100).for_each(|id| encoder.sample(id, 1_700_000_000_000, 1005.0, Some(1000.0)));
        assert!(encoder.payload().len() <= 110, "{}", encoder.payload().len());
    }
}
