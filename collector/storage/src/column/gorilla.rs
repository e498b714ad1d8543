//! Floats by the bits that change from one to the next, as Gorilla and Prometheus' XOR chunks store them.

/// Leading zeros are written in five bits.
const LEADING_MAX: u32 = 31;

pub(super) fn encode(values: &[f64], out: &mut Vec<u8>) {
    let Some((first, others)) = values.split_first() else { return };
    out.extend_from_slice(&first.to_bits().to_le_bytes());
    let mut writer = BitWriter { out, pending: 0, filled: 0 };
    let (mut previous, mut window) = (first.to_bits(), None);
    for value in others {
        let changed = previous ^ value.to_bits();
        previous = value.to_bits();
        if changed == 0 {
            writer.write(0, 1);
            continue;
        }
        let (leading, trailing) = (changed.leading_zeros().min(LEADING_MAX), changed.trailing_zeros());
        match window {
            Some((l, t)) if leading >= l && trailing >= t => {
                writer.write(0b01, 2);
                writer.write(changed >> t, 64 - l - t);
            }
            _ => {
                let width = 64 - leading - trailing;
                writer.write(0b11, 2);
                writer.write(u64::from(leading), 5);
                writer.write(u64::from(width - 1), 6);
                writer.write(changed >> trailing, width);
                window = Some((leading, trailing));
            }
        }
    }
    writer.finish();
}

pub(super) fn decode(bytes: &[u8], count: usize) -> Option<Vec<f64>> {
    let mut values = Vec::with_capacity(count.min(1 << 16));
    if count == 0 {
        return Some(values);
    }
    let (first, rest) = bytes.split_first_chunk::<8>()?;
    let mut previous = u64::from_le_bytes(*first);
    values.push(f64::from_bits(previous));
    let mut reader = BitReader { rest, pending: 0, filled: 0 };
    let mut window: Option<(u32, u32)> = None;
    while values.len() < count {
        if reader.read(1)? == 1 {
            if reader.read(1)? == 1 {
                let leading = reader.read(5)? as u32;
                let width = reader.read(6)? as u32 + 1;
                window = Some((64u32.checked_sub(leading + width)?, width));
            }
            let (trailing, width) = window?;
            previous ^= reader.read(width)? << trailing;
        }
        values.push(f64::from_bits(previous));
    }
    Some(values)
}

/// Low bits first.
struct BitWriter<'o> {
    out: &'o mut Vec<u8>,
    pending: u128,
    filled: u32,
}

impl BitWriter<'_> {
    fn write(&mut self, bits: u64, width: u32) {
        self.pending |= u128::from(bits) << self.filled;
        self.filled += width;
        while self.filled >= 8 {
            self.out.push(self.pending as u8);
            self.pending >>= 8;
            self.filled -= 8;
        }
    }

    fn finish(self) {
        if self.filled > 0 {
            self.out.push(self.pending as u8);
        }
    }
}

struct BitReader<'b> {
    rest: &'b [u8],
    pending: u128,
    filled: u32,
}

impl BitReader<'_> {
    fn read(&mut self, width: u32) -> Option<u64> {
        while self.filled < width {
            if let Some((chunk, rest)) = self.rest.split_first_chunk::<8>().filter(|_| self.filled < 64) {
                self.pending |= u128::from(u64::from_le_bytes(*chunk)) << self.filled;
                (self.rest, self.filled) = (rest, self.filled + 64);
            } else {
                let (byte, rest) = self.rest.split_first()?;
                self.pending |= u128::from(*byte) << self.filled;
                (self.rest, self.filled) = (rest, self.filled + 8);
            }
        }
        let bits = self.pending as u64 & (u64::MAX >> (64 - width));
        self.pending >>= width;
        self.filled -= width;
        Some(bits)
    }
}
