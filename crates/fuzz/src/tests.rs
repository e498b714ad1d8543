use std::collections::BTreeSet;

use super::*;

/// Mutations of each seed: enough to go wrong somewhere, few enough for every test run.
const MUTATIONS: u64 = 400;

/// A step of xorshift64*: the same sequence everywhere, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % end.max(1)
    }

    fn mutate(&mut self, seed: &[u8]) -> Vec<u8> {
        let mut data = seed.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(data.len() + 1);
            match self.below(5) {
                0 => data.truncate(at),
                1 => data.insert(at, self.below(256) as u8),
                2 if at < data.len() => data[at] ^= 1 << self.below(8),
                3 if at < data.len() => drop(data.remove(at)),
                _ => {
                    let end = (at + self.below(16)).min(data.len());
                    let piece = data[at..end].to_vec();
                    let to = self.below(data.len() + 1);
                    data.splice(to..to, piece);
                }
            }
        }
        data
    }
}

#[test]
fn every_target_survives_its_seeds_and_mutations_of_them() {
    for target in targets() {
        (target.run)(b"");
        for (index, seed) in target.seeds.iter().enumerate() {
            (target.run)(seed);
            let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ index as u64);
            for round in 0..MUTATIONS {
                let data = random.mutate(seed);
                let outcome = std::panic::catch_unwind(|| (target.run)(&data));
                assert!(outcome.is_ok(), "{}: mutation {round} of seed {index}: {data:?}", target.name);
            }
        }
    }
}

#[test]
fn names_are_unique_and_seeds_are_there() {
    let names: BTreeSet<_> = targets().map(|target| target.name).collect();
    assert_eq!(names.len(), targets().count());
    for target in targets() {
        assert!(!target.seeds.is_empty(), "{} has no seed", target.name);
    }
}
