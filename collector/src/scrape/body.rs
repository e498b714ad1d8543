//! A scrape's body to a row of samples: the target's labels on each series, relabelling, limits. Pure but for the
//! cache.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use storage::{Exemplar, Row};
use telemetry::exposition::protobuf::{NativeSample, to_text};
use telemetry::exposition::{
    ExemplarRef, Format, KnownSample, Line, MetricKind, Order, ParseError, Parser, Receiver, SampleLine,
    canonical_float,
};
use telemetry::labels::METRIC_NAME;
use telemetry::{Labels, LabelsBuilder, Timestamp};

use super::cache::{Cache, SeriesTable};
use super::native::{Histograms, Read, Times};
use super::protocol::BodyFormat;
use super::settings::Limits;
use super::{FailureReason, Metadata, ScrapeError, Settings, kind_name};
use crate::discovery::{Target, relabel};

/// A target's clock may run ahead by this much; samples from further in the future are left out, as in Prometheus.
const FUTURE_MAX: Duration = Duration::from_secs(10 * 60);

/// A protobuf body is read as text, which repeats what protobuf says once; of a million series it has about half this.
const TEXT_BYTES_MAX: usize = 512 << 20;

/// What a body had.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// Samples in the body.
    pub(super) scraped: usize,
    /// Samples that relabelling kept.
    pub(super) kept: usize,
    /// Series that were not known.
    pub(super) added: usize,
    /// With the labels of their series.
    pub(super) exemplars: Vec<(Labels, Exemplar)>,
}

/// Reads a body into a row, its native histograms into the cache. On an error the counts say how far it came; nothing
/// of it may be stored.
pub(super) fn read(
    target: &Target,
    cache: &mut Cache,
    metadata: &mut Arc<HashMap<String, Metadata>>,
    (body, format): (&[u8], BodyFormat),
    row: &mut Row,
) -> (Parsed, Result<(), ScrapeError>) {
    match format {
        BodyFormat::Text(format) => read_text(target, cache, metadata, (body, format, Vec::new()), row),
        BodyFormat::Protobuf => match to_text(body, target.settings.histograms.wanted, TEXT_BYTES_MAX) {
            Ok((text, native)) => {
                read_text(target, cache, metadata, (text.as_bytes(), Format::OpenMetrics, native), row)
            }
            Err(fault) => {
                cache.series.begin();
                end_all(cache, row);
                (Parsed::default(), Err(ScrapeError::new(FailureReason::Parse, fault.to_string())))
            }
        },
    }
}

/// Native histograms stand beside the text, which cannot say them.
fn read_text(
    target: &Target,
    cache: &mut Cache,
    metadata: &mut Arc<HashMap<String, Metadata>>,
    (body, format, native): (&[u8], Format, Vec<NativeSample>),
    row: &mut Row,
) -> (Parsed, Result<(), ScrapeError>) {
    cache.series.begin();
    let settings = &target.settings;
    let times = Times {
        at: row.time,
        newest: row.time + FUTURE_MAX,
        honored: settings.honor_timestamps,
        tracked: settings.track_timestamps_staleness,
    };
    let mut reader = Reader {
        target,
        series: &mut cache.series,
        metadata: &mut *metadata,
        samples_max: usize::try_from(settings.limits.samples_max).unwrap_or(usize::MAX),
        times,
        row: &mut *row,
        parsed: Parsed::default(),
    };
    let order = cache.lines.read(body, format, &mut reader);
    let Reader { mut parsed, .. } = reader;
    let read = match order {
        Err(error) => Err(error),
        Ok(order) => {
            let read = histograms(target, metadata, &cache.histograms, native, times, &mut parsed);
            if read.is_err() {
                // Numbers that were given in this scrape are taken back below.
                cache.lines.forget();
            }
            read.map(|read| (order, read))
        }
    };
    match read {
        Ok((order, read)) => {
            cache.series.commit(order, row);
            if order == Order::Other {
                cache.share_lines();
            }
            cache.histograms.commit(read);
            (parsed, Ok(()))
        }
        Err(error) => {
            row.clear();
            end_all(cache, row);
            (parsed, Err(error))
        }
    }
}

