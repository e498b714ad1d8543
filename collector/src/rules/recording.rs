//! Recording rules: a query's result under a new name. Pure.

use std::collections::BTreeSet;

use telemetry::labels::METRIC_NAME;
use telemetry::{Labels, Sample, Timestamp};

/// Why a recording rule's result cannot be stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordingError {
    #[error("vector contains metrics with the same labelset after applying rule labels")]
    DuplicateLabels,
    #[error("exceeded limit of {limit} with {series} series")]
    Limit { limit: usize, series: usize },
}

/// Names the result and puts the rule's labels on it (prometheus rules/recording.go, `Eval`).
///
/// # Errors
/// Two elements that become one series, or more than `limit` of them (0: no limit); nothing is written then.
pub fn samples(
    name: &str,
    rule_labels: &[(String, String)],
    result: &[(Labels, f64)],
    at: Timestamp,
    limit: usize,
) -> Result<Vec<Sample>, RecordingError> {
    let mut seen = BTreeSet::new();
    let mut samples = Vec::with_capacity(result.len());
    for (labels, value) in result {
        let mut labels = labels.to_builder();
        labels.set(METRIC_NAME, name);
        for (name, value) in rule_labels {
            labels.set(name, value);
        }
        let labels = labels.build();
        if !seen.insert(labels.clone()) {
            return Err(RecordingError::DuplicateLabels);
        }
        samples.push(Sample { labels, timestamp: at, value: *value });
    }
    if limit > 0 && samples.len() > limit {
        return Err(RecordingError::Limit { limit, series: samples.len() });
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(pairs: &[&[(&str, &str)]]) -> Vec<(Labels, f64)> {
        pairs
            .iter()
            .zip(1..)
            .map(|(pairs, value)| (Labels::from_pairs(pairs.iter().copied()), f64::from(value)))
            .collect()
    }

    #[test]
    fn the_result_gets_the_rules_name_and_labels() {
        let result = vector(&[&[("__name__", "old"), ("service", "order")], &[("service", "user"), ("team", "x")]]);
        let labels = [("team".to_owned(), "platform".to_owned()), ("service".to_owned(), String::new())];
        let two = samples("new", &labels[..1], &result, Timestamp(7), 2).expect("no duplicates");
        let printed: Vec<_> = two.iter().map(|s| format!("{} {} {:?}", s.labels, s.value, s.timestamp)).collect();
        assert_eq!(
            printed,
            [r#"new{service="order", team="platform"} 1 7ms"#, r#"new{service="user", team="platform"} 2 7ms"#]
        );
        assert_eq!(samples("new", &labels, &result, Timestamp(7), 0), Err(RecordingError::DuplicateLabels));
        assert_eq!(samples("new", &[], &result, Timestamp(7), 1), Err(RecordingError::Limit { limit: 1, series: 2 }));
    }
}
