//! When in an interval what happens: scrapes in its first half, rules soon after them.
//!
//! Spread evenly over the whole interval, as both would be by a hash alone, a sample waits half an interval on
//! average until a rule looks at it. With the rules behind the scrapes it waits four tenths, at the price of twice the
//! scrapes per second in that half. Everything stays a function of names and configuration: the same after a restart,
//! and for rules the same in every replica.

use std::time::Duration;

/// Shares of the interval in which targets are scraped.
const SCRAPES: Window = Window { from: 0.0, to: 0.5 };
/// Shares of the interval in which rule groups begin. Before it, time for the last scrapes to end; behind it the same
/// time again for evaluations and deliveries before the next scrapes.
const RULES: Window = Window { from: 0.55, to: 0.75 };

struct Window {
    from: f64,
    to: f64,
}

impl Window {
    /// A whole number of milliseconds into the interval.
    fn place(&self, hash: u64, interval: Duration) -> Duration {
        let (from, to) = (interval.mul_f64(self.from), interval.mul_f64(self.to));
        let places = u64::try_from((to - from).as_millis()).unwrap_or(u64::MAX).max(1);
        Duration::from_millis(u64::try_from(from.as_millis()).unwrap_or(u64::MAX).saturating_add(hash % places))
    }
}

/// Where in its interval a target is scraped.
pub fn of_scrapes(hash: u64, interval: Duration) -> Duration {
    SCRAPES.place(hash, interval)
}

/// Where in its interval a rule group is evaluated. A group whose interval is several scrapes long begins behind any
/// one of them, so that slow groups do not all begin at once.
pub fn of_rules(hash: u64, interval: Duration, scrape_interval: Duration) -> Duration {
    let fits = !scrape_interval.is_zero() && interval.as_millis().is_multiple_of(scrape_interval.as_millis().max(1));
    let turn = if fits { scrape_interval } else { interval };
    let turns = u32::try_from(interval.as_millis() / turn.as_millis().max(1)).unwrap_or(u32::MAX).max(1);
    // Other bits than the place within the turn is made of.
    let number = u32::try_from((hash >> 32) % u64::from(turns)).unwrap_or(0);
    turn * number + RULES.place(hash & u64::from(u32::MAX), turn)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    proptest! {
        #[test]
        fn rules_begin_behind_every_scrape_of_the_same_interval(a: u64, b: u64, millis in 20_u64..100_000) {
            let interval = Duration::from_millis(millis);
            let (scrape, rules) = (of_scrapes(a, interval), of_rules(b, interval, interval));
            prop_assert!(scrape < rules && rules < interval, "{scrape:?} {rules:?}");
        }

        #[test]
        fn a_slow_group_begins_behind_one_of_the_scrapes_and_within_its_interval(hash: u64, scrapes in 1_u32..20) {
            let place = of_rules(hash, 15 * SECOND * scrapes, 15 * SECOND);
            prop_assert!(place < 15 * SECOND * scrapes);
            let within = Duration::from_millis((place.as_millis() % 15_000) as u64);
            prop_assert!(within >= Duration::from_millis(8_250) && within < Duration::from_millis(11_250), "{within:?}");
        }
    }

    #[test]
    fn slow_groups_begin_behind_all_scrapes_alike() {
        let hashes = (0..600_u64).map(|n| xxhash_rust::xxh3::xxh3_64(&n.to_le_bytes()));
        let mut begun = [0; 4];
        hashes.for_each(|hash| begun[(of_rules(hash, 60 * SECOND, 15 * SECOND).as_secs() / 15) as usize] += 1);
        assert!(begun.iter().all(|count| (100..200).contains(count)), "{begun:?}");
    }

    #[test]
    fn intervals_that_are_no_multiple_or_next_to_nothing_have_a_place_too() {
        assert!(of_rules(u64::MAX, 40 * SECOND, 15 * SECOND) >= 22 * SECOND);
        assert_eq!(of_rules(7, Duration::from_millis(1), 15 * SECOND), Duration::ZERO);
        assert_eq!(of_scrapes(7, Duration::from_millis(1)), Duration::ZERO);
        assert!(of_rules(7, 60 * SECOND, Duration::ZERO) < 60 * SECOND);
    }
}
