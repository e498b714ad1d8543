//! Results against what a script expects.

use telemetry::Timestamp;

use super::script::{Eval, Expectation};
use crate::eval::almost_equal;
use crate::histogram::{CUSTOM_BUCKETS_SCHEMA, Histogram, IndexedCount};
use crate::text::format_plain;
use crate::{Answer, MatrixSeries, SeriesValue, Value, VectorSample};

/// The relative error that is allowed.
const EPSILON: f64 = 1e-6;

pub(super) fn annotations(eval: &Eval, answer: &Answer) -> Result<(), String> {
    for (name, expected, got, none) in [
        ("warning", &eval.warnings, &answer.warnings, eval.no_warnings),
        ("info", &eval.infos, &answer.infos, eval.no_infos),
    ] {
        if none && !got.is_empty() {
            return Err(format!("expected no {name}, got {got:?}"));
        }
        if expected.is_empty() {
            continue;
        }
        if let Some(missing) = expected.iter().find(|e: &&Expectation| !got.iter().any(|g| e.matches(g))) {
            return Err(format!("expected {name} {missing}, got {got:?}"));
        }
        if let Some(unexpected) = got.iter().find(|g| !expected.iter().any(|e| e.matches(g))) {
            return Err(format!("unexpected {name} {unexpected:?}"));
        }
    }
    Ok(())
}

pub(super) fn result(eval: &Eval, value: &Value) -> Result<(), String> {
    match value {
        Value::String { value, .. } => match &eval.string {
            Some(expected) if expected == value => Ok(()),
            expected => Err(format!("expected string {expected:?}, got {value:?}")),
        },
        Value::Scalar { value, .. } => match eval.scalar {
            Some(expected) if almost_equal(expected, *value, EPSILON) => Ok(()),
            Some(expected) => Err(format!("expected scalar {expected}, got {value}")),
            None => Err(format!("expected a vector or matrix, got scalar {value}")),
        },
        _ if eval.scalar.is_some() => Err(format!("expected a scalar, got {}", shown(value))),
        Value::Vector(samples) => vector(eval, samples),
        Value::Matrix(_) if eval.ordered => Err("expected an ordered result, got a matrix".to_owned()),
        Value::Matrix(series) => matrix(eval, series),
    }
}

fn vector(eval: &Eval, samples: &[VectorSample]) -> Result<(), String> {
    let mut seen = Vec::new();
    for (i, sample) in samples.iter().enumerate() {
        let got = || format!("{} {}", sample.labels, shown_value(sample.value, sample.histogram.as_deref()));
        let Some((position, values)) = eval.series.get(&sample.labels) else {
            return Err(format!("unexpected series {}", got()));
        };
        if eval.ordered && *position != i + 1 {
            return Err(format!("expected {} at place {position}, got it at {}", sample.labels, i + 1));
        }
        let fits = match (values.first(), &sample.histogram) {
            (Some(SeriesValue::Float(expected)), None) => almost_equal(*expected, sample.value, EPSILON),
            (Some(SeriesValue::Histogram { histogram, hint_given }), Some(got)) => {
                same_histogram(histogram, got, *hint_given)
            }
            _ => false,
        };
        if !fits {
            let expected = values.first().map(shown_expected).unwrap_or_default();
            return Err(format!("expected {} {expected}, got {}", sample.labels, got()));
        }
        seen.push(&sample.labels);
    }
    missing(eval, &seen)
}

fn missing(eval: &Eval, seen: &[&telemetry::Labels]) -> Result<(), String> {
    match eval.series.keys().find(|labels| !seen.contains(labels)) {
        Some(labels) => Err(format!("expected {labels}, not found")),
        None => Ok(()),
    }
}

fn matrix(eval: &Eval, matrix: &[MatrixSeries]) -> Result<(), String> {
    check_sorted(matrix)?;
    let (start, end, step) = eval.times();
    let mut seen = Vec::new();
    for series in matrix {
        let Some((_, values)) = eval.series.get(&series.labels) else {
            return Err(format!("unexpected series {}", shown_series(series)));
        };
        let mut floats = Vec::new();
        let mut histograms = Vec::new();
        for (i, value) in (0..).zip(values) {
            let at = start + i * step;
            if at > end {
                return Err(format!("{} values expected of {}, more than the range has", values.len(), series.labels));
            }
            match value {
                SeriesValue::Omitted => {}
                SeriesValue::Float(value) => floats.push((Timestamp::from_millis(at), *value)),
                SeriesValue::Histogram { histogram, hint_given } => {
                    histograms.push((Timestamp::from_millis(at), histogram, *hint_given));
                }
            }
        }
        let floats_fit = floats.len() == series.samples.len()
            && floats.iter().zip(&series.samples).all(|(e, g)| e.0 == g.0 && almost_equal(e.1, g.1, EPSILON));
        let histograms_fit = histograms.len() == series.histograms.len()
            && histograms.iter().zip(&series.histograms).all(|(e, g)| e.0 == g.0 && same_histogram(e.1, &g.1, e.2));
        if !floats_fit || !histograms_fit {
            let expected: Vec<String> = values.iter().map(shown_expected).collect();
            return Err(format!("expected {} {}, got {}", series.labels, expected.join(" "), shown_series(series)));
        }
        seen.push(&series.labels);
    }
    missing(eval, &seen)
}

