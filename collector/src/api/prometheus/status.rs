//! `status/*`: the configuration, the flags, the build, the process.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::Serialize;

use super::targets::rfc3339;
use super::{ApiError, ApiResult, Success};
use crate::api::Sources;

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
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Ok(Success::new(RuntimeInfo {
        start_time: rfc3339(sources.started),
        cwd: std::env::current_dir().map(|d| d.display().to_string()).unwrap_or_default(),
        hostname: hostname.trim().to_owned(),
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
