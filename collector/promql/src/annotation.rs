//! Warnings and infos that arise while a query is evaluated, each once per wording, with a place in the query.

use std::collections::BTreeMap;

use crate::ast::Span;
use crate::text::{format_general, line_column, quote};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Warning,
    Info,
}

#[derive(Clone, Debug)]
struct Note {
    level: Level,
    span: Span,
    detail: Detail,
}

#[derive(Clone, Debug)]
enum Detail {
    None,
    /// A classic histogram's buckets had to be made monotonic.
    Forced {
        min_ts: i64,
        max_ts: i64,
        min_bucket: f64,
        max_bucket: f64,
        max_diff: f64,
        count: u64,
    },
    /// A start timestamp lies before the sample before it.
    Overlap {
        count: u64,
    },
}

/// How histograms were combined when something about it is worth saying.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    Addition,
    Subtraction,
    Aggregation,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Addition => "addition",
            Operation::Subtraction => "subtraction",
            Operation::Aggregation => "aggregation",
        }
    }
}

/// The notes of one evaluation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Annotations {
    notes: BTreeMap<String, Note>,
}

fn for_metric(message: &str, metric: &str) -> String {
    if metric.is_empty() { message.to_owned() } else { format!("{message} for metric name {}", quote(metric)) }
}

fn number(value: f64) -> String {
    format_general(value)
}

impl Annotations {
    fn add(&mut self, level: Level, message: String, span: Span) {
        self.notes.insert(message, Note { level, span, detail: Detail::None });
    }

    fn warn(&mut self, span: Span, message: String) {
        self.add(Level::Warning, format!("PromQL warning: {message}"), span);
    }

    fn info(&mut self, span: Span, message: String) {
        self.add(Level::Info, format!("PromQL info: {message}"), span);
    }

    pub(crate) fn invalid_quantile(&mut self, q: f64, span: Span) {
        self.warn(span, format!("quantile value should be between 0 and 1, got {}", number(q)));
    }

    pub(crate) fn invalid_ratio(&mut self, ratio: f64, to: f64, span: Span) {
        let (ratio, to) = (number(ratio), number(to));
        self.warn(span, format!("ratio value should be between -1 and 1, got {ratio}, capping to {to}"));
    }

    pub(crate) fn bad_bucket_label(&mut self, metric: &str, label: &str, span: Span) {
        let message = format!("bucket label \"le\" is missing or has a malformed value of {}", quote(label));
        self.warn(span, for_metric(&message, metric));
    }

    pub(crate) fn mixed_floats_histograms(&mut self, metric: &str, span: Span) {
        self.warn(span, format!("encountered a mix of histograms and floats for metric name {}", quote(metric)));
    }

    pub(crate) fn mixed_floats_histograms_in_aggregation(&mut self, span: Span) {
        self.warn(span, "encountered a mix of histograms and floats for aggregation".to_owned());
    }

    pub(crate) fn mixed_classic_native(&mut self, metric: &str, span: Span) {
        self.warn(span, for_metric("vector contains a mix of classic and native histograms", metric));
    }

    pub(crate) fn not_counter(&mut self, metric: &str, span: Span) {
        self.warn(span, format!("this native histogram metric is not a counter: {}", quote(metric)));
    }

    pub(crate) fn not_gauge(&mut self, metric: &str, span: Span) {
        self.warn(span, format!("this native histogram metric is not a gauge: {}", quote(metric)));
    }

    pub(crate) fn mixed_schemas(&mut self, metric: &str, span: Span) {
        let message = "vector contains a mix of histograms with exponential and custom buckets schemas for metric name";
        self.warn(span, format!("{message} {}", quote(metric)));
    }

    pub(crate) fn incompatible_buckets(&mut self, operator: &str, span: Span) {
        self.warn(span, format!("incompatible bucket layout encountered for binary operator {operator}"));
    }

    pub(crate) fn sort_in_range_query(&mut self, span: Span) {
        let message = "sort is ineffective for range queries since results are always ordered by labels";
        self.warn(span, message.to_owned());
    }

    pub(crate) fn counter_reset_collision(&mut self, operation: Operation, span: Span) {
        self.warn(span, format!("conflicting counter resets during histogram {}", operation.name()));
    }

    pub(crate) fn possible_non_counter(&mut self, metric: &str, span: Span) {
        let message = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket:";
        self.info(span, format!("{message} {}", quote(metric)));
    }

    pub(crate) fn possible_non_counter_type(&mut self, metric: &str, kind: &str, span: Span) {
        let message = "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got";
        self.info(span, format!("{message} {}: {}", quote(kind), quote(metric)));
    }

    pub(crate) fn incompatible_types(&mut self, left: &str, operator: &str, right: &str, span: Span) {
        let message = "incompatible sample types encountered for binary operator";
        self.info(span, format!("{message} {}: {left} {operator} {right}", quote(operator)));
    }

