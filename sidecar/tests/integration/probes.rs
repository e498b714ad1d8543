//! Probes of real servers: Debian's Redis and PostgreSQL, gRPC's own health service in Python. Each runs where it is
//! installed; `cargo xtask test` installs them.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::setup::Sidecar;

/// A server that ends with the test.
struct Server {
    child: Child,
    addr: SocketAddr,
}

impl Server {
    fn start(mut command: Command, addr: SocketAddr) -> Server {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        Server { child, addr }
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn free_addr() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).expect("port 0")
}

async fn sidecar(probes: &str) -> Sidecar {
    let env = [
        ("SIDECAR_APP_METRICS_URL", "off"),
        ("SIDECAR_APP_HEALTH_URL", "off"),
        ("SIDECAR_APP_HEALTH_INTERVAL", "100ms"),
        ("SIDECAR_PROBES", probes),
    ];
    Sidecar::start(&env).await
}

/// Waits until the probe says what is expected of it: "ok", or what is wrong.
async fn until_it_says(sidecar: &Sidecar, probe: &str, expected: &str) {
    let mut said = String::new();
    let asked = async {
        loop {
            let (_, body) = sidecar.get("/health/app/deep").await;
            let report: Value = serde_json::from_str(&body).expect("JSON");
            said = report["checks"][probe].to_string();
            if said.contains(expected) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let passed = tokio::time::timeout(Duration::from_secs(30), asked).await;
    assert!(passed.is_ok(), "{probe} never said {expected:?}, but {said}");
}

fn redis(directory: &Path, more: &[&str]) -> Server {
    let addr = free_addr();
    let mut command = Command::new("redis-server");
    command.args(["--port", &addr.port().to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.arg("--dir").arg(directory).args(more);
    Server::start(command, addr)
}

#[tokio::test]
async fn redis_is_well_with_and_without_a_password_and_sick_when_it_is_gone() {
    if Command::new("redis-server").arg("--version").output().is_err() {
        return;
    }
    let directory = tempfile::tempdir().expect("tempdir");
    let mut open = redis(directory.path(), &[]);
    let locked = redis(directory.path(), &["--requirepass", "secret"]);
    let sidecar = sidecar(&format!("open=redis://{},locked=redis://{}", open.addr, locked.addr)).await;
    until_it_says(&sidecar, "open", "ok").await;
    until_it_says(&sidecar, "locked", "ok").await;
    open.stop();
    until_it_says(&sidecar, "open", "no connection").await;
    sidecar.stop().await;
}

/// Where Debian has `initdb` and `postgres`.
fn postgres_binaries() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    versions.flatten().map(|entry| entry.path().join("bin")).find(|bin| bin.join("initdb").is_file())
}

#[tokio::test]
async fn postgres_is_well_once_it_takes_connections() {
    let Some(binaries) = postgres_binaries() else { return };
    let directory = tempfile::tempdir().expect("tempdir");
    // It refuses to run as root: then it runs as nobody.
    let nobody = 65534;
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    let command = |name: &str| {
        let mut command = Command::new(binaries.join(name));
        if is_root {
            command.uid(nobody).gid(nobody);
        }
        command.current_dir(directory.path());
        command
    };
    if is_root {
        chown(directory.path(), Some(nobody), Some(nobody)).expect("changed");
    }
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).expect("changed");
    let cluster = directory.path().join("cluster");
    let mut initdb = command("initdb");
    initdb.arg("-D").arg(&cluster).args(["-U", "shop", "-E", "UTF8", "--locale=C", "--auth=trust", "--no-sync"]);
    let made = initdb.output().expect("starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

    let addr = free_addr();
    let sidecar = sidecar(&format!("db=postgres://shop@{addr}/postgres")).await;
    until_it_says(&sidecar, "db", "no connection").await;
    let mut postgres = command("postgres");
    postgres.arg("-D").arg(&cluster).args(["-p", &addr.port().to_string(), "-h", "127.0.0.1", "-F", "-k", ""]);
    let server = Server::start(postgres, addr);
    until_it_says(&sidecar, "db", "ok").await;
    drop(server);
    until_it_says(&sidecar, "db", "no connection").await;
    sidecar.stop().await;
}

#[expect(clippy::disallowed_methods, reason = "tests find their tools by the environment")]
fn python() -> Option<String> {
    std::env::var("PICKET_PYTHON").ok().filter(|value| !value.is_empty())
}

#[tokio::test]
async fn a_grpc_server_is_as_well_as_its_health_service_says() {
    let Some(python) = python() else { return };
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/grpc_server.py"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
    let mut port = String::new();
    BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut port).expect("a port");
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port.trim().parse().expect("a port")));
    let mut server = Server { child, addr };
    let sidecar =
        sidecar(&format!("all=grpc://{addr},cart=grpc://{addr}/shop.Cart,none=grpc://{addr}/shop.None")).await;
    until_it_says(&sidecar, "all", "ok").await;
    until_it_says(&sidecar, "cart", "NOT_SERVING").await;
    until_it_says(&sidecar, "none", "says UNKNOWN of `shop.None`").await;
    server.stop();
    until_it_says(&sidecar, "all", "nothing answers").await;
    sidecar.stop().await;
}
