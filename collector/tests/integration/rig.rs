//! A whole collector in-process on a free port, with a target that it scrapes.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use collector::app::{App, Options};
use collector::clock::Clock;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::Value;
use service::Shutdown;

pub(crate) struct Rig {
    pub(crate) addr: SocketAddr,
    pub(crate) target: SocketAddr,
    pub(crate) dir: tempfile::TempDir,
    client: Client,
    shutdown: Shutdown,
}

const METRICS: &str = "# HELP jobs_total Jobs done.\n# TYPE jobs_total counter\njobs_total{queue=\"mail\"} 7\n";

impl Rig {
    /// `more` are further blocks of the configuration; the job `app` scrapes the target five times a second.
    pub(crate) async fn start(more: &str) -> Rig {
        Rig::start_with(more, &[]).await
    }

    /// The same with files beside the configuration.
    pub(crate) async fn start_with(more: &str, files: &[(&str, &str)]) -> Rig {
        Rig::start_scraping(METRICS.to_owned(), more, files).await
    }

    /// The same with a target that says something else, always the same.
    pub(crate) async fn start_scraping(metrics: String, more: &str, files: &[(&str, &str)]) -> Rig {
        let shutdown = Shutdown::new();
        let listener = service::http::bind(([127, 0, 0, 1], 0).into(), "test").await.expect("port 0");
        let target = listener.local_addr().expect("bound");
        let is_open = metrics.ends_with("# EOF\n");
        let kind = if is_open { "application/openmetrics-text; version=1.0.0" } else { "text/plain" };
        let answer = move || async move { ([("content-type", kind)], metrics.clone()) };
        let router = Router::new().route("/metrics", get(answer));
        service::task::spawn("target", service::http::serve(listener, router, shutdown.clone()));

        let dir = tempfile::tempdir().expect("a temporary directory");
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).expect("written");
        }
        configure(&dir, target, more);
        Rig::launch(dir, target, shutdown).await
    }

    /// A collector that scrapes nothing for as long as a test may last: its store stays empty.
    pub(crate) async fn start_idle() -> Rig {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("collector.yml"), "global: {scrape_interval: 1000d}").expect("written");
        Rig::launch(dir, ([127, 0, 0, 1], 9).into(), Shutdown::new()).await
    }

    async fn launch(dir: tempfile::TempDir, target: SocketAddr, shutdown: Shutdown) -> Rig {
        let options = Options {
            config: dir.path().join("collector.yml"),
            data: dir.path().join("data"),
            listen: ([127, 0, 0, 1], 0).into(),
        };
        let app = App::build(options, Clock::System, shutdown.clone()).await.expect("it starts");
        let addr = app.addr();
        service::task::spawn("collector", app.run());
        Rig { addr, target, dir, client: Client::builder().no_gzip().build().expect("a client"), shutdown }
    }

    /// Writes the configuration file.
    pub(crate) fn configure(&self, more: &str) {
        configure(&self.dir, self.target, more);
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("http://{}{path}", self.addr))
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("http://{}{path}", self.addr))
    }

    /// Status and JSON.
    pub(crate) async fn json(&self, path: &str) -> (StatusCode, Value) {
        answer(self.get(path)).await
    }

    /// Asks until the answer's `data` passes; at most 20 s.
    pub(crate) async fn until(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let asked = std::cell::RefCell::new(Value::Null);
        let wait = async {
            loop {
                let (_, json) = self.json(path).await;
                if holds(&json["data"]) {
                    return json["data"].clone();
                }
                asked.replace(json);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(20), wait).await {
            Ok(data) => data,
            Err(_) => panic!("{path} never answered what was expected, last: {:#}", asked.into_inner()),
        }
    }
}

fn configure(dir: &tempfile::TempDir, target: SocketAddr, more: &str) {
    let yaml = format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}\n\
         scrape_configs:\n- {{job_name: app, static_configs: [{{targets: ['{}']}}]}}\n{more}\n",
        target
    );
    std::fs::write(dir.path().join("collector.yml"), yaml).expect("written");
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.shutdown.request();
    }
}

pub(crate) async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.expect("an answer");
    let status = response.status();
    (status, response.json().await.expect("JSON"))
}
