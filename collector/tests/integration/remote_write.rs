//! Remote write in both directions, with Prometheus and VictoriaMetrics at the other end.

use serde_json::Value;

use crate::programs::{prometheus, victoria_metrics};
use crate::rig::Rig;

fn is_seven(result: &Value) -> bool {
    result[0]["value"][1] == "7"
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_pushes_its_samples_in() {
    let rig = Rig::start("").await;
    let (target, collector) = (rig.target, rig.addr);
    let sender = prometheus(|_| {
        format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, external_labels: {{from: prometheus}}}}\n\
             scrape_configs: [{{job_name: pushed, static_configs: [{{targets: ['{target}']}}]}}]\n\
             remote_write: [{{url: 'http://{collector}/api/v1/write', send_exemplars: true, \
             queue_config: {{batch_send_deadline: 100ms}}}}]\n"
        )
    });
    let Some(_sender) = sender.await else { return };
    let path = "/api/v1/query?query=jobs_total{job=\"pushed\",from=\"prometheus\"}";
    rig.until(path, |data| is_seven(&data["result"])).await;
    // The report series come with it, and nothing was refused.
    let path = "/api/v1/query?query=up{job=\"pushed\"}";
    rig.until(path, |data| data["result"][0]["value"][1] == "1").await;
    let metrics = rig.get("/metrics").send().await.expect("an answer").text().await.expect("text");
    let requests: Vec<&str> = metrics.lines().filter(|l| l.starts_with("collector_ingest_requests_total{")).collect();
    assert!(requests.iter().all(|line| line.contains("code=\"204\"")) && !requests.is_empty(), "{requests:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_takes_what_is_sent_on() {
    let Some(receiver) = prometheus(|_| "global: {}\n".to_owned()).await else { return };
    let rig = Rig::start(&format!(
        "remote_write: [{{url: 'http://{}/api/v1/write', queue_config: {{batch_send_deadline: 100ms}}}}]",
        receiver.addr
    ))
    .await;
    receiver.until("jobs_total{job=\"app\",queue=\"mail\"}", is_seven).await;
    receiver.until("up{job=\"app\"}", |result| result[0]["value"][1] == "1").await;
    let metrics = rig.get("/metrics").send().await.expect("an answer").text().await.expect("text");
    let failed = metrics.lines().find(|l| l.starts_with("prometheus_remote_storage_samples_failed_total{"));
    assert!(failed.is_some_and(|line| line.ends_with(" 0")), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn victoria_metrics_takes_what_is_sent_on() {
    let Some(receiver) = victoria_metrics().await else { return };
    let _rig = Rig::start(&format!(
        "remote_write: [{{url: 'http://{}/api/v1/write', queue_config: {{batch_send_deadline: 100ms}}}}]",
        receiver.addr
    ))
    .await;
    receiver.until("jobs_total{job=\"app\",queue=\"mail\"}", is_seven).await;
}

/// No Debian package speaks 2.0: our own sender and receiver do, to each other.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_sends_to_a_collector_under_2_0() {
    let receiver = Rig::start("").await;
    let sender = Rig::start(&format!(
        "remote_write: [{{url: 'http://{}/api/v1/write', protobuf_message: io.prometheus.write.v2.Request, \
         write_relabel_configs: [{{target_label: sent, replacement: 'yes'}}], \
         queue_config: {{batch_send_deadline: 100ms}}}}]",
        receiver.addr
    ))
    .await;
    let path = "/api/v1/query?query=jobs_total{sent=\"yes\"}";
    receiver.until(path, |data| is_seven(&data["result"])).await;
    let metrics = receiver.get("/metrics").send().await.expect("an answer").text().await.expect("text");
    let line = "collector_ingest_requests_total{protocol=\"remote_write_2\",code=\"204\"}";
    assert!(metrics.contains(line), "{metrics}");
    drop(sender);
}
