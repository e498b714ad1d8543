//! Prometheus rule files, unchanged: YAML in, checked groups out, or every mistake with its place.
//!
//! Follows prometheus model/rulefmt/rulefmt.go: strict keys, unique group names, exactly one of `record`
//! and `alert`, an expression that parses, labels and annotations that are valid names and templates.
//! Does not evaluate anything and knows no defaults of the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};
use service::config::ConfigError;
use telemetry::labels::METRIC_NAME;

use super::template::{Globals, Template};

/// The label that holds an alert's name.
pub const ALERT_NAME: &str = "alertname";

/// Which names labels, annotations and recorded metrics may have: Prometheus' `metric_name_validation_scheme`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameValidation {
    /// Any text that is not empty, Prometheus' default since 3.0.
    #[default]
    Utf8,
    /// `[a-zA-Z_][a-zA-Z0-9_]*`, with colons in metric names.
    Legacy,
}

/// A file whose every rule can be evaluated.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleFile {
    pub path: PathBuf,
    pub groups: Vec<GroupSpec>,
}

/// One group as written.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupSpec {
    pub name: String,
    /// The file it stands in, as it was named.
    pub file: String,
    pub interval: Option<Duration>,
    pub query_offset: Option<Duration>,
    /// Alerts or recorded series that a rule may have; 0 is no limit.
    pub limit: usize,
    pub rules: Vec<RuleSpec>,
}

/// One rule as written, the group's labels merged in.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleSpec {
    pub kind: RuleKind,
    pub expr: String,
    pub labels: Vec<(String, Template)>,
    /// Where the rule stands in its file; not part of what it is, see [`RuleSpec::eq`].
    pub place: Place,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RuleKind {
    /// `record: NAME`.
    Record { name: String },
    /// `alert: NAME`.
    Alert {
        name: String,
        /// `for`.
        hold: Duration,
        /// Whether `for` is written at all: `for: 0s` is a decision, its absence may be an oversight.
        hold_stated: bool,
        keep_firing_for: Duration,
        annotations: Vec<(String, Template)>,
    },
}

/// Line and column, from 1. All places are equal: moving a rule does not change it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    pub line: u64,
    pub column: u64,
}

impl PartialEq for Place {
    fn eq(&self, _: &Place) -> bool {
        true
    }
}

impl RuleSpec {
    pub fn name(&self) -> &str {
        match &self.kind {
            RuleKind::Record { name } | RuleKind::Alert { name, .. } => name,
        }
    }
}

/// One mistake and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub path: PathBuf,
    pub line: u64,
    pub column: u64,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.path.display(), self.line, self.column, self.message)
    }
}

/// Why a rule file cannot be used: all of its mistakes, one per line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct RuleFileError(pub Vec<Problem>);

/// Reads and checks a rule file.
///
/// # Errors
/// A file that cannot be read, or all of its mistakes.
pub fn load(path: &Path, globals: &Globals, names: NameValidation) -> Result<RuleFile, RuleFileError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        RuleFileError(vec![Problem {
            path: path.to_owned(),
            line: 1,
            column: 1,
            message: format!("failed to read the rule file: {error}"),
        }])
    })?;
    parse(&text, path, globals, names)
}

