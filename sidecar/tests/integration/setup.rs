//! A task on loopback: metadata, an app whose health can be switched, a backend that keeps what it gets.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use service::{Shutdown, task};
use sidecar::app::App;
use sidecar::config::Config;
use sidecar::fake_ecs::{self, FakeTask};

pub(crate) const TASK_ID: &str = "0123456789abcdef0123456789abcdef";

pub(crate) const APP_METRICS: &str = "\
# HELP http_requests_total Requests.
# TYPE http_requests_total counter
http_requests_total{method=\"GET\",path=\"/\",status=\"200\"} 42
# TYPE payments_total counter
payments_total{service=\"stripe\"} 7
# TYPE ecs_task_cpu_limit_vcpus gauge
ecs_task_cpu_limit_vcpus 99
";

/// Serves on a free port of loopback for as long as the test runs.
pub(crate) async fn serve(router: Router) -> SocketAddr {
    let listener = service::http::bind(([127, 0, 0, 1], 0).into(), "test").await.expect("port 0");
    let addr = listener.local_addr().expect("bound");
    task::spawn("test_server", service::http::serve(listener, router, Shutdown::new()));
    addr
}

#[derive(Clone, Default)]
pub(crate) struct FakeApp(Arc<AtomicBool>);

impl FakeApp {
    pub(crate) fn set_ready(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    pub(crate) async fn serve(&self) -> SocketAddr {
        let app = self.clone();
        let ready = move || async move {
            match app.0.load(Ordering::Relaxed) {
                true => StatusCode::OK.into_response(),
                false => (StatusCode::SERVICE_UNAVAILABLE, "no database").into_response(),
            }
        };
        let metrics = || async { ([(CONTENT_TYPE, "text/plain; version=0.0.4")], APP_METRICS) };
        serve(Router::new().route("/health/ready", get(ready)).route("/metrics", get(metrics))).await
    }
}

/// A traces backend: answers by script, then with 200, and keeps what it took.
#[derive(Clone, Default)]
pub(crate) struct Backend(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    script: VecDeque<u16>,
    taken: Vec<(HeaderMap, Bytes)>,
    requests: usize,
}

impl Backend {
    pub(crate) fn answering(script: impl IntoIterator<Item = u16>) -> Self {
        Backend(Arc::new(Mutex::new(Kept { script: script.into_iter().collect(), ..Kept::default() })))
    }

    pub(crate) async fn serve(&self) -> SocketAddr {
        let kept = self.0.clone();
        let take = move |headers: HeaderMap, body: Bytes| async move {
            let mut kept = kept.lock().expect("not poisoned");
            kept.requests += 1;
            match kept.script.pop_front() {
                Some(status) => StatusCode::from_u16(status).expect("a status"),
                None => {
                    kept.taken.push((headers, body));
                    StatusCode::OK
                }
            }
        };
        serve(Router::new().route("/v1/traces", post(take))).await
    }

    pub(crate) fn taken(&self) -> Vec<(HeaderMap, Bytes)> {
        self.0.lock().expect("not poisoned").taken.clone()
    }

    pub(crate) fn requests(&self) -> usize {
        self.0.lock().expect("not poisoned").requests
    }
}

/// A metadata endpoint; its `ECS_CONTAINER_METADATA_URI_V4`.
pub(crate) async fn serve_metadata() -> String {
    let task = FakeTask::new(fake_ecs::Config {
        service: "order".into(),
        cluster: "main".into(),
        family: "dev-order".into(),
        region: "eu-central-1".into(),
        task_id: TASK_ID.into(),
        containers: vec![],
        refresh: Duration::from_secs(10),
    });
    let addr = serve(task.router()).await;
    task.uri(addr)
}

/// A running sidecar.
pub(crate) struct Sidecar {
    pub(crate) url: String,
    pub(crate) otlp_url: String,
    pub(crate) grpc_addr: SocketAddr,
    pub(crate) statsd_addr: SocketAddr,
    /// Where Fluent Forward is taken in, if that was asked for.
    pub(crate) fluent_addr: Option<SocketAddr>,
    pub(crate) order: Shutdown,
    pub(crate) ended: tokio::task::JoinHandle<anyhow::Result<()>>,
    client: reqwest::Client,
}

impl Sidecar {
    pub(crate) async fn start(env: &[(&str, &str)]) -> Sidecar {
        let mut all = HashMap::from([
            ("SIDECAR_LISTEN", "127.0.0.1:0"),
            ("SIDECAR_OTLP_LISTEN", "127.0.0.1:0"),
            ("SIDECAR_OTLP_GRPC_LISTEN", "127.0.0.1:0"),
            ("SIDECAR_STATSD_LISTEN", "127.0.0.1:0"),
        ]);
        all.extend(env.iter().copied());
        let app = App::bind(Config::load(None, &all)).await.expect("port 0");
        let url = format!("http://{}", app.addr());
        let otlp_url = app.otlp_addr().map(|a| format!("http://{a}/v1/traces")).unwrap_or_default();
        let (grpc_addr, statsd_addr) = (app.grpc_addr().expect("port 0"), app.statsd_addr().expect("port 0"));
        let fluent_addr = app.fluent_addr();
        let order = Shutdown::new();
        let ended = task::spawn("sidecar", app.run(order.clone()));
        Sidecar { url, otlp_url, grpc_addr, statsd_addr, fluent_addr, order, ended, client: reqwest::Client::new() }
    }

    /// Status and body.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.client.get(format!("{}{path}", self.url)).send().await.expect("answers");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    }

    pub(crate) async fn post_traces(&self, content_type: &str, encoding: Option<&str>, body: Vec<u8>) -> (u16, String) {
        let mut request = self.client.post(&self.otlp_url).header("content-type", content_type).body(body);
        if let Some(encoding) = encoding {
            request = request.header("content-encoding", encoding);
        }
        let answer = request.send().await.expect("answers");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    }

    /// The value of the one series whose line starts so.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let (_, text) = self.get("/metrics").await;
        let found: Vec<&str> = text.lines().filter(|line| line.starts_with(series)).collect();
        let [line] = found[..] else { panic!("{series} is there {} times in {text}", found.len()) };
        let value = line[line.rfind('}').expect("labels") + 1..].split_whitespace().next().expect("a value");
        value.parse().expect("a number")
    }

    pub(crate) async fn stop(self) {
        self.order.request();
        self.ended.await.expect("no panic").expect("ends well");
    }
}

/// Asks until it holds; fails after ten seconds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let asked = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), asked).await.unwrap_or_else(|_| panic!("never: {what}"));
}
