//! A query's value as JSON, written straight into one string: a range query has thousands of points.
//!
//! Times are seconds with milliseconds where there are some, values are strings, both as Prometheus prints them.

use std::fmt::Write as _;

use promql::{Histogram, MatrixSeries, Stats, StepStats, Value, VectorSample, format_value};
use telemetry::{Labels, Timestamp};

/// What a query cost, as `stats` asks for it.
pub(super) fn stats(stats: &Stats) -> serde_json::Value {
    let timings = &stats.timings;
    let mut json = serde_json::json!({
        "timings": {
            "evalTotalTime": timings.eval_total.as_secs_f64(),
            "resultSortTime": timings.result_sort.as_secs_f64(),
            "queryPreparationTime": timings.preparation.as_secs_f64(),
            "innerEvalTime": timings.inner_eval.as_secs_f64(),
            "execQueueTime": timings.exec_queue.as_secs_f64(),
            "execTotalTime": timings.exec_total.as_secs_f64(),
        },
        "samples": {
            "totalQueryableSamples": stats.samples,
            "samplesRead": stats.samples_read,
            "peakSamples": stats.peak_samples,
        },
    });
    if !stats.steps.is_empty() {
        let steps = |count: fn(&StepStats) -> u64| {
            stats.steps.iter().map(|step| (step.timestamp.as_secs_f64(), count(step))).collect::<Vec<_>>()
        };
        json["samples"]["totalQueryableSamplesPerStep"] = serde_json::json!(steps(|step| step.samples));
        json["samples"]["samplesReadPerStep"] = serde_json::json!(steps(|step| step.samples_read));
    }
    json
}

