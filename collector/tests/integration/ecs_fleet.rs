//! Discovery over a fleet while it is deployed and while the API fails: 3 clusters, 40 services, 500 tasks. No task
//! leaves the targets while it runs, none comes back once it has left, and ECS is asked no more than a quarter of
//! what it allows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use collector::aws::Aws;
use collector::clock::Clock;
use collector::config::Config;
use collector::discovery::{self, Targets};
use collector::expected::Expected;
use fake_aws::topology::Topology;
use fake_aws::{FakeAws, Fault, FaultKind, Options, TaskStatus};
use service::metrics::Metrics;
use service::{Shutdown, Tasks};
use tokio::sync::watch;

use crate::aws::sdk;

const SERVICES: usize = 40;
const TASKS: usize = 500;

const CONFIG: &str = "
scrape_configs:
  - job_name: ecs
    aws_sd_configs: [{role: ecs, port: 9464, refresh_interval: 500ms}]
    relabel_configs: [{source_labels: [__meta_ecs_task_id], target_label: task_id}]
";

fn cluster(service: usize) -> &'static str {
    ["blue", "green", "red"][service % 3]
}

fn desired(service: usize) -> usize {
    TASKS / SERVICES + usize::from(service < TASKS % SERVICES)
}

fn topology() -> String {
    let mut clusters: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for service in 0..SERVICES {
        let container = "{name: sidecar, image: sleep, command: [sleep, '1000'], stop_timeout: 1s}";
        clusters.entry(cluster(service)).or_default().push(format!(
            "s{service}: {{desired_count: {}, task_definition: {{family: s{service}, containers: [{container}]}}}}",
            desired(service)
        ));
    }
    let clusters = clusters.iter().map(|(name, services)| format!("{name}: {{services: {{{}}}}}", services.join(", ")));
    format!("network: \"127.47\"\nclusters: {{{}}}", clusters.collect::<Vec<_>>().join(", "))
}

fn ids(targets: &Targets) -> BTreeSet<String> {
    targets.borrow().iter().filter_map(|t| t.labels.get("task_id").map(str::to_owned)).collect()
}

/// By id; a task that is on its way out may leave the targets before it has stopped.
fn running(fake: &FakeAws) -> BTreeSet<String> {
    fake.tasks().into_iter().filter(|t| t.status == TaskStatus::Running).map(|t| t.task_id).collect()
}

/// Every change of the targets, with what it may not be.
struct Watched {
    left: BTreeSet<String>,
    changes: usize,
    faults: Vec<String>,
}