/// Checks a rule file's text; `path` stands in the mistakes.
///
/// # Errors
/// All mistakes.
pub fn parse(text: &str, path: &Path, globals: &Globals, names: NameValidation) -> Result<RuleFile, RuleFileError> {
    if text.trim().is_empty()
        || serde_saphyr::from_str::<Option<serde::de::IgnoredAny>>(text).is_ok_and(|v| v.is_none())
    {
        return Ok(RuleFile { path: path.to_owned(), groups: Vec::new() });
    }
    let written: WrittenFile = service::config::parse_yaml(text, path).map_err(|error| match error {
        ConfigError::Parse { path, line, column, message } => {
            RuleFileError(vec![Problem { path, line, column, message }])
        }
        other => RuleFileError(vec![Problem { path: path.to_owned(), line: 1, column: 1, message: other.to_string() }]),
    })?;
    let mut checker = Checker { path, globals, names, problems: Vec::new() };
    let groups = checker.groups(written.groups.unwrap_or_default());
    match checker.problems.is_empty() {
        true => Ok(RuleFile { path: path.to_owned(), groups }),
        false => Err(RuleFileError(checker.problems)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFile {
    #[serde(default)]
    groups: Option<Vec<Spanned<WrittenGroup>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenGroup {
    #[serde(default)]
    name: String,
    interval: Option<Spanned<String>>,
    query_offset: Option<Spanned<String>>,
    #[serde(default)]
    limit: usize,
    labels: Option<BTreeMap<String, String>>,
    rules: Option<Vec<Spanned<WrittenRule>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRule {
    record: Option<Spanned<String>>,
    alert: Option<Spanned<String>>,
    expr: Option<Spanned<String>>,
    #[serde(rename = "for")]
    hold: Option<Spanned<String>>,
    keep_firing_for: Option<Spanned<String>>,
    labels: Option<BTreeMap<String, Spanned<String>>>,
    annotations: Option<BTreeMap<String, Spanned<String>>>,
}

struct Checker<'a> {
    path: &'a Path,
    globals: &'a Globals,
    names: NameValidation,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn problem(&mut self, at: Location, message: impl Into<String>) {
        let (line, column, message) = (at.line().max(1), at.column().max(1), message.into());
        self.problems.push(Problem { path: self.path.to_owned(), line, column, message });
    }

    fn groups(&mut self, written: Vec<Spanned<WrittenGroup>>) -> Vec<GroupSpec> {
        let mut seen = BTreeSet::new();
        let mut groups = Vec::new();
        for Spanned { value: group, referenced: at, .. } in written {
            if group.name.is_empty() {
                self.problem(at, "a group must have a name");
            } else if !seen.insert(group.name.clone()) {
                self.problem(at, format!("group name {:?} is repeated in the same file", group.name));
            }
            groups.push(self.group(group, at));
        }
        groups
    }

    fn group(&mut self, group: WrittenGroup, at: Location) -> GroupSpec {
        let (interval, query_offset) = (self.duration(group.interval), self.duration(group.query_offset));
        let labels = group.labels.unwrap_or_default();
        for name in labels.keys() {
            self.label_name(&group.name, name, at);
        }
        let rules = group.rules.unwrap_or_default();
        let rules = rules.into_iter().filter_map(|rule| self.rule(&group.name, &labels, rule)).collect();
        let file = self.path.display().to_string();
        GroupSpec { name: group.name, file, interval, query_offset, limit: group.limit, rules }
    }

    /// None where a mistake keeps the rule from having a meaning; the mistake is noted.
    fn rule(
        &mut self,
        group: &str,
        group_labels: &BTreeMap<String, String>,
        Spanned { value: rule, referenced: at, .. }: Spanned<WrittenRule>,
    ) -> Option<RuleSpec> {
        let expr = self.expression(rule.expr, at);
        let (hold, keep_firing_for) = (self.duration(rule.hold.clone()), self.duration(rule.keep_firing_for.clone()));
        let mut texts: BTreeMap<String, (String, Location)> =
            group_labels.iter().map(|(name, value)| (name.clone(), (value.clone(), at))).collect();
        for (name, value) in rule.labels.unwrap_or_default() {
            self.label_name(group, &name, value.referenced);
            texts.insert(name, (value.value, value.referenced));
        }
        let record = rule.record.filter(|name| !name.value.is_empty());
        let alert = rule.alert.filter(|name| !name.value.is_empty());
        let kind = match (record, alert) {
            (Some(record), Some(_)) => {
                self.problem(record.referenced, "only one of 'record' and 'alert' may be set");
                return None;
            }
            (None, None) => {
                self.problem(at, "one of 'record' or 'alert' must be set");
                return None;
            }
            (Some(record), None) => {
                let misplaced = [
                    ("for", rule.hold.filter(|_| hold != Some(Duration::ZERO)).map(|d| d.referenced)),
                    (
                        "keep_firing_for",
                        rule.keep_firing_for.filter(|_| keep_firing_for != Some(Duration::ZERO)).map(|d| d.referenced),
                    ),
                    ("annotations", rule.annotations.filter(|a| !a.is_empty()).map(|_| at)),
                ];
                for (key, at) in misplaced {
                    if let Some(at) = at {
                        self.problem(at, format!("{key:?} does not belong into a recording rule"));
                    }
                }
                self.record_name(&record);
                RuleKind::Record { name: record.value }
            }
            (None, Some(alert)) => {
                let texts: BTreeMap<_, _> = rule
                    .annotations
                    .unwrap_or_default()
                    .into_iter()
                    .map(|(name, text)| (name, (text.value, text.referenced)))
                    .collect();
                for (name, (_, at)) in &texts {
                    if !self.is_label_name(name) {
                        self.problem(*at, format!("invalid annotation name {name:?}"));
                    }
                }
                let annotations = self.templates("annotation", &alert.value, texts);
                let (hold_stated, hold) = (hold.is_some(), hold.unwrap_or_default());
                let keep_firing_for = keep_firing_for.unwrap_or_default();
                RuleKind::Alert { name: alert.value, hold, hold_stated, keep_firing_for, annotations }
            }
        };
        let name = match &kind {
            RuleKind::Record { name } | RuleKind::Alert { name, .. } => name.clone(),
        };
        let labels = match &kind {
            RuleKind::Alert { .. } => self.templates("label", &name, texts),
            // Prometheus does not expand the labels of recording rules.
            RuleKind::Record { .. } => texts.into_iter().map(|(n, (v, _))| (n, Template::literal(v))).collect(),
        };
        let place = Place { line: at.line(), column: at.column() };
        Some(RuleSpec { kind, expr: expr?, labels, place })
    }

    fn expression(&mut self, expr: Option<Spanned<String>>, at: Location) -> Option<String> {
        let Some(Spanned { value: text, referenced: at, .. }) = expr.filter(|expr| !expr.value.is_empty()) else {
            self.problem(at, "the key 'expr' must be set in a rule");
            return None;
        };
        if let Err(error) = promql::parse(&text) {
            self.problem(at, format!("could not parse the expression: {error}"));
            return None;
        }
        Some(text)
    }

    fn templates(
        &mut self,
        what: &str,
        rule: &str,
        texts: BTreeMap<String, (String, Location)>,
    ) -> Vec<(String, Template)> {
        let mut templates = Vec::new();
        for (name, (text, at)) in texts {
            match Template::parse(&format!("__alert_{rule}"), &text, self.globals) {
                Ok(template) => templates.push((name, template)),
                Err(error) => self.problem(at, format!("{what} {name:?}: {error}")),
            }
        }
        templates
    }

    fn duration(&mut self, written: Option<Spanned<String>>) -> Option<Duration> {
        let written = written?;
        telemetry::duration::parse(&written.value)
            .map_err(|error| self.problem(written.referenced, error.to_string()))
            .ok()
    }

    fn label_name(&mut self, group: &str, name: &str, at: Location) {
        if name == METRIC_NAME || !self.is_label_name(name) {
            self.problem(at, format!("group {group:?}: invalid label name {name:?}"));
        }
    }

    fn is_label_name(&self, name: &str) -> bool {
        match self.names {
            NameValidation::Utf8 => !name.is_empty(),
            NameValidation::Legacy => is_legacy_name(name, false),
        }
    }

    fn record_name(&mut self, record: &Spanned<String>) {
        let (name, at) = (&record.value, record.referenced);
        if name.contains(['{', '}']) {
            self.problem(at, format!("braces in the recording rule's name; do they belong into expr? {name}"));
        } else if self.names == NameValidation::Legacy && !is_legacy_name(name, true) {
            self.problem(at, format!("invalid recording rule name {name:?}"));
        }
    }
}

fn is_legacy_name(name: &str, colons: bool) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_' || (colons && c == ':');
    name.chars().next().is_some_and(first) && name.chars().all(|c| first(c) || c.is_ascii_digit())
}

/// Rules of one file with the same name and labels, whose series or alerts would meet; promtool warns of them.
pub fn duplicates(file: &RuleFile) -> Vec<Problem> {
    let mut seen = BTreeMap::new();
    let mut problems = Vec::new();
    for rule in file.groups.iter().flat_map(|group| &group.rules) {
        let labels: Vec<_> = rule.labels.iter().map(|(name, value)| (name.as_str(), value.source())).collect();
        let is_alert = matches!(rule.kind, RuleKind::Alert { .. });
        if let Some(Place { line, .. }) = seen.insert((is_alert, rule.name(), labels), rule.place) {
            problems.push(Problem {
                path: file.path.clone(),
                line: rule.place.line,
                column: rule.place.column,
                message: format!("{:?} has the name and the labels of the rule on line {line}", rule.name()),
            });
        }
    }
    problems
}

#[cfg(test)]
mod tests;
