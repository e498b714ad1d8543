//! Other people's programs as peers, started on a free port and ended with the test.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use service::config::{Env, ProcessEnv};

/// A program that runs.
pub(crate) struct Peer {
    child: Child,
    pub(crate) addr: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Peer {
    /// `configure` writes what the program needs into its directory and returns its arguments. None where the
    /// program is not installed, which under CI is an error.
    pub(crate) async fn start(program: &str, configure: impl Fn(&Path, SocketAddr) -> Vec<String>) -> Option<Peer> {
        if Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            let is_ci = ProcessEnv.get("CI").is_some_and(|ci| ci == "true");
            assert!(!is_ci, "{program} is not installed");
            eprintln!("skipped: {program} is not installed");
            return None;
        }
        // Somebody else may take the port before the program does.
        for _ in 0..5 {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let addr = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("port 0");
            let log = std::fs::File::create(dir.path().join("log")).expect("a file");
            let mut command = Command::new(program);
            command.args(configure(dir.path(), addr)).current_dir(dir.path()).stdin(Stdio::null());
            command.stdout(log.try_clone().expect("a file")).stderr(log);
            let mut peer = Peer { child: command.spawn().expect("it starts"), addr, _dir: dir };
            if peer.answers().await {
                return Some(peer);
            }
            eprintln!("{program}: {}", std::fs::read_to_string(peer._dir.path().join("log")).unwrap_or_default());
        }
        panic!("{program} does not answer");
    }

    async fn answers(&mut self) -> bool {
        for _ in 0..1_000 {
            if self.child.try_wait().expect("a child").is_some() {
                return false;
            }
            let asked = reqwest::get(format!("http://{}/api/v1/query?query=1", self.addr)).await;
            if asked.is_ok_and(|response| response.status().is_success()) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// The result of an instant query, once it passes; at most 20 s.
    pub(crate) async fn until(&self, query: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let holds = |data: &Value| holds(&data["result"]);
        self.until_asked("query", &[("query", query)], holds).await["result"].take()
    }

    /// The data of an answer under `/api/v1/`, once it passes; at most 20 s.
    pub(crate) async fn until_asked(
        &self,
        path: &str,
        parameters: &[(&str, &str)],
        holds: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut last = Value::Null;
        for _ in 0..400 {
            let request = reqwest::Client::new().get(format!("http://{}/api/v1/{path}", self.addr));
            let response = request.query(parameters).send().await.expect("an answer");
            last = response.json().await.expect("JSON");
            if holds(&last["data"]) {
                return last["data"].take();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{path} {parameters:?} never was what was expected, last: {last:#}");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It is a test's own child; a second kill does no harm.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Debian's Prometheus with this configuration.
pub(crate) async fn prometheus(config: impl Fn(SocketAddr) -> String) -> Option<Peer> {
    Peer::start("prometheus", |dir, addr| {
        std::fs::write(dir.join("prometheus.yml"), config(addr)).expect("written");
        [
            "--config.file=prometheus.yml".to_owned(),
            "--storage.tsdb.path=tsdb".to_owned(),
            format!("--web.listen-address={addr}"),
            "--web.enable-remote-write-receiver".to_owned(),
            "--enable-feature=native-histograms,exemplar-storage".to_owned(),
        ]
        .into()
    })
    .await
}

/// Debian's single-node VictoriaMetrics.
pub(crate) async fn victoria_metrics() -> Option<Peer> {
    Peer::start("victoria-metrics", |_, addr| {
        // What it takes is searchable at once instead of after half a minute.
        let arguments = [
            format!("-httpListenAddr={addr}"),
            "-storageDataPath=data".to_owned(),
            "-search.latencyOffset=0s".to_owned(),
        ];
        arguments.into()
    })
    .await
}
