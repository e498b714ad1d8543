//! Bodies in protobuf, encoded by prost from messages that are written down here once more.

use prost::Message;
use telemetry::exposition::protobuf::CONTENT_TYPE;

use super::*;

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Seconds {
    #[prost(int64, tag = "1")]
    seconds: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Traced {
    #[prost(message, repeated, tag = "1")]
    label: Vec<Pair>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(message, tag = "3")]
    timestamp: Option<Seconds>,
}

#[derive(Clone, PartialEq, Message)]
struct Counter {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(message, tag = "2")]
    exemplar: Option<Traced>,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, tag = "1")]
    cumulative_count: u64,
    #[prost(double, tag = "2")]
    upper_bound: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, tag = "1")]
    sample_count: u64,
    #[prost(double, tag = "2")]
    sample_sum: f64,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(sint32, tag = "5")]
    schema: i32,
    #[prost(double, tag = "6")]
    zero_threshold: f64,
    #[prost(uint64, tag = "7")]
    zero_count: u64,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<Span>,
    #[prost(sint64, repeated, tag = "13")]
    positive_delta: Vec<i64>,
    #[prost(message, repeated, tag = "16")]
    exemplars: Vec<Traced>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<Pair>,
    #[prost(message, tag = "3")]
    counter: Option<Counter>,
    #[prost(message, tag = "7")]
    histogram: Option<Histogram>,
    #[prost(int64, tag = "6")]
    timestamp_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Family {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    help: String,
    #[prost(int32, tag = "3")]
    kind: i32,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
}

fn pair(name: &str, value: &str) -> Pair {
    Pair { name: name.to_owned(), value: value.to_owned() }
}

fn traced(id: &str, seconds: Option<i64>) -> Traced {
    Traced { label: vec![pair("trace_id", id)], value: 0.5, timestamp: seconds.map(|seconds| Seconds { seconds }) }
}

fn counter(exemplar: Option<Traced>) -> Family {
    let value = Counter { value: 7.0, exemplar };
    let metric = Metric { label: vec![pair("queue", "a\"b")], counter: Some(value), ..Metric::default() };
    Family { name: "jobs_total".to_owned(), help: "Jobs.".to_owned(), kind: 0, metric: vec![metric] }
}

/// Five observations: two in (1, 2], three in (2, 4].
fn sound() -> Histogram {
    Histogram {
        sample_count: 5,
        sample_sum: 12.5,
        zero_threshold: 0.001,
        positive_span: vec![Span { offset: 1, length: 2 }],
        positive_delta: vec![2, 1],
        exemplars: vec![traced("native", Some(1_700_000_000)), traced("undated", None)],
        ..Histogram::default()
    }
}

fn waits(histograms: &[(&str, Histogram)]) -> Family {
    let metric = |(queue, histogram): &(&str, Histogram)| Metric {
        label: vec![pair("queue", queue)],
        histogram: Some(histogram.clone()),
        ..Metric::default()
    };
    Family { name: "wait".to_owned(), kind: 4, metric: histograms.iter().map(metric).collect(), ..Family::default() }
}

fn answer_of(families: &[Family]) -> Answer {
    let body = families.iter().flat_map(Message::encode_length_delimited_to_vec).collect();
    Answer { status: StatusCode::OK, content_type: CONTENT_TYPE, body }
}

const NATIVE: &str = "  scrape_native_histograms: true\n";

impl Rig {
    /// The newest histogram of every series of `wait`; None where it has ended.
    fn waits(&self) -> Vec<(String, Option<telemetry::Histogram>)> {
        let found = self.storage.select(&[Matcher::equal("__name__", "wait")], Timestamp::MIN, Timestamp::MAX);
        let mut list: Vec<_> = found
            .iter()
            .map(|series| {
                let newest = series.histograms.last().map(|(_, histogram)| (**histogram).clone());
                (series.labels.to_string(), newest.filter(|histogram| !histogram.is_stale()))
            })
            .collect();
        list.sort_by(|a, b| a.0.cmp(&b.0));
        list
    }
}

fn stored() -> telemetry::Histogram {
    telemetry::Histogram {
        zero_threshold: 0.001,
        count: 5.0,
        sum: 12.5,
        positive: vec![(1, 2.0), (2, 3.0)],
        ..telemetry::Histogram::default()
    }
}

