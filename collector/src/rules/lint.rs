//! What is allowed in a rule but seldom meant: findings with stable codes, each with its explanation.
//!
//! In: rules that parse. Out: findings that point into the expression. Judges by the text alone: names of
//! metrics follow the convention (`_total`, `_bucket`, `level:metric:operation`). Whether a metric exists is
//! judged by a list that the caller brings.

use std::fmt;

use promql::ast::Span;

use super::file::{Place, Problem, RuleFile, RuleKind, RuleSpec};

mod exposed;
mod expression;

pub use exposed::KnownMetrics;
pub(super) use expression::children;

/// A kind of finding. Its number never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    RateOfGauge,
    RatioOfUnlikeSeries,
    QuantileOfNothing,
    AbsoluteErrorRate,
    MissingFor,
    MissingSummary,
    MissingRunbook,
    UnknownMetric,
    SplitByTask,
    NeverFires,
    AlwaysFires,
}

impl Code {
    pub const ALL: [Code; 11] = [
        Code::RateOfGauge,
        Code::RatioOfUnlikeSeries,
        Code::QuantileOfNothing,
        Code::AbsoluteErrorRate,
        Code::MissingFor,
        Code::MissingSummary,
        Code::MissingRunbook,
        Code::UnknownMetric,
        Code::SplitByTask,
        Code::NeverFires,
        Code::AlwaysFires,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Code::RateOfGauge => "R001",
            Code::RatioOfUnlikeSeries => "R002",
            Code::QuantileOfNothing => "R003",
            Code::AbsoluteErrorRate => "R004",
            Code::MissingFor => "R005",
            Code::MissingSummary => "R006",
            Code::MissingRunbook => "R007",
            Code::UnknownMetric => "R008",
            Code::SplitByTask => "R009",
            Code::NeverFires => "R010",
            Code::AlwaysFires => "R011",
        }
    }

    pub fn parse(text: &str) -> Option<Code> {
        Code::ALL.into_iter().find(|code| code.as_str().eq_ignore_ascii_case(text))
    }

    /// Why it matters and what to write instead.
    pub fn explanation(self) -> &'static str {
        match self {
            Code::RateOfGauge => {
                "rate, irate and increase take every decrease for a restart of the counter and add it back. On a gauge \
                 the result is noise. Counters are called something_total, or are the _count, _sum or _bucket of a \
                 histogram. For a gauge use delta, deriv or avg_over_time."
            }
            Code::RatioOfUnlikeSeries => {
                "A division matches series by all of their labels. When one side selects a status and the other does \
                 not, nothing matches but each error series itself, and the result is 1 or nothing. Sum both sides by \
                 the labels that the alert shall have: sum by (environment, service) (rate(errors[5m])) / \
                 sum by (environment, service) (rate(requests[5m]))."
            }
            Code::QuantileOfNothing => {
                "histogram_quantile reads the rate of a histogram's _bucket series and needs their le label: \
                 histogram_quantile(0.95, sum by (service, le) (rate(x_bucket[5m]))). Without le the result is empty; \
                 without rate it is the quantile since the process started, which no incident moves."
            }
            Code::AbsoluteErrorRate => {
                "Errors per second against a fixed number pages for a busy service with few errors in a hundred, and \
                 never for a quiet one whose every request fails. Divide by all requests, and ask for a minimum of \
                 errors beside it."
            }
            Code::MissingFor => {
                "Without `for` one bad evaluation pages somebody: a restarted task, one slow scrape. Say how long it \
                 must last, `for: 5m`, or `for: 0s` with a comment when the first sign is worth a page."
            }
            Code::MissingSummary => {
                "The summary annotation is what people read first, often on a telephone. Say what is wrong, where, and \
                 how much: '{{ $labels.service }} fails {{ $value | humanizePercentage }} of its requests'."
            }
            Code::MissingRunbook => {
                "Whoever is woken at night needs to know what to look at and what to do. Link the page in runbook_url."
            }
            Code::UnknownMetric => {
                "The engine that was asked (--url) has no series of this name, so that the rule returns nothing. A \
                 name that is misspelt, or was renamed, makes an alert that never fires and never complains. Counters \
                 end in _total, histograms in _bucket, _sum and _count. Where the exporter is not yet deployed, the \
                 finding goes when it is."
            }
            Code::SplitByTask => {
                "The result keeps the labels of single tasks, so that one incident of a service with twenty tasks is \
                 twenty alerts, and each deployment resolves all of them and starts new ones. Aggregate by the labels \
                 that say who is to act: sum by (environment, service) (…)."
            }
            Code::NeverFires => {
                "The selector contradicts itself, so that it selects nothing and the alert never fires."
            }
            Code::AlwaysFires => {
                "An alert fires for every element that its expression returns, whatever its value. This expression \
                 filters nothing: it fires as long as the series exist. Compare it with a threshold. A comparison with \
                 `bool` returns 0 or 1 and filters nothing either."
            }
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub code: Code,
    pub problem: Problem,
    /// The lines of the expression that it points to, the place underlined.
    pub underlined: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { path, line, column, message } = &self.problem;
        write!(f, "{}:{line}:{column}: {}: {message}", path.display(), self.code)?;
        match &self.underlined {
            Some(underlined) => write!(f, "\n{underlined}"),
            None => Ok(()),
        }
    }
}

