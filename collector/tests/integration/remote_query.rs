//! Rules, API and UI over Prometheus as the engine: `query: {url}`.

use serde_json::{Value, json};

use crate::programs::prometheus;
use crate::rig::Rig;

/// A rule that fires on what only Prometheus knows.
const RULES: &str = "groups: [{name: g, rules: [{alert: Seven, expr: 'jobs_total{job=\"there\"} == 7', \
                     labels: {severity: page}}]}]\n";

#[tokio::test(flavor = "multi_thread")]
async fn rules_api_and_ui_ask_prometheus() {
    // The rig's target is what Prometheus scrapes, so that the rig comes first and learns the address by a reload.
    let target = Rig::start("").await;
    let engine = prometheus(|_| {
        format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n\
             scrape_configs: [{{job_name: there, static_configs: [{{targets: ['{}']}}]}}]\n",
            target.target
        )
    });
    let Some(engine) = engine.await else { return };
    engine.until("jobs_total", |result| result[0]["value"][1] == "7").await;
    let rig = Rig::start_with(
        &format!("query: {{url: 'http://{}/'}}\nrule_files: [rules.yml]", engine.addr),
        &[("rules.yml", RULES)],
    )
    .await;

    let (status, answer) = rig.json("/api/v1/query?query=jobs_total").await;
    assert_eq!((status.as_u16(), &answer["data"]["result"][0]["metric"]["job"]), (200, &json!("there")), "{answer}");
    assert_eq!(answer["data"]["result"][0]["value"][1], "7");
    // A matrix, from the selector's own samples and over steps.
    let (_, answer) = rig.json("/api/v1/query?query=jobs_total[1m]").await;
    assert_eq!(answer["data"]["resultType"], "matrix", "{answer}");
    let values = |answer: &Value| answer["data"]["result"][0]["values"].as_array().map_or(0, Vec::len);
    assert!(values(&answer) > 0, "{answer}");
    let now = answer["data"]["result"][0]["values"][0][0].as_f64().expect("a time");
    let path = format!("/api/v1/query_range?query=jobs_total&start={now}&end={}&step=1", now + 3.0);
    let (_, answer) = rig.json(&path).await;
    assert_eq!(values(&answer), 4, "{answer}");
    let (_, answer) = rig.json("/api/v1/query?query=1%2B1").await;
    assert_eq!(answer["data"]["result"][1], "2");

    let (_, answer) = rig.json("/api/v1/series?match[]=jobs_total").await;
    assert_eq!(answer["data"][0]["queue"], "mail", "{answer}");
    let (_, answer) = rig.json("/api/v1/labels?match[]=jobs_total").await;
    assert_eq!(answer["data"], json!(["__name__", "instance", "job", "queue"]));
    let (_, answer) = rig.json("/api/v1/label/job/values").await;
    assert_eq!(answer["data"], json!(["there"]));

    let federated =
        rig.get("/federate?match[]=jobs_total").send().await.expect("an answer").text().await.expect("text");
    assert!(federated.contains("jobs_total{instance="), "{federated}");

    // Its errors keep their kind.
    for (query, status, kind) in
        [("jobs_total{", 400, "bad_data"), (r#"label_replace(jobs_total,"a","$1","job","(")"#, 422, "execution")]
    {
        let (code, answer) = rig.json(&format!("/api/v1/query?query={query}")).await;
        assert_eq!((code.as_u16(), &answer["errorType"]), (status, &json!(kind)), "{answer}");
    }
    rig.until("/api/v1/alerts", |data| data["alerts"][0]["labels"]["alertname"] == "Seven").await;

    drop(engine);
    let (code, answer) = rig.json("/api/v1/query?query=up").await;
    assert_eq!((code.as_u16(), &answer["errorType"]), (500, &json!("internal")), "{answer}");
}
