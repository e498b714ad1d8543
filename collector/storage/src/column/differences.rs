//! Columns of whole numbers as differences.

use smallvec::SmallVec;

use super::bits::{Packing, pack};
use super::{unzigzag, zigzag};

/// The differences of numbers: above the least of them, above the least but for a few (a counter's resets), or folded by sign,
/// whichever is shortest.
pub(super) struct Differences {
    /// None where they are folded.
    pub(super) above: Option<i64>,
    pub(super) packing: Packing,
}

impl Differences {
    /// Of two numbers at least.
    pub(super) fn of(numbers: &[i64]) -> Differences {
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

    pub(super) fn write(&self, numbers: &[i64], out: &mut Vec<u8>, with_exceptions: bool) {
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

/// The least but for one in sixteen.
fn usual(least: i64, differences: impl ExactSizeIterator<Item = i64>) -> i64 {
    if differences.len() < 16 {
        return least;
    }
    let mut all: SmallVec<[i64; 64]> = differences.collect();
    let left_out = all.len() / 16;
    *all.select_nth_unstable(left_out).1
}

/// Tells the numbers that these differences make from a first one on.
pub(super) fn add_up(first: i64, above: Option<i64>, packed: &[u64], mut each: impl FnMut(i64)) {
    let mut number = first;
    each(number);
    for packed in packed {
        let difference = above.map_or_else(|| unzigzag(*packed), |least| least.wrapping_add(*packed as i64));
        number = number.wrapping_add(difference);
        each(number);
    }
}
