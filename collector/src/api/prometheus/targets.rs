//! `targets`, `scrape_pools`, `metadata` and what lies below them: what is scraped and what it says of itself.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use serde::Serialize;
use service::logging::rfc3339_millis;
use telemetry::{Labels, Timestamp};

use super::params::{Params, truncate};
use super::{ApiError, ApiResult, Success};
use crate::api::Sources;
use crate::discovery::relabel;
use crate::query;
use crate::scrape::{Metadata, TargetHealth, TargetStatus};

/// What Go prints for a time that never was.
const NEVER: &str = "0001-01-01T00:00:00Z";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Discovery {
    active_targets: Vec<Active>,
    dropped_targets: Vec<Dropped>,
    dropped_target_counts: BTreeMap<String, usize>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Active {
    discovered_labels: Labels,
    labels: Labels,
    scrape_pool: String,
    scrape_url: String,
    global_url: String,
    last_error: String,
    last_scrape: String,
    last_scrape_duration: f64,
    health: TargetHealth,
    scrape_interval: String,
    scrape_timeout: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dropped {
    discovered_labels: Labels,
    scrape_pool: String,
}

pub(super) async fn targets(State(sources): State<Sources>, params: Params) -> ApiResult<Discovery> {
    let state = params.get("state").unwrap_or("any").to_ascii_lowercase();
    let (with_active, with_dropped) = (["any", "active"].contains(&&*state), ["any", "dropped"].contains(&&*state));
    let pool = params.get("scrapePool");
    let in_pool = |name: &str| pool.is_none_or(|wanted| wanted == name);
    let (discovery, scrape) = (sources.discovery.snapshot(), sources.scrape.snapshot());
    let host = super::status::hostname();
    let active = scrape.iter().filter(|s| with_active && in_pool(&s.target.pool)).map(|s| active(s, &host));
    let dropped = discovery.dropped.iter().filter(|d| with_dropped && in_pool(&d.pool));
    let dropped = dropped.map(|d| Dropped { discovered_labels: d.discovered.clone(), scrape_pool: d.pool.to_string() });
    let mut dropped_target_counts = BTreeMap::new();
    if with_dropped {
        let pools = sources.config.borrow().scrape_configs.iter().map(|job| (job.job_name.clone(), 0)).collect();
        dropped_target_counts = discovery.dropped.iter().fold(pools, |mut counts: BTreeMap<_, _>, target| {
            *counts.entry(target.pool.to_string()).or_default() += 1;
            counts
        });
    }
    let (active_targets, dropped_targets) = (active.collect(), dropped.collect());
    Ok(Success::new(Discovery { active_targets, dropped_targets, dropped_target_counts }))
}

fn active(status: &TargetStatus, host: &str) -> Active {
    let target = &status.target;
    Active {
        discovered_labels: target.discovered.clone(),
        labels: target.labels.clone(),
        scrape_pool: target.pool.to_string(),
        scrape_url: target.scrape_url.to_string(),
        global_url: global_url(&target.scrape_url, host),
        last_error: status.last_error.clone(),
        last_scrape: status.last_scrape.map_or_else(|| NEVER.to_owned(), rfc3339),
        last_scrape_duration: status.last_duration.as_secs_f64(),
        health: status.health,
        scrape_interval: telemetry::duration::format(target.scrape_interval),
        scrape_timeout: telemetry::duration::format(target.scrape_timeout),
    }
}

/// Where somebody on another machine finds what is scraped here by loopback.
fn global_url(url: &url::Url, host: &str) -> String {
    let mut url = url.clone();
    if matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")) && !host.is_empty() {
        // A name that no URL can hold leaves it as it is.
        let _ = url.set_host(Some(host));
    }
    url.to_string()
}

pub(super) fn rfc3339(time: Timestamp) -> String {
    rfc3339_millis(u128::try_from(time.as_millis()).unwrap_or_default())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pools {
    scrape_pools: Vec<String>,
}

pub(super) async fn scrape_pools(State(sources): State<Sources>) -> ApiResult<Pools> {
    let mut scrape_pools: Vec<String> =
        sources.config.borrow().scrape_configs.iter().map(|job| job.job_name.clone()).collect();
    scrape_pools.sort();
    Ok(Success::new(Pools { scrape_pools }))
}

/// One scrape configuration by its name.
fn scrape_config(sources: &Sources, params: &Params) -> Result<crate::scrape::Config, ApiError> {
    let name = params.get("scrapePool");
    let name = name.ok_or_else(|| ApiError::BadData("no scrapePool parameter provided".to_owned()))?;
    let config = sources.config.borrow();
    let found = config.scrape_configs.iter().find(|job| job.job_name == name).cloned();
    found.ok_or_else(|| ApiError::BadData(format!("error retrieving scrape config: scrape pool {name:?} not found")))
}

#[derive(Serialize)]
pub(super) struct PoolConfig {
    yaml: String,
}

pub(super) async fn scrape_pool_config(State(sources): State<Sources>, params: Params) -> ApiResult<PoolConfig> {
    let config = scrape_config(&sources, &params)?;
    match serde_saphyr::to_string(&config) {
        Ok(yaml) => Ok(Success::new(PoolConfig { yaml })),
        Err(error) => Err(ApiError::Internal(format!("failed to print the scrape configuration: {error}"))),
    }
}

#[derive(Serialize)]
pub(super) struct RelabelSteps {
    steps: Vec<RelabelStep>,
}

#[derive(Serialize)]
struct RelabelStep {
    rule: relabel::Rule,
    output: Labels,
    keep: bool,
}

/// What each rule of a pool makes of a label set; after the one that drops it, nothing.
pub(super) async fn relabel_steps(State(sources): State<Sources>, params: Params) -> ApiResult<RelabelSteps> {
    let missing = |name: &str| ApiError::BadData(format!("no {name} parameter provided"));
    params.get("scrapePool").ok_or_else(|| missing("scrapePool"))?;
    let text = params.get("labels").ok_or_else(|| missing("labels"))?;
    let labels: Labels =
        serde_json::from_str(text).map_err(|error| ApiError::BadData(format!("error parsing labels: {error}")))?;
    let config = scrape_config(&sources, &params)?;
    let (mut labels, mut keep) = (labels.to_builder(), true);
    let steps = config.relabel_configs.into_iter().map(|rule| {
        keep = keep && relabel::apply(std::slice::from_ref(&rule), &mut labels);
        let output = if keep { labels.clone().build() } else { Labels::empty() };
        RelabelStep { rule, output, keep }
    });
    Ok(Success::new(RelabelSteps { steps: steps.collect() }))
}

/// A family's metadata in the API's words.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct FamilyMetadata {
    #[serde(rename = "type")]
    kind: &'static str,
    unit: String,
    help: String,
}

impl From<&Metadata> for FamilyMetadata {
    fn from(metadata: &Metadata) -> Self {
        FamilyMetadata { kind: metadata.kind, unit: metadata.unit.clone(), help: metadata.help.clone() }
    }
}

/// Metadata have limits of their own kind: 0 shows nothing, what is negative is none.
fn shown_at_most(limit: Option<i64>) -> usize {
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// Per family the different things that targets say of it.
pub(super) async fn metadata(
    State(sources): State<Sources>,
    params: Params,
) -> ApiResult<BTreeMap<String, BTreeSet<FamilyMetadata>>> {
    let limit = shown_at_most(params.number("limit")?);
    let per_metric = params.number("limit_per_metric")?.filter(|limit| *limit > 0);
    let per_metric = shown_at_most(per_metric);
    let wanted = params.get("metric");
    let mut families: BTreeMap<String, BTreeSet<FamilyMetadata>> = BTreeMap::new();
    for status in sources.scrape.snapshot().iter() {
        for (name, metadata) in status.metadata.iter().filter(|(n, _)| wanted.is_none_or(|w| w == *n)) {
            let seen = families.entry(name.clone()).or_default();
            if seen.len() < per_metric {
                seen.insert(metadata.into());
            }
        }
    }
    Ok(Success::new(families.into_iter().take(limit).collect()))
}

#[derive(Serialize)]
pub(super) struct TargetMetadata {
    target: Labels,
    #[serde(skip_serializing_if = "Option::is_none")]
    metric: Option<String>,
    #[serde(flatten)]
    metadata: FamilyMetadata,
}

pub(super) async fn target_metadata(State(sources): State<Sources>, params: Params) -> ApiResult<Vec<TargetMetadata>> {
    let limit = shown_at_most(params.number("limit")?);
    let matchers = match params.get("match_target") {
        Some(text) => query::selector(text).map_err(|e| ApiError::parameter("match_target", e))?,
        None => Vec::new(),
    };
    let wanted = params.get("metric");
    let mut list = Vec::new();
    for status in sources.scrape.snapshot().iter() {
        let labels = &status.target.labels;
        if !matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or_default())) {
            continue;
        }
        let mut families: Vec<_> = status.metadata.iter().filter(|(n, _)| wanted.is_none_or(|w| w == *n)).collect();
        families.sort_unstable_by_key(|(name, _)| *name);
        list.extend(families.into_iter().map(|(name, metadata)| TargetMetadata {
            target: labels.clone(),
            metric: wanted.is_none().then(|| name.clone()),
            metadata: metadata.into(),
        }));
    }
    // As in Prometheus, a limit here is silent.
    drop(truncate(&mut list, limit));
    Ok(Success::new(list))
}
