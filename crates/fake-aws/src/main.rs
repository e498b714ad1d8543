//! `fake-aws serve`: the local AWS as a program. SIGTERM or SIGINT stops every task it started, a further one
//! kills them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use fake_aws::topology::Topology;
use fake_aws::{FakeAws, Options};
use service::cli::Exit;
use service::logging::Logging;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

/// A Ctrl-C comes twice where the terminal and a parent process both pass it on.
const ONE_KEYSTROKE: Duration = Duration::from_secs(2);

/// The AWS calls that the suite makes, on loopback, with AWS' real limits. Development only.
#[derive(Parser)]
#[command(name = "fake-aws", version = service::cli::version())]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answers AWS API calls and runs the services of a topology as processes.
    Serve {
        /// Where the APIs listen; give it to clients as AWS_ENDPOINT_URL.
        #[arg(long, default_value = "127.0.0.1:4566", value_name = "ADDR")]
        listen: SocketAddr,
        /// Clusters, services and task definitions (YAML).
        #[arg(long, value_name = "FILE")]
        topology: PathBuf,
        /// Keeps a Prometheus file_sd document of the running tasks here.
        #[arg(long, value_name = "FILE")]
        file_sd: Option<PathBuf>,
        /// Output of each container goes here as SERVICE-TASK-CONTAINER.log.
        #[arg(long, default_value = ".data/fake-aws/logs", value_name = "DIR")]
        log_dir: PathBuf,
    },
}

fn main() -> ExitCode {
    let Arguments { command: Command::Serve { listen, topology, file_sd, log_dir } } = Arguments::parse();
    service::cli::finish("fake-aws", serve(listen, topology, file_sd, log_dir))
}

#[tokio::main]
async fn serve(listen: SocketAddr, topology: PathBuf, file_sd: Option<PathBuf>, log_dir: PathBuf) -> Result<(), Exit> {
    Logging::from_env("fake-aws", &service::config::ProcessEnv).start();
    let topology = Topology::load(&topology).map_err(|error| Exit::Config(error.into()))?;
    let mut signals = Signals::listen().context("failed to listen for signals")?;
    let mut aws = FakeAws::start(Options { listen, topology, file_sd, log_dir }).await?;
    tracing::info!(url = aws.url(), "local AWS is up, give clients AWS_ENDPOINT_URL={}", aws.url());
    let failure = tokio::select! {
        () = signals.next() => None,
        error = aws.failed() => Some(error),
    };
    tracing::info!("stopping every task");
    let stopped = stop(aws, signals).await;
    match failure {
        Some(error) => Err(error.into()),
        None => stopped.map_err(Exit::from),
    }
}

/// Stops the tasks in order; a further signal kills them, so that even an impatient end leaves no process.
async fn stop(aws: FakeAws, mut signals: Signals) -> anyhow::Result<()> {
    let (killer, asked) = (aws.killer(), Instant::now());
    let mut stopped = pin!(aws.stop());
    loop {
        tokio::select! {
            result = &mut stopped => return result,
            () = signals.next() => if asked.elapsed() > ONE_KEYSTROKE {
                tracing::warn!("another signal, killing every task");
                killer.kill_all();
            },
        }
    }
}

struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Signals { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! { _ = self.term.recv() => {}, _ = self.int.recv() => {} }
    }
}
