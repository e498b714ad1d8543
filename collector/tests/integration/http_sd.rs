//! Targets from a server's list: found, scraped, and kept while the server fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::json;
use service::Shutdown;

use crate::rig::Rig;

#[tokio::test(flavor = "multi_thread")]
async fn targets_come_from_a_servers_list_and_stay_while_it_fails() {
    let other = Rig::start("").await;
    let (shutdown, fails) = (Shutdown::new(), Arc::new(AtomicBool::new(false)));
    let listener = service::http::bind(([127, 0, 0, 1], 0).into(), "test").await.expect("port 0");
    let server = listener.local_addr().expect("bound");
    let (target, failing) = (other.target, fails.clone());
    let list = move |headers: HeaderMap| async move {
        let asked = headers["authorization"] == "Bearer s3cret"
            && headers["x-key"] == "hunter2"
            && headers["x-prometheus-refresh-interval-seconds"] == "0.1";
        if failing.load(Ordering::Relaxed) || !asked {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        let list = json!([{"targets": [target.to_string()], "labels": {"env": "listed"}}]);
        ([("content-type", "application/json; charset=utf-8")], list.to_string()).into_response()
    };
    service::task::spawn(
        "list",
        service::http::serve(listener, Router::new().route("/targets", get(list)), shutdown.clone()),
    );

    // The list's name is known to nobody: the server is asked as its proxy.
    let rig = Rig::start("").await;
    rig.configure(&format!(
        "- {{job_name: listed, http_sd_configs: [{{url: 'http://list.invalid/targets', refresh_interval: 100ms, \
         authorization: {{credentials: s3cret}}, http_headers: {{x-key: {{secrets: [hunter2]}}}}, \
         proxy_url: 'http://{server}'}}]}}"
    ));
    assert!(rig.post("/-/reload").send().await.expect("an answer").status().is_success());
    let path = "/api/v1/query?query=jobs_total{job=\"listed\",env=\"listed\"}";
    rig.until(path, |data| data["result"][0]["value"][1] == "7").await;
    fails.store(true, Ordering::Relaxed);
    let metrics = async || rig.get("/metrics").send().await.expect("an answer").text().await.expect("text");
    let failed = "collector_discovery_sources_failed{scrape_job=\"listed\"} 1";
    let wait = async {
        while !metrics().await.contains(failed) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.expect("the failure shows");
    let kept = "collector_discovery_targets{scrape_job=\"listed\"} 1";
    assert!(metrics().await.contains(kept), "{}", metrics().await);
    shutdown.request();
}
