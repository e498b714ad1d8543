//! A PostgreSQL of the tests' own, thrown away with them.

use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Stopped when it is dropped.
pub(crate) struct Postgres {
    server: Child,
    dir: tempfile::TempDir,
    port: u16,
}

/// PostgreSQL refuses to run as root: somebody else's ids then.
fn account() -> Option<(u32, u32)> {
    if !Path::new("/proc/self").metadata().is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let of = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(of("postgres").or_else(|| of("nobody")).expect("a user postgres or nobody"))
}

fn binaries() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin")).collect();
    found.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    found.into_iter().find(|dir| dir.join("postgres").is_file() && dir.join("initdb").is_file())
}

impl Postgres {
    /// None, and a word about it, where none is installed; in CI that is a failure.
    pub(crate) async fn start() -> Option<Postgres> {
        let Some(binaries) = binaries() else {
            assert!(std::env::var_os("CI").is_none(), "PostgreSQL is not installed");
            eprintln!("skipped: PostgreSQL is not installed");
            return None;
        };
        let (dir, account) = (tempfile::tempdir().expect("a directory"), account());
        let cluster = dir.path().join("cluster");
        std::fs::create_dir(&cluster).expect("made");
        if let Some((uid, gid)) = account {
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("opened");
            chown(&cluster, Some(uid), Some(gid)).expect("given away");
        }
        std::fs::set_permissions(&cluster, std::fs::Permissions::from_mode(0o700)).expect("closed");
        let command = |name: &str| {
            let mut command = Command::new(binaries.join(name));
            command.current_dir("/").env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null());
            if let Some((uid, gid)) = account {
                command.uid(uid).gid(gid);
            }
            command
        };
        let made =
            command("initdb").arg("-D").arg(&cluster).args(["-U", "collector", "--auth=trust", "--no-sync"]).status();
        assert!(made.expect("initdb runs").success());
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        drop(listener);
        let mut postgres = command("postgres");
        postgres.arg("-D").arg(&cluster).args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
        let log = std::fs::File::create(dir.path().join("log")).expect("a log");
        let server =
            postgres.args(["-c", &format!("port={port}"), "-c", "fsync=off"]).stderr(log).spawn().expect("runs");
        let postgres = Postgres { server, dir, port };
        postgres.until_ready().await;
        Some(postgres)
    }

    async fn until_ready(&self) {
        let started = Instant::now();
        while sqlx::postgres::PgPool::connect(&self.url()).await.is_err() {
            let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(started.elapsed() < Duration::from_secs(30), "{}", log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://collector@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