    pub(crate) fn histogram_ignored_in_aggregation(&mut self, aggregation: &str, span: Span) {
        self.info(span, format!("ignored histogram in {aggregation} aggregation"));
    }

    pub(crate) fn histogram_ignored_in_range(&mut self, metric: &str, span: Span) {
        let message = "ignored histograms in a range containing both floats and histograms for metric name";
        self.info(span, format!("{message} {}", quote(metric)));
    }

    pub(crate) fn quantile_is_nan(&mut self, metric: &str, span: Span) {
        let message = "input to histogram_quantile has NaN observations, result is NaN";
        self.info(span, for_metric(message, metric));
    }

    pub(crate) fn quantile_is_skewed(&mut self, metric: &str, span: Span) {
        let message = "input to histogram_quantile has NaN observations, result is skewed higher";
        self.info(span, for_metric(message, metric));
    }

    pub(crate) fn fraction_excludes_nan(&mut self, metric: &str, span: Span) {
        let message = "input to histogram_fraction has NaN observations, which are excluded from all fractions";
        self.info(span, for_metric(message, metric));
    }

    pub(crate) fn mismatched_custom_buckets(&mut self, operation: Operation, span: Span) {
        self.info(span, format!("mismatched custom buckets were reconciled during {}", operation.name()));
    }

    pub(crate) fn forced_monotonicity(
        &mut self,
        metric: &str,
        span: Span,
        ts: i64,
        buckets: (f64, f64),
        max_diff: f64,
    ) {
        let message = "PromQL info: input to histogram_quantile needed to be fixed for monotonicity (see \
                       https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
        let (min_bucket, max_bucket) = buckets;
        let mut detail = Detail::Forced { min_ts: ts, max_ts: ts, min_bucket, max_bucket, max_diff, count: 0 };
        let key = for_metric(message, metric);
        if let Some(Note { detail: old @ Detail::Forced { .. }, .. }) = self.notes.get(&key) {
            detail = merge_forced(old, &detail);
        }
        self.notes.insert(key, Note { level: Level::Info, span, detail });
    }

    pub(crate) fn start_time_overlap(&mut self, metric: &str, span: Span) {
        let message = "PromQL warning: sample has start time that overlaps with previous sample timestamp";
        let key = format!("{message} for metric {}", quote(metric));
        let mut count = 1;
        if let Some(Note { detail: Detail::Overlap { count: old }, .. }) = self.notes.get(&key) {
            count += old;
        }
        self.notes.insert(key, Note { level: Level::Warning, span, detail: Detail::Overlap { count } });
    }

    /// Warnings and infos as texts that end in their place in `query`.
    pub(crate) fn into_strings(self, query: &str) -> (Vec<String>, Vec<String>) {
        let (mut warnings, mut infos) = (Vec::new(), Vec::new());
        for (message, note) in self.notes {
            let place = line_column(query, note.span.start);
            let text = match note.detail {
                Detail::None => format!("{message} ({place})"),
                Detail::Overlap { count } if count > 1 => format!("{message} ({count} occurrences) ({place})"),
                Detail::Overlap { .. } => format!("{message} ({place})"),
                Detail::Forced { min_ts, max_ts, min_bucket, max_bucket, max_diff, count } => format!(
                    "{message}, from buckets {} to {}, with a max diff of {}, over {} samples from {} to {} ({place})",
                    number(min_bucket),
                    number(max_bucket),
                    two_digits(max_diff),
                    count + 1,
                    crate::eval::date::rfc3339(min_ts),
                    crate::eval::date::rfc3339(max_ts),
                ),
            };
            match note.level {
                Level::Warning => warnings.push(text),
                Level::Info => infos.push(text),
            }
        }
        (warnings, infos)
    }
}

fn merge_forced(old: &Detail, new: &Detail) -> Detail {
    match (old, new) {
        (
            Detail::Forced { min_ts, max_ts, min_bucket, max_bucket, max_diff, count },
            Detail::Forced { min_ts: a, max_ts: b, min_bucket: c, max_bucket: d, max_diff: e, count: n },
        ) => Detail::Forced {
            min_ts: *min_ts.min(a),
            max_ts: *max_ts.max(b),
            min_bucket: min_bucket.min(*c),
            max_bucket: max_bucket.max(*d),
            max_diff: max_diff.max(*e),
            count: count + n + 1,
        },
        _ => new.clone(),
    }
}

/// Go's `%.2g`.
fn two_digits(value: f64) -> String {
    let rounded: f64 = format!("{value:.1e}").parse().unwrap_or(value);
    let exponent = if rounded == 0.0 { 0 } else { rounded.abs().log10().floor() as i32 };
    if rounded != 0.0 && !(-4..2).contains(&exponent) {
        crate::text::exponent_form(rounded)
    } else {
        crate::text::format_plain(rounded)
    }
}
