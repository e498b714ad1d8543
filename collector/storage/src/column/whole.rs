//! Values that are whole numbers, or decimals of few digits.

use smallvec::SmallVec;

use super::bits::{Reader, push_varint, unpack};
use super::differences::{Differences, add_up};
use super::{POWERS_OF_TEN, SCALE_MAX, read_above, scaled, unzigzag, zigzag};

/// Whole numbers. The other bits of this byte say what most columns do not need to say otherwise: a small block is hardly more
/// than its beginning.
pub(super) const WHOLE: u8 = 1 << 6;
const WHOLE_SCALE_SHIFT: u32 = 3;
const WHOLE_FOLDED: u8 = 1;
const WHOLE_HAS_OTHERS: u8 = 1 << 1;
const WHOLE_HAS_EXCEPTIONS: u8 = 1 << 2;
/// The least difference is zero.
const WHOLE_FROM_ZERO: u8 = 1 << 7;

/// Values as whole numbers times a power of ten, but for a few that are not.
pub(super) struct Whole {
    scale: u32,
    numbers: SmallVec<[i64; 64]>,
    /// Index and bits of what does not fit: staleness markers, infinities, negative zero.
    others: Vec<(usize, u64)>,
}

impl Whole {
    pub(super) fn of(values: &[f64]) -> Option<Whole> {
        (0..=SCALE_MAX).find_map(|scale| Whole::with_scale(values, scale))
    }

    fn with_scale(values: &[f64], scale: u32) -> Option<Whole> {
        let others_max = values.len() / 8 + 1;
        let mut whole = Whole { scale, numbers: SmallVec::with_capacity(values.len()), others: Vec::new() };
        let (mut previous, mut step) = (None, 0i64);
        for (index, value) in values.iter().enumerate() {
            match scaled(*value, scale) {
                Some(number) => {
                    // What could not be represented before the first number takes that number's place.
                    if previous.is_none() {
                        whole.numbers.fill(number);
                    }
                    step = previous.map_or(0, |previous| number.wrapping_sub(previous));
                    previous = Some(number);
                    whole.numbers.push(number);
                }
                None if whole.others.len() == others_max => return None,
                None => {
                    whole.others.push((index, value.to_bits()));
                    // A counter's next value is likely as far away as the last one was.
                    previous = previous.map(|number: i64| number.wrapping_add(step));
                    whole.numbers.push(previous.unwrap_or(0));
                }
            }
        }
        previous.map(|_| whole)
    }

    /// There are at least two numbers: one value is a constant.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let packed = Differences::of(&self.numbers);
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let first = WHOLE
            | (self.scale as u8) << WHOLE_SCALE_SHIFT
            | flag(packed.above.is_none(), WHOLE_FOLDED)
            | flag(!self.others.is_empty(), WHOLE_HAS_OTHERS)
            | flag(packed.packing.exceptions > 0, WHOLE_HAS_EXCEPTIONS)
            | flag(packed.above == Some(0), WHOLE_FROM_ZERO);
        out.push(first);
        if !self.others.is_empty() {
            push_varint(out, self.others.len() as u64);
        }
        for (index, bits) in &self.others {
            push_varint(out, *index as u64);
            out.extend_from_slice(&bits.to_le_bytes());
        }
        push_varint(out, zigzag(self.numbers[0]));
        if let Some(least) = packed.above.filter(|least| *least != 0) {
            push_varint(out, zigzag(least));
        }
        packed.write(&self.numbers, out, packed.packing.exceptions > 0);
    }

    pub(super) fn decode(
        first: u8,
        reader: &mut Reader<'_>,
        count: usize,
        values: &mut Vec<f64>,
        scratch: &mut Vec<u64>,
    ) -> Option<()> {
        let scale = u32::from(first >> WHOLE_SCALE_SHIFT & 0b111);
        let others = if first & WHOLE_HAS_OTHERS != 0 { Others::read(reader)? } else { Others::NONE };
        let number = unzigzag(reader.varint()?);
        let above = match first & (WHOLE_FOLDED | WHOLE_FROM_ZERO) {
            WHOLE_FROM_ZERO => Some(0),
            0 => Some(unzigzag(reader.varint()?)),
            _ => None,
        };
        unpack(reader, count.checked_sub(1)?, first & WHOLE_HAS_EXCEPTIONS != 0, scratch)?;
        Whole::append(scale, others, (number, above, scratch), values)
    }

    pub(super) fn decode_apart(
        reader: &mut Reader<'_>,
        count: usize,
        values: &mut Vec<f64>,
        scratch: &mut Vec<u64>,
    ) -> Option<()> {
        let scale = u32::from(reader.byte()?);
        let others = Others::read(reader)?;
        let number = unzigzag(reader.varint()?);
        let above = read_above(reader)?;
        unpack(reader, count.checked_sub(1)?, true, scratch)?;
        Whole::append(scale, others, (number, above, scratch), values)
    }

    /// Adds the values that a first number and differences make.
    fn append(
        scale: u32,
        others: Others<'_>,
        (first, above, packed): (i64, Option<i64>, &[u64]),
        values: &mut Vec<f64>,
    ) -> Option<()> {
        let divisor = *POWERS_OF_TEN.get(scale as usize)?;
        let start = values.len();
        match scale {
            0 => add_up(first, above, packed, |number| values.push(number as f64)),
            _ => add_up(first, above, packed, |number| values.push(number as f64 / divisor)),
        }
        others.put(&mut values[start..])
    }
}

/// What stands aside of a column of whole numbers.
struct Others<'b> {
    len: u64,
    entries: Reader<'b>,
}

impl<'b> Others<'b> {
    const NONE: Others<'static> = Others { len: 0, entries: Reader::new(&[]) };

    /// Reads on behind them.
    fn read(reader: &mut Reader<'b>) -> Option<Self> {
        let len = reader.varint()?;
        let others = Others { len, entries: Reader::new(reader.rest()) };
        for _ in 0..len {
            reader.varint()?;
            reader.u64()?;
        }
        Some(others)
    }

    fn put(mut self, values: &mut [f64]) -> Option<()> {
        for _ in 0..self.len {
            let (index, bits) = (usize::try_from(self.entries.varint()?).ok()?, self.entries.u64()?);
            *values.get_mut(index)? = f64::from_bits(bits);
        }
        Some(())
    }
}
