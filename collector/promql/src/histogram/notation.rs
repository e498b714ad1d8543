//! Histograms as unit tests write them: `{{count:3 sum:4 buckets:[1 2]}}`, read by [`crate::parse_series`].

use std::fmt::Write;

use super::{CounterResetHint, Histogram, IndexedCount};
use crate::text::format_general;

/// Empty buckets between two full ones are written out; more of them than this are not.
const BUCKETS_MAX: i64 = 10_000;

impl Histogram {
    /// The histogram in promtool's notation (prometheus model/histogram/float_histogram.go, `TestExpression`); the
    /// other one, of [`std::fmt::Display`], where buckets lie too far apart to write all between them.
    pub fn notation(&self) -> String {
        let hint = match self.counter_reset_hint {
            CounterResetHint::Unknown => "",
            CounterResetHint::CounterReset => "reset",
            CounterResetHint::NotCounterReset => "not_reset",
            CounterResetHint::Gauge => "gauge",
        };
        let mut keys = Vec::new();
        let mut key = |given: bool, name: &str, value: String| keys.extend(given.then(|| format!("{name}:{value}")));
        key(self.schema != 0, "schema", self.schema.to_string());
        key(self.count != 0.0, "count", format_general(self.count));
        key(self.sum != 0.0, "sum", format_general(self.sum));
        key(self.zero_count != 0.0, "z_bucket", format_general(self.zero_count));
        key(self.zero_threshold != 0.0, "z_bucket_w", format_general(self.zero_threshold));
        key(self.uses_custom_buckets(), "custom_values", list(self.custom_values.iter().copied()));
        key(!hint.is_empty(), "counter_reset_hint", hint.to_owned());
        for (buckets, name, offset_name) in
            [(&self.positive, "buckets", "offset"), (&self.negative, "n_buckets", "n_offset")]
        {
            let Some((offset, counts)) = written_out(buckets) else { return self.to_string() };
            key(offset != 0, offset_name, offset.to_string());
            key(!counts.is_empty(), name, list(counts.into_iter()));
        }
        format!("{{{{{}}}}}", keys.join(" "))
    }
}

/// The first index and the counts from there on, empty buckets between them included.
fn written_out(buckets: &[IndexedCount]) -> Option<(i32, Vec<f64>)> {
    let (Some((first, _)), Some((last, _))) = (buckets.first(), buckets.last()) else { return Some((0, Vec::new())) };
    let len = i64::from(*last) - i64::from(*first) + 1;
    let mut counts = vec![0.0; usize::try_from(len).ok().filter(|_| len <= BUCKETS_MAX)?];
    for (index, count) in buckets {
        counts[usize::try_from(index - first).ok()?] = *count;
    }
    Some((*first, counts))
}

fn list(numbers: impl Iterator<Item = f64>) -> String {
    let mut text = "[".to_owned();
    for (i, number) in numbers.enumerate() {
        let separator = if i == 0 { "" } else { " " };
        let _ = write!(text, "{separator}{}", format_general(number));
    }
    text + "]"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeriesValue;

    #[test]
    fn what_is_written_is_read_as_the_same_histogram() {
        for text in [
            "{{}}",
            "{{count:3 sum:4.5 buckets:[1 2]}}",
            "{{schema:1 count:32.1 sum:-0.3 z_bucket:7.1 z_bucket_w:0.05 offset:-3 buckets:[5.1 0 7] n_offset:-5 n_buckets:[4.1 5]}}",
            "{{schema:-53 count:3 sum:4 custom_values:[5 10] counter_reset_hint:gauge buckets:[1 0 2]}}",
            "{{count:1 counter_reset_hint:not_reset}}",
        ] {
            let series = crate::parse_series(&format!("a {text}")).expect("a series");
            let [SeriesValue::Histogram { histogram, .. }] = &series.values[..] else { panic!("no histogram") };
            assert_eq!(histogram.notation(), text);
        }
    }

    #[test]
    fn buckets_far_apart_are_not_written_out() {
        let far = Histogram { count: 2.0, positive: vec![(0, 1.0), (i32::MAX, 1.0)], ..Histogram::default() };
        assert_eq!(far.notation(), far.to_string());
    }
}
