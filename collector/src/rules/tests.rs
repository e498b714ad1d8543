use std::path::Path;

use storage::Storage;
use telemetry::Sample;
use tokio::sync::watch;

use super::alerting::AlertState;
use super::*;
use crate::config::StorageConfig;
use crate::notify::queue::Queue;
use crate::query::Embedded;
use crate::write::{Origin, Writer};

const RULES: &str = r#"
groups:
  - name: g
    rules:
      - {record: service:failing, expr: max by (service) (failing)}
      - alert: Failing
        expr: service:failing > 0
        for: 30s
        annotations: {summary: '{{ $labels.service }} at {{ $value }}'}
"#;

/// The stage over a storage of its own, on paused time.
struct Stage {
    directory: tempfile::TempDir,
    config: watch::Sender<Arc<WholeConfig>>,
    clock: Clock,
    write: WriteHandle,
    querier: Querier,
    queue: Arc<Queue>,
    status: Status,
    shutdown: Shutdown,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Stage {
    fn start(rules: &str) -> Stage {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("it.rules.yml");
        std::fs::write(&file, rules).expect("written");
        let yaml = format!("global: {{evaluation_interval: 10s}}\nrule_files: ['{}']\n", file.display());
        let config: WholeConfig = service::config::parse_yaml(&yaml, Path::new("c.yml")).expect("a configuration");
        let (config, receiver) = watch::channel(Arc::new(config));
        let (clock, metrics, shutdown) =
            (Clock::starting_at(Timestamp(1_700_000_000_000)), Metrics::new(), Shutdown::new());
        let storage = Arc::new(Storage::new(StorageConfig::default().build()));
        let (writer, write) = Writer::new(storage.clone(), clock, &metrics);
        service::task::spawn("write", writer.run());
        let querier = Querier::Embedded(Arc::new(Embedded::new(&crate::query::Config::default(), storage)));
        let (outbox, queue) = Outbox::with_queue();
        let inputs = Inputs {
            config: receiver,
            repeated: watch::channel(0).1,
            clock,
            querier: querier.clone(),
            write: write.clone(),
            outbox,
            state: None,
            listen_url: Url::parse("http://localhost/").expect("a URL"),
        };
        let mut tasks = Tasks::new();
        let status = spawn(inputs, &metrics, &mut tasks, shutdown.clone()).expect("good rules");
        let running = service::task::spawn("stage", tasks.run(shutdown.clone(), Duration::from_secs(5)));
        Stage { directory, config, clock, write, querier, queue, status, shutdown, running }
    }

    async fn failing(&self, value: f64) {
        let labels = Labels::from_pairs([("__name__", "failing"), ("service", "order")]);
        let sample = Sample { labels, timestamp: self.clock.now(), value };
        self.write.write(vec![sample], Origin::Pushed).await.expect("the writer runs");
    }

    async fn seconds(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    fn states(&self) -> Vec<(String, AlertState)> {
        let alert = |(_, _, alert): (_, _, AlertStatus)| {
            (alert.labels.get("service").unwrap_or_default().to_owned(), alert.state)
        };
        self.status.active_alerts().into_iter().map(alert).collect()
    }

    async fn count(&self, expr: &str) -> usize {
        let answer = self.querier.instant(expr, self.clock.now()).await.expect("an answer");
        live::vector(answer.value).expect("a vector").len()
    }

    async fn reload(&self, rules: &str) {
        std::fs::write(self.directory.path().join("it.rules.yml"), rules).expect("written");
        self.config.send_modify(|_| {});
        self.seconds(1).await;
    }

    async fn stop(self) {
        self.shutdown.request();
        self.running.await.expect("no panic").expect("no failure");
        // Ends only when the outbox is closed, which is when the rules have stopped.
        while self.queue.take(100).await.is_some() {}
    }
}

#[tokio::test(start_paused = true)]
async fn an_alert_lives_from_pending_to_resolved_on_recorded_samples() {
    let stage = Stage::start(RULES);
    stage.failing(0.5).await;
    stage.seconds(15).await;
    assert_eq!(stage.states(), [("order".to_owned(), AlertState::Pending)]);
    assert_eq!(stage.count(r#"ALERTS{alertstate="pending"}"#).await, 1);
    stage.seconds(30).await;
    assert_eq!(stage.states(), [("order".to_owned(), AlertState::Firing)]);
    let firing = stage.queue.take(10).await.expect("open");
    assert_eq!(firing[0].annotations.get("summary"), Some("order at 0.5"));
    assert!(!firing[0].resolved);
    stage.failing(0.0).await;
    stage.seconds(11).await;
    assert_eq!(stage.states(), []);
    assert!(stage.queue.take(10).await.expect("open")[0].resolved);
    assert_eq!(stage.count("ALERTS").await, 0, "the series has ended");
    stage.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_what_did_not_change_and_a_bad_file_changes_nothing() {
    let stage = Stage::start(RULES);
    stage.failing(0.5).await;
    stage.seconds(15).await;
    let active_at = stage.status.active_alerts()[0].2.active_at;

    stage.reload("groups: [{name: g, rules: [{alert: A, expr: 'up =='}]}]").await;
    let error = stage.status.reload().expect("attempted").error.expect("refused");
    assert!(error.contains("it.rules.yml:1:") && error.contains("could not parse the expression"), "{error}");
    assert_eq!(stage.states(), [("order".to_owned(), AlertState::Pending)], "the rules from before go on");

    stage.reload(&RULES.replace("for: 30s", "for: 1m")).await;
    assert_eq!(stage.status.reload().expect("attempted").error, None);
    assert_eq!(stage.status.active_alerts()[0].2.active_at, active_at, "`for` goes on counting");
    stage.seconds(60).await;
    assert_eq!(stage.states(), [("order".to_owned(), AlertState::Firing)]);

    // Without its rule an alert's series ends after two intervals.
    stage.reload("groups: []").await;
    assert_eq!(stage.status.groups().len(), 0);
    assert_eq!(stage.count("ALERTS").await, 1);
    stage.seconds(30).await;
    assert_eq!(stage.count("ALERTS or service:failing").await, 0);
    stage.stop().await;
}

#[tokio::test]
async fn a_rule_file_that_is_missing_or_wrong_is_refused_at_the_start() {
    let missing: WholeConfig =
        service::config::parse_yaml("rule_files: [/nowhere/x.yml]", Path::new("c.yml")).expect("a configuration");
    let error = check(&missing).expect_err("missing").to_string();
    assert_eq!(error, "rule file `/nowhere/x.yml` does not exist: check rule_files in the configuration");
}

const HISTOGRAM_RULES: &str = r#"
groups:
  - name: g
    rules:
      - {record: service:seconds, expr: sum by (service) (seconds)}
      - alert: Busy
        expr: service:seconds
        annotations: {summary: 'seen {{ $value }}'}
"#;

#[tokio::test(start_paused = true)]
async fn native_histograms_are_recorded_alerted_on_and_ended() {
    let stage = Stage::start(HISTOGRAM_RULES);
    let histogram = |count: f64| telemetry::Histogram {
        count,
        sum: 2.0 * count,
        positive: vec![(1, count)],
        ..telemetry::Histogram::default()
    };
    for (task, count) in [("a", 3.0), ("b", 4.0)] {
        let labels = Labels::from_pairs([("__name__", "seconds"), ("service", "order"), ("task", task)]);
        let sample = telemetry::HistogramSample { labels, timestamp: stage.clock.now(), histogram: histogram(count) };
        stage.write.write_histograms(vec![sample], Origin::Pushed).await.expect("the writer runs");
    }
    stage.seconds(15).await;
    let at = stage.clock.now();
    let answer = stage.querier.instant("histogram_count(service:seconds)", at).await.expect("an answer");
    let counts = live::vector(answer.value).expect("a vector");
    assert_eq!(counts.iter().map(|sample| sample.value).collect::<Vec<_>>(), [7.0]);
    assert_eq!(stage.states(), [("order".to_owned(), AlertState::Firing)]);
    let firing = stage.queue.take(10).await.expect("open");
    assert_eq!(firing[0].annotations.get("summary"), Some("seen {count:7, sum:14, (1,2]:7}"));
    stage.seconds(320).await;
    assert_eq!(stage.states(), [], "nothing was written within the lookback");
    assert_eq!(stage.count("service:seconds").await, 0, "the recorded series has ended");
    stage.stop().await;
}
