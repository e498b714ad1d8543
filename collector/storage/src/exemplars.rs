//! Exemplars: for some samples, which trace made them. The newest of all series, in memory only.
//!
//! One ring for all series: when it is full, the oldest exemplar goes, whosever it is; that is counted. Its lock is its
//! own: exemplars never hold up samples.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use telemetry::{Labels, Matcher, Timestamp};

/// Characters of names and values of an exemplar's labels together, as OpenMetrics has it.
const LABEL_CHARS_MAX: usize = 128;

/// One exemplar of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// `trace_id` above all.
    pub labels: Labels,
    pub value: f64,
    pub timestamp: Timestamp,
}

/// Why an exemplar was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExemplarRefusal {
    /// Older than the newest of its series.
    OutOfOrder,
    LabelsTooLong,
    /// So far ahead of now that it would keep all later ones of its series out.
    TooNew,
}

impl ExemplarRefusal {
    /// The value of the metric's label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            ExemplarRefusal::OutOfOrder => "out_of_order",
            ExemplarRefusal::LabelsTooLong => "labels_too_long",
            ExemplarRefusal::TooNew => "too_new",
        }
    }
}

/// What became of an exemplar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Added,
    /// Added, and the oldest of all went for it.
    InPlaceOfOldest,
    /// It was there already: a target repeats its exemplars at each scrape.
    Repeated,
    /// None are kept at all.
    Off,
}

/// The ring; see the module's documentation.
#[derive(Debug)]
pub struct Exemplars {
    max: usize,
    future_tolerance: Duration,
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    /// Whose exemplar came when: the series of the oldest one in front.
    order: VecDeque<Labels>,
    /// By series, oldest first; never empty.
    series: HashMap<Labels, VecDeque<Exemplar>>,
}

impl Exemplars {
    /// Keeps at most `max` exemplars, 0 keeps none; they may be this far ahead of now.
    pub fn new(max: usize, future_tolerance: Duration) -> Self {
        Exemplars { max, future_tolerance, ring: Mutex::default() }
    }

    /// # Errors
    /// Why it is not kept.
    pub fn append(&self, series: &Labels, exemplar: Exemplar, now: Timestamp) -> Result<Kept, ExemplarRefusal> {
        if self.max == 0 {
            return Ok(Kept::Off);
        }
        if exemplar.timestamp > now + self.future_tolerance {
            return Err(ExemplarRefusal::TooNew);
        }
        let chars = |(name, value): (&str, &str)| name.chars().count() + value.chars().count();
        if exemplar.labels.iter().map(chars).sum::<usize>() > LABEL_CHARS_MAX {
            return Err(ExemplarRefusal::LabelsTooLong);
        }
        let mut ring = self.lock();
        if let Some(newest) = ring.series.get(series).and_then(VecDeque::back) {
            match () {
                () if is_same(newest, &exemplar) => return Ok(Kept::Repeated),
                () if exemplar.timestamp < newest.timestamp => return Err(ExemplarRefusal::OutOfOrder),
                () => {}
            }
        }
        let full = ring.order.len() >= self.max;
        if full {
            ring.drop_oldest();
        }
        ring.order.push_back(series.clone());
        ring.series.entry(series.clone()).or_default().push_back(exemplar);
        Ok(if full { Kept::InPlaceOfOldest } else { Kept::Added })
    }

    /// The exemplars from `start` to `end`, both inclusive, of the series that any of the selectors match; sorted by
    /// series, and by time within one.
    pub fn select(&self, selectors: &[Vec<Matcher>], start: Timestamp, end: Timestamp) -> Vec<(Labels, Vec<Exemplar>)> {
        let accepts = |labels: &Labels| {
            let matches = |m: &Matcher| m.matches(labels.get(&m.name).unwrap_or_default());
            selectors.iter().any(|matchers| matchers.iter().all(matches))
        };
        let ring = self.lock();
        let mut found = Vec::new();
        for (labels, exemplars) in ring.series.iter().filter(|(labels, _)| accepts(labels)) {
            let within = exemplars.iter().filter(|e| (start..=end).contains(&e.timestamp));
            let within: Vec<Exemplar> = within.cloned().collect();
            if !within.is_empty() {
                found.push((labels.clone(), within));
            }
        }
        drop(ring);
        found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        found
    }

