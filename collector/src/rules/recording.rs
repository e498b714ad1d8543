//! Recording rules: a query's result under a new name. Pure.

use std::collections::BTreeSet;

use promql::VectorSample;
use telemetry::labels::METRIC_NAME;
use telemetry::{HistogramSample, Labels, Sample, Timestamp};

/// What a rule writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recorded {
    pub floats: Vec<Sample>,
    pub histograms: Vec<HistogramSample>,
}

impl Recorded {
    pub fn is_empty(&self) -> bool {
        self.floats.is_empty() && self.histograms.is_empty()
    }

    pub fn series(&self) -> impl Iterator<Item = &Labels> {
        let histograms = self.histograms.iter().map(|sample| &sample.labels);
        self.floats.iter().map(|sample| &sample.labels).chain(histograms)
    }
}

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
    result: &[VectorSample],
    at: Timestamp,
    limit: usize,
) -> Result<Recorded, RecordingError> {
    let mut seen = BTreeSet::new();
    let mut recorded = Recorded::default();
    for sample in result {
        let mut labels = sample.labels.to_builder();
        labels.set(METRIC_NAME, name);
        for (name, value) in rule_labels {
            labels.set(name, value);
        }
        let labels = labels.build();
        if !seen.insert(labels.clone()) {
            return Err(RecordingError::DuplicateLabels);
        }
        match &sample.histogram {
            Some(histogram) => {
                let histogram = histogram.as_ref().clone().into();
                recorded.histograms.push(HistogramSample { labels, timestamp: at, histogram });
            }
            None => recorded.floats.push(Sample { labels, timestamp: at, value: sample.value }),
        }
    }
    if limit > 0 && seen.len() > limit {
        return Err(RecordingError::Limit { limit, series: seen.len() });
    }
    Ok(recorded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(pairs: &[&[(&str, &str)]]) -> Vec<VectorSample> {
        let sample = |pairs: &[(&str, &str)], value: i32| VectorSample {
            labels: Labels::from_pairs(pairs.iter().copied()),
            timestamp: Timestamp(0),
            value: f64::from(value),
            histogram: None,
        };
        pairs.iter().zip(1..).map(|(pairs, value)| sample(pairs, value)).collect()
    }

    #[test]
    fn the_result_gets_the_rules_name_and_labels() {
        let result = vector(&[&[("__name__", "old"), ("service", "order")], &[("service", "user"), ("team", "x")]]);
        let labels = [("team".to_owned(), "platform".to_owned()), ("service".to_owned(), String::new())];
        let two = samples("new", &labels[..1], &result, Timestamp(7), 2).expect("no duplicates");
        let printed: Vec<_> =
            two.floats.iter().map(|s| format!("{} {} {:?}", s.labels, s.value, s.timestamp)).collect();
        assert_eq!(
            printed,
            [r#"new{service="order", team="platform"} 1 7ms"#, r#"new{service="user", team="platform"} 2 7ms"#]
        );
        assert_eq!(samples("new", &labels, &result, Timestamp(7), 0), Err(RecordingError::DuplicateLabels));
        assert_eq!(samples("new", &[], &result, Timestamp(7), 1), Err(RecordingError::Limit { limit: 1, series: 2 }));
    }

    #[test]
    fn a_histogram_is_recorded_beside_numbers_and_counts_against_the_limit() {
        let mut result = vector(&[&[("service", "order")], &[("service", "user")]]);
        let histogram = promql::Histogram { count: 3.0, sum: 4.5, positive: vec![(1, 3.0)], ..Default::default() };
        result[1] = VectorSample { value: 0.0, histogram: Some(histogram.clone().into()), ..result[1].clone() };
        let both = samples("new", &[], &result, Timestamp(7), 2).expect("no duplicates");
        assert_eq!((both.floats.len(), both.histograms.len()), (1, 1));
        assert_eq!(both.histograms[0].labels, Labels::from_pairs([("__name__", "new"), ("service", "user")]));
        assert_eq!(promql::Histogram::from(&both.histograms[0].histogram), histogram);
        assert_eq!(samples("new", &[], &result, Timestamp(7), 1), Err(RecordingError::Limit { limit: 1, series: 2 }));
    }
}
