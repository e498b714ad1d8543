//! A scrape's body to samples: the target's labels on each series, relabelling, limits. Pure but for the cache.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use telemetry::exposition::{Format, Line, Parser, SampleLine};
use telemetry::labels::METRIC_NAME;
use telemetry::{Labels, LabelsBuilder, Sample, Timestamp};

use super::cache::{Cache, Known};
use super::settings::Limits;
use super::{FailureReason, Metadata, ScrapeError, Settings, kind_name};
use crate::discovery::{Target, relabel};

/// A target's clock may run ahead by this much; samples from further in the future are left out, as in Prometheus.
const FUTURE_MAX: Duration = Duration::from_secs(10 * 60);

/// What a body had.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) samples: Vec<Sample>,
    /// Samples in the body.
    pub(super) scraped: usize,
    /// Samples that relabelling kept.
    pub(super) kept: usize,
    /// Series that were not known.
    pub(super) added: usize,
}

/// Reads a body. On an error the counts say how far it came; nothing of it may be stored.
pub(super) fn read(
    target: &Target,
    cache: &mut Cache,
    metadata: &mut Arc<HashMap<String, Metadata>>,
    (body, format): (&[u8], Format),
    at: Timestamp,
) -> (Parsed, Result<(), ScrapeError>) {
    let mut parsed = Parsed::default();
    cache.begin();
    let result = read_lines(target, cache, metadata, (body, format), at, &mut parsed);
    (parsed, result)
}

fn read_lines(
    target: &Target,
    cache: &mut Cache,
    metadata: &mut Arc<HashMap<String, Metadata>>,
    (body, format): (&[u8], Format),
    at: Timestamp,
    parsed: &mut Parsed,
) -> Result<(), ScrapeError> {
    let unreadable = |e: telemetry::exposition::ParseError| ScrapeError::new(FailureReason::Parse, e.to_string());
    let mut parser = Parser::from_bytes(body, format).map_err(unreadable)?;
    while let Some(line) = parser.next_line().map_err(unreadable)? {
        match line {
            Line::Sample(line) => read_sample(target, cache, &line, at, parsed)?,
            Line::Help { name, text } => note(metadata, &name, |m| m.help == *text, |m| m.help = text.to_string()),
            Line::Type { name, kind } => {
                note(metadata, &name, |m| m.kind == kind_name(kind), |m| m.kind = kind_name(kind));
            }
            Line::Unit { name, unit } => note(metadata, &name, |m| m.unit == unit, |m| m.unit = unit.to_owned()),
        }
    }
    if parsed.kept as u64 > target.settings.limits.samples_max {
        return Err(ScrapeError::new(FailureReason::SampleLimit, "sample limit exceeded"));
    }
    Ok(())
}

fn read_sample(
    target: &Target,
    cache: &mut Cache,
    line: &SampleLine<'_, '_>,
    at: Timestamp,
    parsed: &mut Parsed,
) -> Result<(), ScrapeError> {
    parsed.scraped += 1;
    let own_timestamp = line.timestamp.filter(|_| target.settings.honor_timestamps);
    let labels = match cache.see(line.series, own_timestamp.is_some()) {
        Known::Series(labels) => Some(labels),
        Known::Dropped => None,
        Known::No => {
            let labels = series_labels(target, line)?;
            parsed.added += usize::from(labels.is_some());
            cache.learn(line.series, labels.clone(), own_timestamp.is_some());
            labels
        }
    };
    let Some(labels) = labels else { return Ok(()) };
    parsed.kept += 1;
    let timestamp = own_timestamp.unwrap_or(at);
    // Over the limit the scrape is counted to its end but not kept.
    let wanted = parsed.kept as u64 <= target.settings.limits.samples_max && timestamp <= at + FUTURE_MAX;
    if wanted {
        parsed.samples.push(Sample { labels, timestamp, value: line.value });
    }
    Ok(())
}

/// The series' labels as they are stored; None when relabelling drops it.
fn series_labels(target: &Target, line: &SampleLine<'_, '_>) -> Result<Option<Labels>, ScrapeError> {
    let settings: &Settings = &target.settings;
    let mut labels = LabelsBuilder::default();
    labels.set(METRIC_NAME, &line.name);
    for (name, value) in line.labels {
        labels.set(name, value);
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
