//! Remote write in both directions, with Prometheus and VictoriaMetrics at the other end.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use telemetry::remote_write::{Encoder, Message, TimeSeries};
use telemetry::{Histogram, Labels, Timestamp};

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

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Timestamp(i64::try_from(since.as_millis()).expect("before the year 292 million"))
}

/// A target with an exemplar.
fn traced() -> String {
    let at = now().0 / 1000;
    format!(
        "# HELP jobs Jobs done.\n# TYPE jobs counter\n\
         jobs_total{{queue=\"mail\"}} 7 # {{trace_id=\"abc\"}} 0.25 {at}\n# EOF\n"
    )
}

/// Pushes a native histogram in, to be sent on: five observations, three of them in (2, 4].
async fn push_histogram(rig: &Rig) {
    let histogram = Histogram { count: 5.0, sum: 12.5, positive: vec![(1, 2.0), (2, 3.0)], ..Histogram::default() };
    let labels = Labels::from_pairs([("__name__", "wait"), ("job", "pushed")]);
    let mut encoder = Encoder::new(Message::V1);
    let histograms = [(now(), &histogram)];
    encoder.series(&TimeSeries { histograms: &histograms, ..TimeSeries::of_samples(&labels, &[]) });
    let request = rig.post("/api/v1/write").header("content-type", Message::V1.content_type());
    let request = request.header("content-encoding", Message::ENCODING).body(encoder.finish());
    assert_eq!(request.send().await.expect("an answer").status(), 204);
}

fn is_three(result: &Value) -> bool {
    result[0]["value"][1] == "3"
}

/// Of the observations, those in (2, 4].
const COUNTED: &str = "histogram_count(wait{job=\"pushed\"}) * histogram_fraction(2, 4, wait{job=\"pushed\"})";

fn has_trace(data: &Value) -> bool {
    data[0]["exemplars"][0]["labels"]["trace_id"] == "abc" && data[0]["seriesLabels"]["queue"] == "mail"
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_takes_histograms_exemplars_and_metadata() {
    let Some(receiver) = prometheus(|_| "global: {}\n".to_owned()).await else { return };
    let more = format!(
        "remote_write: [{{url: 'http://{}/api/v1/write', send_native_histograms: true, send_exemplars: true, \
         metadata_config: {{send_interval: 200ms}}, \
         queue_config: {{batch_send_deadline: 100ms, min_shards: 4}}}}]",
        receiver.addr
    );
    let rig = Rig::start_scraping(traced(), &more, &[]).await;
    push_histogram(&rig).await;
    receiver.until(COUNTED, is_three).await;
    receiver.until("jobs_total{job=\"app\",queue=\"mail\"}", is_seven).await;
    let (start, end) = ((now().0 / 1000 - 60).to_string(), (now().0 / 1000 + 60).to_string());
    let asked = [("query", "jobs_total"), ("start", &*start), ("end", &*end)];
    receiver.until_asked("query_exemplars", &asked, has_trace).await;
    let sum = |metrics: &str, name: &str| -> f64 {
        let values = metrics.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit_once(' '));
        values.map(|(_, value)| value.parse::<f64>().expect("a number")).sum()
    };
    let metrics = rig.get("/metrics").send().await.expect("an answer").text().await.expect("text");
    assert_eq!(sum(&metrics, "prometheus_remote_storage_histograms_total{"), 1.0, "{metrics}");
    assert_eq!(sum(&metrics, "prometheus_remote_storage_histograms_failed_total{"), 0.0);
    assert_eq!(sum(&metrics, "prometheus_remote_storage_exemplars_failed_total{"), 0.0);
    assert_eq!(sum(&metrics, "prometheus_remote_storage_samples_failed_total{"), 0.0);
    assert!(sum(&metrics, "prometheus_remote_storage_metadata_total{") >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_sends_everything_to_a_collector_under_2_0() {
    let receiver = Rig::start("").await;
    let more = format!(
        "remote_write: [{{url: 'http://{}/api/v1/write', protobuf_message: io.prometheus.write.v2.Request, \
         send_exemplars: true, write_relabel_configs: [{{target_label: sent, replacement: 'yes'}}], \
         queue_config: {{batch_send_deadline: 100ms}}}}]",
        receiver.addr
    );
    let sender = Rig::start_scraping(traced(), &more, &[]).await;
    push_histogram(&sender).await;
    receiver.until(&format!("/api/v1/query?query={COUNTED}"), |data| is_three(&data["result"])).await;
    let (start, end) = (now().0 / 1000 - 60, now().0 / 1000 + 60);
    let path = format!("/api/v1/query_exemplars?query=jobs_total{{sent=\"yes\"}}&start={start}&end={end}");
    receiver.until(&path, has_trace).await;
    let metrics = receiver.get("/metrics").send().await.expect("an answer").text().await.expect("text");
    assert!(!metrics.contains("protocol=\"remote_write_2\",code=\"400\""), "{metrics}");
}
