//! OTLP metrics from a real client: OpenTelemetry's Python SDK.

use std::path::{Path, PathBuf};
use std::process::Command;

use service::config::{Env, ProcessEnv};

use crate::rig::Rig;

fn python() -> Option<PathBuf> {
    let untested = "OTLP metrics from OpenTelemetry's SDK";
    let python = ProcessEnv.get("PICKET_PYTHON").filter(|p| !p.is_empty()).map(PathBuf::from);
    if python.is_none() {
        assert!(ProcessEnv.get("CI").is_none_or(|ci| ci != "true"), "PICKET_PYTHON is not set: {untested}");
        eprintln!("PICKET_PYTHON is not set, so this stays untested: {untested}");
    }
    python
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_sdk_pushes_cumulative_and_delta_metrics() {
    let Some(python) = python() else { return };
    let rig = Rig::start("otlp: {promote_resource_attributes: [cloud.region]}").await;
    let url = format!("http://{}/api/v1/otlp/v1/metrics", rig.addr);
    for (temporality, compression) in [("CUMULATIVE", "Gzip"), ("DELTA", "NoCompression")] {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/e2e/python/otlp_metrics.py");
        let mut command = Command::new(&python);
        command.arg(script).args([&url, temporality, compression]);
        let run = move || command.output();
        let output = tokio::task::spawn_blocking(run).await.expect("no panic").expect("python runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let job = format!("{}/order", temporality.to_lowercase());
        for (query, value) in [
            (
                format!(
                    "jobs_done_total{{job=\"{job}\",instance=\"i-1\",queue_name=\"mail\",cloud_region=\"eu-central-1\"}}"
                ),
                "7",
            ),
            (format!("http_server_request_duration_seconds_count{{job=\"{job}\",http_route=\"/orders\"}}"), "2"),
            (format!("http_server_request_duration_seconds_bucket{{job=\"{job}\",le=\"+Inf\"}}"), "2"),
            (format!("cpu_utilization_ratio{{job=\"{job}\"}}"), "0.25"),
            (format!("target_info{{job=\"{job}\",telemetry_sdk_language=\"python\"}}"), "1"),
        ] {
            let path = url::Url::parse_with_params("http://x/api/v1/query", [("query", &query)]).expect("a URL");
            let path = format!("{}?{}", path.path(), path.query().unwrap_or_default());
            rig.until(&path, |data| data["result"][0]["value"][1] == value).await;
        }
    }
}
