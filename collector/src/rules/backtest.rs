//! `collector backtest FILE`: what rules would have done on samples that a running engine has.
//!
//! In: a rule file and the raw samples that its expressions select, fetched once over the Prometheus API.
//! Out: per alert how often it would have fired, for how long, and how often it flapped. The groups run through
//! the same code as in the live stage, on a virtual clock. Nothing is written anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use promql::ast::{Node, VectorSelector};
use serde::Deserialize;
use service::config::Secret;
use telemetry::{Labels, Timestamp};
use url::Url;

use super::alerting::AlertState;
use super::file::{self, NameValidation, RuleFile, RuleKind};
use super::group::{Group, GroupTiming};
use super::template::Globals;
use super::unit_test::series::{MemoryStore, TestValue};

/// Fired again so soon after it resolved: one incident that paged twice.
const FLAP_WINDOW: Duration = Duration::from_secs(15 * 60);
/// How far back an instant selector looks.
const LOOKBACK: Duration = Duration::from_secs(300);

/// Whom to ask and over which time.
#[derive(Debug)]
pub struct Window {
    pub url: Url,
    pub token: Option<Secret>,
    pub start: Timestamp,
    pub end: Timestamp,
    /// Between evaluations, where a group does not say.
    pub interval: Duration,
}

/// One time an alert fired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Episode {
    pub labels: Labels,
    pub fired_at: Timestamp,
    /// None: it was still firing at the end.
    pub resolved_at: Option<Timestamp>,
}

/// What each alert would have done, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub end: Timestamp,
    pub alerts: BTreeMap<String, Vec<Episode>>,
    /// Rules that failed at some time, and how first.
    pub failures: BTreeMap<String, String>,
}

/// Fetches the samples and evaluates the file over them.
///
/// # Errors
/// A rule file that is wrong, or an engine that does not answer.
pub async fn run(path: &Path, window: &Window) -> anyhow::Result<Report> {
    let globals = Globals { external_url: window.url.clone(), external_labels: Labels::empty() };
    let file = file::load(path, &globals, NameValidation::Utf8)?;
    let store = MemoryStore::new(window.interval);
    let client = reqwest::Client::new();
    let needs = Needs::of(&file);
    for selector in &needs.selectors {
        for series in fetch(&client, window, selector, needs.before).await? {
            store.append(&series.metric, series.samples()?);
        }
    }
    Ok(replay(&file, &store, window).await)
}

async fn replay(file: &RuleFile, store: &MemoryStore, window: &Window) -> Report {
    let mut report = Report { end: window.end, ..Report::default() };
    for spec in &file.groups {
        let timing = GroupTiming {
            interval: spec.interval.unwrap_or(window.interval),
            query_offset: spec.query_offset.unwrap_or_default(),
            resend_delay: Duration::from_secs(60),
        };
        let mut group = Group::new(spec.clone(), timing);
        for rule in group.rules.iter().filter(|rule| matches!(rule.spec.kind, RuleKind::Alert { .. })) {
            report.alerts.entry(rule.spec.name().to_owned()).or_default();
        }
        let mut at = window.start;
        while at <= window.end {
            for (rule, why) in group.evaluate(store, at).await.failures {
                report.failures.entry(rule).or_insert(why);
            }
            report.note(&group, at);
            at = at + timing.interval;
        }
    }
    report
}

impl Report {
    fn note(&mut self, group: &Group, at: Timestamp) {
        for (rule, alert) in group.alerts() {
            let episodes = self.alerts.entry(rule.spec.name().to_owned()).or_default();
            let open = episodes.iter_mut().rev().find(|e| e.labels == alert.labels && e.resolved_at.is_none());
            match (alert.state, open) {
                (AlertState::Firing, None) => {
                    episodes.push(Episode { labels: alert.labels.clone(), fired_at: at, resolved_at: None });
                }
                (AlertState::Inactive | AlertState::Pending, Some(open)) => open.resolved_at = Some(at),
                _ => {}
            }
        }
    }

    fn line(&self, episodes: &[Episode]) -> String {
        if episodes.is_empty() {
            return "never fired".to_owned();
        }
        let lasted = |episode: &Episode| episode.resolved_at.unwrap_or(self.end).since(episode.fired_at);
        let total: Duration = episodes.iter().map(lasted).sum();
        let longest = episodes.iter().map(lasted).max().unwrap_or_default();
        let open = episodes.iter().filter(|episode| episode.resolved_at.is_none()).count();
        let mut line = format!(
            "fired {} times, {} in all, {} at the longest, {} flaps",
            episodes.len(),
            telemetry::duration::format(total),
            telemetry::duration::format(longest),
            flaps(episodes),
        );
        if open > 0 {
            line.push_str(&format!(", {open} still firing"));
        }
        line
    }

