//! `status/*`, `features`, `notifications`: the configuration, the flags, the build, the process, the store.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::Serialize;

use super::params::Params;
use super::targets::rfc3339;
use super::{ApiError, ApiResult, Success};
use crate::api::Sources;
use crate::query::cardinality::{Cardinality, Count};

/// The Prometheus whose API this is. Clients decide by it what they may ask: Grafana sends `match[]` to
/// `label/<name>/values` from 2.24 on.
const API_OF_PROMETHEUS: &str = "3.5.0";

#[derive(Serialize)]
pub(super) struct StatusConfig {
    yaml: String,
}

/// The running configuration, defaults filled in and secrets hidden.
pub(super) async fn config(State(sources): State<Sources>) -> ApiResult<StatusConfig> {
    let config = sources.config.borrow().clone();
    match serde_saphyr::to_string(&*config) {
        Ok(yaml) => Ok(Success::new(StatusConfig { yaml })),
        Err(error) => Err(ApiError::Internal(format!("failed to print the configuration: {error}"))),
    }
}

pub(super) async fn flags(State(sources): State<Sources>) -> ApiResult<BTreeMap<&'static str, String>> {
    Ok(Success::new(sources.flags.iter().map(|(name, value)| (*name, value.clone())).collect()))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BuildInfo {
    version: &'static str,
    revision: &'static str,
    branch: &'static str,
    build_user: &'static str,
    build_date: &'static str,
    go_version: &'static str,
}

/// Without `features`: Grafana then takes rules as read-only.
pub(super) async fn buildinfo() -> ApiResult<BuildInfo> {
    Ok(Success::new(BuildInfo {
        version: API_OF_PROMETHEUS,
        revision: service::cli::version(),
        branch: "",
        build_user: "",
        build_date: "",
        go_version: "",
    }))
}

#[derive(Serialize)]
pub(super) struct RuntimeInfo {
    #[serde(rename = "startTime")]
    start_time: String,
    #[serde(rename = "CWD")]
    cwd: String,
    hostname: String,
    #[serde(rename = "serverTime")]
    server_time: String,
    #[serde(rename = "reloadConfigSuccess")]
    reload_config_success: bool,
    #[serde(rename = "lastConfigTime")]
    last_config_time: String,
    #[serde(rename = "corruptionCount")]
    corruption_count: u64,
    /// Tasks, which is what stands for goroutines here.
    #[serde(rename = "goroutineCount")]
    goroutine_count: usize,
    #[serde(rename = "GOMAXPROCS")]
    worker_threads: usize,
    #[serde(rename = "GOMEMLIMIT")]
    memory_limit: i64,
    #[serde(rename = "GOGC")]
    gogc: &'static str,
    #[serde(rename = "GODEBUG")]
    godebug: &'static str,
    #[serde(rename = "storageRetention")]
    storage_retention: String,
}

pub(super) async fn runtimeinfo(State(sources): State<Sources>) -> ApiResult<RuntimeInfo> {
    let runtime = tokio::runtime::Handle::current().metrics();
    let reload = sources.reload.last();
    Ok(Success::new(RuntimeInfo {
        start_time: rfc3339(sources.started),
        cwd: std::env::current_dir().map(|d| d.display().to_string()).unwrap_or_default(),
        hostname: hostname(),
        server_time: rfc3339(sources.clock.now()),
        reload_config_success: reload.successful,
        last_config_time: rfc3339(reload.at),
        corruption_count: 0,
        goroutine_count: runtime.num_alive_tasks(),
        worker_threads: runtime.num_workers(),
        memory_limit: i64::MAX,
        gogc: "",
        godebug: "",
        storage_retention: telemetry::duration::format(sources.retention),
    }))
}

/// Empty where the system has none to tell.
pub(super) fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

