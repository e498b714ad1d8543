use super::*;
use crate::config::Config;

fn settings(job: &str) -> Arc<Settings> {
    let config: Config = serde_saphyr::from_str(&format!("scrape_configs:\n- {job}\n")).expect(job);
    Arc::new(Settings::new(&config.scrape_configs[0], &config.global))
}

fn built(job: &str, found: &[(&str, &str)]) -> Result<Target, String> {
    match target::build(&settings(job), &Labels::from_pairs(found.iter().copied())) {
        Outcome::Target(target) => Ok(*target),
        Outcome::Dropped(_) => Err("dropped".to_owned()),
        Outcome::Invalid(error) => Err(error.to_string()),
    }
}

#[test]
fn a_target_gets_job_instance_and_url_and_loses_internal_labels() {
    let target = built(
        "{job_name: sidecar, relabel_configs: [{source_labels: [__meta_ecs_service], target_label: service}]}",
        &[(ADDRESS, "127.0.1.5:9464"), ("__meta_ecs_service", "order"), ("environment", "dev")],
    )
    .expect("a target");
    assert_eq!(
        target.labels.to_string(),
        r#"{environment="dev", instance="127.0.1.5:9464", job="sidecar", service="order"}"#
    );
    assert_eq!(target.scrape_url.as_str(), "http://127.0.1.5:9464/metrics");
    assert_eq!(target.discovered.get("__scrape_interval__"), Some("1m"));
    assert_eq!(target.sibling_url("/logs/recent").as_str(), "http://127.0.1.5:9464/logs/recent");
}

#[test]
fn labels_steer_the_scrape() {
    let target = built(
        "{job_name: a, params: {module: [http, tcp], target: [x]}}",
        &[
            (ADDRESS, "h:1"),
            ("__scheme__", "https"),
            ("__metrics_path__", "/probe"),
            ("__scrape_interval__", "5s"),
            ("__scrape_timeout__", "2s"),
            ("job", "own"),
            ("instance", "named"),
        ],
    )
    .expect("a target");
    assert_eq!(target.scrape_url.as_str(), "https://h:1/probe?module=http&target=x&module=tcp");
    assert_eq!((target.job(), target.instance()), ("own", "named"));
    assert_eq!((target.scrape_interval, target.scrape_timeout), (Duration::from_secs(5), Duration::from_secs(2)));
}

#[test]
fn what_is_no_target_says_why() {
    for (job, found, expected) in [
        ("{job_name: a}", vec![("x", "1")], "no address"),
        ("{job_name: a}", vec![(ADDRESS, "h:1/x")], r#""h:1/x" is not a valid hostname"#),
        ("{job_name: a}", vec![(ADDRESS, "h:1"), ("__scheme__", "ftp")], r#"the scheme "ftp" is not http or https"#),
        (
            "{job_name: a}",
            vec![(ADDRESS, "h:1"), ("__scrape_interval__", "1s"), ("__scrape_timeout__", "2s")],
            "scrape timeout cannot be greater than scrape interval (2s > 1s)",
        ),
        ("{job_name: a, relabel_configs: [{action: drop}]}", vec![(ADDRESS, "h:1")], "dropped"),
    ] {
        assert_eq!(built(job, &found).expect_err("no target"), expected, "{job} {found:?}");
    }
}

/// Discovery over a configuration that a test can replace.
struct Running {
    config: watch::Sender<Arc<Config>>,
    targets: Targets,
    status: Status,
    shutdown: Shutdown,
}

fn running(yaml: &str) -> Running {
    let config: Config = serde_saphyr::from_str(yaml).expect(yaml);
    let (config, watch) = watch::channel(Arc::new(config));
    let (mut tasks, shutdown) = (Tasks::new(), Shutdown::new());
    let aws = Aws::new(&Metrics::new());
    let (targets, status) = spawn(&mut tasks, watch, aws, Clock::System, &Metrics::new(), shutdown.clone());
    service::task::spawn("discovery-test", tasks.run(shutdown.clone(), Duration::from_secs(1)));
    Running { config, targets, status, shutdown }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.request();
    }
}

fn instances(targets: &Targets) -> Vec<String> {
    targets.borrow().iter().map(|t| t.instance().to_owned()).collect()
}

/// Replaces a file at once, as careful writers do.
fn write(path: &std::path::Path, text: &str) {
    let part = path.with_extension("part");
    std::fs::write(&part, text).unwrap();
    std::fs::rename(&part, path).unwrap();
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn a_target_file_is_followed_and_a_bad_one_keeps_the_last_targets() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tasks.json");
    write(&file, r#"[{"targets": ["a:1", "b:1"], "labels": {"service": "order"}}]"#);
    let running = running(&format!(
        "scrape_configs: [{{job_name: sidecar, file_sd_configs: [{{files: ['{}/*.json']}}]}}]",
        dir.path().display()
    ));
    assert_eq!(instances(&running.targets), ["a:1", "b:1"], "the first list is there before the first event");
    let first = running.targets.borrow()[0].clone();
    assert_eq!(first.labels.get("service"), Some("order"));
    assert_eq!(first.discovered.get("__meta_filepath"), file.to_str());

    write(&file, r#"[{"targets": ["a:1", "c:1"]}]"#);
    until("the new list", || instances(&running.targets) == ["a:1", "c:1"]).await;

    write(&file, r#"[{"targets": ["a:1"]}, {"target": ["typo:1"]}]"#);
    until("the complaint", || running.status.snapshot().sources[0].error.is_some()).await;
    let error = running.status.snapshot().sources[0].error.clone().unwrap();
    assert!(error.contains("tasks.json:1:") && error.contains("target"), "{error}");
    assert_eq!(instances(&running.targets), ["a:1", "c:1"]);

    std::fs::remove_file(&file).unwrap();
    until("no targets", || instances(&running.targets).is_empty()).await;
}

#[tokio::test]
async fn a_reload_adds_and_removes_jobs() {
    let mut running = running("scrape_configs: [{job_name: a, static_configs: [{targets: ['x:1', 'x:1']}]}]");
    assert_eq!(instances(&running.targets), ["x:1"], "the same target twice is one");
    let next = "scrape_configs: [{job_name: b, static_configs: [{targets: ['y:1']}]}]";
    running.config.send(Arc::new(serde_saphyr::from_str(next).unwrap())).unwrap();
    running.targets.changed().await.unwrap();
    assert_eq!(instances(&running.targets), ["y:1"]);
    assert_eq!(running.targets.borrow()[0].job(), "b");
}
