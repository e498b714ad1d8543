//! Scrapes of an in-process target over loopback, with the program's time in the test's hand.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use storage::Storage;
use telemetry::{Labels, Matcher, is_stale_nan};
use tokio::sync::watch;

use super::*;
use crate::config::Config as File;
use crate::discovery;
use crate::write::Writer;

mod client;
mod limits;
mod protobuf;
mod tls;

/// What the target answers next.
#[derive(Clone)]
struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: Vec<u8>,
}

impl Answer {
    fn text(body: &str) -> Self {
        Answer { status: StatusCode::OK, content_type: "text/plain; version=0.0.4", body: body.into() }
    }
}

#[derive(Clone)]
struct Fake {
    answer: Arc<Mutex<Answer>>,
    requests: Arc<AtomicUsize>,
    headers: Arc<Mutex<HeaderMap>>,
}

async fn answer(State(fake): State<Fake>, headers: HeaderMap) -> Response {
    fake.requests.fetch_add(1, Ordering::SeqCst);
    *fake.headers.lock().unwrap() = headers;
    let answer = fake.answer.lock().unwrap().clone();
    (answer.status, [("content-type", answer.content_type)], answer.body).into_response()
}

/// A collector's front half, one job with one target, scraped every 100 ms.
struct Rig {
    fake: Fake,
    config: watch::Sender<Arc<File>>,
    yaml: String,
    storage: Arc<Storage>,
    status: Status,
    metrics: Metrics,
    shutdown: Shutdown,
}

impl Rig {
    /// `job` holds further keys of the scrape configuration; `ADDR` in it stands for the target's address.
    async fn start(job: &str, first: Answer) -> Rig {
        let fake = Fake { answer: Arc::new(Mutex::new(first)), requests: Arc::default(), headers: Arc::default() };
        let listener = service::http::bind(([127, 0, 0, 1], 0).into(), "test").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let router = Router::new().route("/metrics", get(answer)).with_state(fake.clone());
        service::task::spawn("fake-target", service::http::serve(listener, router, shutdown.clone()));

        let yaml = format!(
            "global: {{scrape_interval: 100ms, scrape_timeout: 100ms}}\nscrape_configs:\n- job_name: test\n  \
             static_configs: [{{targets: ['{addr}'], labels: {{instance: one}}}}]\n{job}"
        );
        let file: File = serde_saphyr::from_str(&yaml).expect(&yaml);
        let (config, watched) = watch::channel(Arc::new(file));
        let storage = Arc::new(Storage::new(storage::Config::default()));
        let (metrics, mut tasks) = (Metrics::new(), Tasks::new());
        let (writer, write) = Writer::new(storage.clone(), Clock::System, &metrics);
        tasks.spawn("write", writer.run());
        let aws = crate::aws::Aws::new(&metrics);
        let (targets, _) = discovery::spawn(&mut tasks, watched, aws, Clock::System, &metrics, shutdown.clone());
        let none = Labels::empty();
        let status = spawn(&mut tasks, targets, write, &none, Clock::System, &metrics, shutdown.clone()).unwrap();
        service::task::spawn("rig", tasks.run(shutdown.clone(), Duration::from_secs(1)));
        Rig { fake, config, yaml, storage, status, metrics, shutdown }
    }

    fn answer(&self, answer: Answer) {
        *self.fake.answer.lock().unwrap() = answer;
    }

    /// Waits for two scrapes that began after this call: the second proves that the first is stored.
    async fn scraped(&self) {
        let enough = self.fake.requests.load(Ordering::SeqCst) + 3;
        self.until("scrapes", || self.fake.requests.load(Ordering::SeqCst) >= enough).await;
    }

    async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let wait = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(20), wait).await.is_err() {
            panic!("never: {what}; last error: {:?}", self.status.snapshot()[0].last_error);
        }
    }

    /// The newest value of every series with this name, "stale" where it has ended; sorted.
    fn newest(&self, name: &str) -> Vec<String> {
        let found = self.storage.select(&[Matcher::equal("__name__", name)], Timestamp::MIN, Timestamp::MAX);
        let mut lines: Vec<String> = found
            .iter()
            .map(|series| {
                let value = series.samples.last().map(|s| s.1).unwrap();
                let value = if is_stale_nan(value) { "stale".to_owned() } else { value.to_string() };
                format!("{} {value}", series.labels)
            })
            .collect();
        lines.sort();
        lines
    }

    fn error(&self) -> String {
        self.status.snapshot()[0].last_error.clone()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.shutdown.request();
    }
}

