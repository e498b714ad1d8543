//! `fake-aws serve`: the local AWS as a program. SIGTERM or SIGINT stops every task it started.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use fake_aws::topology::Topology;
use fake_aws::{FakeAws, Options};
use service::cli::Exit;
use service::logging::Logging;

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
    let shutdown = service::Shutdown::on_signals().map_err(anyhow::Error::from)?;
    let mut aws = FakeAws::start(Options { listen, topology, file_sd, log_dir }).await?;
    tracing::info!(url = aws.url(), "local AWS is up, give clients AWS_ENDPOINT_URL={}", aws.url());
    let failure = tokio::select! {
        () = shutdown.requested() => None,
        error = aws.failed() => Some(error),
    };
    let stopped = aws.stop().await;
    match failure {
        Some(error) => Err(error.into()),
        None => stopped.map_err(Exit::from),
    }
}
