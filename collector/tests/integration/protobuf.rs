//! A real Prometheus as the target of two jobs, one that asks for text and one for protobuf.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::programs::prometheus;
use crate::rig::Rig;

/// Names and labels of what a job's series have in common however they were scraped.
fn series(data: &Value, job: &str) -> BTreeSet<String> {
    let list = data.as_array().expect("a list");
    let of_job = list.iter().filter(|labels| labels["job"] == job);
    let texts = of_job.map(|labels| {
        let mut labels = labels.as_object().expect("labels").clone();
        labels.remove("job");
        Value::Object(labels).to_string()
    });
    // The target counts its requests by what was asked for.
    texts.filter(|text| !text.contains("_http_")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_is_scraped_as_protobuf_as_it_is_as_text() {
    let Some(target) = prometheus(|_| "global: {}\n".to_owned()).await else { return };
    let rig = Rig::start(&format!(
        "- {{job_name: text, scrape_interval: 200ms, scrape_timeout: 200ms, static_configs: [{{targets: ['{addr}']}}]}}\n\
         - {{job_name: proto, scrape_interval: 200ms, scrape_timeout: 200ms, scrape_native_histograms: true, \
         static_configs: [{{targets: ['{addr}']}}]}}\n",
        addr = target.addr
    ))
    .await;
    for job in ["text", "proto"] {
        let path = format!("/api/v1/query?query=scrape_samples_scraped{{job=\"{job}\"}} > 100");
        rig.until(&path, |data| !data["result"].as_array().is_none_or(Vec::is_empty)).await;
    }
    let path = "/api/v1/series?match[]={job=~\"text|proto\"}";
    let same = |data: &Value| {
        let (text, proto) = (series(data, "text"), series(data, "proto"));
        text.len() > 100 && text == proto
    };
    rig.until(path, same).await;
    // A summary, a histogram and the kind of a counter are as the text says them.
    let path = "/api/v1/query?query=go_gc_duration_seconds{job=\"proto\",quantile=\"0.5\"}";
    rig.until(path, |data| data["result"].as_array().is_some_and(|list| list.len() == 1)).await;
    let path = "/api/v1/query?query=prometheus_tsdb_compaction_chunk_range_seconds_bucket{job=\"proto\",le=\"%2BInf\"}";
    rig.until(path, |data| data["result"].as_array().is_some_and(|list| list.len() == 1)).await;
    rig.until("/api/v1/metadata?metric=prometheus_build_info", |data| {
        data["prometheus_build_info"][0]["type"] == "gauge"
    })
    .await;
}
