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
    pub(crate) const fn new(bytes: &'b [u8]) -> Self {
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

/// A width that makes a column of numbers short.
#[derive(Clone, Copy)]
pub(super) struct Packing {
    width: u32,
    /// About how many bytes [`pack`] writes.
    pub(super) len: usize,
    /// Numbers that are wider.
    pub(super) exceptions: u32,
}

impl Packing {
    /// The best there is. Only widths that some number has are tried.
    pub(super) fn of(numbers: impl Iterator<Item = u64>) -> Packing {
        let (mut with_length, mut present, mut count) = ([0u32; 65], 0u128, 0);
        for number in numbers {
            let length = 64 - number.leading_zeros();
            with_length[length as usize] += 1;
            present |= 1 << length;
            count += 1;
        }
        let mut best = Packing { width: 0, len: usize::MAX, exceptions: 0 };
        for width in ones(present) {
            // An exception costs its index (one or two bytes) and its high bits.
            let longer = ones(present >> width & !1).map(|more| (width + more, more));
            let (exceptions, bytes) = longer.fold((0, 0), |(exceptions, bytes), (length, more)| {
                let these = with_length[length as usize];
                (exceptions + these, bytes + these * (2 + more.div_ceil(7)))
            });
            let len = (count * width as usize).div_ceil(8) + bytes as usize;
            if len < best.len {
                best = Packing { width, len, exceptions };
            }
        }
        if count == 0 { Packing { width: 0, len: 0, exceptions: 0 } } else { best }
    }
}

/// The places of the bits that are set, ascending.
fn ones(mut bits: u128) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let place = bits.trailing_zeros();
        (bits != 0).then(|| {
            bits &= bits - 1;
            place
        })
    })
}

/// Width, exceptions, then every number's low bits. Where nothing is said of exceptions there are none.
pub(super) fn pack(
    numbers: impl Iterator<Item = u64> + Clone,
    Packing { width, exceptions, .. }: Packing,
    with_exceptions: bool,
    out: &mut Vec<u8>,
) {
    let is_exception = |number: u64| width < 64 && number >> width != 0;
    out.push(width as u8);
    if with_exceptions {
        push_varint(out, u64::from(exceptions));
    }
    let wider = numbers.clone().enumerate().filter(|(_, number)| exceptions > 0 && is_exception(*number));
    for (index, number) in wider {
        push_varint(out, index as u64);
        push_varint(out, number >> width);
    }
    if width == 0 {
        return;
    }
    let mask = u64::MAX >> (64 - width);
    let (mut pending, mut filled) = (0u128, 0u32);
    for number in numbers {
        pending |= u128::from(number & mask) << filled;
        filled += width;
        if filled >= 64 {
            out.extend_from_slice(&(pending as u64).to_le_bytes());
            pending >>= 64;
            filled -= 64;
        }
    }
    out.extend_from_slice(&pending.to_le_bytes()[..filled.div_ceil(8) as usize]);
}

pub(super) fn unpack(
    reader: &mut Reader<'_>,
    count: usize,
    with_exceptions: bool,
    numbers: &mut Vec<u64>,
) -> Option<()> {
    let width = usize::from(reader.byte()?);
    let exceptions_len = if with_exceptions { usize::try_from(reader.varint()?).ok()? } else { 0 };
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