    /// The differences to what another version of the rules would have done.
    pub fn against(&self, old: &Report) -> String {
        let names: BTreeSet<_> = self.alerts.keys().chain(old.alerts.keys()).collect();
        let describe = |report: &Report, name: &String| {
            report.alerts.get(name).map_or_else(|| "no such alert".to_owned(), |episodes| report.line(episodes))
        };
        let mut text = String::new();
        for name in names {
            let (before, after) = (describe(old, name), describe(self, name));
            match before == after {
                true => text.push_str(&format!("{name}: {after}, as before\n")),
                false => text.push_str(&format!("{name}:\n  before: {before}\n  after:  {after}\n")),
            }
        }
        text
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, episodes) in &self.alerts {
            writeln!(f, "{name}: {}", self.line(episodes))?;
        }
        for (rule, why) in &self.failures {
            writeln!(f, "{rule} failed: {why}")?;
        }
        Ok(())
    }
}

/// Firings that began within [`FLAP_WINDOW`] of the end of the same alert's last one.
pub(super) fn flaps(episodes: &[Episode]) -> usize {
    let follows = |a: &Episode, b: &Episode| {
        a.labels == b.labels
            && a.resolved_at.is_some_and(|end| end <= b.fired_at && b.fired_at.since(end) < FLAP_WINDOW)
    };
    episodes.iter().filter(|b| episodes.iter().any(|a| follows(a, b))).count()
}

/// The samples that a file's rules read.
#[derive(Debug, Default, PartialEq, Eq)]
struct Needs {
    selectors: BTreeSet<String>,
    /// How long before the first evaluation they begin.
    before: Duration,
}

impl Needs {
    fn of(file: &RuleFile) -> Self {
        let rules = || file.groups.iter().flat_map(|group| &group.rules);
        let recorded: BTreeSet<&str> =
            rules().filter(|rule| matches!(rule.kind, RuleKind::Record { .. })).map(|rule| rule.name()).collect();
        let mut needs = Needs { selectors: BTreeSet::new(), before: LOOKBACK };
        for rule in rules() {
            // A rule that does not parse never gets here.
            let Ok(expr) = promql::parse(&rule.expr) else { continue };
            let mut reach = LOOKBACK.as_millis() as i64;
            needs.visit(expr.root(), &recorded, &mut reach);
            needs.before = needs.before.max(Duration::from_millis(reach.unsigned_abs()));
        }
        needs
    }

    /// Collects selectors and adds up every range and offset: more than any one path through the tree needs.
    fn visit(&mut self, node: &Node, recorded: &BTreeSet<&str>, reach: &mut i64) {
        match node {
            Node::Vector(selector) => {
                *reach += selector.offset_ms.max(0);
                self.add(selector, recorded);
            }
            Node::Matrix(matrix) => {
                *reach += matrix.range_ms + matrix.selector.offset_ms.max(0);
                self.add(&matrix.selector, recorded);
            }
            Node::Subquery(subquery) => {
                *reach += subquery.range_ms + subquery.offset_ms.max(0);
                self.visit(&subquery.expr, recorded, reach);
            }
            other => super::lint::children(other).into_iter().for_each(|child| self.visit(child, recorded, reach)),
        }
    }

    fn add(&mut self, selector: &VectorSelector, recorded: &BTreeSet<&str>) {
        // Recorded series and ALERTS are made anew by the rules themselves.
        if recorded.contains(selector.name.as_str()) || selector.name.starts_with("ALERTS") {
            return;
        }
        let matchers: Vec<_> = selector.matchers.iter().map(ToString::to_string).collect();
        self.selectors.insert(format!("{{{}}}", matchers.join(",")));
    }
}

#[derive(Deserialize)]
struct Envelope {
    data: Option<Data>,
    #[serde(default)]
    error: String,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Fetched>,
}

#[derive(Deserialize)]
pub(super) struct Fetched {
    pub(super) metric: Labels,
    #[serde(default)]
    values: Vec<(f64, String)>,
}

impl Fetched {
    pub(super) fn samples(&self) -> anyhow::Result<Vec<(Timestamp, TestValue)>> {
        let sample = |(at, value): &(f64, String)| {
            let value = value.parse().with_context(|| format!("{}: {value:?} is no sample value", self.metric))?;
            Ok((Timestamp::from_secs_f64(*at), TestValue::Float(value)))
        };
        self.values.iter().map(sample).collect()
    }
}

/// The raw samples of one selector.
pub(super) async fn fetch(
    client: &reqwest::Client,
    window: &Window,
    selector: &str,
    before: Duration,
) -> anyhow::Result<Vec<Fetched>> {
    let range = window.end.since(window.start) + before;
    let url = window.url.join("api/v1/query").context("the URL cannot have a path below it")?;
    let query = format!("{selector}[{}ms]", range.as_millis());
    let form = [("query", query), ("time", window.end.as_secs_f64().to_string())];
    let mut request = client.post(url.clone()).form(&form);
    if let Some(token) = &window.token {
        request = request.bearer_auth(token.expose());
    }
    let response = request.send().await.with_context(|| format!("failed to ask {url}"))?;
    let (status, text) = (response.status(), response.text().await?);
    let Ok(answer) = serde_json::from_str::<Envelope>(&text) else { bail!("{url} answered {status}: {}", text.trim()) };
    match answer.data {
        Some(data) => Ok(data.result),
        None => bail!("{url} refused {selector}: {}", answer.error),
    }
}

#[cfg(test)]
mod tests;
