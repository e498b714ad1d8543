//! A task definition of aws-for-fluent-bit whose router's image was replaced by ours, and nothing else: the file is what
//! the ECS agent writes for two containers with options and patterns, the driver sends what Fargate's sends, CloudWatch
//! Logs enforces its limits and every signature.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::routing::get;
use axum::{Json, Router};
use fake_aws::topology::Topology;
use fake_aws::{FakeAws, Options, StoredStream};
use serde_json::{Value, json};

use crate::clients::python;
use crate::driver::Driver;
use crate::setup::{eventually, serve};

/// As in the generated file.
const TASK: &str = "bae32def0ab64f06818e8862e58f8d6d";
const GENERATED: &str = include_str!("../testdata/firelens/migrated.conf");

/// A CloudWatch Logs that computes every signature again.
pub(crate) async fn cloud(directory: &Path) -> FakeAws {
    let topology = Topology::parse("credentials: {AKID: wJalrXUtnFEMI}\nclusters: {}\n").expect("a topology");
    let options =
        Options { listen: ([127, 0, 0, 1], 0).into(), topology, file_sd: None, log_dir: directory.join("cloud") };
    FakeAws::start(options).await.expect("the local AWS starts")
}

/// Task metadata that says whether the app still runs.
async fn metadata(app: Arc<Mutex<&'static str>>) -> String {
    let task = move || async move {
        let container =
            |name: &str, id: &str, status: &str| json!({"DockerId": id, "Name": name, "KnownStatus": status});
        let app = *app.lock().expect("not poisoned");
        Json(json!({
            "Cluster": "arn:aws:ecs:us-east-1:000000000000:cluster/main",
            "TaskARN": format!("arn:aws:ecs:us-east-1:000000000000:task/main/{TASK}"),
            "Family": "order", "Revision": "7", "ServiceName": "order", "DesiredStatus": "STOPPED",
            "Containers": [container("app", "t-1", app), container("envoy", "t-2", app), container("log_router", "t-3", "RUNNING")],
        }))
    };
    format!("http://{}/v4/t-3", serve(Router::new().route("/v4/t-3/task", get(task))).await)
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("port 0").local_addr().expect("bound")
}

/// The router's container.
struct LogRouter {
    child: Child,
    socket: PathBuf,
    listen: SocketAddr,
    health: SocketAddr,
    said: PathBuf,
}

impl LogRouter {
    /// The file as it was generated, but for the places that another test or the machine may have.
    fn start(directory: &Path, aws: &str, metadata: &str) -> LogRouter {
        let (socket, listen, health) = (directory.join("fluent.sock"), free_port(), free_port());
        let conf = GENERATED
            .replace("/var/run/fluent.sock", socket.to_str().expect("UTF-8"))
            .replace("Port 24224", &format!("Port {}", free_port().port()))
            .replace("Port 8877", &format!("Port {}", health.port()));
        let (file, said) = (directory.join("fluent-bit.conf"), directory.join("said"));
        std::fs::write(&file, conf).expect("written");
        let output = std::fs::File::create(&said).expect("a file");
        let child = Command::new(env!("CARGO_BIN_EXE_sidecar"))
            .arg("run")
            .arg("--firelens-config")
            .arg(file)
            .env_clear()
            // What ECS sets; the secret option is a variable of the container.
            .env("ECS_CONTAINER_METADATA_URI_V4", metadata)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "AKID")
            .env("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
            .env("log_group_name_0", "/ecs/order")
            // Where this machine's AWS is, and ports that are free here.
            .env("AWS_ENDPOINT_URL_LOGS", aws)
            .env("SIDECAR_STATE_DIR", directory.join("state"))
            .env("SIDECAR_LISTEN", listen.to_string())
            .env("SIDECAR_OTLP_LISTEN", "off")
            .env("SIDECAR_OTLP_GRPC_LISTEN", "off")
            .env("SIDECAR_STATSD_LISTEN", "off")
            .stdout(output.try_clone().expect("a file"))
            .stderr(output)
            .stdin(Stdio::null())
            .spawn()
            .expect("starts");
        LogRouter { child, socket, listen, health, said }
    }

    async fn metrics(&self) -> String {
        let answer = reqwest::get(format!("http://{}/metrics", self.listen)).await.expect("answers");
        answer.text().await.expect("text")
    }

    fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
    }

    /// Waits for the end; what the last line said.
    async fn last_line(mut self) -> Value {
        let status = tokio::task::spawn_blocking(move || (self.child.wait(), self)).await.expect("no panic");
        let (status, router) = status;
        let mut text = String::new();
        std::fs::File::open(&router.said).expect("a file").read_to_string(&mut text).expect("UTF-8");
        assert!(status.expect("ended").success(), "{text}");
        let last: Value = serde_json::from_str(text.lines().last().expect("it said something")).expect("JSON");
        last["data"].clone()
    }
}

fn messages(stored: &StoredStream) -> Vec<Value> {
    stored.messages.iter().map(|message| serde_json::from_str(message).expect("JSON")).collect()
}

/// The sum of a family's series in the exposition.
fn total(metrics: &str, name: &str) -> u64 {
    let lines = metrics.lines().filter(|line| line.starts_with(&format!("{name}{{")));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_definition_of_fluent_bit_works_after_its_image_was_changed() {
    let directory = tempfile::tempdir().expect("tempdir");
    let aws = cloud(directory.path()).await;
    let app_status = Arc::new(Mutex::new("RUNNING"));
    let router = LogRouter::start(directory.path(), &aws.url(), &metadata(app_status.clone()).await);
    eventually("the socket is there", || async { router.socket.exists() }).await;
    TcpStream::connect(router.health).expect("ECS' health check finds an open port");

    let mut app = Driver::connect(&router.socket, "app", TASK);
    let mut envoy = Driver::connect(&router.socket, "envoy", TASK);
    // Three pieces.
    let long = format!("order {}", "x".repeat(40_000));
    app.line("stdout", r#"{"level":"info","msg":"order placed","trace_id":"0af7651916cd43dd8448eb211c80319c"}"#);
    app.line("stdout", "nothing that anybody asked for");
    app.line("stdout", "order healthcheck");
    app.line("stderr", b"ERROR not \xff UTF-8");
    app.line("stdout", &long);
    envoy.line("stdout", "GET /healthcheck 200");

    // The order to stop comes to all at once; the app has more to say, and its driver is late.
    router.terminate();
    app.line("stdout", "order taken after SIGTERM");
    app.last_words("stderr", "ERROR panicked without a newline");
    *app_status.lock().expect("not poisoned") = "STOPPED";
    drop((app, envoy));
    let last = router.last_line().await;

    let stored =
        aws.log_stream("/ecs/order", &format!("order-app-firelens-{TASK}")).expect("group and stream were made");
    let records = messages(&stored);
    // The two streams of a container are two; each keeps its order.
    let said = |source: &str| -> Vec<&str> {
        let of_it = records.iter().filter(|record| record["source"] == source);
        of_it.map(|record| record["message"].as_str().expect("text")).collect()
    };
    let stdout = said("stdout");
    assert!(stdout == ["order placed", &long, "order taken after SIGTERM"], "{} lines", stdout.len());
    assert_eq!(said("stderr"), ["ERROR not \u{fffd} UTF-8", "ERROR panicked without a newline"]);
    let first = &records[0];
    for (key, value) in [
        ("container_name", "app"),
        ("source", "stdout"),
        ("ecs_cluster", "main"),
        ("ecs_task_definition", "order:7"),
        ("service", "order"),
        ("trace_id", "0af7651916cd43dd8448eb211c80319c"),
        ("xray_trace_id", "1-0af76519-16cd43dd8448eb211c80319c"),
    ] {
        assert_eq!(first[key], value, "{key} of {first}");
    }
    assert!(records.iter().filter(|record| record["source"] == "stderr").all(|record| record["level"] == "error"));
    let entity = stored.entity.expect("CloudWatch was told who writes");
    assert_eq!(entity["keyAttributes"], json!({"Type": "Service", "Name": "order", "Environment": "ecs:main"}));

    let envoy = aws.log_stream("/ecs/envoy", &format!("envoy-{TASK}")).expect("the other container's own place");
    let [record] = &messages(&envoy)[..] else { panic!("{envoy:?}") };
    assert_eq!((record["message"].as_str(), record.get("ecs_cluster")), (Some("GET /healthcheck 200"), None));

    // Eight lines: six stored, two that the patterns leave out.
    let number = |key: &str| last[key].as_u64().unwrap_or_else(|| panic!("{key} of {last}"));
    assert_eq!((number("log_records_in"), number("log_records_delivered")), (8, 6), "{last}");
    assert_eq!(last["log_records_lost_to"], "2 filtered", "{last}");
    aws.stop().await.expect("ends well");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_books_balance_at_every_look_while_requests_fail() {
    let directory = tempfile::tempdir().expect("tempdir");
    let aws = cloud(directory.path()).await;
    let app_status = Arc::new(Mutex::new("RUNNING"));
    let router = LogRouter::start(directory.path(), &aws.url(), &metadata(app_status.clone()).await);
    eventually("the socket is there", || async { router.socket.exists() }).await;
    let fault = |kind| fake_aws::Fault { operation: "logs:PutLogEvents".into(), kind, count: 2 };
    aws.order_fault(fault(fake_aws::FaultKind::Throttle));
    aws.order_fault(fault(fake_aws::FaultKind::Error));
    let mut app = Driver::connect(&router.socket, "app", TASK);
    let mut looks = 0;
    for number in 0..2000 {
        // Every tenth line is left out by the pattern.
        app.line("stdout", format!("{} {number} {}", if number % 10 == 0 { "no" } else { "order" }, "x".repeat(1000)));
        if number % 100 == 0 {
            let metrics = router.metrics().await;
            let parts = ["delivered_total", "waiting", "dropped_total"]
                .map(|n| total(&metrics, &format!("sidecar_log_records_{n}")));
            assert_eq!(total(&metrics, "sidecar_log_records_in_total"), parts.iter().sum::<u64>(), "{parts:?}");
            looks += 1;
        }
    }
    assert_eq!(looks, 20);
    *app_status.lock().expect("not poisoned") = "STOPPED";
    drop(app);
    router.terminate();
    let last = router.last_line().await;
    assert_eq!((&last["log_records_in"], &last["log_records_delivered"]), (&json!(2000), &json!(1800)), "{last}");
    let stored = aws.log_stream("/ecs/order", &format!("order-app-firelens-{TASK}")).expect("the stream");
    assert_eq!(stored.messages.len(), 1800);
    aws.stop().await.expect("ends well");
}

/// moto is somebody else's reading of the same API.
#[tokio::test(flavor = "multi_thread")]
async fn moto_stores_what_is_sent_and_boto3_reads_it_back() {
    let script = "../../../crates/e2e/python/moto_cbor.py";
    let (Some(mut moto), Some(mut read)) = (python(script), python("read_logs.py")) else { return };
    let mut moto = moto.arg("0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("Python runs");
    let mut url = String::new();
    BufReader::new(moto.stdout.as_mut().expect("piped")).read_line(&mut url).expect("moto says where it listens");
    let directory = tempfile::tempdir().expect("tempdir");
    let app_status = Arc::new(Mutex::new("RUNNING"));
    let router = LogRouter::start(directory.path(), url.trim(), &metadata(app_status.clone()).await);
    eventually("the socket is there", || async { router.socket.exists() }).await;
    let mut app = Driver::connect(&router.socket, "app", TASK);
    let lines: Vec<String> = (0..500).map(|n| format!("order {n} is \"new\" \u{e9}\u{1f4e6}")).collect();
    lines.iter().for_each(|line| app.line("stdout", line));
    *app_status.lock().expect("not poisoned") = "STOPPED";
    drop(app);
    router.terminate();
    let last = router.last_line().await;
    assert_eq!(last["log_records_delivered"], 500, "{last}");

    read.args(["/ecs/order", &format!("order-app-firelens-{TASK}")]).env("AWS_ENDPOINT_URL", url.trim());
    read.env("AWS_DEFAULT_REGION", "us-east-1").env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b");
    let output = read.output().expect("Python runs");
    let _ = moto.kill().and_then(|()| moto.wait());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    let message = |message: &Value| {
        let record: Value = serde_json::from_str(message.as_str().expect("text")).expect("JSON");
        record["message"].as_str().expect("text").to_owned()
    };
    let stored: Vec<String> = seen["messages"].as_array().expect("a list").iter().map(message).collect();
    assert_eq!(stored, lines);
    assert_eq!(seen["retention_days"], 7);
}