#[tokio::test]
async fn a_scrape_stores_samples_and_its_report_under_the_target_s_labels() {
    let rig = Rig::start("", Answer::text("# HELP a Things.\n# TYPE a counter\na{x=\"1\"} 3\nb 4\n")).await;
    rig.scraped().await;
    assert_eq!(rig.newest("a"), [r#"a{instance="one", job="test", x="1"} 3"#]);
    assert_eq!(rig.newest("up"), [r#"up{instance="one", job="test"} 1"#]);
    assert_eq!(rig.newest("scrape_samples_scraped"), [r#"scrape_samples_scraped{instance="one", job="test"} 2"#]);
    assert_eq!(rig.newest("scrape_series_added"), [r#"scrape_series_added{instance="one", job="test"} 0"#]);
    let status = rig.status.snapshot()[0].clone();
    assert_eq!((status.health, status.samples, status.last_error.as_str()), (TargetHealth::Up, 2, ""));
    assert_eq!(status.metadata["a"], Metadata { kind: "counter", help: "Things.".into(), unit: String::new() });
    let headers = rig.fake.headers.lock().unwrap().clone();
    assert_eq!(headers["x-prometheus-scrape-timeout-seconds"], "0.1");
    assert_eq!(headers["accept-encoding"], "gzip");
    assert!(headers["accept"].to_str().unwrap().starts_with("application/openmetrics-text;version=1.0.0"));
}

#[tokio::test]
async fn exemplars_are_kept_under_the_labels_that_their_series_have_in_the_store() {
    let body = |of_two: &str| Answer {
        content_type: "application/openmetrics-text; version=1.0.0",
        ..Answer::text(&format!(
            "# TYPE hits counter\nhits_total{{x=\"1\"}} 3 # {{trace_id=\"first\"}} 1\n\
             hits_total{{x=\"2\"}} 4{of_two}\nhits_total{{x=\"3\"}} 5 # {{trace_id=\"gone\"}} 1\n# EOF\n"
        ))
    };
    let dropping = "  metric_relabel_configs: [{source_labels: [x], regex: '3', action: drop}]";
    let rig = Rig::start(dropping, body("")).await;
    rig.scraped().await;
    let shown = || {
        let found = rig.storage.exemplars().select(&[vec![]], Timestamp::MIN, Timestamp::MAX);
        let trace = |e: &storage::Exemplar| e.labels.get("trace_id").unwrap_or_default().to_owned();
        found.iter().map(|(series, list)| format!("{series} {}", trace(&list[0]))).collect::<Vec<_>>()
    };
    let first = r#"hits_total{instance="one", job="test", x="1"} first"#;
    assert_eq!(shown(), [first]);
    // A series gets its first exemplar when its line has long been known.
    rig.answer(body(" # {trace_id=\"second\"} 0.5 1700000000.5"));
    rig.scraped().await;
    assert_eq!(shown(), [first, r#"hits_total{instance="one", job="test", x="2"} second"#]);
    let found = rig.storage.exemplars().select(&[vec![Matcher::equal("x", "2")]], Timestamp::MIN, Timestamp::MAX);
    assert_eq!(found[0].1.len(), 1, "a target repeats its exemplars");
    assert_eq!((found[0].1[0].value, found[0].1[0].timestamp), (0.5, Timestamp(1_700_000_000_500)));
    // What has no time of its own has that of its scrape.
    rig.answer(body(" # {trace_id=\"late\"} 1 1600000000"));
    rig.scraped().await;
    let exposed = rig.metrics.expose();
    assert!(exposed.contains(r#"collector_storage_exemplars_dropped_total{reason="out_of_order"}"#), "{exposed}");
}

#[tokio::test]
async fn a_vanished_series_and_a_failed_scrape_are_marked_stale() {
    let rig = Rig::start("", Answer::text("a 1\nb 2\n")).await;
    rig.scraped().await;
    rig.answer(Answer::text("a 1\n"));
    rig.scraped().await;
    assert_eq!(rig.newest("b"), [r#"b{instance="one", job="test"} stale"#]);
    assert_eq!(rig.newest("a"), [r#"a{instance="one", job="test"} 1"#]);

    rig.answer(Answer { status: StatusCode::SERVICE_UNAVAILABLE, ..Answer::text("") });
    rig.scraped().await;
    assert_eq!(rig.newest("a"), [r#"a{instance="one", job="test"} stale"#]);
    assert_eq!(rig.newest("up"), [r#"up{instance="one", job="test"} 0"#]);
    assert_eq!(rig.error(), "server returned HTTP status 503 Service Unavailable");
    assert!(rig.metrics.expose().contains(r#"collector_scrape_failures_total{reason="http_status"}"#));

    rig.answer(Answer::text("a 5\n"));
    rig.scraped().await;
    assert_eq!(rig.newest("a"), [r#"a{instance="one", job="test"} 5"#]);
}

#[tokio::test]
async fn a_target_that_is_gone_takes_its_series_and_its_report_along() {
    let rig = Rig::start("", Answer::text("a 1\n")).await;
    rig.scraped().await;
    let without = "scrape_configs: []";
    rig.config.send(Arc::new(serde_saphyr::from_str(without).unwrap())).unwrap();
    rig.until("markers", || rig.newest("up")[0].ends_with("stale")).await;
    assert!(rig.newest("a")[0].ends_with("stale"));
    assert!(rig.status.snapshot().is_empty());
}

#[tokio::test]
async fn new_relabelling_continues_the_series_that_it_keeps() {
    let rig = Rig::start("", Answer::text("a 1\nb 2\n")).await;
    rig.scraped().await;
    let drop_b = "  metric_relabel_configs: [{source_labels: [__name__], regex: b, action: drop}]\n";
    rig.config.send(Arc::new(serde_saphyr::from_str(&format!("{}{drop_b}", rig.yaml)).unwrap())).unwrap();
    rig.until("a marker", || rig.newest("b")[0].ends_with("stale")).await;
    let a = rig.storage.select(&[Matcher::equal("__name__", "a")], Timestamp::MIN, Timestamp::MAX);
    assert!(a[0].samples.iter().all(|(_, value)| *value == 1.0), "{a:?}");
}

#[tokio::test]
async fn limits_fail_the_whole_scrape() {
    for (job, error) in [
        ("  sample_limit: 1\n", "sample limit exceeded"),
        ("  body_size_limit: 4B\n", "body size limit exceeded"),
        ("  label_limit: 3\n", "label_limit exceeded (metric: b, number of labels: 4, limit: 3)"),
        (
            "  label_value_length_limit: 4\n",
            "label_value_length_limit exceeded (metric: b, label name: x, length: 5, limit: 4)",
        ),
        (
            "  label_name_length_limit: 7\n",
            "label_name_length_limit exceeded (metric: a, label name: __name__, length: 8, limit: 7)",
        ),
    ] {
        let rig = Rig::start(job, Answer::text("a 1\nb{x=\"12345\"} 2\n")).await;
        rig.scraped().await;
        assert_eq!(rig.error(), error, "{job}");
        assert_eq!(rig.newest("up"), [r#"up{instance="one", job="test"} 0"#], "{job}");
        assert!(rig.newest("a").is_empty(), "{job}");
    }
}

#[tokio::test]
async fn a_job_with_too_many_targets_fails_as_a_whole() {
    let rig = Rig::start("  target_limit: 1\n", Answer::text("a 1\n")).await;
    rig.scraped().await;
    assert_eq!(rig.newest("up"), [r#"up{instance="one", job="test"} 1"#]);
    let more = rig.yaml.replacen("targets: [", "targets: ['127.0.0.1:1', ", 1).replace(", labels: {instance: one}", "");
    rig.config.send(Arc::new(serde_saphyr::from_str(&more).expect(&more))).unwrap();
    let down = || rig.newest("up").iter().filter(|line| line.ends_with(" 0")).count();
    rig.until("both down", || down() == 2).await;
    assert_eq!(rig.error(), "target_limit exceeded (number of targets: 2, limit: 1)");
    assert!(rig.metrics.expose().contains("collector_scrape_failures_total{reason=\"target_limit\"}"));
}

#[tokio::test]
async fn a_conflict_of_labels_is_settled_by_honor_labels() {
    let body = Answer::text("a{instance=\"own\",job=\"\",exported_instance=\"x\"} 1\n");
    let rig = Rig::start("", body.clone()).await;
    rig.scraped().await;
    let renamed = r#"a{exported_exported_instance="own", exported_instance="x", instance="one", job="test"} 1"#;
    assert_eq!(rig.newest("a"), [renamed]);

    let rig = Rig::start("  honor_labels: true\n", body).await;
    rig.scraped().await;
    assert_eq!(rig.newest("a"), [r#"a{exported_instance="x", instance="own"} 1"#]);
}

#[tokio::test]
async fn timestamps_are_honoured_or_not_as_configured() {
    let body = Answer::text(&format!("a 1 {}\n", Clock::System.now().as_millis() - 5000));
    let stored = async |job| {
        let rig = Rig::start(job, body.clone()).await;
        rig.scraped().await;
        rig.storage.select(&[Matcher::equal("__name__", "a")], Timestamp::MIN, Timestamp::MAX)[0].samples.len()
    };
    assert_eq!(stored("").await, 1, "the same sample again and again");
    assert!(stored("  honor_timestamps: false\n").await > 1);
}

#[tokio::test]
async fn an_unknown_content_type_fails_unless_a_fallback_is_named() {
    let html = Answer { content_type: "text/html", ..Answer::text("a 1\n") };
    let rig = Rig::start("", html.clone()).await;
    rig.scraped().await;
    assert!(rig.error().starts_with(r#"received unsupported Content-Type "text/html""#), "{}", rig.error());

    let rig = Rig::start("  fallback_scrape_protocol: PrometheusText0.0.4\n", html).await;
    rig.scraped().await;
    assert_eq!(rig.newest("a"), [r#"a{instance="one", job="test"} 1"#]);
}

#[tokio::test]
async fn a_body_that_cannot_be_read_names_the_line() {
    let rig = Rig::start("", Answer::text("a 1\nb{ 2\n")).await;
    rig.scraped().await;
    assert!(rig.error().contains("line 2"), "{}", rig.error());
    assert!(rig.newest("a").is_empty());
}

#[tokio::test]
async fn bounds_are_stored_in_one_spelling() {
    let body = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"2500000\"} 1\nh_bucket{le=\"+Inf\"} 2\n\
                # TYPE s summary\ns{quantile=\"0.50\"} 1\n# TYPE g gauge\ng_bucket{le=\"1\"} 1\n";
    let rig = Rig::start("", Answer::text(body)).await;
    rig.scraped().await;
    let bounds = |name: &str, label: &str| {
        let found = rig.storage.select(&[Matcher::equal("__name__", name)], Timestamp::MIN, Timestamp::MAX);
        let mut values: Vec<String> = found.iter().map(|s| s.labels.get(label).unwrap_or_default().into()).collect();
        values.sort();
        values
    };
    assert_eq!(bounds("h_bucket", "le"), ["+Inf", "1.0", "2.5e+06"]);
    assert_eq!(bounds("s", "quantile"), ["0.5"]);
    assert_eq!(bounds("g_bucket", "le"), ["1"], "no bound of a histogram");
}

#[tokio::test]
async fn further_report_series_are_written_where_they_are_asked_for() {
    let body = "a 1\n";
    let rig = Rig::start("  extra_scrape_metrics: true\n  sample_limit: 7\n", Answer::text(body)).await;
    rig.scraped().await;
    let value = |name: &str| rig.newest(name).first().and_then(|line| line.rsplit_once(' ').map(|(_, v)| v.to_owned()));
    assert_eq!(value("scrape_timeout_seconds").as_deref(), Some("0.1"));
    assert_eq!(value("scrape_sample_limit").as_deref(), Some("7"));
    assert_eq!(value("scrape_body_size_bytes").as_deref(), Some("4"));
    let less = rig.yaml.replace("extra_scrape_metrics: true", "body_size_limit: 2B");
    rig.config.send(Arc::new(serde_saphyr::from_str(&less).unwrap())).unwrap();
    rig.until("markers", || value("scrape_body_size_bytes").as_deref() == Some("stale")).await;
    assert_eq!(value("scrape_timeout_seconds").as_deref(), Some("stale"));
    let both = less.replace("body_size_limit: 2B", "body_size_limit: 2B\n  extra_scrape_metrics: true");
    rig.config.send(Arc::new(serde_saphyr::from_str(&both).unwrap())).unwrap();
    rig.until("the size", || value("scrape_body_size_bytes").as_deref() == Some("-1")).await;
}

#[tokio::test]
async fn series_with_their_own_times_end_where_that_is_tracked() {
    for (job, ended) in [("", false), ("  track_timestamps_staleness: true\n", true)] {
        let dated = format!("a 1 {}\n", Clock::System.now().as_millis());
        let rig = Rig::start(job, Answer::text(&format!("{dated}b 1\n"))).await;
        rig.scraped().await;
        rig.answer(Answer::text("b 2\n"));
        rig.scraped().await;
        assert_eq!(rig.newest("a")[0].ends_with("stale"), ended, "{job}");
    }
}
