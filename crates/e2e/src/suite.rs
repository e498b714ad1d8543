//! The running suite: what is started, in which order, and how one knows that it is up.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use service::Shutdown;

use crate::client::Client;
use crate::options::Options;
use crate::process::{Process, Workplace};
use crate::terminal::Progress;
use crate::trace_sink::TraceSink;

mod alertmanager;
mod collector;
mod database;
mod services;

pub use collector::TIME_FACTOR;
pub use services::{SCALED_SERVICE, SERVICES};

/// How long any one part may take to come up.
const START_TIMEOUT: Duration = Duration::from_secs(90);
/// How often a starting part is asked.
const START_POLL: Duration = Duration::from_millis(100);
/// How long a part may take to stop; the local AWS stops its tasks in this time.
const STOP_GRACE: Duration = Duration::from_secs(20);

/// Everything that runs, in the order in which it was started.
pub struct Suite {
    pub options: Options,
    pub client: Client,
    pub workplace: Workplace,
    pub traces: TraceSink,
    /// None where no Alertmanager is installed.
    pub alertmanager: Option<String>,
    /// When the demo's scaling schedule begins.
    pub window: collector::Window,
    processes: Vec<Process>,
    shutdown: Shutdown,
}

impl Suite {
    /// Starts everything and returns when all of it is up.
    ///
    /// # Errors
    /// The first part that does not come up, with the end of its log. What was started is stopped.
    pub async fn start(mut options: Options, progress: &Progress) -> anyhow::Result<Self> {
        options.check_ports()?;
        let bin_dir = &options.bin_dir;
        options.bin_dir = std::fs::canonicalize(bin_dir).with_context(|| format!("no folder {}", bin_dir.display()))?;
        let workplace = Workplace::prepare(&options.data)?;
        let shutdown = Shutdown::new();
        let (traces, trace_address) = TraceSink::start(&shutdown).await?;
        let client = Client::new()?;
        let window = collector::Window::starting_soon(options.baseline);
        let mut suite =
            Suite { options, client, workplace, traces, alertmanager: None, window, processes: Vec::new(), shutdown };
        suite.start_all(trace_address, progress).await?;
        Ok(suite)
    }

    async fn start_all(&mut self, traces: SocketAddr, progress: &Progress) -> anyhow::Result<()> {
        let database_url = progress.during("PostgreSQL", self.start_database()).await?;
        progress.during("schema and keys", self.prepare_platform(&database_url)).await?;
        progress
            .during("five services and the worker, a sidecar beside each", self.start_services(&database_url, traces))
            .await?;
        match alertmanager::program() {
            Some(program) => progress.during("Alertmanager", self.start_alertmanager(&program)).await?,
            None => progress.note(alertmanager::ABSENT),
        }
        progress.during("collector", self.start_collector()).await?;
        progress.during("load generator", self.start_loadgen()).await
    }

    /// The collector's address, without a slash at the end.
    pub fn collector(&self) -> String {
        format!("http://127.0.0.1:{}", self.options.collector_port)
    }

    /// The local AWS' endpoint.
    pub fn aws(&self) -> String {
        format!("http://127.0.0.1:{}", self.options.aws_port)
    }

    /// Where the load balancer of a service listens.
    pub fn service_url(&self, service: &str) -> String {
        let index = SERVICES.iter().position(|name| *name == service).expect("only names from the list are asked for");
        format!("http://127.0.0.1:{}", usize::from(self.options.service_port) + index)
    }

    /// Fails if a program of the suite has ended.
    ///
    /// # Errors
    /// Names it, with its last lines.
    pub fn check_alive(&mut self) -> anyhow::Result<()> {
        self.processes.iter_mut().try_for_each(Process::check_alive)
    }

    /// The log file of a program or, for a task, of its container.
    pub fn logs(&self) -> PathBuf {
        self.workplace.dir.join("logs")
    }

    /// Stops everything, last started first; names what had to be killed.
    pub async fn stop(mut self) -> Vec<String> {
        self.shutdown.request();
        let mut processes = std::mem::take(&mut self.processes);
        let stopped = tokio::task::spawn_blocking(move || {
            let late = |process: &mut Process| (!process.stop(STOP_GRACE)).then(|| process.name.clone());
            processes.iter_mut().rev().filter_map(late).collect()
        });
        stopped.await.unwrap_or_default()
    }

    fn binary(&self, name: &str) -> anyhow::Result<Command> {
        let path = self.options.bin_dir.join(name);
        if !path.is_file() {
            bail!("no program {} : build the suite first (`cargo xtask demo` does)", path.display());
        }
        let mut command = Command::new(path);
        command.current_dir(&self.workplace.dir);
        Ok(command)
    }

    fn launch(&mut self, name: &str, mut command: Command) -> anyhow::Result<()> {
        let process = self.workplace.start(name, &mut command)?;
        self.processes.push(process);
        Ok(())
    }

    /// Runs a program to its end.
    async fn finish(&self, name: &str, mut command: Command) -> anyhow::Result<()> {
        let mut process = self.workplace.start(name, &mut command)?;
        let ended = tokio::task::spawn_blocking(move || {
            let status = process.wait(START_TIMEOUT);
            (status, process.last_lines(12))
        });
        match ended.await.context("waiting for a program cannot panic")? {
            (Ok(status), _) if status.success() => Ok(()),
            (Ok(status), lines) => bail!("{name} ended with {status}:\n{lines}"),
            (Err(error), lines) => Err(error.context(format!("{name}:\n{lines}"))),
        }
    }

    /// Waits until `url` answers with 2xx while every program is alive.
    async fn wait_for(&mut self, url: &str) -> anyhow::Result<()> {
        let started = Instant::now();
        while !self.client.is_ok(url).await {
            self.check_alive()?;
            if started.elapsed() > START_TIMEOUT {
                let last = self.processes.last().map(|process| process.last_lines(12)).unwrap_or_default();
                bail!("{url} was not ready within {START_TIMEOUT:?}; last lines of the newest program:\n{last}");
            }
            tokio::time::sleep(START_POLL).await;
        }
        Ok(())
    }
}
