//! A private PostgreSQL: found on this machine, its cluster made once, listening on loopback alone,
//! never as root.
//!
//! The server is our child in a process group of its own, so that Ctrl-C reaches us and we stop it. One
//! that an earlier run left behind is stopped first; one that another run is using is left alone.

use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use service::config::{Env, ProcessEnv};
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::account::{self, Account};

const USER: &str = "platform";
const DATABASE: &str = "platform";
/// The whole suite on one machine: a dozen services with ten connections each, and room.
const CONNECTIONS_MAX: u32 = 300;
const START_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const ASK_EVERY: Duration = Duration::from_millis(50);

/// What becomes of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Survives a crash, and serves the next run.
    Kept,
    /// Nothing is synced; deleted at the end.
    Throwaway,
}

/// A running server.
pub struct Server {
    url: String,
    dir: PathBuf,
    durability: Durability,
    child: Mutex<tokio::process::Child>,
    pid: Pid,
}

impl Server {
    /// Starts PostgreSQL with its files under `data`, on 127.0.0.1 at `port`, or a free one for 0.
    ///
    /// # Errors
    /// There is no PostgreSQL, the directory is in use, or it does not come up.
    pub async fn start(data: &Path, port: u16, durability: Durability) -> anyhow::Result<Server> {
        let binaries = Binaries::find()?;
        let account = account::to_drop_to()?;
        let dir = account::place(data, account)?;
        let cluster = dir.join("cluster");
        stop_leftover(&cluster).await?;
        let password = make_cluster(&binaries, &dir, &cluster, account, durability)?;
        let port = if port == 0 { free_port()? } else { port };
        let log = dir.join("postgres.log");
        let mut child = spawn(&binaries, &cluster, &log, port, account, durability)?;
        let pid = Pid::from_raw(child.id().context("PostgreSQL ended at once")? as i32);
        let options = PgConnectOptions::new().host("127.0.0.1").port(port).username(USER).password(&password);
        wait_for(&options, &mut child, &log, port).await?;
        make_database(&options).await?;
        let url = format!("postgres://{USER}:{password}@127.0.0.1:{port}/{DATABASE}");
        Ok(Server { url, dir, durability, child: Mutex::new(child), pid })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns when the server has ended without our doing, with what its log says last.
    pub async fn ended(&self) -> anyhow::Error {
        let status = self.child.lock().await.wait().await;
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        anyhow::anyhow!("PostgreSQL ended ({status}):\n{}", tail(&self.dir.join("postgres.log")))
    }

    /// Disconnects everybody and stops the server cleanly.
    pub async fn stop(self) {
        // Fast shutdown: no waiting for clients.
        let _ = kill(self.pid, Signal::SIGINT);
        let mut child = self.child.lock().await;
        if tokio::time::timeout(STOP_TIMEOUT, child.wait()).await.is_err() {
            let _ = kill(self.pid, Signal::SIGQUIT);
            let _ = child.wait().await;
        }
        if self.durability == Durability::Throwaway {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// Where `initdb` and `postgres` are.
struct Binaries(PathBuf);

impl Binaries {
    /// PATH, Debian's versioned directories (newest first), Homebrew.
    fn find() -> anyhow::Result<Self> {
        let path = ProcessEnv.get("PATH").unwrap_or_default();
        let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
        dirs.extend(versioned("/usr/lib/postgresql", ""));
        for brew in ["/opt/homebrew/opt", "/usr/local/opt", "/home/linuxbrew/.linuxbrew/opt"] {
            dirs.extend(versioned(brew, "postgresql@"));
        }
        let found = dirs.into_iter().find(|dir| dir.join("postgres").is_file() && dir.join("initdb").is_file());
        found.map(Binaries).context(
            "no PostgreSQL found on PATH or in /usr/lib/postgresql: install it (`apt-get install postgresql`, \
             `brew install postgresql@17`) or set DATABASE_URL to one that runs",
        )
    }

    fn command(&self, name: &str, account: Option<Account>) -> Command {
        let mut command = Command::new(self.0.join(name));
        // Our working directory may be closed to the account.
        command.current_dir("/").env("LC_ALL", "C").process_group(0);
        if let Some(account) = account {
            command.uid(account.uid).gid(account.gid);
        }
        command
    }
}

/// `parent/<prefix>N/bin`, the highest N first.
fn versioned(parent: &str, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(parent) else { return Vec::new() };
    let version = |name: &str| name.strip_prefix(prefix)?.parse::<u32>().ok();
    let mut found: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| Some((version(entry.file_name().to_str()?)?, entry.path().join("bin"))))
        .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, dir)| dir).collect()
}

/// Makes the cluster if there is none; its password, which lies beside it.
fn make_cluster(
    binaries: &Binaries,
    dir: &Path,
    cluster: &Path,
    account: Option<Account>,
    durability: Durability,
) -> anyhow::Result<String> {
    let password_file = dir.join("password");
    let known = std::fs::read_to_string(&password_file).map(|text| text.trim().to_owned()).unwrap_or_default();
    if cluster.join("PG_VERSION").is_file() && !known.is_empty() {
        return Ok(known);
    }
    // What an interrupted first start left is no cluster.
    if cluster.exists() {
        anyhow::ensure!(
            !cluster.join("PG_VERSION").is_file() || known.is_empty(),
            "`{}` is a cluster without our password file",
            cluster.display()
        );
        std::fs::remove_dir_all(cluster).with_context(|| format!("failed to remove `{}`", cluster.display()))?;
    }
    std::fs::create_dir(cluster).with_context(|| format!("failed to create `{}`", cluster.display()))?;
    std::fs::set_permissions(cluster, std::fs::Permissions::from_mode(0o700))
        .with_context(|| format!("failed to close `{}`", cluster.display()))?;
    account::give(cluster, account)?;
    let password = uuid::Uuid::new_v4().simple().to_string();
    let handed = dir.join("initdb-password");
    write_secret(&handed, &password)?;
    account::give(&handed, account)?;
    let mut initdb = binaries.command("initdb", account);
    // The password crosses loopback only. SCRAM would cost thousands of hashes per connection, which an
    // unoptimised build feels at every start.
    initdb.arg("-D").arg(cluster).args(["-U", USER, "-E", "UTF8", "--locale=C", "--auth=password"]);
    initdb.arg(format!("--pwfile={}", handed.display()));
    if durability == Durability::Throwaway {
        initdb.arg("--no-sync");
    }
    let made = initdb.stdin(Stdio::null()).output().context("failed to run initdb");
    let _ = std::fs::remove_file(&handed);
    let made = made?;
    if !made.status.success() {
        let _ = std::fs::remove_dir_all(cluster);
        bail!("initdb failed in `{}`: {}", cluster.display(), String::from_utf8_lossy(&made.stderr).trim());
    }
    let _ = std::fs::remove_file(&password_file);
    write_secret(&password_file, &password)?;
    Ok(password)
}

fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let mut file = file.with_context(|| format!("failed to create `{}`", path.display()))?;
    writeln!(file, "{text}").with_context(|| format!("failed to write `{}`", path.display()))
}

