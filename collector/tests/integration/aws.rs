//! Publishing and scaling against the local AWS: what the jobs make true, and what they refuse.

use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use collector::aws::Aws;
use collector::clock::Clock;
use collector::config::Config;
use collector::publish::{self, SyncState};
use collector::reconcile::{JobMetrics, JobStatus};
use collector::scaling::{self, TargetState};
use collector::state::State;
use fake_aws::topology::Topology;
use fake_aws::{FakeAws, Fault, FaultKind, Options};
use service::metrics::Metrics;
use service::{Shutdown, Tasks};
use telemetry::Labels;
use tokio::sync::watch;

/// Long enough for a loaded machine; nothing waits this long when all is well.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const CONFIG: &str = "
cloudwatch: {environment: test, cluster: demo, services: [order, user], interval: 1h}
scaling:
  interval: 1h
  schedules:
    - name: always
      timezone: Europe/Paris
      targets: [demo/order]
      default: {min: 2, max: 5}
      windows: []
";

pub(crate) async fn sdk(url: &str) -> SdkConfig {
    let credentials = aws_sdk_ecs::config::Credentials::new("test", "test", None, None, "test");
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(url)
        .credentials_provider(credentials)
        .load()
        .await
}

pub(crate) fn parse(text: &str) -> Arc<Config> {
    let config: Config = service::config::parse_yaml(text, std::path::Path::new("collector.yml")).expect("valid");
    Arc::new(config)
}

/// The two jobs with what they need, and a hand on each of their inputs.
pub(crate) struct Collector {
    pub(crate) publish: publish::Handle,
    pub(crate) scaling: scaling::Handle,
    pub(crate) config: watch::Sender<Arc<Config>>,
    pub(crate) alerts: watch::Sender<Vec<Labels>>,
    pub(crate) metrics: Metrics,
    pub(crate) state: State,
    shutdown: Shutdown,
    tasks: Tasks,
    _data: tempfile::TempDir,
}

impl Collector {
    pub(crate) async fn start(url: &str, config: &str) -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let (metrics, mut tasks, shutdown) = (Metrics::new(), Tasks::new(), Shutdown::new());
        let aws = Aws::with_config(sdk(url).await, &metrics);
        let config = watch::Sender::new(parse(config));
        let alerts = watch::Sender::new(Vec::new());
        let state = config.borrow().state.open(data.path(), &metrics).await.expect("a database");
        let (jobs, clock, firing) = (JobMetrics::new(&metrics), Clock::System, alerts.subscribe());
        let leases = collector::state::lease::spawn(&state, &metrics, &mut tasks, &shutdown);
        let inputs = publish::Inputs {
            config: config.subscribe(),
            clock,
            aws: aws.clone(),
            state: state.clone(),
            lease: leases.publish,
            jobs: jobs.clone(),
        };
        let publish = publish::spawn(inputs, &metrics, &mut tasks, shutdown.clone());
        let inputs = scaling::Inputs {
            config: config.subscribe(),
            clock,
            aws,
            state: state.clone(),
            lease: leases.scaling,
            jobs,
            alerts: Box::new(move || firing.borrow().clone()),
        };
        let scaling = scaling::spawn(inputs, &metrics, &mut tasks, shutdown.clone());
        Collector { publish, scaling, config, alerts, metrics, state, shutdown, tasks, _data: data }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.request();
        self.tasks.run(self.shutdown, Duration::from_secs(5)).await.expect("the jobs stop");
    }
}

/// Waits for the end of a run that began after now.
pub(crate) async fn next_run<S>(stage: &collector::reconcile::Stage<S>) -> Arc<JobStatus> {
    let runs = stage.job.status().runs;
    stage.job.nudge();
    run_number(stage, runs + 1).await
}

pub(crate) async fn run_number<S>(stage: &collector::reconcile::Stage<S>, number: u64) -> Arc<JobStatus> {
    let mut status = stage.job.watch();
    let ended = tokio::time::timeout(PATIENCE, status.wait_for(|s| s.runs >= number)).await;
    ended.expect("the job runs").expect("the job is there").clone()
}

