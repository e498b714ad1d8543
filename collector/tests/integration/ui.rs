//! The web UI's pages and documents, and the questions that Grafana's dashboards ask.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use reqwest::StatusCode;
use serde_json::Value;
use service::Shutdown;

use crate::rig::{Rig, answer};

/// A service of the platform that answers one request in ten with 500.
async fn failing_service(shutdown: &Shutdown) -> SocketAddr {
    let listener = service::http::bind(([127, 0, 0, 1], 0).into(), "test").await.expect("port 0");
    let addr = listener.local_addr().expect("bound");
    let scrapes = Arc::new(AtomicU64::new(0));
    let metrics = move || {
        let n = 100 * scrapes.fetch_add(1, Ordering::Relaxed);
        let (good, bad) = (n * 9 / 10, n / 10);
        let text = format!(
            "# TYPE http_requests_total counter\n\
             http_requests_total{{method=\"POST\",path=\"/orders\",status=\"200\"}} {good}\n\
             http_requests_total{{method=\"POST\",path=\"/orders\",status=\"500\"}} {bad}\n\
             # TYPE http_request_duration_seconds histogram\n\
             http_request_duration_seconds_bucket{{le=\"0.1\"}} {n}\n\
             http_request_duration_seconds_bucket{{le=\"+Inf\"}} {n}\n\
             http_request_duration_seconds_sum 1\n\
             http_request_duration_seconds_count {n}\n"
        );
        async move { ([("content-type", "text/plain")], text) }
    };
    let router = Router::new().route("/metrics", get(metrics));
    service::task::spawn("service", service::http::serve(listener, router, shutdown.clone()));
    addr
}

