//! Looks at 64 bytes at a time: which of them are what is looked for.

use wide::u8x16;

pub(super) const BLOCK: usize = 64;

/// The bytes of a block that `is` says, a bit for each, the first byte's the lowest.
#[inline]
pub(super) fn find(block: &[u8; BLOCK], is: impl Fn(Sixteen) -> u8x16) -> u64 {
    let sixteens = block.as_chunks().0.iter().enumerate();
    sixteens.fold(0, |all, (n, bytes)| all | u64::from(is(Sixteen(u8x16::new(*bytes))).to_bitmask()) << (16 * n))
}

/// Whether `is` says any byte of a block: less work than to say which.
#[inline]
pub(super) fn holds(block: &[u8; BLOCK], is: impl Fn(Sixteen) -> u8x16) -> bool {
    let sixteens = block.as_chunks().0.iter();
    sixteens.fold(u8x16::splat(0), |all, bytes| all | is(Sixteen(u8x16::new(*bytes)))).to_bitmask() != 0
}

/// Sixteen bytes; what is asked of them is answered with as many, all ones or all zeros.
#[derive(Clone, Copy)]
pub(super) struct Sixteen(u8x16);

impl Sixteen {
    #[inline]
    pub(super) fn are(self, byte: u8) -> u8x16 {
        self.0.simd_eq(u8x16::splat(byte))
    }

    /// Those from `first` to `last`.
    #[inline]
    pub(super) fn are_within(self, first: u8, last: u8) -> u8x16 {
        let past = self.0 - u8x16::splat(first);
        past.min(u8x16::splat(last - first)).simd_eq(past)
    }
}

/// Hands out the blocks of a text and where they begin; the last one, if it is not whole, is filled up.
#[inline]
pub(super) fn each_block(text: &[u8], fill: u8, mut each: impl FnMut(usize, &[u8; BLOCK])) {
    let (whole, rest) = text.as_chunks();
    for (index, block) in whole.iter().enumerate() {
        each(BLOCK * index, block);
    }
    if !rest.is_empty() {
        each(BLOCK * whole.len(), &filled_up(rest, fill));
    }
}

/// A block that begins with these, of which there are no more than a block has.
pub(super) fn filled_up(bytes: &[u8], fill: u8) -> [u8; BLOCK] {
    let mut block = [fill; BLOCK];
    block[..bytes.len()].copy_from_slice(bytes);
    block
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes around those that are asked for, and some of every kind.
    fn bytes() -> impl Strategy<Value = [u8; BLOCK]> {
        let byte = prop_oneof![0x2eu8..0x3c, 0x3eu8..0x7d, any::<u8>()];
        prop::collection::vec(byte, BLOCK).prop_map(|bytes| bytes.try_into().expect("64"))
    }

    proptest! {
        #[test]
        fn every_byte_has_its_own_answer(block in bytes()) {
            let found = find(&block, |b| b.are(b'3') | b.are_within(b'6', b'9') | b.are_within(0x80, 0xff));
            for (n, byte) in block.iter().enumerate() {
                let wanted = *byte == b'3' || (b'6'..=b'9').contains(byte) || !byte.is_ascii();
                prop_assert_eq!(found >> n & 1 == 1, wanted);
                prop_assert!(holds(&block, |b| b.are(*byte)));
            }
            prop_assert_eq!(holds(&block, |b| b.are(b'3')), block.contains(&b'3'));
        }
    }

    #[test]
    fn a_block_that_is_not_whole_is_filled_up() {
        let text: Vec<u8> = (0..150).collect();
        let mut seen = Vec::new();
        each_block(&text, 200, |from, block| {
            assert_eq!(from, seen.len());
            seen.extend_from_slice(block);
        });
        assert_eq!(seen, [&text[..], &[200; 42]].concat());
        each_block(&text[..64], 200, |from, _| assert_eq!(from, 0));
    }
}
