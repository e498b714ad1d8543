//! The platform's standard metrics: exactly their names and labels.

use std::collections::{BTreeMap, BTreeSet};

use platform_api::worker::Relay;
use reqwest::Method;
use serde_json::json;
use telemetry::exposition::{self, Format, MetricKind};

use crate::fixture;

/// Name of each metric as rules write it, and its label names, `le` left out.
fn families(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut families = BTreeMap::new();
    for family in exposition::parse(text, Format::OpenMetrics).expect("OpenMetrics") {
        let suffix = if family.kind == MetricKind::Counter { "_total" } else { "" };
        let labels = family.samples.iter().flat_map(|s| s.labels.iter().map(|(name, _)| name.to_owned()));
        let labels = labels.filter(|name| name != "le" && name != "__name__");
        families.insert(format!("{}{suffix}", family.name), labels.collect());
    }
    families
}

#[tokio::test]
async fn every_standard_metric_is_there_with_exactly_its_labels() {
    let Some(platform) = fixture::start().await else { return };
    let (buyer, product) = (platform.customer().await, platform.product(1500, 10).await);
    for _ in 0..2 {
        platform.get(&format!("/api/v1/products/{product}"), &buyer).await;
    }
    let order = platform.order(&buyer, product, 1).await.id();
    platform.post(&format!("/api/v1/orders/{order}/pay"), &buyer, json!(null)).await;
    platform.get("/wp-admin/setup.php?x=1", "").await;
    let strange = Method::from_bytes(b"BREW").unwrap();
    platform.send(platform.request(strange, "/coffee", "")).await;
    Relay::new(platform.platform.clone()).deliver_some().await.unwrap();
    platform_api::shared::outbox::backlog(&platform.platform.db)
        .await
        .unwrap()
        .iter()
        .for_each(|q| platform.platform.metrics.queue(&q.consumer, q.depth, q.oldest_age_s));

    let text = platform.text("/metrics").await;
    exposition::strict::check(text.as_bytes()).expect("what we expose is OpenMetrics to the letter");
    let found = families(&text);
    for (name, labels) in [
        ("http_requests_total", &["method", "path", "status"][..]),
        ("http_request_duration_seconds", &["method", "path"]),
        ("http_request_size_bytes", &["method", "path"]),
        ("http_response_size_bytes", &["method", "path"]),
        ("db_query_duration_seconds", &["query_type"]),
        ("db_connections_active", &[]),
        ("db_connections_idle", &[]),
        ("db_connections_max", &[]),
        ("cache_hits_total", &["cache_name"]),
        ("cache_misses_total", &["cache_name"]),
        ("cache_operation_duration_seconds", &["operation"]),
        ("queue_jobs_total", &["queue", "status"]),
        ("queue_job_duration_seconds", &["queue"]),
        ("queue_depth", &["queue"]),
        ("queue_oldest_job_age_seconds", &["queue"]),
        ("users_active_total", &[]),
        ("users_active", &[]),
        ("users_registered", &[]),
        ("operations_total", &["operation_type"]),
        ("orders_total", &["status"]),
        ("order_revenue_minor_units_total", &["currency"]),
    ] {
        let wanted: BTreeSet<String> = labels.iter().map(|l| (*l).to_owned()).collect();
        assert_eq!(found.get(name), Some(&wanted), "{name}");
    }
    for line in [
        r#"http_requests_total{method="GET",path="/api/v1/products/{id}",status="200"} 2"#,
        r#"http_requests_total{method="GET",path="unmatched",status="404"} 1"#,
        r#"http_requests_total{method="OTHER",path="unmatched",status="404"} 1"#,
        r#"cache_hits_total{cache_name="product"} 1"#,
        r#"orders_total{status="paid"} 1"#,
        r#"order_revenue_minor_units_total{currency="EUR"} 1500"#,
        "db_connections_max 20",
        "# TYPE users_active_total gauge",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("wp-admin") && !text.contains(&order.to_string()), "paths are templates");
    assert!(!text.contains(r#"path="/metrics""#) && !text.contains(r#"path="/health"#), "probes are not traffic");
}

#[tokio::test]
async fn an_injected_fault_fails_its_share_and_only_where_it_is_enabled() {
    let Some(off) = fixture::start().await else { return };
    let fault = json!({ "error_ratio": 1.0, "duration": "60s" });
    assert_eq!(off.post("/internal/fault", "", fault.clone()).await.status, 404);

    let Some(on) = fixture::start_with(&[("FAULT_INJECTION", "enabled")]).await else { return };
    let bad = on.post("/internal/fault", "", json!({ "error_ratio": 2, "duration": "60s" })).await;
    assert_eq!(bad.code(), "validation_failed");
    assert_eq!(on.get("/api/v1/orders", &on.admin).await.status, 200);
    assert_eq!(on.post("/internal/fault", "", fault).await.body["active"], true);
    let failed = on.get("/api/v1/orders", &on.admin).await;
    assert_eq!((failed.status, failed.code()), (500, "injected_fault"));
    assert_eq!(on.get("/.well-known/jwks.json", "").await.status, 200, "only the API fails");
    assert_eq!(on.send(on.request(Method::DELETE, "/internal/fault", "")).await.status, 204);
    assert_eq!(on.get("/api/v1/orders", &on.admin).await.status, 200);
    let text = on.text("/metrics").await;
    assert!(text.contains(r#"http_requests_total{method="GET",path="/api/v1/orders",status="500"} 1"#), "{text}");
}