/// The kernel's choice. Another program may take it before PostgreSQL does, which then says so.
fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr().context("a bound listener has an address")?.port())
}

fn spawn(
    binaries: &Binaries,
    cluster: &Path,
    log: &Path,
    port: u16,
    account: Option<Account>,
    durability: Durability,
) -> anyhow::Result<tokio::process::Child> {
    let output = File::create(log).with_context(|| format!("failed to create `{}`", log.display()))?;
    let mut postgres = binaries.command("postgres", account);
    postgres.arg("-D").arg(cluster);
    let mut settings = vec![
        "listen_addresses=127.0.0.1".to_owned(),
        format!("port={port}"),
        // No socket file: loopback with a password is the only way in.
        "unix_socket_directories=".to_owned(),
        format!("max_connections={CONNECTIONS_MAX}"),
        "shared_buffers=64MB".to_owned(),
        "logging_collector=off".to_owned(),
    ];
    if durability == Durability::Throwaway {
        settings.extend(["fsync=off", "synchronous_commit=off", "full_page_writes=off"].map(str::to_owned));
    }
    for setting in settings {
        postgres.arg("-c").arg(setting);
    }
    let errors = output.try_clone().context("failed to share the log file")?;
    postgres.stdin(Stdio::null()).stdout(output).stderr(errors);
    tokio::process::Command::from(postgres).spawn().context("failed to start PostgreSQL")
}

async fn wait_for(
    options: &PgConnectOptions,
    child: &mut tokio::process::Child,
    log: &Path,
    port: u16,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + START_TIMEOUT;
    let options = options.clone().database("postgres").disable_statement_logging();
    loop {
        if let Some(status) = child.try_wait().context("failed to ask after PostgreSQL")? {
            let said = tail(log);
            if said.contains("could not bind") {
                bail!("127.0.0.1:{port} is already in use: stop the other program or choose another port by --port");
            }
            bail!("PostgreSQL ended at start ({status}):\n{said}");
        }
        match options.connect().await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= deadline => {
                let _ = child.start_kill();
                return Err(error)
                    .context(format!("PostgreSQL did not come up within {START_TIMEOUT:?}:\n{}", tail(log)));
            }
            Err(_) => tokio::time::sleep(ASK_EVERY).await,
        }
    }
}

async fn make_database(options: &PgConnectOptions) -> anyhow::Result<()> {
    let mut connection =
        options.clone().database("postgres").connect().await.context("failed to connect to PostgreSQL")?;
    let there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(DATABASE)
        .fetch_one(&mut connection)
        .await
        .context("failed to look for the database")?;
    if !there {
        sqlx::query("CREATE DATABASE platform")
            .execute(&mut connection)
            .await
            .context("failed to create the database")?;
    }
    Ok(())
}

/// Stops a server that a run which is gone has left on this cluster.
async fn stop_leftover(cluster: &Path) -> anyhow::Result<()> {
    let Some(pid) = leftover(cluster) else { return Ok(()) };
    if let Some(owner) = owner(pid) {
        bail!(
            "`{}` is in use by PostgreSQL process {pid} of process {owner}: stop that one or choose another --data",
            cluster.display()
        );
    }
    eprintln!("platform-api: stopping PostgreSQL process {pid}, left behind by an earlier run");
    let _ = kill(pid, Signal::SIGINT);
    let deadline = Instant::now() + STOP_TIMEOUT;
    while leftover(cluster).is_some() {
        if Instant::now() >= deadline {
            bail!("PostgreSQL process {pid} on `{}` does not stop", cluster.display());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
    Ok(())
}

/// The live PostgreSQL that postmaster.pid names; a stale file names nobody, or somebody else by now.
fn leftover(cluster: &Path) -> Option<Pid> {
    let file = std::fs::read_to_string(cluster.join("postmaster.pid")).ok()?;
    let pid: i32 = file.lines().next()?.trim().parse().ok()?;
    kill(Pid::from_raw(pid), None).ok()?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (name.trim() == "postgres").then(|| Pid::from_raw(pid))
}

/// The parent of a server if it is one of our programs: then the server is being used.
fn owner(server: Pid) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{server}/stat")).ok()?;
    let parent: u32 = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let name = std::fs::read_to_string(format!("/proc/{parent}/comm")).ok()?;
    name.starts_with("platform-api").then_some(parent)
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}
