//! A query's value as JSON, written straight into one string: a range query has thousands of points.
//!
//! Times are seconds with milliseconds where there are some, values are strings, both as Prometheus prints them.

use std::fmt::Write as _;

use promql::{MatrixSeries, Value, VectorSample, format_value};
use telemetry::{Labels, Timestamp};

/// `{"resultType":…,"result":…}`.
pub(super) fn data(value: &Value) -> String {
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
    json.push('}');
    json
}

fn sample(json: &mut String, sample: &VectorSample) {
    metric(json, &sample.labels);
    json.push_str(r#","value":"#);
    point(json, sample.timestamp, sample.value);
    json.push('}');
}

fn series(json: &mut String, series: &MatrixSeries) {
    metric(json, &series.labels);
    json.push_str(r#","values":["#);
    list(json, &series.samples, |json, (timestamp, value)| point(json, *timestamp, *value));
    json.push_str("]}");
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
            assert_eq!(data(&value), format!(r#"{{"resultType":"scalar","result":[{expected},"1.5"]}}"#));
        }
    }

    #[test]
    fn label_values_are_escaped() {
        let mut json = String::new();
        metric(&mut json, &Labels::from_pairs([("__name__", "up"), ("path", "a\"b\\c\n")]));
        assert_eq!(json, r#"{"metric":{"__name__":"up","path":"a\"b\\c\n"}"#);
    }
}
