//! Sums that keep what rounding loses (Kahan's method as Neumaier improved it).

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KahanSum {
    pub sum: f64,
    /// What was lost so far.
    pub compensation: f64,
}

impl KahanSum {
    pub(super) fn starting_at(sum: f64) -> Self {
        KahanSum { sum, compensation: 0.0 }
    }

    pub(super) fn add(&mut self, value: f64) {
        let total = self.sum + value;
        if total.is_infinite() {
            self.compensation = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.compensation += (self.sum - total) + value;
        } else {
            self.compensation += (value - total) + self.sum;
        }
        self.sum = total;
    }

    pub(super) fn value(self) -> f64 {
        self.sum + self.compensation
    }
}

/// A mean that sums while the sum is finite, and from then on adjusts the mean step by step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mean {
    count: f64,
    total: KahanSum,
    incremental: bool,
}

impl Mean {
    pub(super) fn starting_at(value: f64) -> Self {
        Mean { count: 1.0, total: KahanSum::starting_at(value), incremental: false }
    }

    pub(super) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.incremental {
            let mut next = self.total;
            next.add(value);
            if !next.sum.is_infinite() {
                self.total = next;
                return;
            }
            self.incremental = true;
            self.total.sum /= self.count - 1.0;
            self.total.compensation /= self.count - 1.0;
        }
        let weight = (self.count - 1.0) / self.count;
        self.total.sum *= weight;
        self.total.compensation *= weight;
        self.total.add(value / self.count);
    }

    pub(super) fn value(self) -> f64 {
        if self.incremental {
            self.total.value()
        } else {
            self.total.sum / self.count + self.total.compensation / self.count
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_terms_survive_large_ones() {
        let mut sum = KahanSum::default();
        for value in [1.0, 1e100, 1.0, -1e100] {
            sum.add(value);
        }
        assert_eq!(sum.value(), 2.0);
    }

    #[test]
    fn a_mean_of_values_whose_sum_overflows_is_finite() {
        let mut mean = Mean::starting_at(1.5e308);
        mean.add(1.5e308);
        mean.add(1.5e308);
        assert!((mean.value() / 1.5e308 - 1.0).abs() < 1e-12, "{}", mean.value());
    }
}
