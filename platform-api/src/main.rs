//! The platform's domain services: user, product, order, analytics, notification.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use platform_api::app::{App, Role};
use platform_api::cli::{Cli, Command};
use platform_api::config::Config;
use platform_api::shared::auth::keys;
use platform_api::telemetry::Telemetry;
use platform_api::{dev, loadgen};
use service::Shutdown;
use service::cli::{Exit, finish};
use service::config::ProcessEnv;

/// Each password takes 19 MiB for a moment: jemalloc gives them back where glibc keeps them per thread.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Healthcheck { addr, path } => service::healthcheck::check(addr, &path).map_err(Exit::from),
        Command::Keygen { out, if_missing } => keygen(&out, if_missing),
        command => run(command),
    };
    finish("platform-api", result)
}

fn run(command: Command) -> Result<(), Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no async runtime")?;
    runtime.block_on(async {
        match command {
            Command::Serve(args) => serve(Role::Serve(args.domain), args.domain.service_name(), args.listen).await,
            Command::Worker { listen } => serve(Role::Worker, "worker", listen).await,
            Command::Migrate => dev::migrate(Config::from_env(&ProcessEnv)?).await.map_err(Exit::from),
            Command::Dev(args) => dev::run(args).await,
            Command::Loadgen(args) => loadgen::run(args).await.map_err(Exit::from),
            Command::Healthcheck { .. } | Command::Keygen { .. } => unreachable!("answered without a runtime"),
        }
    })
}

async fn serve(role: Role, service_name: &str, listen: SocketAddr) -> Result<(), Exit> {
    let config = Config::from_env(&ProcessEnv)?;
    let telemetry = Telemetry::start(service_name, &ProcessEnv).map_err(Exit::Config)?;
    let shutdown = Shutdown::on_signals().context("signals cannot be heard")?;
    let app = App::build(config, role, listen).await?;
    tracing::info!("{service_name} listens on {}", app.local_addr());
    let result = app.run(shutdown).await;
    telemetry.stop().await;
    result.map_err(Exit::from)
}

fn keygen(out: &Path, if_missing: bool) -> Result<(), Exit> {
    let (private, public) = match keys::existing(out).filter(|_| if_missing) {
        Some(pair) => pair,
        None => keys::generate(out)?,
    };
    println!("{}\n{}", private.display(), public.display());
    Ok(())
}
