//! A protobuf body as OpenMetrics text, and its native histograms beside it, which text cannot say.
//!
//! A scraper has one way for all samples, lines of text that it compares with those of the last body; floats go
//! that way here. Names stay as they are exposed, `jobs_total` for a counter's family too. As in Prometheus a histogram
//! is native if it has spans, a zero bucket or a zero threshold; unsound ones spoil the body.

use std::borrow::Cow;

use super::super::{Exemplar, Format, MetricKind, Writer, canonical_float};
use super::{Bucket, bucket, exemplar_of, kind_of, str_of};
use crate::Timestamp;
use crate::histogram::wire::{Parts, push, read_span};
use crate::histogram::{CounterResetHint, Histogram, HistogramFault};
use crate::protobuf::{Malformed, Reader, zigzag};

/// What of histograms that are native and classic at once is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Without it every histogram is read as a classic one.
    pub native: bool,
    /// The classic buckets too, where a native histogram has some.
    pub classic_beside_native: bool,
}

/// A native histogram of the body.
#[derive(Clone, Debug, PartialEq)]
pub struct NativeSample {
    /// As a line of text would have it: `wait_seconds{queue="a"}`.
    pub series: String,
    pub timestamp: Option<Timestamp>,
    pub histogram: Histogram,
    /// Those that have a time of their own: others cannot be told from the same one scraped again.
    pub exemplars: Vec<Exemplar>,
}

/// Why a body cannot be taken.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TextFault {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("histogram {series}: {fault}")]
    Histogram { series: String, fault: HistogramFault },
    /// A few bytes name a family whose samples repeat long texts.
    #[error("its samples take more than {max} bytes of text")]
    TooLong { max: usize },
}

/// Reads a whole body; the text ends in `# EOF`.
///
/// # Errors
/// See [`TextFault`].
pub fn to_text(body: &[u8], wanted: Wanted, text_bytes_max: usize) -> Result<(String, Vec<NativeSample>), TextFault> {
    let mut reader = Reader::new(body);
    let mut transcriber =
        Transcriber { out: Writer::new(Format::OpenMetrics), native: Vec::new(), wanted, text_bytes_max };
    while !reader.is_empty() {
        transcriber.family(reader.delimited()?)?;
    }
    Ok((transcriber.out.finish(), transcriber.native))
}

struct Transcriber {
    out: Writer,
    native: Vec<NativeSample>,
    wanted: Wanted,
    text_bytes_max: usize,
}

/// What all samples of a metric share.
struct Metric<'b> {
    family: &'b str,
    is_gauge: bool,
    labels: Vec<(&'b str, &'b str)>,
    timestamp: Option<Timestamp>,
}

impl Transcriber {
    fn family(&mut self, message: Reader<'_>) -> Result<(), TextFault> {
        let (mut name, mut help, mut unit, mut kind) = ("", "", "", MetricKind::Counter);
        let mut walk = message;
        // The metrics may stand before the name and the kind.
        while let Some((number, field)) = walk.next()? {
            match number {
                1 => name = str_of(field, &walk)?,
                2 => help = str_of(field, &walk)?,
                3 => kind = kind_of(field.uint(&walk)?),
                5 => unit = str_of(field, &walk)?,
                _ => {}
            }
        }
        if name.is_empty() {
            return Err(message.malformed("a family without a name").into());
        }
        self.out.metadata(name, kind, help, unit);
        let mut walk = message;
        while let Some((number, field)) = walk.next()? {
            if number == 4 {
                self.metric(name, kind, field.message(&walk)?)?;
            }
        }
        Ok(())
    }

