//! Looks at 64 bytes at a time: which of them are what is looked for.

pub(super) const BLOCK: usize = 64;

/// The bytes of a block that `is` says, a bit for each, the first byte's the lowest.
#[inline]
pub(super) fn find(block: &[u8; BLOCK], is: impl Fn(u8) -> bool) -> u64 {
    // Byte by byte alike, so that the compiler does sixteen or more at once.
    let mut found = [0; BLOCK];
    for ((found, byte), bit) in found.iter_mut().zip(block).zip(&BITS) {
        *found = if is(*byte) { *bit } else { 0 };
    }
    // Eight bytes have eight different bits: their sum, which is the product's highest byte, has them all.
    let eights = found.as_chunks::<8>().0.iter().enumerate();
    eights.fold(0, |all, (n, eight)| {
        all | (u64::from_le_bytes(*eight).wrapping_mul(0x0101_0101_0101_0101) >> 56) << (8 * n)
    })
}

const BITS: [u8; BLOCK] = {
    let mut bits = [0; BLOCK];
    let mut n = 0;
    while n < BLOCK {
        bits[n] = 1 << (n % 8);
        n += 1;
    }
    bits
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_byte_has_its_own_answer(bytes in prop::collection::vec(0u8..8, BLOCK)) {
            let block: [u8; BLOCK] = bytes.try_into().expect("64");
            let found = find(&block, |byte| byte == 3 || byte < 2);
            for (n, byte) in block.iter().enumerate() {
                prop_assert_eq!(found >> n & 1 == 1, [0, 1, 3].contains(byte));
            }
        }
    }
}
