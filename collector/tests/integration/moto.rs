//! The same jobs against two judges who are not ours: moto reads what we write, boto3 reads what the local AWS holds.
//!
//! They need a Python with `moto[server]`, `cbor2` and `boto3`, named by PICKET_PYTHON. Without it the tests say what
//! stays untested; under CI that is a failure.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use dashboards::cloudwatch::{ServiceDashboard, service_dashboard};
use fake_aws::topology::Topology;
use fake_aws::{FakeAws, Options};
use serde_json::{Value, json};
use service::config::{Env, ProcessEnv};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::aws::{CONFIG, Collector, run_number, sdk};

pub(crate) fn python(untested: &str) -> Option<PathBuf> {
    let python = ProcessEnv.get("PICKET_PYTHON").filter(|p| !p.is_empty()).map(PathBuf::from);
    if python.is_none() {
        assert!(ProcessEnv.get("CI").is_none_or(|ci| ci != "true"), "PICKET_PYTHON is not set: {untested}");
        eprintln!("PICKET_PYTHON is not set, so this stays untested: {untested}");
    }
    python
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/e2e/python").join(name)
}

fn command(python: &Path, name: &str, url: &str) -> Command {
    let mut command = Command::new(python);
    command.arg(script(name)).env("AWS_ENDPOINT_URL", url).env("AWS_DEFAULT_REGION", "us-east-1");
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    command.kill_on_drop(true).stdin(Stdio::null());
    command
}

async fn seen_by_boto3(python: &Path, url: &str) -> Value {
    let output = command(python, "list_aws.py", url).output().await.expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one line of JSON")
}

async fn moto(python: &Path) -> (Child, String) {
    let mut child = command(python, "moto_cbor.py", "")
        .arg("0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("Python runs");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let line = tokio::time::timeout(Duration::from_secs(120), lines.next_line()).await;
    let url = line.expect("moto starts").expect("readable").expect("moto says where it listens");
    (child, url)
}

/// moto starts no task and has no service of its own accord.
async fn make_service(url: &str) {
    use aws_sdk_ecs::types::ContainerDefinition;
    let ecs = aws_sdk_ecs::Client::new(&sdk(url).await);
    ecs.create_cluster().cluster_name("demo").send().await.expect("moto makes a cluster");
    let container = ContainerDefinition::builder().name("app").image("app:1").memory(128).build();
    ecs.register_task_definition()
        .family("order")
        .container_definitions(container)
        .send()
        .await
        .expect("moto takes a task definition");
    let service = ecs.create_service().cluster("demo").service_name("order").task_definition("order:1");
    service.desired_count(1).send().await.expect("moto makes a service");
}

fn expected() -> Value {
    let widgets = |service: &str| {
        let dashboard = ServiceDashboard {
            environment: "test".to_owned(),
            service: service.to_owned(),
            cluster: "demo".to_owned(),
            region: "us-east-1".to_owned(),
        };
        let body: Value = serde_json::from_str(&service_dashboard(&dashboard)).expect("a body is JSON");
        body["widgets"].as_array().map_or(0, Vec::len)
    };
    json!({
        "dashboards": {"picket-test-order": widgets("order"), "picket-test-user": widgets("user")},
        "scalable_targets": {"service/demo/order": [2, 5]},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_takes_our_dashboards_and_bounds_and_boto3_reads_them_back() {
    let Some(python) = python("publishing and scaling against moto, an independent reading of AWS") else { return };
    let (mut server, url) = moto(&python).await;
    make_service(&url).await;
    let collector = Collector::start(&url, CONFIG).await;
    let published = run_number(&collector.publish, 1).await;
    assert_eq!(published.last.as_ref().map(|l| l.message.as_str()), Some("2 dashboards in sync"));
    let scaled = run_number(&collector.scaling, 1).await;
    assert_eq!(scaled.last.as_ref().map(|l| l.message.as_str()), Some("1 services in sync"));
    assert_eq!(seen_by_boto3(&python, &url).await, expected());
    collector.stop().await;
    server.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_lists_the_dashboards_and_bounds_that_the_local_aws_holds() {
    let Some(python) = python("the local AWS as boto3 sees it") else { return };
    let topology = "{network: '127.44', clusters: {demo: {services: {order: {desired_count: 0, task_definition:
        {family: order, containers: [{name: app, image: sleep, command: [sleep, '1000'], stop_timeout: 1s}]}}}}}}";
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        listen: ([127, 0, 0, 1], 0).into(),
        topology: Topology::parse(topology).unwrap(),
        file_sd: None,
        log_dir: dir.path().to_owned(),
    };
    let aws = FakeAws::start(options).await.unwrap();
    let collector = Collector::start(&aws.url(), CONFIG).await;
    run_number(&collector.publish, 1).await;
    run_number(&collector.scaling, 1).await;
    assert_eq!(seen_by_boto3(&python, &aws.url()).await, expected());
    collector.stop().await;
    aws.stop().await.unwrap();
}