const OF_A: &str = r#"wait{instance="one", job="test", queue="a"}"#;

#[tokio::test]
async fn native_histograms_are_stored_beside_floats_and_counted() {
    let families = [counter(Some(traced("counter", Some(1_700_000_000)))), waits(&[("a", sound())])];
    let rig = Rig::start(NATIVE, answer_of(&families)).await;
    rig.scraped().await;
    assert_eq!(rig.newest("jobs_total"), [r#"jobs_total{instance="one", job="test", queue="a\"b"} 7"#]);
    assert_eq!(rig.waits(), [(OF_A.to_owned(), Some(stored()))]);
    assert!(rig.newest("wait_count").is_empty() && rig.newest("wait_bucket").is_empty());
    assert_eq!(rig.newest("scrape_samples_scraped"), [r#"scrape_samples_scraped{instance="one", job="test"} 2"#]);
    assert_eq!(rig.newest("scrape_series_added"), [r#"scrape_series_added{instance="one", job="test"} 0"#]);
    let status = rig.status.snapshot()[0].clone();
    assert_eq!((status.samples, status.metadata["jobs_total"].help.as_str()), (2, "Jobs."));
    assert_eq!(status.metadata["wait"].kind, "histogram");
    let found = rig.storage.exemplars().select(&[vec![]], Timestamp::MIN, Timestamp::MAX);
    let mut traces: Vec<_> = found.iter().flat_map(|(s, list)| list.iter().map(move |e| (s, e))).collect();
    traces.sort_by_key(|(_, exemplar)| exemplar.labels.to_string());
    let traces: Vec<_> = traces.iter().map(|(s, e)| (s.metric_name(), e.labels.get("trace_id"))).collect();
    assert_eq!(traces, [(Some("jobs_total"), Some("counter")), (Some("wait"), Some("native"))]);
    let accept = rig.fake.headers.lock().unwrap()["accept"].clone();
    assert!(accept.to_str().unwrap().starts_with("application/vnd.google.protobuf;"));
}

#[tokio::test]
async fn a_vanished_histogram_and_a_failed_scrape_are_marked_stale() {
    let rig = Rig::start(NATIVE, answer_of(&[waits(&[("a", sound()), ("b", sound())])])).await;
    rig.scraped().await;
    let of_b = r#"wait{instance="one", job="test", queue="b"}"#.to_owned();
    assert_eq!(rig.waits(), [(OF_A.to_owned(), Some(stored())), (of_b.clone(), Some(stored()))]);
    rig.answer(answer_of(&[waits(&[("a", sound())])]));
    rig.scraped().await;
    assert_eq!(rig.waits(), [(OF_A.to_owned(), Some(stored())), (of_b.clone(), None)]);
    rig.answer(Answer { status: StatusCode::SERVICE_UNAVAILABLE, ..Answer::text("") });
    rig.scraped().await;
    assert_eq!(rig.waits(), [(OF_A.to_owned(), None), (of_b.clone(), None)]);
    rig.answer(answer_of(&[waits(&[("a", sound())])]));
    rig.scraped().await;
    assert_eq!(rig.waits(), [(OF_A.to_owned(), Some(stored())), (of_b, None)]);
    // Series that new rules drop end with the old rules.
    let drop = "  metric_relabel_configs: [{source_labels: [__name__], regex: wait, action: drop}]\n";
    rig.config.send(Arc::new(serde_saphyr::from_str(&format!("{}{drop}", rig.yaml)).unwrap())).unwrap();
    rig.until("a marker", || rig.waits()[0].1.is_none()).await;
    rig.config.send(Arc::new(serde_saphyr::from_str(&rig.yaml).unwrap())).unwrap();
    rig.until("a histogram", || rig.waits()[0].1.is_some()).await;
    rig.config.send(Arc::new(serde_saphyr::from_str("scrape_configs: []").unwrap())).unwrap();
    rig.until("a marker", || rig.waits()[0].1.is_none()).await;
}

#[tokio::test]
async fn a_histogram_that_is_both_gives_what_is_configured() {
    let bucket = vec![Bucket { cumulative_count: 2, upper_bound: 2.0 }];
    let both = answer_of(&[waits(&[("a", Histogram { bucket, ..sound() })])]);
    for (job, native, buckets) in [
        ("", 0, 2),
        (NATIVE, 1, 0),
        ("  scrape_native_histograms: true\n  always_scrape_classic_histograms: true\n", 1, 2),
        ("  scrape_protocols: [PrometheusProto]\n", 0, 2),
    ] {
        let rig = Rig::start(job, both.clone()).await;
        rig.scraped().await;
        assert_eq!(rig.waits().len(), native, "{job}");
        let found = rig.newest("wait_bucket");
        assert_eq!(found.len(), buckets, "{job}: {found:?}");
        assert_eq!(rig.newest("wait_sum").len(), buckets / 2, "{job}");
        assert!(found.first().is_none_or(|line| line.contains(r#"le="+Inf""#) && line.ends_with("} 5")), "{found:?}");
        assert!(found.last().is_none_or(|line| line.contains(r#"le="2.0""#) && line.ends_with("} 2")), "{found:?}");
    }
}

#[tokio::test]
async fn limits_hold_for_histograms_too() {
    let two = answer_of(&[counter(None), waits(&[("a", sound())])]);
    for (limit, error) in [
        ("  sample_limit: 1\n", "sample limit exceeded"),
        ("  label_limit: 3\n", "label_limit exceeded (metric: jobs_total, number of labels: 4, limit: 3)"),
    ] {
        let rig = Rig::start(&format!("{NATIVE}{limit}"), two.clone()).await;
        rig.scraped().await;
        assert_eq!(rig.error(), error);
        assert!(rig.newest("jobs_total").is_empty() && rig.waits().is_empty());
        let counted = r#"scrape_samples_post_metric_relabeling{instance="one", job="test"} "#;
        let expected = if limit.contains("sample") { 2 } else { 0 };
        assert_eq!(rig.newest("scrape_samples_post_metric_relabeling"), [format!("{counted}{expected}")]);
    }
    let rig = Rig::start(&format!("{NATIVE}  native_histogram_bucket_limit: 1\n"), two.clone()).await;
    rig.scraped().await;
    let merged = telemetry::Histogram { schema: -1, positive: vec![(1, 5.0)], ..stored() };
    assert_eq!(rig.waits(), [(OF_A.to_owned(), Some(merged.clone()))]);
    let rig = Rig::start(&format!("{NATIVE}  native_histogram_min_bucket_factor: 3\n"), two).await;
    rig.scraped().await;
    assert_eq!(rig.waits(), [(OF_A.to_owned(), Some(merged))]);
}

#[tokio::test]
async fn an_unsound_histogram_or_message_fails_the_scrape_by_name() {
    let unsound = Histogram { positive_delta: vec![2], ..sound() };
    let rig = Rig::start(NATIVE, answer_of(&[counter(None), waits(&[("a", unsound)])])).await;
    rig.scraped().await;
    assert_eq!(rig.error(), r#"histogram wait{queue="a"}: the spans hold 2 buckets, but 1 counts are there"#);
    assert!(rig.newest("jobs_total").is_empty());
    assert!(rig.metrics.expose().contains(r#"collector_scrape_failures_total{reason="parse"}"#));

    let rig = Rig::start(NATIVE, Answer { body: b"\x05\x0a".to_vec(), ..answer_of(&[]) }).await;
    rig.scraped().await;
    assert_eq!(rig.error(), "malformed protobuf at byte 1: a length beyond the end of its message");
}

#[tokio::test]
async fn a_histogram_s_own_time_is_honoured_or_not() {
    let at = Clock::System.now().as_millis() - 5000;
    let mut dated = waits(&[("a", sound())]);
    dated.metric[0].timestamp_ms = at;
    let stored = async |job: &str| {
        let rig = Rig::start(job, answer_of(std::slice::from_ref(&dated))).await;
        rig.scraped().await;
        let found = rig.storage.select(&[Matcher::equal("__name__", "wait")], Timestamp::MIN, Timestamp::MAX);
        found[0].histograms.iter().map(|(time, _)| time.as_millis() == at).collect::<Vec<_>>()
    };
    assert_eq!(stored(NATIVE).await, [true], "the same sample again and again");
    assert!(stored(&format!("{NATIVE}  honor_timestamps: false\n")).await.iter().all(|own| !own));
}