async fn watch_targets(mut targets: Targets, fake: Arc<FakeAws>, stop: Shutdown) -> Watched {
    let mut seen = Watched { left: BTreeSet::new(), changes: 0, faults: Vec::new() };
    let mut before = BTreeSet::new();
    loop {
        tokio::select! {
            () = stop.requested() => return seen,
            changed = targets.changed() => if changed.is_err() { return seen },
        }
        let now = ids(&targets);
        seen.changes += 1;
        let still = running(&fake);
        for id in before.difference(&now) {
            if still.contains(id) {
                seen.faults.push(format!("{id} left while it runs"));
            }
            seen.left.insert(id.clone());
        }
        for id in now.difference(&before).filter(|id| seen.left.contains(*id)) {
            seen.faults.push(format!("{id} came back"));
        }
        before = now;
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(90), wait).await.is_ok(), "never: {what}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts a thousand processes over half a minute: cargo xtask soak fleet"]
async fn targets_never_flap_through_deployments_and_failures() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options {
        listen: ([127, 0, 0, 1], 0).into(),
        topology: Topology::parse(&topology()).expect("valid"),
        file_sd: None,
        log_dir: dir.path().to_owned(),
    };
    let fake = Arc::new(FakeAws::start(options).await.expect("the local AWS starts"));
    until("the fleet runs", || running(&fake).len() == TASKS).await;

    let (metrics, mut tasks, shutdown) = (Metrics::new(), Tasks::new(), Shutdown::new());
    let aws = Aws::with_config(sdk(&fake.url()).await, &metrics);
    let config: Config = service::config::parse_yaml(CONFIG, std::path::Path::new("collector.yml")).expect("valid");
    let (_config, watched) = watch::channel(Arc::new(config));
    let begun = Instant::now();
    let (targets, status) = discovery::spawn(&mut tasks, watched, aws, Clock::System, &metrics, shutdown.clone());
    let watcher = service::task::spawn("watcher", watch_targets(targets.clone(), fake.clone(), shutdown.clone()));
    until("all tasks are targets", || ids(&targets).len() == TASKS).await;
    println!("{TASKS} tasks of {SERVICES} services in 3 clusters found in {:?}", begun.elapsed());

    let ecs = aws_sdk_ecs::Client::new(&sdk(&fake.url()).await);
    let fault = |operation: &str, kind, count| fake.order_fault(Fault { operation: operation.into(), kind, count });
    for (operation, kind) in [
        ("ecs:DescribeTasks", FaultKind::Throttle),
        ("ecs:ListTasks", FaultKind::Error),
        ("ecs:DescribeServices", FaultKind::Throttle),
        ("ecs:ListServices", FaultKind::Error),
        ("ecs:DescribeClusters", FaultKind::Error),
        ("ecs:ListClusters", FaultKind::Throttle),
    ] {
        // A deployment rolls and a service is scaled while one call after the other fails.
        let rolled = match operation {
            "ecs:DescribeTasks" => 0,
            "ecs:ListTasks" => 1,
            _ => 2,
        };
        let update = ecs.update_service().cluster(cluster(rolled)).service(format!("s{rolled}"));
        update.force_new_deployment(true).send().await.expect("a deployment");
        // The SDK tries four times, so this outlasts a refresh.
        fault(operation, kind, 8);
        until("the complaint", || status.snapshot().sources[0].error.is_some()).await;
        until("the recovery", || status.snapshot().sources[0].error.is_none()).await;
    }
    ecs.update_service().cluster(cluster(5)).service("s5").desired_count(3).send().await.expect("scaled");
    let wanted = TASKS - desired(5) + 3;
    until("the fleet is as wanted", || running(&fake).len() == wanted && ids(&targets) == running(&fake)).await;

    // Nothing scrapes here, so every task has its reason.
    let expected =
        Expected { discovery: status.clone(), scrape: collector::scrape::Status::default(), clock: Clock::System };
    let services = expected.services();
    assert_eq!(services.len(), SERVICES);
    assert_eq!(services.iter().map(|s| usize::try_from(s.desired).expect("positive")).sum::<usize>(), wanted);
    assert!(services.iter().flat_map(|s| &s.tasks).all(|task| task.reason.is_some()));

    let elapsed = begun.elapsed().as_secs_f64();
    shutdown.request();
    tasks.run(shutdown, Duration::from_secs(5)).await.expect("discovery stops");
    let watched = watcher.await.expect("no panic");
    assert!(watched.faults.is_empty(), "{:#?}", watched.faults);
    assert!(watched.left.len() >= desired(0), "deployments replace tasks: {}", watched.left.len());
    println!("{elapsed:.1} s, {} changes of the targets, {} tasks replaced", watched.changes, watched.left.len());
    let calls = fake.calls();
    for (operation, calls) in &calls {
        println!("{operation}: {} calls, {} refused as ordered", calls.total, calls.refused);
    }
    // A quarter of burst and rate; an attempt that is repeated takes no further turn.
    for (operations, burst, rate) in [
        (["ecs:ListTasks", "ecs:DescribeTasks"], 25.0, 5.0),
        (["ecs:ListServices", "ecs:DescribeServices"], 25.0, 5.0),
        (["ecs:ListClusters", "ecs:DescribeClusters"], 12.5, 5.0),
    ] {
        let of = operations.iter().filter_map(|operation| calls.get(*operation));
        let made: u64 = of.map(|calls| calls.total - calls.refused).sum();
        assert!(made as f64 <= burst + rate * elapsed, "{operations:?}: {made} calls in {elapsed:.1} s");
    }
    Arc::into_inner(fake).expect("the last handle").stop().await.expect("it stops");
}
