//! Columns of a sealed block, compressed: times, and values.
//!
//! Whole numbers (counters, gauges of bytes, decimals of few digits) are stored as differences, packed to the width
//! that most of them need; the few that need more stand aside. Other floats are stored as Gorilla does (VLDB 2015),
//! by the bits that changed. Decoding refuses what encoding cannot have written and never panics.

mod bits;
mod differences;
mod gorilla;
mod whole;

use bits::unpack;
pub(crate) use bits::{Reader, push_varint};
use differences::{Differences, add_up};
use whole::{WHOLE, Whole};

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

// How differences stand: in times, and in values before format version 6.
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

fn decode_whole(reader: &mut Reader<'_>, count: usize) -> Option<Vec<i64>> {
    let mut numbers = Vec::with_capacity(count.min(1 << 16));
    if count == 0 {
        return Some(numbers);
    }
    let (first, mut above, mut packed) = (unzigzag(reader.varint()?), None, Vec::new());
    if count > 1 {
        above = read_above(reader)?;
        unpack(reader, count - 1, true, &mut packed)?;
    }
    add_up(first, above, &packed, |number| numbers.push(number));
    Some(numbers)
}

/// Above what the differences stand; within, None for folded ones.
fn read_above(reader: &mut Reader<'_>) -> Option<Option<i64>> {
    match reader.byte()? {
        FOLDED => Some(None),
        ABOVE => Some(Some(unzigzag(reader.varint()?))),
        _ => None,
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
