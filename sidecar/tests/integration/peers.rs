//! Real servers on the other end: Debian's Prometheus and VictoriaMetrics scrape the sidecar and are written to.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use serde_json::Value;

use crate::setup::{Sidecar, serve, serve_metadata};

/// A server that ends with the test.
struct Peer {
    child: Child,
    addr: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_addr() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).expect("port 0")
}

fn is_installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.is_ok()
}

impl Peer {
    /// None where it is not installed; `cargo xtask test` installs it.
    async fn start(program: &str, config: &str, args: impl Fn(&str, &str, SocketAddr) -> Vec<String>) -> Option<Peer> {
        if !is_installed(program) {
            return None;
        }
        let (dir, addr) = (tempfile::tempdir().expect("tempdir"), free_addr());
        let file = dir.path().join("config.yml");
        std::fs::write(&file, config).expect("written");
        let data = dir.path().join("data");
        let args = args(file.to_str().expect("utf-8"), data.to_str().expect("utf-8"), addr);
        let child =
            Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        let peer = Peer { child, addr, _dir: dir };
        let ready = || async { peer.get("/-/ready").await.is_some() || peer.get("/health").await.is_some() };
        long("the peer is ready", ready).await;
        Some(peer)
    }

    async fn prometheus(config: &str, features: &'static str) -> Option<Peer> {
        Peer::start("prometheus", config, |config, data, addr| {
            vec![
                format!("--config.file={config}"),
                format!("--storage.tsdb.path={data}"),
                format!("--web.listen-address={addr}"),
                "--web.enable-remote-write-receiver".to_owned(),
                format!("--enable-feature={features}"),
                "--log.level=error".to_owned(),
            ]
        })
        .await
    }

    async fn victoria_metrics(config: &str) -> Option<Peer> {
        Peer::start("victoria-metrics", config, |config, data, addr| {
            vec![
                format!("-promscrape.config={config}"),
                format!("-storageDataPath={data}"),
                format!("-httpListenAddr={addr}"),
            ]
        })
        .await
    }

    async fn get(&self, path: &str) -> Option<String> {
        let answer = reqwest::get(format!("http://{}{path}", self.addr)).await.ok()?;
        answer.error_for_status().ok()?.text().await.ok()
    }

    /// The one value of an instant query, if there is one.
    async fn value(&self, query: &str) -> Option<f64> {
        let mut url = reqwest::Url::parse(&format!("http://{}/api/v1/query", self.addr)).expect("an address");
        url.query_pairs_mut().append_pair("query", query);
        let answer: Value = reqwest::get(url).await.ok()?.json().await.ok()?;
        let [result] = &answer["data"]["result"].as_array()?[..] else { return None };
        result["value"][1].as_str()?.parse().ok()
    }
}

/// As `eventually`, for servers that take their time.
async fn long<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let asked = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(40), asked).await.unwrap_or_else(|_| panic!("never: {what}"));
}

const BODY: &str = "\
# HELP jobs_total Jobs.
# TYPE jobs_total counter
jobs_total{queue=\"a \\\"b\\\" \\\\ \\n\"} 7
# TYPE wait_seconds histogram
wait_seconds_bucket{le=\"0.5\"} 2
wait_seconds_bucket{le=\"+Inf\"} 3
wait_seconds_sum 4.25
wait_seconds_count 3
# TYPE size summary
size{quantile=\"0.5\"} 8
size_sum 20
size_count 2
# TYPE temp gauge
temp -1.5
untyped_thing 4
";

/// What every peer must say of it.
const EXPECTED: [(&str, f64); 8] = [
    (r#"jobs_total{queue="a \"b\" \\ \n",service="order"}"#, 7.0),
    (r#"wait_seconds_bucket{le="0.5"}"#, 2.0),
    ("wait_seconds_sum", 4.25),
    ("wait_seconds_count", 3.0),
    (r#"size{quantile="0.5"}"#, 8.0),
    ("temp", -1.5),
    ("untyped_thing", 4.0),
    ("ecs_task_cpu_limit_vcpus", 0.25),
];

async fn sidecar(more: &[(&str, &str)]) -> Sidecar {
    let body = || async { ([("content-type", "text/plain; version=0.0.4")], BODY) };
    let app = serve(Router::new().route("/metrics", get(body))).await;
    let (app, metadata) = (format!("http://{app}/metrics"), serve_metadata().await);
    let mut env = vec![
        ("SIDECAR_APP_METRICS_URL", app.as_str()),
        ("SIDECAR_APP_HEALTH_URL", "off"),
        ("ECS_CONTAINER_METADATA_URI_V4", &metadata),
        // The other containers of this task never stop.
        ("SIDECAR_STOP_TIMEOUT", "3s"),
    ];
    env.extend(more);
    Sidecar::start(&env).await
}

async fn expect_all(peer: &Peer, what: &str) {
    for (query, value) in EXPECTED {
        long(&format!("{what}: {query} is {value}"), || async { peer.value(query).await == Some(value) }).await;
    }
}

#[tokio::test]
async fn prometheus_scrapes_openmetrics_and_protobuf_and_victoriametrics_text_with_equal_values() {
    let sidecar = sidecar(&[]).await;
    let target = sidecar.url.trim_start_matches("http://");
    let config = format!(
        "scrape_configs:\n- job_name: s\n  scrape_interval: 1s\n  static_configs:\n  - targets: ['{target}']\n"
    );
    // With native histograms it asks for protobuf, without for OpenMetrics.
    for features in ["exemplar-storage", "native-histograms"] {
        let Some(peer) = Peer::prometheus(&config, features).await else { return };
        expect_all(&peer, features).await;
        assert_eq!(peer.value("up").await, Some(1.0));
        // Every line was taken, and the exporter's own count of them agrees.
        let targets = peer.get("/api/v1/targets").await.expect("answers");
        assert!(targets.contains(r#""lastError":"""#), "{targets}");
    }
    if let Some(peer) = Peer::victoria_metrics(&config).await {
        expect_all(&peer, "VictoriaMetrics").await;
    }
    sidecar.stop().await;
}

#[tokio::test]
async fn remote_write_is_taken_by_prometheus_and_victoriametrics_and_ends_with_the_task() {
    let empty = "scrape_configs: []\n";
    let (prometheus, victoria) =
        (Peer::prometheus(empty, "exemplar-storage").await, Peer::victoria_metrics(empty).await);
    // Both know 1.0 alone; asked for 2.0, the sidecar finds that out.
    for (peer, version) in [(prometheus, "2.0"), (victoria, "1.0")] {
        let Some(peer) = peer else { continue };
        let url = format!("http://{}/api/v1/write", peer.addr);
        let sidecar = sidecar(&[
            ("SIDECAR_REMOTE_WRITE_URL", &url),
            ("SIDECAR_REMOTE_WRITE_VERSION", version),
            ("SIDECAR_METRICS_INTERVAL", "1s"),
        ])
        .await;
        expect_all(&peer, &url).await;
        let dropped = sidecar.get("/metrics").await.1;
        assert!(!dropped.contains("sidecar_metrics_out_dropped_total{"), "{dropped}");
        let cpu = r#"ecs_container_cpu_usage_seconds_total{container_name="fake-ecs"}"#;
        long("readings with their own time arrive", || async { peer.value(cpu).await.is_some() }).await;
        sidecar.stop().await;
        // The last thing it says is that its series have ended.
        long("the series are gone", || async { peer.value("temp").await.is_none() }).await;
    }
}