async fn local_aws(network: &str) -> (FakeAws, tempfile::TempDir) {
    let topology = format!(
        "network: \"{network}\"\nclusters: {{demo: {{services: {{order: {{desired_count: 1, task_definition: \
         {{family: order, containers: [{{name: app, image: sleep, command: [sleep, '1000'], stop_timeout: 1s}}]}}}}}}}}}}"
    );
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options {
        listen: ([127, 0, 0, 1], 0).into(),
        topology: Topology::parse(&topology).expect("valid"),
        file_sd: None,
        log_dir: dir.path().to_owned(),
    };
    (FakeAws::start(options).await.expect("the local AWS starts"), dir)
}

fn running(count: usize) -> impl Fn(&[fake_aws::TaskView]) -> bool {
    move |tasks| tasks.iter().filter(|t| t.status == fake_aws::TaskStatus::Running).count() == count
}

async fn until_running(aws: &FakeAws, count: usize) {
    tokio::time::timeout(PATIENCE, aws.wait_for_tasks(running(count))).await.expect("the tasks come");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_service_has_its_dashboard_an_edit_is_put_back_and_an_unwanted_one_goes() {
    let (aws, _dir) = local_aws("127.40").await;
    let collector = Collector::start(&aws.url(), CONFIG).await;
    let cloudwatch = aws_sdk_cloudwatch::Client::new(&sdk(&aws.url()).await);
    let listed = || async {
        let list = cloudwatch.list_dashboards().send().await.unwrap();
        let names = list.dashboard_entries().iter().filter_map(|e| e.dashboard_name().map(str::to_owned));
        names.collect::<Vec<_>>()
    };

    let first = run_number(&collector.publish, 1).await;
    assert_eq!(first.last.as_ref().map(|l| l.message.as_str()), Some("2 dashboards in sync"));
    assert_eq!(listed().await, ["picket-test-order", "picket-test-user"]);
    let status = collector.publish.status();
    assert_eq!((status.in_sync(), status.region.as_str()), (2, "us-east-1"));
    assert!(status.dashboards.iter().all(|d| d.published_at.is_some()));

    next_run(&collector.publish).await;
    assert_eq!(aws.calls()["cloudwatch:PutDashboard"].total, 2, "nothing to write the second time");

    let theirs = r#"{"widgets":[]}"#;
    cloudwatch.put_dashboard().dashboard_name("picket-test-order").dashboard_body(theirs).send().await.unwrap();
    next_run(&collector.publish).await;
    let body = cloudwatch.get_dashboard().dashboard_name("picket-test-order").send().await.unwrap().dashboard_body;
    assert_ne!(body.as_deref(), Some(theirs));
    let drifts: Vec<u64> = collector.publish.status().dashboards.iter().map(|d| d.drifts).collect();
    assert_eq!(drifts, [1, 0]);

    cloudwatch.put_dashboard().dashboard_name("picket-other").dashboard_body(theirs).send().await.unwrap();
    collector.config.send_replace(parse(&CONFIG.replace("[order, user]", "[order]")));
    next_run(&collector.publish).await;
    assert_eq!(listed().await, ["picket-other", "picket-test-order"], "ours goes, a stranger's stays");
    assert_eq!(collector.state.published("dashboard").await.unwrap().len(), 1);
    collector.stop().await;
    aws.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_run_is_retried_and_a_failing_one_is_shown() {
    let (aws, _dir) = local_aws("127.41").await;
    aws.order_fault(Fault { operation: "cloudwatch:ListDashboards".into(), kind: FaultKind::Throttle, count: 2 });
    let collector = Collector::start(&aws.url(), CONFIG).await;
    let first = run_number(&collector.publish, 1).await;
    assert_eq!(first.failures_in_row, 0, "the SDK retries what was throttled: {:?}", first.last);
    let exposed = collector.metrics.expose();
    let throttled = "collector_aws_requests_total{operation=\"ListDashboards\",outcome=\"throttled\"} 2";
    assert!(exposed.contains(throttled), "{exposed}");

    aws.order_fault(Fault { operation: "cloudwatch:*".into(), kind: FaultKind::Error, count: 4 });
    let failed = next_run(&collector.publish).await;
    let last = failed.last.clone().unwrap();
    assert!(!last.ok && last.message.starts_with("failed to list dashboards: "), "{last:?}");
    let healed = run_number(&collector.publish, failed.runs + 1).await;
    assert_eq!(healed.failures_in_row, 0, "it runs again by itself, long before its interval");
    assert_eq!(collector.publish.status().dashboards[0].state, SyncState::InSync);
    collector.stop().await;
    aws.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_follow_the_schedule_and_a_reduction_waits_for_alerts_and_deployments() {
    let (aws, _dir) = local_aws("127.42").await;
    until_running(&aws, 1).await;
    let collector = Collector::start(&aws.url(), CONFIG).await;
    run_number(&collector.scaling, 1).await;
    let target = collector.scaling.status().targets[0].clone();
    assert_eq!((target.resource.as_str(), target.state), ("service/demo/order", TargetState::InSync));
    assert_eq!(target.actual, Some(target.wanted));
    until_running(&aws, 2).await;

    // A critical alert about the service holds the reduction back, and lets the raised maximum through.
    let critical = [("alertname", "HighErrorRate"), ("severity", "critical"), ("service", "order")];
    collector.alerts.send_replace(vec![Labels::from_pairs(critical)]);
    collector.config.send_replace(parse(&CONFIG.replace("{min: 2, max: 5}", "{min: 1, max: 6}")));
    next_run(&collector.scaling).await;
    let held = collector.scaling.status().targets[0].clone();
    assert_eq!(held.state, TargetState::Held);
    assert_eq!(held.reason.as_deref(), Some("alert HighErrorRate (critical) fires"));
    assert_eq!(held.actual.map(|b| (b.min, b.max)), Some((2, 6)));
    next_run(&collector.scaling).await;

    // The alert is over, but a deployment has begun: its tasks come, the old ones go, then the bound falls.
    collector.alerts.send_replace(Vec::new());
    let ecs = aws_sdk_ecs::Client::new(&sdk(&aws.url()).await);
    ecs.update_service().cluster("demo").service("order").force_new_deployment(true).send().await.unwrap();
    next_run(&collector.scaling).await;
    let held = collector.scaling.status().targets[0].clone();
    assert_eq!(held.reason.as_deref(), Some("a deployment is in progress"));
    let done = tokio::time::timeout(PATIENCE, async {
        while collector.scaling.status().targets[0].state != TargetState::InSync {
            next_run(&collector.scaling).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    done.await.expect("the deployment ends and the bound falls");
    let status = collector.scaling.status();
    assert_eq!(status.targets[0].actual.map(|b| (b.min, b.max)), Some((1, 6)));

    let outcomes: Vec<&str> = status.history.iter().rev().map(|h| h.outcome.as_str()).collect();
    assert_eq!(outcomes.first(), Some(&"applied"));
    assert_eq!(outcomes.last(), Some(&"applied"));
    assert!(outcomes.iter().filter(|o| **o == "held").count() >= 2, "{outcomes:?}");
    let stored = collector.state.scaling_history(None, 100).await.unwrap();
    assert_eq!(stored.len(), status.history.len());
    assert!(!aws.calls().contains_key("autoscaling:UpdateService"));
    collector.stop().await;
    aws.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hand_made_change_of_the_bounds_is_undone() {
    let (aws, _dir) = local_aws("127.43").await;
    until_running(&aws, 1).await;
    let collector = Collector::start(&aws.url(), CONFIG).await;
    run_number(&collector.scaling, 1).await;
    let client = aws_sdk_applicationautoscaling::Client::new(&sdk(&aws.url()).await);
    use aws_sdk_applicationautoscaling::types::{ScalableDimension, ServiceNamespace};
    client
        .register_scalable_target()
        .service_namespace(ServiceNamespace::Ecs)
        .resource_id("service/demo/order")
        .scalable_dimension(ScalableDimension::EcsServiceDesiredCount)
        .min_capacity(1)
        .max_capacity(3)
        .send()
        .await
        .unwrap();
    next_run(&collector.scaling).await;
    let target = collector.scaling.status().targets[0].clone();
    assert_eq!(target.actual.map(|b| (b.min, b.max)), Some((2, 5)));
    let entry = &collector.scaling.status().history[0];
    assert_eq!(entry.before.map(|b| (b.min, b.max)), Some((1, 3)));
    collector.stop().await;
    aws.stop().await.unwrap();
}