/// Counts the histograms to the floats; both together are held to the limit.
fn histograms(
    target: &Target,
    metadata: &HashMap<String, Metadata>,
    known: &Histograms,
    mut native: Vec<NativeSample>,
    times: Times,
    parsed: &mut Parsed,
) -> Result<Read, ScrapeError> {
    parsed.scraped += native.len();
    native.iter_mut().try_for_each(|sample| target.settings.histograms.fit(&mut sample.histogram))?;
    let mut read = known.read(native, times, |series| labels_of_text(target, metadata, series))?;
    parsed.kept += read.kept;
    parsed.added += read.added;
    parsed.exemplars.append(&mut read.exemplars);
    if parsed.kept as u64 > target.settings.limits.samples_max {
        return Err(ScrapeError::new(FailureReason::SampleLimit, "sample limit exceeded"));
    }
    Ok(read)
}

/// The scrape failed, or there will be none.
pub(super) fn end_all(cache: &mut Cache, row: &mut Row) {
    cache.series.end_all(row);
    cache.histograms.end_all(row.time);
}

/// Turns lines into the row's samples.
struct Reader<'r> {
    target: &'r Target,
    series: &'r mut SeriesTable,
    metadata: &'r mut Arc<HashMap<String, Metadata>>,
    row: &'r mut Row,
    parsed: Parsed,
    samples_max: usize,
    times: Times,
}

impl Reader<'_> {
    #[inline]
    fn sample(&mut self, number: u32, value: f64, timestamp: Option<Timestamp>) {
        self.parsed.scraped += 1;
        let own_time = timestamp.filter(|_| self.times.honored);
        if !self.series.see(number, own_time.is_some() && !self.times.tracked) {
            return;
        }
        self.parsed.kept += 1;
        // Over the limit the scrape is counted to its end but not kept.
        let wanted = self.parsed.kept <= self.samples_max && own_time.is_none_or(|time| time <= self.times.newest);
        if wanted {
            self.series.add(number, own_time, value, self.row);
        }
    }
}

impl Reader<'_> {
    /// Keeps what traces a sample came from, if relabelling keeps the sample.
    fn exemplar(&mut self, number: u32, series: &str, exemplar: &ExemplarRef<'_, '_>) {
        let (target, metadata) = (self.target, &*self.metadata);
        // The text of a known series is taken apart once more; then its labels are known as well.
        let find = || labels_of_text(target, metadata, series).ok().flatten();
        if let Some(labels) = self.series.labels_of(number, find) {
            let of_exemplar = exemplar.labels.iter().map(|(name, value)| (&**name, &**value)).collect();
            let timestamp = exemplar.timestamp.unwrap_or(self.row.time);
            self.parsed.exemplars.push((labels, Exemplar { labels: of_exemplar, value: exemplar.value, timestamp }));
        }
    }
}

impl Receiver for Reader<'_> {
    type Error = ScrapeError;

    #[inline]
    fn known(&mut self, number: u32, sample: &KnownSample<'_, '_>) -> Result<(), ScrapeError> {
        self.sample(number, sample.value, sample.timestamp);
        if let Some(exemplar) = &sample.exemplar {
            self.exemplar(number, sample.series, exemplar);
        }
        Ok(())
    }

    fn unknown(&mut self, line: &SampleLine<'_, '_>) -> Result<u32, ScrapeError> {
        let labels = match series_labels(self.target, self.metadata, line) {
            Ok(labels) => labels,
            Err(error) => {
                self.parsed.scraped += 1;
                return Err(error);
            }
        };
        self.parsed.added += usize::from(labels.is_some());
        let number = self.series.learn(labels);
        self.sample(number, line.value, line.timestamp);
        if let Some(exemplar) = &line.exemplar {
            self.exemplar(number, line.series, exemplar);
        }
        Ok(number)
    }

    fn metadata(&mut self, line: &Line<'_, '_>) {
        match line {
            Line::Help { name, text } => note(self.metadata, name, |m| m.help == *text, |m| m.help = text.to_string()),
            Line::Type { name, kind } => {
                note(self.metadata, name, |m| m.kind == kind_name(*kind), |m| m.kind = kind_name(*kind));
            }
            Line::Unit { name, unit } => {
                note(self.metadata, name, |m| m.unit == *unit, |m| (*unit).clone_into(&mut m.unit));
            }
            Line::Sample(_) => {}
        }
    }
}

impl From<ParseError> for ScrapeError {
    fn from(error: ParseError) -> Self {
        ScrapeError::new(FailureReason::Parse, error.to_string())
    }
}

/// The same of a series' text.
fn labels_of_text(
    target: &Target,
    metadata: &HashMap<String, Metadata>,
    series: &str,
) -> Result<Option<Labels>, ScrapeError> {
    let line = format!("{series} 0\n");
    match Parser::new(&line, Format::Prometheus).next_line()? {
        Some(Line::Sample(line)) => series_labels(target, metadata, &line),
        _ => Ok(None),
    }
}

