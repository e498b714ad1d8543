//! `targets`, `scrape_pools`, `metadata`, `targets/metadata`: what is scraped and what it says of itself.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use serde::Serialize;
use service::logging::rfc3339_millis;
use telemetry::{Labels, Timestamp};

use super::params::{Params, truncate};
use super::{ApiError, ApiResult, Success};
use crate::api::Sources;
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
    let state = params.get("state").unwrap_or_default().to_ascii_lowercase();
    let pool = params.get("scrapePool");
    let in_pool = |name: &str| pool.is_none_or(|wanted| wanted == name);
    let (discovery, scrape) = (sources.discovery.snapshot(), sources.scrape.snapshot());
    let active = scrape.iter().filter(|s| state != "dropped" && in_pool(&s.target.pool)).map(active);
    let dropped = discovery.dropped.iter().filter(|d| state != "active" && in_pool(&d.pool));
    let dropped = dropped.map(|d| Dropped { discovered_labels: d.discovered.clone(), scrape_pool: d.pool.to_string() });
    let mut dropped_target_counts = BTreeMap::new();
    for job in &sources.config.borrow().scrape_configs {
        dropped_target_counts.insert(job.job_name.clone(), 0);
    }
    for target in &discovery.dropped {
        *dropped_target_counts.entry(target.pool.to_string()).or_default() += 1;
    }
    let (active_targets, dropped_targets) = (active.collect(), dropped.collect());
    Ok(Success::new(Discovery { active_targets, dropped_targets, dropped_target_counts }))
}

fn active(status: &TargetStatus) -> Active {
    let target = &status.target;
    Active {
        discovered_labels: target.discovered.clone(),
        labels: target.labels.clone(),
        scrape_pool: target.pool.to_string(),
        scrape_url: target.scrape_url.to_string(),
        global_url: target.scrape_url.to_string(),
        last_error: status.last_error.clone(),
        last_scrape: status.last_scrape.map_or_else(|| NEVER.to_owned(), rfc3339),
        last_scrape_duration: status.last_duration.as_secs_f64(),
        health: status.health,
        scrape_interval: telemetry::duration::format(target.scrape_interval),
        scrape_timeout: telemetry::duration::format(target.scrape_timeout),
    }
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

/// Per family the different things that targets say of it.
pub(super) async fn metadata(
    State(sources): State<Sources>,
    params: Params,
) -> ApiResult<BTreeMap<String, BTreeSet<FamilyMetadata>>> {
    let (limit, per_metric) = (params.limit("limit")?, params.limit("limit_per_metric")?);
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
    let limit = params.limit("limit")?;
    let matchers = match params.get("match_target") {
        Some(text) => query::selector(text).map_err(|e| ApiError::BadData(e.to_string()))?,
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