fn check_sorted(matrix: &[MatrixSeries]) -> Result<(), String> {
    match matrix.windows(2).find(|pair| pair[0].labels > pair[1].labels) {
        Some(pair) => Err(format!("the matrix is not sorted: {} before {}", pair[0].labels, pair[1].labels)),
        None => Ok(()),
    }
}

/// What a range query has at one of its times.
pub(super) fn middle_step(matrix: &[MatrixSeries], at: i64) -> Result<Vec<VectorSample>, String> {
    check_sorted(matrix)?;
    let timestamp = Timestamp::from_millis(at);
    let mut samples = Vec::new();
    for series in matrix {
        let labels = series.labels.clone();
        if let Some((_, value)) = series.samples.iter().find(|(ts, _)| *ts == timestamp) {
            samples.push(VectorSample { labels: labels.clone(), timestamp, value: *value, histogram: None });
        }
        if let Some((_, histogram)) = series.histograms.iter().find(|(ts, _)| *ts == timestamp) {
            samples.push(VectorSample { labels, timestamp, value: 0.0, histogram: Some(histogram.clone()) });
        }
    }
    Ok(samples)
}

fn same_histogram(expected: &Histogram, got: &Histogram, hint_given: bool) -> bool {
    let close = |a: f64, b: f64| almost_equal(a, b, EPSILON);
    let filled = |buckets: &[IndexedCount]| buckets.iter().filter(|(_, c)| *c != 0.0).copied().collect::<Vec<_>>();
    let side = |a: &[IndexedCount], b: &[IndexedCount]| {
        let (a, b) = (filled(a), filled(b));
        a.len() == b.len() && a.iter().zip(&b).all(|(x, y)| x.0 == y.0 && close(x.1, y.1))
    };
    expected.schema == got.schema
        && close(expected.count, got.count)
        && close(expected.sum, got.sum)
        && expected.zero_threshold == got.zero_threshold
        && close(expected.zero_count, got.zero_count)
        && (expected.schema != CUSTOM_BUCKETS_SCHEMA || expected.custom_values == got.custom_values)
        && side(&expected.positive, &got.positive)
        && side(&expected.negative, &got.negative)
        && (!hint_given || expected.counter_reset_hint == got.counter_reset_hint)
}

fn shown_value(value: f64, histogram: Option<&Histogram>) -> String {
    match histogram {
        Some(h) => format!(
            "{{{{schema:{} count:{} sum:{} z_bucket:{} z_bucket_w:{} hint:{:?} custom_values:{:?} buckets:{:?} n_buckets:{:?}}}}}",
            h.schema,
            h.count,
            h.sum,
            h.zero_count,
            h.zero_threshold,
            h.counter_reset_hint,
            h.custom_values,
            h.positive,
            h.negative
        ),
        None => format_plain(value),
    }
}

fn shown_expected(value: &SeriesValue) -> String {
    match value {
        SeriesValue::Omitted => "_".to_owned(),
        SeriesValue::Float(value) => format_plain(*value),
        SeriesValue::Histogram { histogram, .. } => shown_value(0.0, Some(histogram)),
    }
}

fn shown_series(series: &MatrixSeries) -> String {
    let floats = series.samples.iter().map(|(ts, v)| (*ts, format_plain(*v)));
    let histograms = series.histograms.iter().map(|(ts, h)| (*ts, shown_value(0.0, Some(h))));
    let mut points: Vec<(Timestamp, String)> = floats.chain(histograms).collect();
    points.sort();
    let points: Vec<String> = points.into_iter().map(|(ts, v)| format!("{v}@{}", ts.as_millis())).collect();
    format!("{} {}", series.labels, points.join(" "))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Vector(samples) => format!("a vector of {} samples", samples.len()),
        Value::Matrix(series) => format!("a matrix of {} series", series.len()),
        other => format!("{other:?}"),
    }
}
