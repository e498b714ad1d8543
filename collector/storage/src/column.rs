//! Columns of a sealed block, compressed: times, and values.
//!
//! Whole numbers (counters, gauges of bytes, decimals of few digits) are stored as differences, packed to the width
//! that most of them need; the few that need more stand aside. Other floats are stored as Gorilla does (VLDB 2015),
//! by the bits that changed. Decoding refuses what encoding cannot have written and never panics.

mod bits;
mod gorilla;

use smallvec::SmallVec;

use bits::{Packing, pack, unpack};
pub(crate) use bits::{Reader, push_varint};

/// Decimal places that a column of "whole" numbers may have.
pub(crate) const SCALE_MAX: u32 = 6;
pub(crate) const POWERS_OF_TEN: [f64; SCALE_MAX as usize + 1] = [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6];
/// Beyond this a float cannot hold every whole number.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// One value, with all its bits.
const CONSTANT: u8 = 0;
/// Whole numbers, each thing in a byte of its own; before format version 6.
const WHOLE_APART: u8 = 1;
const FLOATS: u8 = 2;
/// One value, which is a whole number.
const CONSTANT_WHOLE: u8 = 3;
/// Whole numbers. The other bits of this byte say what most columns do not need to say otherwise: a small block is hardly more
/// than its beginning.
const WHOLE: u8 = 1 << 6;
const WHOLE_SCALE_SHIFT: u32 = 3;
const WHOLE_FOLDED: u8 = 1;
const WHOLE_HAS_OTHERS: u8 = 1 << 1;
const WHOLE_HAS_EXCEPTIONS: u8 = 1 << 2;
/// The least difference is zero.
const WHOLE_FROM_ZERO: u8 = 1 << 7;

const FOLDED: u8 = 0;
const ABOVE: u8 = 1;

/// Times, ascending.
pub(crate) fn encode_times(times: &[i64]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_whole(times, &mut out);
    out
}

pub(crate) fn decode_times(bytes: &[u8], count: usize) -> Option<Vec<i64>> {
    let mut reader = Reader::new(bytes);
    decode_whole(&mut reader, count)
}

pub(crate) fn encode_values(values: &[f64]) -> Vec<u8> {
    // Mostly enough; growing from nothing took longer than the encoding.
    let mut out = Vec::with_capacity(32 + 2 * values.len());
    push_values(values, &mut out);
    out
}

/// Encodes behind what `out` has already.
pub(crate) fn push_values(values: &[f64], out: &mut Vec<u8>) {
    let first = values.first().map_or(0, |v| v.to_bits());
    if values.iter().all(|value| value.to_bits() == first) {
        match whole(f64::from_bits(first)) {
            Some(number) => {
                out.push(CONSTANT_WHOLE);
                push_varint(out, zigzag(number));
            }
            None => {
                out.push(CONSTANT);
                out.extend_from_slice(&first.to_le_bytes());
            }
        }
        return;
    }
    match Whole::of(values) {
        Some(whole) => whole.encode(out),
        None => {
            out.push(FLOATS);
            gorilla::encode(values, out);
        }
    }
}

#[cfg(test)]
pub(crate) fn decode_values(bytes: &[u8], count: usize) -> Option<Vec<f64>> {
    let mut values = Vec::new();
    append_values(bytes, count, &mut values, &mut Vec::new())?;
    Some(values)
}

/// Decodes behind what `values` has already; `scratch` is memory to use again.
pub(crate) fn append_values(bytes: &[u8], count: usize, values: &mut Vec<f64>, scratch: &mut Vec<u64>) -> Option<()> {
    let mut reader = Reader::new(bytes);
    match reader.byte()? {
        CONSTANT => values.resize(values.len() + count, f64::from_bits(reader.u64()?)),
        CONSTANT_WHOLE => values.resize(values.len() + count, unzigzag(reader.varint()?) as f64),
        FLOATS => values.extend(gorilla::decode(reader.rest(), count)?),
        WHOLE_APART => Whole::decode_apart(&mut reader, count, values, scratch)?,
        first if first & WHOLE != 0 => Whole::decode(first, &mut reader, count, values, scratch)?,
        _ => return None,
    }
    Some(())
}

/// Values as whole numbers times a power of ten, but for a few that are not.
struct Whole {
    scale: u32,
    numbers: SmallVec<[i64; 64]>,
    /// Index and bits of what does not fit: staleness markers, infinities, negative zero.
    others: Vec<(usize, u64)>,
}

