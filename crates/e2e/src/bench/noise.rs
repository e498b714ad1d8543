//! Chance, the same in every run: what makes counters of a synthetic service as uneven as those of a real one.

/// SplitMix64.
#[derive(Clone)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xd6e8_feb8_6659_fd93)
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to, but not, 1.
    pub fn share(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// About normal, of mean 0 and deviation 1: a sum of four even ones, cheap enough for every value of a scrape.
    pub fn normal(&mut self) -> f64 {
        let bits = self.bits();
        let sum: f64 = (0..4).map(|part| f64::from((bits >> (16 * part)) as u16)).sum();
        (sum / 65_536.0 - 2.0 + 2.0 / 65_536.0) * 3f64.sqrt()
    }

    /// How many events there are where so many are expected: Poisson's distribution, and beyond thirty the normal one
    /// that it becomes.
    pub fn events(&mut self, expected: f64) -> f64 {
        if expected > 30.0 {
            return (expected + expected.sqrt() * self.normal()).round().max(0.0);
        }
        let (mut product, least, mut count) = (self.share(), (-expected).exp(), 0.0);
        while product > least {
            product *= self.share();
            count += 1.0;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_poissons_mean_and_variance() {
        for expected in [0.01, 0.5, 4.0, 29.0, 31.0, 400.0] {
            let mut chance = Chance::new(7);
            let drawn: Vec<f64> = (0..40_000).map(|_| chance.events(expected)).collect();
            let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
            let variance = drawn.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / drawn.len() as f64;
            for (what, found) in [("mean", mean), ("variance", variance)] {
                assert!((found / expected - 1.0).abs() < 0.15, "{what} {found} where {expected} is expected");
            }
        }
    }
}
