//! Huffman's codes, limited in length, as deflate has them (RFC 1951, 3.2.2).

/// Lengths of the codes of symbols that were seen so often, of at most `max` bits; every symbol has one, for what comes
/// later may have what was not seen. 2^`max` is at least the number of symbols.
pub(super) fn lengths<const N: usize>(counts: &[u32; N], max: usize) -> [u8; N] {
    // The rarest first.
    let mut order: [u16; N] = std::array::from_fn(|symbol| symbol as u16);
    order.sort_unstable_by_key(|symbol| counts[usize::from(*symbol)]);
    let mut tree: [u32; N] = std::array::from_fn(|place| counts[usize::from(order[place])].max(1));
    depths(&mut tree);
    let mut of_length = [0u32; DEPTHS];
    tree.iter().for_each(|depth| of_length[(*depth as usize).min(DEPTHS - 1)] += 1);
    limit(&mut of_length, max);
    // The commonest get the shortest.
    let (mut lengths, mut symbols) = ([0; N], order.iter().rev());
    for (length, count) in of_length.iter().enumerate() {
        for symbol in symbols.by_ref().take(*count as usize) {
            lengths[usize::from(*symbol)] = length as u8;
        }
    }
    lengths
}

/// More than any depth that is counted apart.
const DEPTHS: usize = 33;

/// Counts in rising order become the depths of the leaves in Huffman's tree, in place: the same array holds counts, then
/// parents, then depths (Moffat and Katajainen, "In-Place Calculation of Minimum-Redundancy Codes", 1995).
fn depths(tree: &mut [u32]) {
    let leaves = tree.len();
    let (mut root, mut leaf) = (0, 0);
    for next in 0..leaves - 1 {
        let mut sum = 0;
        for _ in 0..2 {
            if leaf >= leaves || (root < next && tree[root] < tree[leaf]) {
                sum += tree[root];
                tree[root] = next as u32;
                root += 1;
            } else {
                sum += tree[leaf];
                leaf += 1;
            }
        }
        tree[next] = sum;
    }
    tree[leaves - 2] = 0;
    for next in (0..leaves - 2).rev() {
        tree[next] = tree[tree[next] as usize] + 1;
    }
    // The inner nodes of a depth take places there; what is left of the places are leaves.
    let (mut inner, mut free, mut places, mut depth) = (leaves - 1, leaves, 1, 0);
    while places > 0 {
        let before = inner;
        while inner > 0 && tree[inner - 1] == depth {
            inner -= 1;
        }
        let used = before - inner;
        for _ in used..places {
            free -= 1;
            tree[free] = depth;
        }
        (places, depth) = (2 * used, depth + 1);
    }
}

/// Cuts codes that are too long, and lengthens shorter ones until there is a code for each again.
fn limit(of_length: &mut [u32; DEPTHS], max: usize) {
    let too_long: u32 = of_length[max + 1..].iter().sum();
    of_length[max + 1..].fill(0);
    of_length[max] += too_long;
    let taken = |of_length: &[u32; DEPTHS]| (1..=max).map(|length| of_length[length] << (max - length)).sum::<u32>();
    for _ in 1 << max..taken(of_length) {
        let shorter = (1..max).rev().find(|length| of_length[*length] > 0).expect("not all are the longest");
        of_length[shorter] -= 1;
        of_length[shorter + 1] += 2;
        of_length[max] -= 1;
    }
}

/// The codes of these lengths, turned round: deflate sends the first bit of a code first.
pub(super) fn codes<const N: usize>(lengths: &[u8; N]) -> [u16; N] {
    let mut of_length = [0u16; 16];
    lengths.iter().for_each(|length| of_length[usize::from(*length)] += 1);
    of_length[0] = 0;
    let mut next = [0u16; 16];
    for length in 1..16 {
        next[length] = (next[length - 1] + of_length[length - 1]) << 1;
    }
    lengths.map(|length| {
        let code = &mut next[usize::from(length)];
        *code += 1;
        (*code - 1).reverse_bits() >> (16 - u32::from(length))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_code_is_there_none_too_long_and_the_commonest_are_the_shortest(
            counts in prop::array::uniform32(0u32..u32::MAX >> 6), skew in 0u32..31
        ) {
            let counts: [u32; 32] = std::array::from_fn(|n| counts[n] >> (skew * n as u32 / 31));
            let lengths = lengths(&counts, 7);
            prop_assert_eq!(lengths.iter().map(|length| 1u32 << (7 - length)).sum::<u32>(), 1 << 7, "complete");
            for (a, b) in (0..32).flat_map(|a| (0..32).map(move |b| (a, b))) {
                prop_assert!(counts[a] <= counts[b] || lengths[a] <= lengths[b]);
            }
            // No code begins another: turned round, the first bits are the lowest.
            let codes = codes(&lengths);
            for (a, b) in (0..32).flat_map(|a| (0..32).map(move |b| (a, b))).filter(|(a, b)| a != b && lengths[*a] <= lengths[*b]) {
                prop_assert!(codes[a] != codes[b] & ((1 << lengths[a]) - 1));
            }
        }
    }

    #[test]
    fn without_a_limit_the_lengths_are_huffman_s() {
        assert_eq!(lengths(&[1, 1, 2, 4, 8, 16], 12), [5, 5, 4, 3, 2, 1]);
        assert_eq!(lengths(&[1, 1, 2, 4, 8, 16], 4), [4, 4, 4, 4, 2, 1]);
    }
}