    fn metric(&mut self, family: &str, kind: MetricKind, message: Reader<'_>) -> Result<(), TextFault> {
        let is_gauge = kind == MetricKind::GaugeHistogram;
        let mut metric = Metric { family, is_gauge, labels: Vec::new(), timestamp: None };
        let (mut value, mut walk) = (None, message);
        while let Some((number, field)) = walk.next()? {
            match number {
                1 => metric.labels.push(pair_of(field.message(&walk)?)?),
                // Prometheus takes 0 for absent, too: proto3 did not tell them apart.
                6 => metric.timestamp = Some(field.int(&walk)?).filter(|ms| *ms != 0).map(Timestamp::from_millis),
                2 | 3 | 4 | 5 | 7 => value = Some((number, field.message(&walk)?)),
                _ => {}
            }
        }
        match value {
            None => Ok(()),
            Some((4, value)) => self.summary(&metric, value),
            Some((7, value)) => self.histogram(&metric, value),
            Some((_, value)) => self.number(&metric, value),
        }
    }

    /// Counter, Gauge and Untyped.
    fn number(&mut self, metric: &Metric<'_>, mut message: Reader<'_>) -> Result<(), TextFault> {
        let (mut value, mut exemplar) = (0.0, None);
        while let Some((number, field)) = message.next()? {
            match number {
                1 => value = field.double(&message)?,
                2 => exemplar = Some(exemplar_of(field.message(&message)?)?),
                _ => {}
            }
        }
        self.sample(metric, "", None, value, exemplar.as_ref())
    }

    /// One line; `wait` and `_count` become `wait_count`.
    fn sample(
        &mut self,
        metric: &Metric<'_>,
        suffix: &str,
        bound: Option<(&str, f64)>,
        value: f64,
        exemplar: Option<&Exemplar>,
    ) -> Result<(), TextFault> {
        let name = if suffix.is_empty() { metric.family.into() } else { Cow::from(metric.family.to_owned() + suffix) };
        let bound = bound.map(|(label, bound)| (label, canonical_float(bound)));
        let bound = bound.as_ref().map(|(label, bound)| (*label, &**bound));
        let labels = metric.labels.iter().copied().chain(bound);
        self.out.sample(&name, labels, value, metric.timestamp, exemplar);
        if self.out.len() > self.text_bytes_max {
            return Err(TextFault::TooLong { max: self.text_bytes_max });
        }
        Ok(())
    }

    fn summary(&mut self, metric: &Metric<'_>, mut message: Reader<'_>) -> Result<(), TextFault> {
        let (mut count, mut sum) = (0.0, 0.0);
        while let Some((number, field)) = message.next()? {
            match number {
                1 => count = field.uint(&message)? as f64,
                2 => sum = field.double(&message)?,
                3 => {
                    let (quantile, value) = quantile_of(field.message(&message)?)?;
                    self.sample(metric, "", Some(("quantile", quantile)), value, None)?;
                }
                _ => {}
            }
        }
        self.sample(metric, "_sum", None, sum, None)?;
        self.sample(metric, "_count", None, count, None)
    }

    fn histogram(&mut self, metric: &Metric<'_>, message: Reader<'_>) -> Result<(), TextFault> {
        let read = ReadHistogram::read(message)?;
        if !self.wanted.native || !read.is_native() {
            return self.classic(metric, &read);
        }
        if self.wanted.classic_beside_native && !read.buckets.is_empty() {
            self.classic(metric, &read)?;
        }
        let mut series = Writer::new(Format::OpenMetrics);
        series.series(metric.family, metric.labels.iter().copied());
        let series = series.into_text();
        let of_buckets = read.buckets.into_iter().filter_map(|bucket| bucket.exemplar);
        let exemplars = if read.exemplars.is_empty() { of_buckets.collect() } else { read.exemplars };
        let exemplars = exemplars.into_iter().filter(|exemplar| exemplar.timestamp.is_some()).collect();
        let mut histogram = match read.parts.join() {
            Ok(histogram) => histogram,
            Err(fault) => return Err(TextFault::Histogram { series, fault }),
        };
        histogram.drop_empty_buckets();
        if metric.is_gauge {
            histogram.counter_reset_hint = CounterResetHint::Gauge;
        }
        self.native.push(NativeSample { series, timestamp: metric.timestamp, histogram, exemplars });
        Ok(())
    }