/// Asks until the document passes; at most 20 s.
async fn document(rig: &Rig, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..1000 {
        let (status, json) = rig.json(path).await;
        assert_eq!(status, StatusCode::OK, "{json:#}");
        if holds(&json) {
            return json;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{path} never answered what was expected: {:#}", rig.json(path).await.1);
}

fn job(addr: SocketAddr) -> String {
    format!(
        "- {{job_name: ecs, static_configs: [{{targets: ['{addr}'], labels: {{service: order, environment: demo, task_id: a1}}}}]}}"
    )
}

#[tokio::test]
async fn a_failing_service_is_the_verdict_of_the_overview() {
    let shutdown = Shutdown::new();
    let service = failing_service(&shutdown).await;
    let rules = "groups:\n- name: g\n  rules:\n\
                 \x20 - alert: HighErrorRate\n\
                 \x20   expr: sum by (environment, service) (rate(http_requests_total{status=\"500\"}[10s])) > 0\n\
                 \x20   labels: {severity: critical}\n\
                 \x20   annotations: {summary: 'order fails', runbook_url: '{{ $externalURL }}/runbooks/HighErrorRate'}\n\
                 \x20 - {alert: Watchdog, expr: vector(1), labels: {severity: none}}\n";
    let more = format!("{}\nrule_files: ['*.rules.yml']", job(service));
    let rig = Rig::start_with(&more, &[("a.rules.yml", rules)]).await;

    let overview = document(&rig, "/api/ui/v1/overview", |overview| {
        overview["services"][0]["error_ratio"].is_f64() && overview["alerts"][0]["name"].is_string()
    })
    .await;
    assert_eq!(overview["verdict"]["state"], "critical");
    assert_eq!(overview["verdict"]["sentence"], "1 of 1 service is failing");
    let row = &overview["services"][0];
    assert_eq!(
        (&row["environment"], &row["service"], &row["state"]),
        (&"demo".into(), &"order".into(), &"critical".into())
    );
    assert_eq!((&row["tasks_up"], &row["tasks_expected"]), (&1.into(), &1.into()));
    let ratio = row["error_ratio"].as_f64().expect("a number");
    assert!((0.09..=0.11).contains(&ratio), "{ratio}");
    assert!(row["reason"].as_str().expect("text").starts_with("errors 10%, objective 5%"), "{row}");
    // The service, the rig's own target, the collector itself.
    assert_eq!(overview["targets"]["total"], 3);
    assert_eq!(
        overview["alerts"].as_array().map(Vec::len),
        Some(1),
        "a dead man's switch is nothing wrong: {overview:#}"
    );
    assert!(!overview["changes"].to_string().contains("Watchdog"), "{}", overview["changes"]);
    let alert = &overview["alerts"][0];
    assert_eq!(
        (&alert["name"], &alert["severity"], &alert["service"]),
        (&"HighErrorRate".into(), &"critical".into(), &"order".into())
    );
    assert_eq!(alert["delivery"]["error"], "no Alertmanager is configured");
    let runbook = alert["runbook_url"].as_str().expect("an address");
    let (_, path) = runbook.split_once("/runbooks/").expect("ours");
    let (status, text) = rig.json(&format!("/api/ui/v1/runbooks/{path}")).await;
    assert_eq!((status, text["name"].as_str()), (StatusCode::OK, Some("HighErrorRate")));

    for chart in overview["charts"].as_array().expect("charts") {
        let form = [
            ("query", chart["expr"].as_str().expect("text").to_owned()),
            ("start", overview["window"]["start"].to_string()),
            ("end", overview["window"]["end"].to_string()),
            ("step", overview["window"]["step"].to_string()),
        ];
        let (status, json) = answer(rig.post("/api/v1/query_range").form(&form)).await;
        assert_eq!((status, json["status"].as_str()), (StatusCode::OK, Some("success")), "{json:#}");
    }
    let alerts = document(&rig, "/api/ui/v1/alerts", |page| page["rules"][0]["health"] == "ok").await;
    assert_eq!(
        (&alerts["rules"][0]["name"], &alerts["alerts"][0]["state"]),
        (&"HighErrorRate".into(), &"firing".into())
    );
    assert_eq!(alerts["alerts"][1]["name"], "Watchdog");
    shutdown.request();
}

#[tokio::test]
async fn nothing_known_is_nothing_claimed() {
    let rig = Rig::start("").await;
    let (status, overview) = rig.json("/api/ui/v1/overview").await;
    assert_eq!(status, StatusCode::OK, "{overview:#}");
    assert_eq!(overview["verdict"]["state"], "unknown");
    assert_eq!(overview["services"].as_array().map(Vec::len), Some(0));
    let (status, _) = rig.json("/api/ui/v1/runbooks/NoSuchAlert").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_pages_are_served_beside_the_api() {
    let rig = Rig::start("").await;
    for path in ["/", "/alerts", "/targets", "/runbook"] {
        let response = rig.get(path).send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert!(response.headers().contains_key("content-security-policy"), "{path}");
    }
}

/// What Grafana would ask, asked: every question is understood, and those about requests have answers whose labels
/// are the ones that the legends name.
#[tokio::test]
async fn every_question_of_the_dashboards_is_answered() {
    let shutdown = Shutdown::new();
    let service = failing_service(&shutdown).await;
    let rig = Rig::start(&job(service)).await;
    rig.until("/api/v1/query?query=rate(http_requests_total[1m])", |data| data["result"][0].is_object()).await;
    for question in dashboards::grafana::questions() {
        let request = rig.get("/api/v1/query").query(&[("query", &question.expr)]);
        let (status, json) = answer(request).await;
        assert_eq!(status, StatusCode::OK, "{}: {}\n{json:#}", question.place, question.expr);
        let result = json["data"]["result"].as_array().expect("a vector");
        if question.expr.contains("http_requests_total") {
            assert!(!result.is_empty(), "{}: {}", question.place, question.expr);
        }
        for series in result {
            for label in &question.legend {
                assert!(series["metric"].get(label).is_some(), "{}: no {label} in {series}", question.place);
            }
        }
    }
    shutdown.request();
}

#[tokio::test]
async fn an_overview_that_cannot_ask_everything_says_so_and_shows_the_rest() {
    // A limit that the questions over time break as soon as there are a few samples, and the others keep.
    let rules = "groups: [{name: g, rules: [{alert: Always, expr: vector(1)}]}]";
    let shutdown = Shutdown::new();
    let more = format!(
        "- {{job_name: order, static_configs: [{{targets: ['{}'], labels: {{service: order, environment: demo}}}}]}}\n\
         rule_files: ['*.rules.yml']\nquery: {{samples_max: 5}}",
        failing_service(&shutdown).await
    );
    let rig = Rig::start_with(&more, &[("a.rules.yml", rules)]).await;
    rig.until("/api/v1/alerts", |data| data["alerts"][0]["state"] == "firing").await;
    let wait = async {
        loop {
            let (status, page) = rig.json("/api/ui/v1/overview").await;
            assert_eq!(status, reqwest::StatusCode::OK, "{page}");
            let errors = page["missing"].as_array().map(Vec::len).unwrap_or_default();
            if errors > 0 && page["services"][0].is_object() && page["alerts"][0].is_object() {
                return page;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let page = tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.expect("something is missing");
    let error = page["missing"][0]["error"].as_str().expect("a text");
    assert!(error.contains("too many samples"), "{page}");
    assert_ne!(page["verdict"]["state"], "ok", "{page}");
    assert!(page["targets"]["total"].as_u64().is_some_and(|total| total == 3), "{page}");
    assert_eq!(
        (&page["services"][0]["service"], &page["services"][0]["tasks_up"]),
        (&"order".into(), &1.into()),
        "{page}"
    );
    shutdown.request();
}