    /// Exemplars that are kept at the moment.
    pub fn len(&self) -> usize {
        self.lock().order.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn drop_oldest(&mut self) {
        let Some(series) = self.order.pop_front() else { return };
        if let Some(exemplars) = self.series.get_mut(&series) {
            exemplars.pop_front();
            if exemplars.is_empty() {
                self.series.remove(&series);
            }
        }
    }
}

/// NaN is the same as NaN here.
fn is_same(a: &Exemplar, b: &Exemplar) -> bool {
    a.timestamp == b.timestamp && a.value.to_bits() == b.value.to_bits() && a.labels == b.labels
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(100);

    fn ring(max: usize) -> Exemplars {
        Exemplars::new(max, Duration::from_millis(50))
    }

    fn series(name: &str) -> Labels {
        Labels::from_pairs([("__name__", name)])
    }

    fn exemplar(at: i64, trace: &str) -> Exemplar {
        Exemplar { labels: Labels::from_pairs([("trace_id", trace)]), value: 0.5, timestamp: Timestamp(at) }
    }

    fn shown(exemplars: &Exemplars, start: i64, end: i64) -> Vec<String> {
        let every = vec![vec![]];
        let found = exemplars.select(&every, Timestamp(start), Timestamp(end));
        let one = |e: &Exemplar| format!("{}@{}", e.labels.get("trace_id").unwrap_or_default(), e.timestamp.0);
        let line = |(labels, list): (Labels, Vec<Exemplar>)| {
            format!(
                "{}: {}",
                labels.metric_name().unwrap_or_default(),
                list.iter().map(one).collect::<Vec<_>>().join(" ")
            )
        };
        found.into_iter().map(line).collect()
    }

    #[test]
    fn the_newest_of_all_series_are_kept() {
        let exemplars = ring(3);
        assert_eq!(exemplars.append(&series("a"), exemplar(1, "x"), NOW), Ok(Kept::Added));
        assert_eq!(exemplars.append(&series("b"), exemplar(2, "y"), NOW), Ok(Kept::Added));
        assert_eq!(exemplars.append(&series("b"), exemplar(3, "z"), NOW), Ok(Kept::Added));
        assert_eq!(shown(&exemplars, 0, 9), ["a: x@1", "b: y@2 z@3"]);
        assert_eq!(shown(&exemplars, 2, 2), ["b: y@2"]);
        assert_eq!(exemplars.append(&series("a"), exemplar(4, "v"), NOW), Ok(Kept::InPlaceOfOldest));
        assert_eq!(exemplars.append(&series("c"), exemplar(5, "w"), NOW), Ok(Kept::InPlaceOfOldest));
        assert_eq!(shown(&exemplars, 0, 9), ["a: v@4", "b: z@3", "c: w@5"]);
        assert_eq!(exemplars.len(), 3);
    }

    #[test]
    fn repeats_are_known_and_what_is_unsound_is_refused() {
        let exemplars = ring(3);
        let not_a_number = Exemplar { value: f64::NAN, ..exemplar(5, "x") };
        assert_eq!(exemplars.append(&series("a"), not_a_number.clone(), NOW), Ok(Kept::Added));
        assert_eq!(exemplars.append(&series("a"), not_a_number, NOW), Ok(Kept::Repeated));
        assert_eq!(exemplars.append(&series("a"), exemplar(4, "x"), NOW), Err(ExemplarRefusal::OutOfOrder));
        assert_eq!(exemplars.append(&series("a"), exemplar(5, "other"), NOW), Ok(Kept::Added), "buckets share a time");
        let long = "ä".repeat(LABEL_CHARS_MAX - "trace_id".len());
        assert_eq!(exemplars.append(&series("a"), exemplar(6, &long), NOW), Ok(Kept::Added));
        assert_eq!(
            exemplars.append(&series("a"), exemplar(7, &(long + "x")), NOW),
            Err(ExemplarRefusal::LabelsTooLong)
        );
        assert_eq!(exemplars.append(&series("b"), exemplar(151, "x"), NOW), Err(ExemplarRefusal::TooNew));
        assert_eq!(ring(0).append(&series("a"), exemplar(1, "x"), NOW), Ok(Kept::Off));
    }

    #[test]
    fn selectors_choose_the_series() {
        let exemplars = ring(9);
        for name in ["a", "b", "c"] {
            exemplars.append(&series(name), exemplar(1, name), NOW).unwrap();
        }
        let selectors = vec![vec![Matcher::equal("__name__", "c")], vec![Matcher::equal("__name__", "a")]];
        let found = exemplars.select(&selectors, Timestamp::MIN, Timestamp::MAX);
        assert_eq!(found.iter().map(|(labels, _)| labels.clone()).collect::<Vec<_>>(), [series("a"), series("c")]);
        assert!(exemplars.select(&[], Timestamp::MIN, Timestamp::MAX).is_empty());
    }
}