    fn classic(&mut self, metric: &Metric<'_>, read: &ReadHistogram) -> Result<(), TextFault> {
        for Bucket { upper, below, exemplar } in &read.buckets {
            self.sample(metric, "_bucket", Some(("le", *upper)), *below, exemplar.as_ref())?;
        }
        let count = read.parts.histogram.count;
        // Exporters may leave it out, as the count says it.
        if !read.buckets.iter().any(|bucket| bucket.upper == f64::INFINITY) {
            self.sample(metric, "_bucket", Some(("le", f64::INFINITY)), count, None)?;
        }
        // Not `_gsum` and `_gcount`, as OpenMetrics' text has them: so does Prometheus.
        self.sample(metric, "_sum", None, read.parts.histogram.sum, None)?;
        self.sample(metric, "_count", None, count, None)
    }
}

/// The message of a histogram, whichever it is.
struct ReadHistogram {
    parts: Parts,
    buckets: Vec<Bucket>,
    exemplars: Vec<Exemplar>,
}

impl ReadHistogram {
    fn read(mut message: Reader<'_>) -> Result<Self, Malformed> {
        let mut read = ReadHistogram {
            parts: Parts { integral: true, ..Parts::default() },
            buckets: Vec::new(),
            exemplars: Vec::new(),
        };
        let (mut count_float, mut zero_float) = (0.0, 0.0);
        while let Some((number, field)) = message.next()? {
            let Parts { histogram, negative, positive, .. } = &mut read.parts;
            match number {
                1 => histogram.count = field.uint(&message)? as f64,
                2 => histogram.sum = field.double(&message)?,
                3 => read.buckets.push(bucket(field.message(&message)?)?),
                4 => count_float = field.double(&message)?,
                5 => histogram.schema = field.sint(&message)? as i32,
                6 => histogram.zero_threshold = field.double(&message)?,
                7 => histogram.zero_count = field.uint(&message)? as f64,
                8 => zero_float = field.double(&message)?,
                9 => negative.spans.push(read_span(field.message(&message)?)?),
                10 => field.varints(&message, |v| push(&mut negative.deltas, zigzag(v)))?,
                11 => field.doubles(&message, |v| push(&mut negative.counts, v))?,
                12 => positive.spans.push(read_span(field.message(&message)?)?),
                13 => field.varints(&message, |v| push(&mut positive.deltas, zigzag(v)))?,
                14 => field.doubles(&message, |v| push(&mut positive.counts, v))?,
                16 => read.exemplars.push(exemplar_of(field.message(&message)?)?),
                _ => {}
            }
        }
        if count_float > 0.0 || zero_float > 0.0 {
            read.parts.integral = false;
            (read.parts.histogram.count, read.parts.histogram.zero_count) = (count_float, zero_float);
        }
        Ok(read)
    }

    fn is_native(&self) -> bool {
        let Parts { histogram, negative, positive, .. } = &self.parts;
        let has_zero_bucket = histogram.zero_threshold > 0.0 || histogram.zero_count > 0.0;
        has_zero_bucket || !negative.spans.is_empty() || !positive.spans.is_empty()
    }
}

fn quantile_of(mut message: Reader<'_>) -> Result<(f64, f64), Malformed> {
    let (mut quantile, mut value) = (0.0, 0.0);
    while let Some((number, field)) = message.next()? {
        match number {
            1 => quantile = field.double(&message)?,
            2 => value = field.double(&message)?,
            _ => {}
        }
    }
    Ok((quantile, value))
}

fn pair_of(mut message: Reader<'_>) -> Result<(&str, &str), Malformed> {
    let (mut name, mut value) = ("", "");
    while let Some((number, field)) = message.next()? {
        match number {
            1 => name = str_of(field, &message)?,
            2 => value = str_of(field, &message)?,
            _ => {}
        }
    }
    Ok((name, value))
}