/// Most used names first; at most `limit` of each list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TsdbStatus {
    head_stats: HeadStats,
    series_count_by_metric_name: Vec<Count>,
    label_value_count_by_label_name: Vec<Count>,
    memory_in_bytes_by_label_name: Vec<Count>,
    series_count_by_label_value_pair: Vec<Count>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HeadStats {
    num_series: usize,
    num_label_pairs: usize,
    chunk_count: usize,
    min_time: i64,
    max_time: i64,
}

pub(super) async fn tsdb(State(sources): State<Sources>, params: Params) -> ApiResult<TsdbStatus> {
    const LIMIT_MAX: i64 = 10_000;
    let limit = match params.number("limit") {
        Ok(None) => 10,
        Ok(Some(limit)) if limit > LIMIT_MAX => {
            return Err(ApiError::BadData(format!("limit must not exceed {LIMIT_MAX}")));
        }
        Ok(Some(limit)) if limit > 0 => limit,
        Ok(_) | Err(_) => return Err(ApiError::BadData("limit must be a positive number".to_owned())),
    };
    let cardinality = sources.querier.cardinality(usize::try_from(limit).unwrap_or(10)).await?;
    let Cardinality { series, extent, label_pairs, by_metric, values_by_label, bytes_by_label, by_pair } = cardinality;
    Ok(Success::new(TsdbStatus {
        head_stats: HeadStats {
            num_series: series,
            num_label_pairs: label_pairs,
            chunk_count: extent.map_or(0, |extent| extent.blocks),
            // Of an empty store the ends are crossed, as Prometheus has them.
            min_time: extent.map_or(i64::MAX, |extent| extent.oldest.as_millis()),
            max_time: extent.map_or(i64::MIN, |extent| extent.newest.as_millis()),
        },
        series_count_by_metric_name: by_metric,
        label_value_count_by_label_name: values_by_label,
        memory_in_bytes_by_label_name: bytes_by_label,
        series_count_by_label_value_pair: by_pair,
    }))
}

#[derive(Serialize)]
pub(super) struct WalReplay {
    min: u64,
    max: u64,
    current: u64,
}

/// Over before anything is answered: the log is read before the port is served.
pub(super) async fn walreplay() -> ApiResult<WalReplay> {
    Ok(Success::new(WalReplay { min: 0, max: 0, current: 0 }))
}

/// What of Prometheus' features there is, by its names for them.
pub(super) async fn features() -> ApiResult<BTreeMap<&'static str, BTreeMap<&'static str, bool>>> {
    let functions = promql::function::all().iter().map(|function| (function.name, !function.experimental));
    let api = [
        ("admin", false),
        ("exclude_alerts", true),
        ("label_values_match", true),
        ("lifecycle", true),
        ("query_stats", true),
        ("query_warnings", true),
        ("search", false),
        ("time_range_labels", true),
        ("time_range_series", true),
    ];
    let promql = [
        ("anchored", false),
        ("at_modifier", true),
        ("bool", true),
        ("by", true),
        ("delayed_name_removal", true),
        ("duration_expr", false),
        ("group_left", true),
        ("group_right", true),
        ("ignoring", true),
        ("negative_offset", true),
        ("offset", true),
        ("on", true),
        ("per_step_stats", false),
        ("smoothed", false),
        ("subqueries", true),
        ("without", true),
    ];
    Ok(Success::new(BTreeMap::from([
        ("api", BTreeMap::from(api)),
        ("promql", BTreeMap::from(promql)),
        ("promql_functions", functions.collect()),
    ])))
}

#[derive(Serialize)]
pub(super) struct Notification {
    text: &'static str,
    date: String,
    active: bool,
}

/// What somebody should know who looks at the collector: at present, that its configuration is not the file's.
pub(super) async fn notifications(State(sources): State<Sources>) -> ApiResult<Vec<Notification>> {
    let last = sources.reload.last();
    let failed = Notification { text: "Configuration reload has failed.", date: rfc3339(last.at), active: true };
    Ok(Success::new(if last.successful { Vec::new() } else { vec![failed] }))
}
