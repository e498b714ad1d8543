//! Prometheus' protobuf format: `io.prometheus.client.MetricFamily`, each with its length in front
//! (prometheus/client_model, metrics.proto).

use std::collections::HashMap;

use telemetry::exposition::{Exemplar, Family, FamilySample, MetricKind};
use telemetry::{Labels, Timestamp};

use crate::inputs::otlp::wire::{put_bytes, put_double, put_uint, put_varint};

pub(super) use telemetry::exposition::protobuf::CONTENT_TYPE;

const COUNTER: u64 = 0;
const GAUGE: u64 = 1;
const SUMMARY: u64 = 2;
const UNTYPED: u64 = 3;
const HISTOGRAM: u64 = 4;

/// Appends a family; one whose samples have several names that the format cannot hold together becomes several.
pub(super) fn put_family(out: &mut Vec<u8>, family: &Family) {
    match family.kind {
        MetricKind::Histogram => put(out, family, &family.name, HISTOGRAM, &series(family, histogram)),
        MetricKind::Summary => put(out, family, &family.name, SUMMARY, &series(family, summary)),
        kind => {
            let number = match kind {
                MetricKind::Counter => COUNTER,
                MetricKind::Gauge | MetricKind::Info | MetricKind::StateSet => GAUGE,
                _ => UNTYPED,
            };
            let mut names: Vec<&str> = Vec::new();
            for sample in &family.samples {
                if !names.contains(&sample.name.as_str()) {
                    names.push(&sample.name);
                }
            }
            for name in names {
                // The time of creation is no counter of anything.
                let number = if name.ends_with("_created") { GAUGE } else { number };
                let of_name = family.samples.iter().filter(|sample| sample.name == name);
                let metrics: Vec<Vec<u8>> = of_name.map(|sample| single(sample, number)).collect();
                put(out, family, name, number, &metrics);
            }
        }
    }
}

fn put(out: &mut Vec<u8>, family: &Family, name: &str, kind: u64, metrics: &[Vec<u8>]) {
    let mut message = Vec::new();
    put_bytes(&mut message, 1, name.as_bytes());
    put_bytes(&mut message, 2, family.help.as_bytes());
    put_uint(&mut message, 3, kind);
    metrics.iter().for_each(|metric| put_bytes(&mut message, 4, metric));
    put_varint(out, message.len() as u64);
    out.extend_from_slice(&message);
}

fn single(sample: &FamilySample, kind: u64) -> Vec<u8> {
    let mut value = Vec::new();
    put_double(&mut value, 1, sample.value);
    let field = match kind {
        COUNTER => 3,
        GAUGE => 2,
        _ => 5,
    };
    if let (COUNTER, Some(exemplar)) = (kind, &sample.exemplar) {
        put_bytes(&mut value, 2, &exemplar_of(exemplar));
    }
    let mut metric = Vec::new();
    put_labels(&mut metric, &sample.labels);
    put_bytes(&mut metric, field, &value);
    put_timestamp(&mut metric, sample.timestamp);
    metric
}

/// The samples of a family, series by series, in the order in which they first stand there.
fn series(family: &Family, message: impl Fn(&[&FamilySample]) -> Vec<u8>) -> Vec<Vec<u8>> {
    let mut list: Vec<Vec<&FamilySample>> = Vec::new();
    let mut places: HashMap<Labels, usize> = HashMap::new();
    for sample in &family.samples {
        let labels = sample.labels.retain(|name| name != "le" && name != "quantile");
        let place = *places.entry(labels).or_insert(list.len());
        match list.get_mut(place) {
            Some(samples) => samples.push(sample),
            None => list.push(vec![sample]),
        }
    }
    list.iter().map(|samples| message(samples)).collect()
}

fn histogram(samples: &[&FamilySample]) -> Vec<u8> {
    let mut histogram = Vec::new();
    put_uint(&mut histogram, 1, part(samples, "_count") as u64);
    put_double(&mut histogram, 2, part(samples, "_sum"));
    for sample in samples.iter().filter(|sample| sample.name.ends_with("_bucket")) {
        let Some(bound) = sample.labels.get("le").and_then(|le| le.parse().ok()) else { continue };
        let mut bucket = Vec::new();
        put_uint(&mut bucket, 1, sample.value as u64);
        put_double(&mut bucket, 2, bound);
        if let Some(exemplar) = &sample.exemplar {
            put_bytes(&mut bucket, 3, &exemplar_of(exemplar));
        }
        put_bytes(&mut histogram, 3, &bucket);
    }
    around(samples, 7, &histogram)
}

