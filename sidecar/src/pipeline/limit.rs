//! A budget of series per metric, so that one label with a user's id in it does not cost the platform its
//! store.
//!
//! First come, first served, for as long as the sidecar runs: a series keeps its place, and one that came
//! too late never takes another's. Of counters and histograms the series beyond the budget are summed up
//! in one whose labels all say `overflow`, so that totals and rates stay right; of other kinds, where a sum
//! means nothing, they are left out. How many were cut is told.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use telemetry::Labels;
use telemetry::exposition::{Family, FamilySample, MetricKind};

/// What stands in the labels of the sum of what was cut.
pub const OVERFLOW: &str = "overflow";

/// Labels that tell the parts of one series apart.
const PARTS: [&str; 2] = ["le", "quantile"];

pub struct Budget {
    series_max: usize,
    admitted: HashMap<String, HashSet<u64>>,
}

impl Budget {
    pub fn new(series_max: usize) -> Self {
        Budget { series_max, admitted: HashMap::new() }
    }

    /// Cuts every family to the budget. Returns the names of those that were cut and by how many series.
    pub fn apply(&mut self, families: &mut [Family]) -> Vec<(String, usize)> {
        let mut cut = Vec::new();
        for family in families {
            // Most families are small and were never over: nothing is remembered of them.
            if family.samples.len() <= self.series_max && !self.admitted.contains_key(&family.name) {
                continue;
            }
            let admitted = self.admitted.entry(family.name.clone()).or_default();
            let over = cut_family(family, admitted, self.series_max);
            if over > 0 {
                cut.push((family.name.clone(), over));
            }
        }
        cut
    }
}

/// Returns how many series lie beyond the budget.
fn cut_family(family: &mut Family, admitted: &mut HashSet<u64>, series_max: usize) -> usize {
    let (mut kept, mut over, mut refused) = (Vec::new(), Vec::new(), HashSet::new());
    for sample in std::mem::take(&mut family.samples) {
        let series = series_of(&sample.labels);
        if admitted.contains(&series) || (admitted.len() < series_max && admitted.insert(series)) {
            kept.push(sample);
        } else {
            refused.insert(series);
            over.push(sample);
        }
    }
    if matches!(family.kind, MetricKind::Counter | MetricKind::Histogram) {
        kept.extend(sum(over));
    }
    family.samples = kept;
    refused.len()
}

fn series_of(labels: &Labels) -> u64 {
    let mut hasher = DefaultHasher::new();
    labels.iter().filter(|(name, _)| !PARTS.contains(name)).for_each(|pair| pair.hash(&mut hasher));
    hasher.finish()
}

/// One sample per name and part. The time of creation of a sum means nothing.
fn sum(samples: Vec<FamilySample>) -> Vec<FamilySample> {
    let mut sums: Vec<FamilySample> = Vec::new();
    let mut places: HashMap<(String, Labels), usize> = HashMap::new();
    for sample in samples.into_iter().filter(|s| !s.name.ends_with("_created")) {
        let labels: Labels = sample
            .labels
            .iter()
            .map(|(name, value)| (name, if PARTS.contains(&name) { value } else { OVERFLOW }))
            .collect();
        let place = *places.entry((sample.name.clone(), labels.clone())).or_insert(sums.len());
        match sums.get_mut(place) {
            Some(sum) => sum.value += sample.value,
            None => sums.push(FamilySample { labels, timestamp: None, exemplar: None, ..sample }),
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use telemetry::exposition::{Format, parse, write};

    fn cut(budget: &mut Budget, body: &str) -> (String, Vec<(String, usize)>) {
        let mut families = parse(body, Format::Prometheus).expect("parses");
        let cut = budget.apply(&mut families);
        let text = write(&families, Format::Prometheus);
        (text.lines().filter(|l| !l.starts_with('#')).collect::<Vec<_>>().join(" "), cut)
    }

    #[test]
    fn counters_beyond_the_budget_are_summed_and_a_series_keeps_its_place() {
        let mut budget = Budget::new(2);
        let body =
            "# TYPE c_total counter\nc_total{u=\"a\"} 1\nc_total{u=\"b\"} 2\nc_total{u=\"c\"} 4\nc_total{u=\"d\"} 8\n";
        let (text, over) = cut(&mut budget, body);
        assert_eq!(text, r#"c_total{u="a"} 1 c_total{u="b"} 2 c_total{u="overflow"} 12"#);
        assert_eq!(over, [("c".to_owned(), 2)]);
        // `a` is gone and the order is another: `c` and `d` stay where they were.
        let (text, _) =
            cut(&mut budget, "# TYPE c_total counter\nc_total{u=\"d\"} 9\nc_total{u=\"c\"} 4\nc_total{u=\"b\"} 3\n");
        assert_eq!(text, r#"c_total{u="b"} 3 c_total{u="overflow"} 13"#);
    }

    #[test]
    fn a_histogram_is_cut_by_whole_series_and_its_buckets_are_summed() {
        let series = |u: &str, n: u32| {
            format!(
                "h_bucket{{u=\"{u}\",le=\"1\"}} {n}\nh_bucket{{u=\"{u}\",le=\"+Inf\"}} {n}\nh_sum{{u=\"{u}\"}} {n}\nh_count{{u=\"{u}\"}} {n}\n"
            )
        };
        let body = format!("# TYPE h histogram\n{}{}{}", series("a", 1), series("b", 2), series("c", 4));
        let (text, over) = cut(&mut Budget::new(1), &body);
        assert_eq!(over, [("h".to_owned(), 2)]);
        for line in [
            r#"h_bucket{le="+Inf",u="a"} 1"#,
            r#"h_bucket{le="1",u="overflow"} 6"#,
            r#"h_bucket{le="+Inf",u="overflow"} 6"#,
            r#"h_count{u="overflow"} 6"#,
        ] {
            assert!(text.contains(line), "{line} not in {text}");
        }
        assert!(!text.contains(r#"u="b""#), "{text}");
    }

    #[test]
    fn gauges_beyond_the_budget_are_left_out_and_small_families_are_not_touched() {
        let mut budget = Budget::new(1);
        let (text, over) = cut(&mut budget, "# TYPE g gauge\ng{u=\"a\"} 1\ng{u=\"b\"} 2\n# TYPE s gauge\ns 3\n");
        assert_eq!(text, r#"g{u="a"} 1 s 3"#);
        assert_eq!(over, [("g".to_owned(), 1)]);
        assert!(!budget.admitted.contains_key("s"));
    }
}
