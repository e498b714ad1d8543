//! The protobuf format: `io.prometheus.client.MetricFamily`, each with its length in front, as families.
//!
//! What the texts say by suffixes and `le` is said here by fields; it comes out as [`super::parse`] would have it from the
//! same exporter's text. Of a native histogram count and sum remain, where it has no classic buckets beside: a family has
//! no place for its buckets, and [`Exposed::reduced`] counts them. A scraper takes [`to_text`], which loses nothing.
//! Source: prometheus/client_model, metrics.proto.

mod text;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::{Exemplar, Family, FamilySample, MetricKind};
use crate::protobuf::{Field, Malformed, Reader};
use crate::{Labels, Timestamp};

pub use text::{NativeSample, TextFault, Wanted, to_text};

/// Its media type, with the parameters that tell it from other messages.
pub const CONTENT_TYPE: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// A body's families.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exposed {
    pub families: Vec<Family>,
    /// Native histograms of which only count and sum are there.
    pub reduced: usize,
}

/// Whether a `Content-Type` names this format.
pub fn is_content_type(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let media = parts.next().is_some_and(|media| media.eq_ignore_ascii_case("application/vnd.google.protobuf"));
    let says = |(name, value): (&str, &str)| match name.trim() {
        "proto" => value.trim() == "io.prometheus.client.MetricFamily",
        "encoding" => value.trim() == "delimited",
        _ => true,
    };
    media && parts.filter_map(|part| part.split_once('=')).all(says)
}

/// Reads a whole body.
///
/// # Errors
/// Bytes that are no such messages, or texts that are not UTF-8.
pub fn parse(body: &[u8]) -> Result<Exposed, Malformed> {
    let (mut reader, mut exposed, mut places) =
        (Reader::new(body), Exposed::default(), HashMap::<String, usize>::new());
    while !reader.is_empty() {
        let message = reader.delimited()?;
        let family = family(message, &mut exposed.reduced)?;
        // The same name again goes on where it began.
        match places.entry(family.name.clone()) {
            Entry::Occupied(place) => exposed.families[*place.get()].samples.extend(family.samples),
            Entry::Vacant(place) => {
                place.insert(exposed.families.len());
                exposed.families.push(family);
            }
        }
    }
    // A counter's family loses its `_total`, unless another family has the shorter name.
    for family in exposed.families.iter_mut().filter(|family| family.kind == MetricKind::Counter) {
        if let Some(base) =
            family.name.strip_suffix("_total").filter(|base| !base.is_empty() && !places.contains_key(*base))
        {
            family.name.truncate(base.len());
        }
    }
    Ok(exposed)
}

fn family(message: Reader<'_>, reduced: &mut usize) -> Result<Family, Malformed> {
    let (mut family, mut walk) = (Family { kind: MetricKind::Counter, ..Family::default() }, message);
    // The metrics may stand before the name and the kind.
    while let Some((number, field)) = walk.next()? {
        match number {
            1 => family.name = text(field, &walk)?,
            2 => family.help = text(field, &walk)?,
            3 => family.kind = kind_of(field.uint(&walk)?),
            5 => family.unit = text(field, &walk)?,
            _ => {}
        }
    }
    if family.name.is_empty() {
        return Err(message.malformed("a family without a name"));
    }
    let mut walk = message;
    while let Some((number, field)) = walk.next()? {
        if number == 4 {
            metric(field.message(&walk)?, &mut family, reduced)?;
        }
    }
    Ok(family)
}

fn kind_of(number: u64) -> MetricKind {
    match number {
        0 => MetricKind::Counter,
        1 => MetricKind::Gauge,
        2 => MetricKind::Summary,
        4 => MetricKind::Histogram,
        5 => MetricKind::GaugeHistogram,
        _ => MetricKind::Unknown,
    }
}

fn metric(message: Reader<'_>, family: &mut Family, reduced: &mut usize) -> Result<(), Malformed> {
    let (mut labels, mut timestamp, mut value) = (Vec::new(), None, None);
    let mut walk = message;
    while let Some((number, field)) = walk.next()? {
        match number {
            1 => labels.push(pair(field.message(&walk)?)?),
            6 => timestamp = Some(Timestamp::from_millis(field.int(&walk)?)),
            2 | 3 | 4 | 5 | 7 => value = Some((number, field.message(&walk)?)),
            _ => {}
        }
    }
    let Some((number, value)) = value else { return Ok(()) };
    let labels = Labels::from_pairs(labels);
    let mut samples = Samples { name: &family.name, labels: &labels, timestamp, list: &mut family.samples };
    match number {
        4 => summary(value, &mut samples),
        7 => histogram(value, &mut samples, family.kind == MetricKind::GaugeHistogram, reduced),
        _ => number_of(value, &mut samples),
    }
}

/// Where the samples of one metric go.
struct Samples<'a> {
    name: &'a str,
    labels: &'a Labels,
    timestamp: Option<Timestamp>,
    list: &'a mut Vec<FamilySample>,
}

impl Samples<'_> {
    fn push(&mut self, suffix: &str, extra: Option<(&str, &str)>, value: f64, exemplar: Option<Exemplar>) {
        let labels = extra.map_or_else(|| self.labels.clone(), |(name, value)| self.labels.with(name, value));
        let (name, timestamp) = (format!("{}{suffix}", self.name), self.timestamp);
        self.list.push(FamilySample { name, labels, value, timestamp, exemplar });
    }
}

