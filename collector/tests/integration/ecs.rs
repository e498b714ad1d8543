//! Targets from the tasks of the local ECS: paging, scaling, and what a failing API does to them.

use std::sync::Arc;
use std::time::Duration;

use collector::aws::Aws;
use collector::clock::Clock;
use collector::config::Config;
use collector::discovery::{self, Status, Targets};
use fake_aws::topology::Topology;
use fake_aws::{FakeAws, Fault, FaultKind, Options};
use service::metrics::Metrics;
use service::{Shutdown, Tasks};
use tokio::sync::watch;

use crate::aws::sdk;

const CONFIG: &str = "
scrape_configs:
  - job_name: ecs
    aws_sd_configs: [{role: ecs, port: 9464, refresh_interval: 100ms}]
    relabel_configs:
      - {source_labels: [__meta_ecs_service], target_label: service}
      - {source_labels: [__meta_ecs_task_id], target_label: task_id}
";

fn service(name: &str, count: u32) -> String {
    let container = |name: &str| format!("{{name: {name}, image: sleep, command: [sleep, '1000'], stop_timeout: 1s}}");
    format!(
        "{name}: {{desired_count: {count}, task_definition: {{family: {name}, containers: [{}, {}]}}}}",
        container("app"),
        container("sidecar")
    )
}

fn of_services(targets: &Targets) -> Vec<String> {
    let mut services: Vec<String> =
        targets.borrow().iter().map(|t| t.labels.get("service").unwrap_or("none").to_owned()).collect();
    services.sort();
    services
}

async fn until(what: &str, status: &Status, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
    assert!(waited.is_ok(), "never: {what}; {:?}", status.snapshot().sources);
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_become_targets_and_stay_while_ecs_fails() {
    // Pages of two, so that each listing has several.
    let topology = format!(
        "network: \"127.46\"\npage_size_max: 2\nclusters: {{demo: {{services: {{{}, {}}}}}}}",
        service("order", 3),
        service("user", 1)
    );
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options {
        listen: ([127, 0, 0, 1], 0).into(),
        topology: Topology::parse(&topology).expect("valid"),
        file_sd: None,
        log_dir: dir.path().to_owned(),
    };
    let fake = FakeAws::start(options).await.expect("the local AWS starts");

    let (metrics, mut tasks, shutdown) = (Metrics::new(), Tasks::new(), Shutdown::new());
    let aws = Aws::with_config(sdk(&fake.url()).await, &metrics);
    let config: Config = service::config::parse_yaml(CONFIG, std::path::Path::new("collector.yml")).expect("valid");
    let (_config, watched) = watch::channel(Arc::new(config));
    let (targets, status) = discovery::spawn(&mut tasks, watched, aws, Clock::System, &metrics, shutdown.clone());

    until("four tasks", &status, || of_services(&targets) == ["order", "order", "order", "user"]).await;
    let first = targets.borrow()[0].clone();
    assert!(first.instance().starts_with("127.46.") && first.instance().ends_with(":9464"), "{}", first.instance());
    assert_eq!(first.discovered.get("__meta_ecs_cluster"), Some("demo"));
    assert_eq!(first.discovered.get("__meta_ecs_last_status"), Some("RUNNING"));

    // The SDK tries four times, so this outlasts one refresh.
    fake.order_fault(Fault { operation: "ecs:DescribeTasks".into(), kind: FaultKind::Error, count: 8 });
    until("the complaint", &status, || status.snapshot().sources[0].error.is_some()).await;
    assert_eq!(of_services(&targets).len(), 4, "a cluster that cannot be read keeps its targets");
    let error = status.snapshot().sources[0].error.clone().unwrap();
    assert!(error.contains("cluster arn:aws:ecs:"), "{error}");
    until("the recovery", &status, || status.snapshot().sources[0].error.is_none()).await;

    let ecs = aws_sdk_ecs::Client::new(&sdk(&fake.url()).await);
    ecs.update_service().cluster("demo").service("order").desired_count(1).send().await.unwrap();
    until("two tasks fewer", &status, || of_services(&targets) == ["order", "user"]).await;
    until("why they ended", &status, || status.stops().of_services(&["order"]).len() == 2).await;
    let ended = status.stops().of_services(&["order"])[0].clone();
    assert_eq!((ended.cluster.as_str(), ended.reason), ("demo", discovery::StopReason::ServiceScheduler));
    assert!(ended.text.starts_with("Scaling activity initiated by"), "{}", ended.text);
    let counted =
        "collector_ecs_task_stops_total{cluster=\"demo\",ecs_service=\"order\",reason=\"service_scheduler\"} 2";
    assert!(metrics.expose().contains(counted), "{}", metrics.expose());
    let of_order = targets.borrow().iter().find(|t| t.labels.get("service") == Some("order")).cloned().unwrap();
    let deployment = of_order.discovered.get("__meta_ecs_service_deployment").unwrap_or_default().to_owned();
    assert!(deployment.starts_with("order:1 ") && deployment.ends_with("of 1 running"), "{deployment}");

    shutdown.request();
    tasks.run(shutdown, Duration::from_secs(5)).await.expect("discovery stops");
    fake.stop().await.unwrap();
}