fn summary(samples: &[&FamilySample]) -> Vec<u8> {
    let mut summary = Vec::new();
    put_uint(&mut summary, 1, part(samples, "_count") as u64);
    put_double(&mut summary, 2, part(samples, "_sum"));
    for sample in samples {
        let Some(quantile) = sample.labels.get("quantile").and_then(|q| q.parse().ok()) else { continue };
        let mut value = Vec::new();
        put_double(&mut value, 1, quantile);
        put_double(&mut value, 2, sample.value);
        put_bytes(&mut summary, 3, &value);
    }
    around(samples, 4, &summary)
}

fn part(samples: &[&FamilySample], suffix: &str) -> f64 {
    samples.iter().find(|sample| sample.name.ends_with(suffix)).map_or(0.0, |sample| sample.value)
}

fn around(samples: &[&FamilySample], field: u64, value: &[u8]) -> Vec<u8> {
    let mut metric = Vec::new();
    put_labels(&mut metric, &samples[0].labels);
    put_bytes(&mut metric, field, value);
    put_timestamp(&mut metric, samples[0].timestamp);
    metric
}

fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    for (name, value) in labels.iter().filter(|(name, _)| *name != "le" && *name != "quantile") {
        let mut pair = Vec::new();
        put_bytes(&mut pair, 1, name.as_bytes());
        put_bytes(&mut pair, 2, value.as_bytes());
        put_bytes(out, 1, &pair);
    }
}

fn put_timestamp(out: &mut Vec<u8>, timestamp: Option<Timestamp>) {
    if let Some(timestamp) = timestamp {
        put_uint(out, 6, timestamp.as_millis().cast_unsigned());
    }
}

fn exemplar_of(exemplar: &Exemplar) -> Vec<u8> {
    let mut out = Vec::new();
    put_labels(&mut out, &exemplar.labels);
    put_double(&mut out, 2, exemplar.value);
    if let Some(at) = exemplar.timestamp {
        let (millis, mut time) = (at.as_millis(), Vec::new());
        put_uint(&mut time, 1, millis.div_euclid(1000).cast_unsigned());
        put_uint(&mut time, 2, millis.rem_euclid(1000).cast_unsigned() * 1_000_000);
        put_bytes(&mut out, 3, &time);
    }
    out
}

/// Whether an `Accept` header prefers this format to the texts.
pub(super) fn is_preferred(accept: &str) -> bool {
    let quality = |item: &str| {
        let q = item.split(';').find_map(|part| part.trim().strip_prefix("q="));
        q.map_or(1.0, |q| q.parse::<f64>().unwrap_or(0.0))
    };
    let mut best = (0.0, false);
    for item in accept.split(',') {
        let of_metrics = item.contains("application/vnd.google.protobuf")
            && item.contains("io.prometheus.client.MetricFamily")
            && item.contains("delimited");
        let text = item.contains("text/plain") || item.contains("application/openmetrics-text");
        // The first of equals: that is how a scraper lists what it likes best.
        if (of_metrics || text) && quality(item) > best.0 {
            best = (quality(item), of_metrics);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_as_the_text_does() {
        use telemetry::exposition::{Format, parse, protobuf};
        let text = "# HELP jobs Jobs.\n# TYPE jobs counter\njobs_total{queue=\"a\"} 7 9 # {trace_id=\"ab\"} 1.5 12.5\n\
            # TYPE wait histogram\nwait_bucket{le=\"0.5\",path=\"/\"} 2\nwait_bucket{le=\"+Inf\",path=\"/\"} 3\n\
            wait_sum{path=\"/\"} 4.5\nwait_count{path=\"/\"} 3\n# TYPE size summary\nsize{quantile=\"0.5\"} 8\n\
            size_sum 20\nsize_count 2\n# TYPE temp gauge\ntemp -1.5\ntemp{at=\"x\"} NaN\n# EOF\n";
        let mut families = parse(text, Format::OpenMetrics).expect("text");
        let mut body = Vec::new();
        families.iter().for_each(|family| put_family(&mut body, family));
        let mut read = protobuf::parse(&body).expect("protobuf").families;
        // NaN equals nothing.
        for list in [&mut families, &mut read] {
            assert!(list[3].samples.pop().is_some_and(|sample| sample.value.is_nan()));
        }
        assert_eq!(read, families);
    }

    #[test]
    fn the_accept_header_decides() {
        let prometheus = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
                          application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert!(is_preferred(prometheus));
        let text_first = "application/openmetrics-text;version=1.0.0;q=0.9,application/vnd.google.protobuf;\
                          proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.5";
        assert!(!is_preferred(text_first));
        assert!(!is_preferred("application/vnd.google.protobuf;proto=other;encoding=delimited"));
        assert!(!is_preferred(""));
    }
}
