//! Variable-length integers and columns of integers packed to one width.

/// Seven bits a byte, the low ones first.
pub(crate) fn push_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Reads from the front of a slice; None where it ends too early.
pub(crate) struct Reader<'b> {
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Reader { rest: bytes }
    }

    pub(crate) fn rest(&self) -> &'b [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }
}

/// The width that makes a column shortest, and its length then. Only widths that some number has are tried.
fn best_width(numbers: &[u64]) -> (u32, usize) {
    let mut with_length = [0usize; 65];
    let mut present = 0u128;
    for number in numbers {
        let length = 64 - number.leading_zeros() as usize;
        with_length[length] += 1;
        present |= 1 << length;
    }
    let lengths = || (0..=64usize).filter(move |length| present >> length & 1 == 1);
    // An exception costs its index (one or two bytes) and its high bits.
    let exceptions = |width: usize| -> usize {
        lengths().filter(|length| *length > width).map(|l| with_length[l] * (2 + (l - width).div_ceil(7))).sum()
    };
    let length = |width: usize| (numbers.len() * width).div_ceil(8) + exceptions(width);
    let best = lengths().map(|width| (width as u32, length(width))).min_by_key(|(_, length)| *length);
    best.unwrap_or((0, 0))
}

/// About how many bytes [`pack`] would write.
pub(super) fn packed_len(numbers: &[u64]) -> usize {
    best_width(numbers).1
}

/// Width, exceptions, then every number's low bits.
pub(super) fn pack(numbers: &[u64], out: &mut Vec<u8>) {
    let (width, _) = best_width(numbers);
    let is_exception = |number: &u64| width < 64 && number >> width != 0;
    out.push(width as u8);
    push_varint(out, numbers.iter().filter(|n| is_exception(n)).count() as u64);
    for (index, number) in numbers.iter().enumerate().filter(|(_, n)| is_exception(n)) {
        push_varint(out, index as u64);
        push_varint(out, number >> width);
    }
    let (mut pending, mut filled) = (0u128, 0u32);
    for number in numbers {
        let low = if width == 64 { *number } else { number & ((1 << width) - 1) };
        pending |= u128::from(low) << filled;
        filled += width;
        while filled >= 8 {
            out.push(pending as u8);
            pending >>= 8;
            filled -= 8;
        }
    }
    if filled > 0 {
        out.push(pending as u8);
    }
}

pub(super) fn unpack(reader: &mut Reader<'_>, count: usize, numbers: &mut Vec<u64>) -> Option<()> {
    let width = usize::from(reader.byte()?);
    let exceptions_len = usize::try_from(reader.varint()?).ok()?;
    if width > 64 || exceptions_len > count {
        return None;
    }
    // The exceptions stand before the numbers that they change.
    let mut exceptions = Reader::new(reader.rest());
    for _ in 0..2 * exceptions_len {
        reader.varint()?;
    }
    let packed = reader.take(count.checked_mul(width)?.div_ceil(8))?;
    numbers.clear();
    match width {
        0 => numbers.resize(count, 0),
        _ => numbers.extend((0..count).map(|i| bits_at(packed, i * width, width))),
    }
    for _ in 0..exceptions_len {
        let (index, high) = (usize::try_from(exceptions.varint()?).ok()?, exceptions.varint()?);
        let shifted = if width < 64 { high.checked_shl(width as u32)? } else { 0 };
        *numbers.get_mut(index)? |= shifted;
    }
    Some(())
}

/// `width` bits (1 to 64) from a bit position that lies within `bytes`.
fn bits_at(bytes: &[u8], position: usize, width: usize) -> u64 {
    let (from, shift) = (position / 8, position % 8);
    let mask = u64::MAX >> (64 - width);
    if shift + width <= 64
        && let Some(Ok(window)) = bytes.get(from..from + 8).map(<[u8; 8]>::try_from)
    {
        return u64::from_le_bytes(window) >> shift & mask;
    }
    let tail = &bytes[from..bytes.len().min(from + 9)];
    let window = tail.iter().rev().fold(0u128, |window, byte| window << 8 | u128::from(*byte));
    (window >> shift) as u64 & mask
}