/// Counter, Gauge and Untyped.
fn number_of(mut message: Reader<'_>, samples: &mut Samples<'_>) -> Result<(), Malformed> {
    let (mut value, mut exemplar) = (0.0, None);
    while let Some((number, field)) = message.next()? {
        match number {
            1 => value = field.double(&message)?,
            2 => exemplar = Some(exemplar_of(field.message(&message)?)?),
            _ => {}
        }
    }
    samples.push("", None, value, exemplar);
    Ok(())
}

fn summary(mut message: Reader<'_>, samples: &mut Samples<'_>) -> Result<(), Malformed> {
    let (mut count, mut sum) = (0.0, 0.0);
    while let Some((number, field)) = message.next()? {
        match number {
            1 => count = field.uint(&message)? as f64,
            2 => sum = field.double(&message)?,
            3 => {
                let (mut quantile, mut value, mut inner) = (0.0, 0.0, field.message(&message)?);
                while let Some((number, field)) = inner.next()? {
                    match number {
                        1 => quantile = field.double(&inner)?,
                        2 => value = field.double(&inner)?,
                        _ => {}
                    }
                }
                samples.push("", Some(("quantile", &bound(quantile))), value, None);
            }
            _ => {}
        }
    }
    samples.push("_sum", None, sum, None);
    samples.push("_count", None, count, None);
    Ok(())
}

fn histogram(
    mut message: Reader<'_>,
    samples: &mut Samples<'_>,
    is_gauge: bool,
    reduced: &mut usize,
) -> Result<(), Malformed> {
    let (mut count, mut sum, mut buckets, mut is_native, mut has_infinity) = (0.0, 0.0, 0, false, false);
    while let Some((number, field)) = message.next()? {
        match number {
            1 => count = field.uint(&message)? as f64,
            // Counts that are no whole numbers stand in fields of their own.
            4 => count = field.double(&message)?,
            2 => sum = field.double(&message)?,
            3 => {
                let bucket = bucket(field.message(&message)?)?;
                buckets += 1;
                has_infinity |= bucket.upper == f64::INFINITY;
                samples.push("_bucket", Some(("le", &bound(bucket.upper))), bucket.below, bucket.exemplar);
            }
            // Zero bucket and spans: what only a native histogram has.
            6..=14 => is_native = true,
            _ => {}
        }
    }
    *reduced += usize::from(is_native && buckets == 0);
    // Exporters may leave it out, as the count says it.
    if !has_infinity {
        samples.push("_bucket", Some(("le", "+Inf")), count, None);
    }
    samples.push(if is_gauge { "_gsum" } else { "_sum" }, None, sum, None);
    samples.push(if is_gauge { "_gcount" } else { "_count" }, None, count, None);
    Ok(())
}

struct Bucket {
    below: f64,
    upper: f64,
    exemplar: Option<Exemplar>,
}

fn bucket(mut message: Reader<'_>) -> Result<Bucket, Malformed> {
    let mut bucket = Bucket { below: 0.0, upper: 0.0, exemplar: None };
    while let Some((number, field)) = message.next()? {
        match number {
            1 => bucket.below = field.uint(&message)? as f64,
            4 => bucket.below = field.double(&message)?,
            2 => bucket.upper = field.double(&message)?,
            3 => bucket.exemplar = Some(exemplar_of(field.message(&message)?)?),
            _ => {}
        }
    }
    Ok(bucket)
}

fn exemplar_of(mut message: Reader<'_>) -> Result<Exemplar, Malformed> {
    let (mut labels, mut value, mut timestamp) = (Vec::new(), 0.0, None);
    while let Some((number, field)) = message.next()? {
        match number {
            1 => labels.push(pair(field.message(&message)?)?),
            2 => value = field.double(&message)?,
            3 => timestamp = Some(time(field.message(&message)?)?),
            _ => {}
        }
    }
    Ok(Exemplar { labels: Labels::from_pairs(labels), value, timestamp })
}

/// `google.protobuf.Timestamp`: seconds and nanoseconds.
fn time(mut message: Reader<'_>) -> Result<Timestamp, Malformed> {
    let (mut seconds, mut nanos) = (0i64, 0i64);
    while let Some((number, field)) = message.next()? {
        match number {
            1 => seconds = field.int(&message)?,
            2 => nanos = field.int(&message)?,
            _ => {}
        }
    }
    Ok(Timestamp::from_millis(seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000)))
}

fn pair(mut message: Reader<'_>) -> Result<(String, String), Malformed> {
    let (mut name, mut value) = (String::new(), String::new());
    while let Some((number, field)) = message.next()? {
        match number {
            1 => name = text(field, &message)?,
            2 => value = text(field, &message)?,
            _ => {}
        }
    }
    Ok((name, value))
}

fn text(field: Field<'_>, around: &Reader<'_>) -> Result<String, Malformed> {
    str_of(field, around).map(str::to_owned)
}

fn str_of<'b>(field: Field<'b>, around: &Reader<'_>) -> Result<&'b str, Malformed> {
    let bytes = field.message(around)?;
    std::str::from_utf8(bytes.bytes()).map_err(|_| around.malformed("a text that is not UTF-8"))
}

/// A bound as OpenMetrics writes it.
fn bound(value: f64) -> String {
    super::canonical_float(value)
}

#[cfg(test)]
mod tests;
