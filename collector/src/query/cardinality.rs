//! Which names and values make how many series: where memory goes, and what to drop.

use std::cmp::Reverse;
use std::collections::HashMap;

use serde::Serialize;
use storage::Extent;
use telemetry::Labels;
use telemetry::labels::METRIC_NAME;

/// The greatest of each kind, in falling order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cardinality {
    pub series: usize,
    /// None where there are no samples.
    pub extent: Option<Extent>,
    /// Different pairs of a label name and a value.
    pub label_pairs: usize,
    /// Series by metric name.
    pub by_metric: Vec<Count>,
    /// Different values by label name.
    pub values_by_label: Vec<Count>,
    /// Bytes of the values of a label in all series that carry it.
    pub bytes_by_label: Vec<Count>,
    /// Series by `name=value`.
    pub by_pair: Vec<Count>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Count {
    pub name: String,
    pub value: u64,
}

impl Cardinality {
    /// Counts these series; `limit` is the length of the lists.
    pub fn of(series: &[Labels], limit: usize) -> Self {
        let mut by_name: HashMap<&str, HashMap<&str, u64>> = HashMap::new();
        for labels in series {
            for (name, value) in labels.iter() {
                *by_name.entry(name).or_default().entry(value).or_default() += 1;
            }
        }
        let metrics = by_name.get(METRIC_NAME).into_iter().flatten().map(|(name, count)| (*name, *count));
        let values = by_name.iter().map(|(name, values)| (*name, values.len() as u64));
        let bytes = by_name
            .iter()
            .map(|(name, values)| (*name, values.iter().map(|(value, count)| value.len() as u64 * count).sum()));
        let pairs = by_name
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |(value, count)| ((*name, *value), *count)));
        Cardinality {
            series: series.len(),
            extent: None,
            label_pairs: by_name.values().map(HashMap::len).sum(),
            by_metric: greatest(metrics, limit, str::to_owned),
            values_by_label: greatest(values, limit, str::to_owned),
            bytes_by_label: greatest(bytes, limit, str::to_owned),
            by_pair: greatest(pairs, limit, |(name, value)| format!("{name}={value}")),
        }
    }
}

/// Equal counts in the order of their names, so that two answers can be compared.
fn greatest<N: Ord + Copy>(
    counts: impl Iterator<Item = (N, u64)>,
    limit: usize,
    name: impl Fn(N) -> String,
) -> Vec<Count> {
    let mut counts: Vec<(Reverse<u64>, N)> = counts.map(|(name, count)| (Reverse(count), name)).collect();
    if counts.len() > limit {
        counts.select_nth_unstable(limit);
        counts.truncate(limit);
    }
    counts.sort_unstable();
    counts.into_iter().map(|(Reverse(value), n)| Count { name: name(n), value }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_values_and_pairs_are_counted_and_cut() {
        let series: Vec<Labels> = [("up", "a"), ("up", "b"), ("up", "ccc"), ("jobs", "a")]
            .map(|(name, instance)| Labels::from_pairs([(METRIC_NAME, name), ("instance", instance)]))
            .into();
        let all = Cardinality::of(&series, 10);
        assert_eq!((all.series, all.label_pairs), (4, 5));
        let shown = |counts: &[Count]| counts.iter().map(|c| format!("{} {}", c.name, c.value)).collect::<Vec<_>>();
        assert_eq!(shown(&all.by_metric), ["up 3", "jobs 1"]);
        assert_eq!(shown(&all.values_by_label), ["instance 3", "__name__ 2"]);
        assert_eq!(shown(&all.bytes_by_label), ["__name__ 10", "instance 6"]);
        assert_eq!(
            shown(&all.by_pair),
            ["__name__=up 3", "instance=a 2", "__name__=jobs 1", "instance=b 1", "instance=ccc 1"]
        );
        assert_eq!(shown(&Cardinality::of(&series, 2).by_pair), ["__name__=up 3", "instance=a 2"]);
        assert_eq!(Cardinality::of(&[], 10), Cardinality::default());
    }
}