impl Whole {
    fn of(values: &[f64]) -> Option<Whole> {
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
    fn encode(&self, out: &mut Vec<u8>) {
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

    fn decode(
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

    fn decode_apart(
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

/// The whole number that a float is; None for a negative zero, which is none.
pub(crate) fn whole(value: f64) -> Option<i64> {
    scaled(value, 0)
}

/// Both values as whole numbers of the fewest decimal places that hold them: one to [`SCALE_MAX`].
pub(crate) fn decimals(a: f64, b: f64) -> Option<(u32, i64, i64)> {
    // What has few places has them at the most places too: other floats are found out by one look.
    scaled(a, SCALE_MAX)?;
    scaled(b, SCALE_MAX)?;
    (1..=SCALE_MAX).find_map(|scale| Some((scale, scaled(a, scale)?, scaled(b, scale)?)))
}

/// The value that is this number of units of its last decimal place; None for more than [`SCALE_MAX`] places.
pub(crate) fn from_decimals(number: i64, scale: u32) -> Option<f64> {
    POWERS_OF_TEN.get(scale as usize).map(|factor| number as f64 / factor)
}

/// `value * 10^scale`, if that is whole and leads back to exactly this value.
#[inline]
pub(crate) fn scaled(value: f64, scale: u32) -> Option<i64> {
    // Not beyond what an i64 has: what does not come back is refused.
    if scale == 0 {
        let whole = value as i64;
        return ((whole as f64).to_bits() == value.to_bits() && whole.unsigned_abs() < WHOLE_MAX as u64)
            .then_some(whole);
    }
    let factor = POWERS_OF_TEN.get(scale as usize)?;
    let product = value * factor;
    if product.abs() >= WHOLE_MAX || product.is_nan() {
        return None;
    }
    // Rounded by hand, for the library's function is a call; beyond this there is nothing to round.
    const ROUND_MAX: f64 = WHOLE_MAX / 2.0;
    let whole = if product.abs() < ROUND_MAX { (product + 0.5f64.copysign(product)) as i64 } else { product as i64 };
    (whole as f64 / factor).to_bits().eq(&value.to_bits()).then_some(whole)
}

/// The differences of numbers: above the least of them, above the least but for a few (a counter's resets), or folded by sign,
/// whichever is shortest.
struct Differences {
    /// None where they are folded.
    above: Option<i64>,
    packing: Packing,
}

impl Differences {
    /// Of two numbers at least.
    fn of(numbers: &[i64]) -> Differences {
        let differences = differences(numbers);
        let least = differences.clone().min().unwrap_or(0);
        let above = |least: i64| Packing::of(differences.clone().map(move |difference| offset(least, difference)));
        let mut best = Differences { above: Some(least), packing: above(least) };
        let usual = usual(least, differences.clone());
        if usual != least {
            let candidate = above(usual);
            if candidate.len < best.packing.len {
                best = Differences { above: Some(usual), packing: candidate };
            }
        }
        if least < 0 {
            let packing = Packing::of(differences.map(zigzag));
            if packing.len < best.packing.len {
                best = Differences { above: None, packing };
            }
        }
        best
    }

    fn write(&self, numbers: &[i64], out: &mut Vec<u8>, with_exceptions: bool) {
        let differences = differences(numbers);
        match self.above {
            Some(least) => {
                let above = differences.map(|difference| offset(least, difference));
                pack(above, self.packing, with_exceptions, out);
            }
            None => pack(differences.map(zigzag), self.packing, with_exceptions, out),
        }
    }
}

fn differences(numbers: &[i64]) -> impl ExactSizeIterator<Item = i64> + Clone {
    numbers.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]))
}

fn offset(least: i64, difference: i64) -> u64 {
    difference.wrapping_sub(least) as u64
}

/// The first number, then the differences.
fn encode_whole(numbers: &[i64], out: &mut Vec<u8>) {
    let Some((first, rest)) = numbers.split_first() else { return };
    push_varint(out, zigzag(*first));
    if rest.is_empty() {
        return;
    }
    let packed = Differences::of(numbers);
    match packed.above {
        Some(least) => {
            out.push(ABOVE);
            push_varint(out, zigzag(least));
        }
        None => out.push(FOLDED),
    }
    packed.write(numbers, out, true);
}

/// The least but for one in sixteen.
fn usual(least: i64, differences: impl ExactSizeIterator<Item = i64>) -> i64 {
    if differences.len() < 16 {
        return least;
    }
    let mut all: SmallVec<[i64; 64]> = differences.collect();
    let left_out = all.len() / 16;
    *all.select_nth_unstable(left_out).1
}

fn decode_whole(reader: &mut Reader<'_>, count: usize) -> Option<Vec<i64>> {
    let mut numbers = Vec::with_capacity(count.min(1 << 16));
    each_whole(reader, count, &mut Vec::new(), |number| numbers.push(number))?;
    Some(numbers)
}

fn each_whole(reader: &mut Reader<'_>, count: usize, scratch: &mut Vec<u64>, mut each: impl FnMut(i64)) -> Option<()> {
    if count == 0 {
        return Some(());
    }
    let number = unzigzag(reader.varint()?);
    if count == 1 {
        each(number);
        return Some(());
    }
    let above = read_above(reader)?;
    unpack(reader, count - 1, true, scratch)?;
    add_up(number, above, scratch, each);
    Some(())
}

/// Above what the differences stand; within, None for folded ones.
fn read_above(reader: &mut Reader<'_>) -> Option<Option<i64>> {
    match reader.byte()? {
        FOLDED => Some(None),
        ABOVE => Some(Some(unzigzag(reader.varint()?))),
        _ => None,
    }
}

/// Tells the numbers that these differences make from a first one on.
fn add_up(first: i64, above: Option<i64>, packed: &[u64], mut each: impl FnMut(i64)) {
    let mut number = first;
    each(number);
    for packed in packed {
        let difference = above.map_or_else(|| unzigzag(*packed), |least| least.wrapping_add(*packed as i64));
        number = number.wrapping_add(difference);
        each(number);
    }
}

/// Small numbers of either sign become small numbers.
pub(crate) fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

pub(crate) fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

#[cfg(test)]
mod tests;