/// `{"resultType":…,"result":…}`, and `stats` where they are wanted.
pub(super) fn data(value: &Value, stats: Option<&serde_json::Value>) -> String {
    let mut json = String::new();
    match value {
        Value::Scalar { timestamp, value } => {
            json.push_str(r#"{"resultType":"scalar","result":"#);
            point(&mut json, *timestamp, *value);
        }
        Value::String { timestamp, value } => {
            json.push_str(r#"{"resultType":"string","result":["#);
            time(&mut json, *timestamp);
            json.push(',');
            text(&mut json, value);
            json.push(']');
        }
        Value::Vector(samples) => {
            json.push_str(r#"{"resultType":"vector","result":["#);
            list(&mut json, samples, sample);
            json.push(']');
        }
        Value::Matrix(all) => {
            json.push_str(r#"{"resultType":"matrix","result":["#);
            list(&mut json, all, series);
            json.push(']');
        }
    }
    if let Some(stats) = stats {
        write!(json, r#","stats":{stats}"#).expect("writing to a string cannot fail");
    }
    json.push('}');
    json
}

fn sample(json: &mut String, sample: &VectorSample) {
    metric(json, &sample.labels);
    match &sample.histogram {
        None => {
            json.push_str(r#","value":"#);
            point(json, sample.timestamp, sample.value);
        }
        Some(histogram) => {
            json.push_str(r#","histogram":"#);
            histogram_point(json, sample.timestamp, histogram);
        }
    }
    json.push('}');
}

/// Floats and histograms stand apart; of neither there may be none and an empty list.
fn series(json: &mut String, series: &MatrixSeries) {
    metric(json, &series.labels);
    if !series.samples.is_empty() {
        json.push_str(r#","values":["#);
        list(json, &series.samples, |json, (timestamp, value)| point(json, *timestamp, *value));
        json.push(']');
    }
    if !series.histograms.is_empty() {
        json.push_str(r#","histograms":["#);
        list(json, &series.histograms, |json, (timestamp, value)| histogram_point(json, *timestamp, value));
        json.push(']');
    }
    json.push('}');
}

fn histogram_point(json: &mut String, timestamp: Timestamp, value: &Histogram) {
    json.push('[');
    time(json, timestamp);
    json.push(',');
    histogram(json, value);
    json.push(']');
}

/// Empty buckets are left out; the number before the bounds says which of them belong to the bucket.
fn histogram(json: &mut String, histogram: &Histogram) {
    let (count, sum) = (format_value(histogram.count), format_value(histogram.sum));
    write!(json, r#"{{"count":"{count}","sum":"{sum}""#).expect("writing to a string cannot fail");
    let mut buckets = histogram.buckets();
    buckets.retain(|bucket| bucket.count != 0.0);
    if !buckets.is_empty() {
        json.push_str(r#","buckets":["#);
        list(json, &buckets, |json, bucket| {
            let closed = match (bucket.lower_inclusive, bucket.upper_inclusive) {
                (false, true) => 0,
                (true, false) => 1,
                (false, false) => 2,
                (true, true) => 3,
            };
            let [lower, upper, count] = [bucket.lower, bucket.upper, bucket.count].map(format_value);
            write!(json, r#"[{closed},"{lower}","{upper}","{count}"]"#).expect("writing to a string cannot fail");
        });
        json.push(']');
    }
    json.push('}');
}

fn metric(json: &mut String, labels: &Labels) {
    json.push_str(r#"{"metric":{"#);
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            json.push(',');
        }
        text(json, name);
        json.push(':');
        text(json, value);
    }
    json.push('}');
}

fn point(json: &mut String, timestamp: Timestamp, value: f64) {
    json.push('[');
    time(json, timestamp);
    json.push_str(",\"");
    json.push_str(&format_value(value));
    json.push_str("\"]");
}

fn time(json: &mut String, timestamp: Timestamp) {
    let millis = timestamp.as_millis();
    let sign = if millis < 0 { "-" } else { "" };
    let (seconds, fraction) = (millis.unsigned_abs() / 1000, millis.unsigned_abs() % 1000);
    let written = match fraction {
        0 => write!(json, "{sign}{seconds}"),
        fraction => write!(json, "{sign}{seconds}.{fraction:03}"),
    };
    written.expect("writing to a string cannot fail");
}

fn text(json: &mut String, value: &str) {
    json.push_str(&serde_json::to_string(value).expect("a string is always JSON"));
}

fn list<T>(json: &mut String, items: &[T], mut each: impl FnMut(&mut String, &T)) {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            json.push(',');
        }
        each(json, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds_only_where_they_need_them() {
        let at = Timestamp::from_millis;
        for (timestamp, expected) in [
            (0, "0"),
            (1_000, "1"),
            (1_435_781_430_781, "1435781430.781"),
            (1_100, "1.100"),
            (1_007, "1.007"),
            (-1_500, "-1.500"),
        ] {
            let value = Value::Scalar { timestamp: at(timestamp), value: 1.5 };
            assert_eq!(data(&value, None), format!(r#"{{"resultType":"scalar","result":[{expected},"1.5"]}}"#));
        }
    }

    #[test]
    fn histograms_show_their_filled_buckets_and_which_bounds_belong_to_them() {
        let histogram = Histogram {
            schema: 0,
            zero_threshold: 0.25,
            zero_count: 3.0,
            count: 42.0,
            sum: 34593.34,
            positive: vec![(-1, 12.0), (0, 21.0), (1, 0.0), (2, 6.0)],
            negative: vec![(0, 1.5)],
            ..Histogram::default()
        };
        let at = Timestamp::from_millis(1_500);
        let labels = Labels::from_pairs([("__name__", "h")]);
        let sample =
            VectorSample { labels: labels.clone(), timestamp: at, value: 0.0, histogram: Some(histogram.into()) };
        let series = MatrixSeries { labels, samples: vec![(at, 1e-7)], histograms: vec![(at, Default::default())] };
        assert_eq!(
            data(&Value::Vector(vec![sample]), None),
            r#"{"resultType":"vector","result":[{"metric":{"__name__":"h"},"histogram":[1.500,{"count":"42","sum":"34593.34","buckets":[[1,"-1","-0.5","1.5"],[3,"-0.25","0.25","3"],[0,"0.25","0.5","12"],[0,"0.5","1","21"],[0,"2","4","6"]]}]}]}"#
        );
        assert_eq!(
            data(&Value::Matrix(vec![series]), Some(&serde_json::json!({ "samples": 1 }))),
            r#"{"resultType":"matrix","result":[{"metric":{"__name__":"h"},"values":[[1.500,"1e-07"]],"histograms":[[1.500,{"count":"0","sum":"0"}]]}],"stats":{"samples":1}}"#
        );
    }

    #[test]
    fn label_values_are_escaped() {
        let mut json = String::new();
        metric(&mut json, &Labels::from_pairs([("__name__", "up"), ("path", "a\"b\\c\n")]));
        assert_eq!(json, r#"{"metric":{"__name__":"up","path":"a\"b\\c\n"}"#);
    }
}
