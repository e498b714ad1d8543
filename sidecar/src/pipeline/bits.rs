//! Looks at eight bytes at a time as at one number, as every processor can: each question has its answer in the high
//! bits of the bytes.

pub(super) const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x80 * ONES;

/// Bytes that are zero.
pub(super) fn zeros(word: u64) -> u64 {
    // Without the high bits no sum goes beyond its byte.
    !(((word & !HIGHS) + 0x7f * ONES) | word) & HIGHS
}

/// Bytes below the blank: control characters.
pub(super) fn below_space(word: u64) -> u64 {
    !(((word & !HIGHS) + 0x60 * ONES) | word) & HIGHS
}

/// The answers for 64 bytes, a bit for each, the first byte's the lowest.
pub(super) fn gather(block: &[u8; 64], of: impl Fn(u64) -> u64) -> u64 {
    let words = block.as_chunks::<8>().0.iter().enumerate();
    // The product brings the eight high bits together, in order, in the highest byte.
    let together = |high: u64| (high >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    words.fold(0, |all, (n, word)| all | together(of(u64::from_le_bytes(*word))) << (8 * n))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_byte_has_its_own_answer(bytes in prop::collection::vec(any::<u8>(), 64), places in prop::collection::vec((0usize..64, 0u8..0x24), 0..64)) {
            let mut block: [u8; 64] = bytes.try_into().expect("64");
            places.iter().for_each(|(place, byte)| block[*place] = *byte);
            for n in 0..64 {
                prop_assert_eq!(gather(&block, zeros) >> n & 1 == 1, block[n] == 0);
                prop_assert_eq!(gather(&block, below_space) >> n & 1 == 1, block[n] < b' ');
            }
        }
    }
}