/// The series' labels as they are stored; None when relabelling drops it.
fn series_labels(
    target: &Target,
    metadata: &HashMap<String, Metadata>,
    line: &SampleLine<'_, '_>,
) -> Result<Option<Labels>, ScrapeError> {
    let settings: &Settings = &target.settings;
    let mut labels = LabelsBuilder::default();
    labels.set(METRIC_NAME, &line.name);
    for (name, value) in line.labels {
        match bound_of(metadata, &line.name, name, value) {
            Some(bound) => labels.set(name, &bound),
            None => labels.set(name, value),
        };
    }
    if settings.honor_labels {
        // An exposed label counts even if it is empty: that is how a target says "none".
        let missing = |name: &str| !line.labels.iter().any(|(n, _)| n == name);
        for (name, value) in target.labels.iter().filter(|(n, _)| missing(n)) {
            labels.set(name, value);
        }
    } else {
        put_target_labels(&mut labels, &target.labels);
    }
    if !relabel::apply(&settings.metric_relabel, &mut labels) {
        return Ok(None);
    }
    let labels = labels.build();
    if labels.metric_name().is_none() {
        let message = format!("relabelling leaves {} without a metric name", line.series);
        return Err(ScrapeError::new(FailureReason::LabelLimit, message));
    }
    check_labels(&labels, &settings.limits)?;
    Ok(Some(labels))
}

/// The bounds of classic histograms and summaries in their one spelling, as Prometheus 3 stores them: the same series
/// whichever format exposes it.
fn bound_of(metadata: &HashMap<String, Metadata>, sample: &str, label: &str, value: &str) -> Option<String> {
    let is = |family: &str, kind: MetricKind| metadata.get(family).is_some_and(|m| m.kind == kind_name(kind));
    let is_bound = match label {
        "le" => is(sample.strip_suffix("_bucket")?, MetricKind::Histogram),
        "quantile" => is(sample, MetricKind::Summary),
        _ => false,
    };
    if is_bound { value.parse().ok().map(canonical_float) } else { None }
}

/// The target's labels win; what the series itself exposed under their names is kept as `exported_…`.
fn put_target_labels(labels: &mut LabelsBuilder, of_target: &Labels) {
    let mut conflicting = Vec::new();
    for (name, value) in of_target.iter() {
        if let Some(exposed) = labels.get(name) {
            conflicting.push((name.to_owned(), exposed.to_owned()));
        }
        labels.set(name, value);
    }
    // Shorter names first, so that `a` and `exported_a` end up the same way each time.
    conflicting.sort_by_key(|(name, _)| name.len());
    for (mut name, value) in conflicting {
        while labels.get(&name).is_some() {
            name.insert_str(0, "exported_");
        }
        labels.set(&name, &value);
    }
}

fn check_labels(labels: &Labels, limits: &Limits) -> Result<(), ScrapeError> {
    let over = |message: String| Err(ScrapeError::new(FailureReason::LabelLimit, message));
    let metric = || labels.metric_name().unwrap_or_default();
    if labels.len() as u64 > limits.labels_max {
        let (count, limit) = (labels.len(), limits.labels_max);
        return over(format!("label_limit exceeded (metric: {}, number of labels: {count}, limit: {limit})", metric()));
    }
    for (name, value) in labels.iter() {
        if name.len() as u64 > limits.label_name_len_max {
            let (length, limit) = (name.len(), limits.label_name_len_max);
            return over(format!(
                "label_name_length_limit exceeded (metric: {}, label name: {name}, length: {length}, limit: {limit})",
                metric()
            ));
        }
        if value.len() as u64 > limits.label_value_len_max {
            let (length, limit) = (value.len(), limits.label_value_len_max);
            return over(format!(
                "label_value_length_limit exceeded (metric: {}, label name: {name}, length: {length}, limit: {limit})",
                metric()
            ));
        }
    }
    Ok(())
}

/// Copies the metadata only when it changes, which after the first scrape is never.
fn note(
    metadata: &mut Arc<HashMap<String, Metadata>>,
    name: &str,
    same: impl Fn(&Metadata) -> bool,
    change: impl FnOnce(&mut Metadata),
) {
    if !metadata.get(name).is_some_and(same) {
        let entry = Arc::make_mut(metadata)
            .entry(name.to_owned())
            .or_insert_with(|| Metadata { kind: "unknown", ..Metadata::default() });
        change(entry);
    }
}
