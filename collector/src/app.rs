//! The stages and how they are joined, in flow order. The only module that knows them all.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use service::cli::Exit;
use service::metrics::Metrics;
use service::{Health, Shutdown, Tasks};
use storage::Storage;
use tokio::sync::watch;

use crate::api;
use crate::clock::Clock;
use crate::config::Config;
use crate::query::{Embedded, Querier};
use crate::state::StateError;
use crate::write::Writer;

/// Stages that have not ended by then are named and left.
const GRACE: Duration = Duration::from_secs(10);

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    pub config: PathBuf,
    pub data: PathBuf,
    pub listen: SocketAddr,
}

/// The whole collector, built and bound but not yet running.
pub struct App {
    tasks: Tasks,
    shutdown: Shutdown,
    addr: SocketAddr,
}

impl App {
    /// Reads the configuration, binds the listener, builds every stage.
    ///
    /// # Errors
    /// A configuration, data directory or address that cannot be used.
    pub async fn build(options: Options, clock: Clock, shutdown: Shutdown) -> Result<App, Exit> {
        let config = Config::load(&options.config).map_err(|e| Exit::Config(e.into()))?;
        let listener = service::http::bind(options.listen, "--listen").await?;
        let addr = listener.local_addr().context("the listener has no address")?;
        let (metrics, health, mut tasks) = (Metrics::new(), Health::new(), Tasks::new());
        let config = Arc::new(config);
        let (_config_sender, config_watch) = watch::channel(config.clone());

        let _state = config.state.open(&options.data, &metrics).await.map_err(|e| match e {
            StateError::Url(_) => Exit::Config(e.into()),
            other => Exit::Failure(other.into()),
        })?;
        let storage = Arc::new(Storage::new(storage::Config {
            retention: config.storage.retention,
            ..storage::Config::default()
        }));
        let (writer, _write) = Writer::new(storage.clone(), clock, &metrics);
        tasks.spawn("write", writer.run());
        let querier = Querier::Embedded(Arc::new(Embedded::new(&config.query, storage)));

        let scrape = crate::scrape::Status::default();
        let sources = api::Sources { config: config_watch, clock, health, metrics, querier, scrape };
        tasks.spawn("api", api::serve(listener, sources, shutdown.clone()));
        Ok(App { tasks, shutdown, addr })
    }

    /// Where it listens; the port is known when port 0 was asked for.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Runs until the stop is ordered or a stage fails.
    ///
    /// # Errors
    /// The first stage that failed.
    pub async fn run(self) -> anyhow::Result<()> {
        self.tasks.run(self.shutdown, GRACE).await
    }
}