/// Everything about a file's rules that is probably not meant, in the order of the rules; with `known`, also
/// the metrics that there are not.
pub fn lint(file: &RuleFile, known: Option<&KnownMetrics>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in file.groups.iter().flat_map(|group| &group.rules) {
        let mut found = rule_findings(rule);
        if let (Some(known), Ok(expr)) = (known, promql::parse(&rule.expr)) {
            found.extend(known.findings(&expr));
        }
        found.sort_by_key(|(code, span, _)| (*code, span.map(|span| span.start)));
        found.dedup();
        findings.extend(found.into_iter().map(|(code, span, message)| {
            let Place { line, column } = rule.place;
            let message = format!("{}: {message}", rule.name());
            let problem = Problem { path: file.path.clone(), line, column, message };
            Finding { code, problem, underlined: span.map(|span| underline(&rule.expr, span)) }
        }));
    }
    findings
}

/// A code, where in the expression, and what is wrong there.
type Found = (Code, Option<Span>, String);

fn rule_findings(rule: &RuleSpec) -> Vec<Found> {
    // A rule that does not parse never gets here.
    let Ok(expr) = promql::parse(&rule.expr) else { return Vec::new() };
    let mut found = expression::findings(&expr);
    let RuleKind::Alert { hold_stated, annotations, .. } = &rule.kind else { return found };
    // A dead man's switch is meant to fire always and at once.
    if expression::is_constant(&expr) {
        return found;
    }
    found.extend(expression::alert_findings(&expr));
    if !hold_stated {
        found.push((Code::MissingFor, None, "has no `for`: one bad evaluation pages".to_owned()));
    }
    let has = |name: &str| annotations.iter().any(|(annotation, text)| annotation == name && !text.source().is_empty());
    if !has("summary") {
        found.push((Code::MissingSummary, None, "has no summary annotation".to_owned()));
    }
    if !has("runbook_url") {
        found.push((Code::MissingRunbook, None, "has no runbook_url annotation".to_owned()));
    }
    found
}

/// The line of the expression in which the span begins, with carets below it.
fn underline(expr: &str, span: Span) -> String {
    let start = span.start.min(expr.len());
    let line_start = expr[..start].rfind('\n').map_or(0, |i| i + 1);
    let line_end = expr[start..].find('\n').map_or(expr.len(), |i| start + i);
    let line = &expr[line_start..line_end];
    let indent = expr[line_start..start].chars().count();
    let width = expr[start..span.end.clamp(start, line_end)].chars().count().max(1);
    format!("    {line}\n    {}{}", " ".repeat(indent), "^".repeat(width))
}

#[cfg(test)]
mod tests;
