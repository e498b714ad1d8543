//! How much of each kind: what is sent on is counted by kind from end to end.

use std::ops::{Add, AddAssign, Sub, SubAssign};

/// Samples, native histograms, exemplars and entries of metadata.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) samples: u64,
    pub(super) histograms: u64,
    pub(super) exemplars: u64,
    pub(super) metadata: u64,
}

impl Counts {
    pub(super) const NONE: Counts = Counts { samples: 0, histograms: 0, exemplars: 0, metadata: 0 };

    pub(super) fn samples(samples: usize) -> Counts {
        Counts { samples: samples as u64, ..Counts::NONE }
    }

    pub(super) fn histograms(histograms: usize) -> Counts {
        Counts { histograms: histograms as u64, ..Counts::NONE }
    }

    pub(super) fn exemplars(exemplars: usize) -> Counts {
        Counts { exemplars: exemplars as u64, ..Counts::NONE }
    }

    pub(super) fn metadata(metadata: usize) -> Counts {
        Counts { metadata: metadata as u64, ..Counts::NONE }
    }

    pub(super) fn is_none(&self) -> bool {
        *self == Counts::NONE
    }

    pub(super) fn total(&self) -> u64 {
        self.each().into_iter().sum()
    }

    /// In the order of the fields.
    pub(super) fn each(&self) -> [u64; 4] {
        [self.samples, self.histograms, self.exemplars, self.metadata]
    }

    pub(super) fn of([samples, histograms, exemplars, metadata]: [u64; 4]) -> Counts {
        Counts { samples, histograms, exemplars, metadata }
    }

    fn pairwise(self, other: Counts, with: impl Fn(u64, u64) -> u64) -> Counts {
        let (a, b) = (self.each(), other.each());
        Counts::of(std::array::from_fn(|i| with(a[i], b[i])))
    }
}

impl Add for Counts {
    type Output = Counts;

    fn add(self, other: Counts) -> Counts {
        self.pairwise(other, u64::saturating_add)
    }
}

impl Sub for Counts {
    type Output = Counts;

    /// Never below nothing.
    fn sub(self, other: Counts) -> Counts {
        self.pairwise(other, u64::saturating_sub)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        *self = *self + other;
    }
}

impl SubAssign for Counts {
    fn sub_assign(&mut self, other: Counts) {
        *self = *self - other;
    }
}
