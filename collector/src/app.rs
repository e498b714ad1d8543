//! The stages and how they are joined, in flow order. The only module that knows them all.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use service::cli::Exit;
use service::metrics::Metrics;
use service::{Health, Shutdown, Tasks};
use storage::Storage;

use crate::aws::Aws;
use crate::clock::Clock;
use crate::config::{Config, StorageConfig};
use crate::expected::Expected;
use crate::ingest::Ingest;
use crate::query::{Embedded, Querier, Remote};
use crate::reconcile::JobMetrics;
use crate::reload::Reloader;
use crate::scrape::OwnTarget;
use crate::state::StateError;
use crate::write::{Watermark, Writer};
use crate::{api, discovery, expected, notify, publish, remote_write, rules, scaling, scrape, state};

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
        config.web.check_listen(options.listen).map_err(|why| Exit::Config(anyhow::anyhow!(why)))?;
        prepare_data(&options.data).map_err(Exit::Config)?;
        let listener = service::http::bind(options.listen, "--listen").await?;
        let addr = listener.local_addr().context("the listener has no address")?;
        let (metrics, health, mut tasks) = (Metrics::new(), Health::new(), Tasks::new());
        let own = OwnTarget::new(addr);

        let (reloader, reload, config) = Reloader::new(&options.config, config, own.clone(), clock, &metrics)?;
        tasks.spawn("reload", reloader.run(shutdown.clone()));
        let settings = config.borrow().clone();

        let state = settings.state.open(&options.data, &metrics).await.map_err(|e| match e {
            StateError::Url(_) => Exit::Config(e.into()),
            other => Exit::Failure(other.into()),
        })?;
        let leases = state::lease::spawn(&state, &metrics, &mut tasks, &shutdown);
        let storage = Arc::new(open_storage(&options.data, &settings.storage)?);
        let (mut writer, write) = Writer::new(storage.clone(), clock, &metrics);
        writer.watch_memory(Watermark::of_process(settings.storage.memory_limit));
        writer.limit_pushed(config.clone());
        let remotes = remote_write::Inputs {
            configs: &settings.remote_write,
            external_labels: &settings.global.external_labels,
            data: &options.data,
            clock,
            rules_write: state.is_shared().then_some(leases.rules_write),
        };
        writer.send_on(remote_write::spawn(&mut tasks, remotes, &metrics, &shutdown)?);
        tasks.spawn("write", writer.run());
        let querier = match &settings.query.url {
            Some(_) => Querier::Remote(Arc::new(Remote::new(&settings.query).map_err(Exit::Config)?)),
            None => Querier::Embedded(Arc::new(Embedded::new(&settings.query, storage))),
        };

        let aws = Aws::new(&metrics);
        let (targets, discovery) =
            discovery::spawn(&mut tasks, config.clone(), aws.clone(), clock, &metrics, shutdown.clone());
        let external_labels = &settings.global.external_labels;
        let scrape = scrape::spawn(
            &mut tasks,
            targets.clone(),
            write.clone(),
            external_labels,
            clock,
            &metrics,
            shutdown.clone(),
        )?;

        let ingest = Ingest::new(&settings.ingest, &settings.otlp, write.clone(), clock, &metrics);

        let expected = Expected { discovery: discovery.clone(), scrape: scrape.clone(), clock };
        tasks.spawn("expected", expected::run(expected.clone(), metrics.clone(), shutdown.clone()));

        let listen_url = own.url();
        let notify = notify::Inputs {
            config: config.clone(),
            clock,
            targets,
            stops: discovery.stops().clone(),
            aws: aws.clone(),
            state: Some(state.clone()),
            lease: Some(leases.notify),
            listen_url: listen_url.clone(),
        };
        let (outbox, notify) = notify::spawn(notify, &metrics, &mut tasks, &shutdown).map_err(Exit::Config)?;
        let rules = rules::Inputs {
            config: config.clone(),
            repeated: reload.repeated(),
            clock,
            querier: querier.clone(),
            write,
            outbox,
            state: Some(state.clone()),
            listen_url,
        };
        let rules = rules::spawn(rules, &metrics, &mut tasks, shutdown.clone()).map_err(|e| Exit::Config(e.into()))?;

        let jobs = JobMetrics::new(&metrics);
        let publish = publish::Inputs {
            config: config.clone(),
            clock,
            aws: aws.clone(),
            state: state.clone(),
            lease: leases.publish,
            jobs: jobs.clone(),
        };
        let publish = publish::spawn(publish, &metrics, &mut tasks, shutdown.clone());
        let alerts = scaling::firing(rules.clone());
        let lease = leases.scaling;
        let scaling = scaling::Inputs { config: config.clone(), clock, aws, state, lease, jobs, alerts };
        let scaling = scaling::spawn(scaling, &metrics, &mut tasks, shutdown.clone());

        let guard = api::Guard::new(settings.web.auth.as_ref(), own.token());
        let sources = api::Sources {
            flags: Arc::new(options.flags(&settings)),
            retention: settings.storage.retention,
            started: clock.now(),
            config,
            reload,
            clock,
            health,
            metrics,
            querier,
            discovery,
            scrape,
            expected,
            ingest,
            rules,
            notify,
            publish,
            scaling,
        };
        tasks.spawn("api", api::serve(listener, sources, guard, shutdown.clone()));
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

impl Options {
    /// For `status/flags`, by the names that Prometheus' flags have.
    fn flags(&self, config: &Config) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("config.file", self.config.display().to_string()),
            ("storage.tsdb.path", self.data.display().to_string()),
            ("storage.tsdb.retention.time", telemetry::duration::format(config.storage.retention)),
            ("storage.tsdb.retention.size", format!("{}B", config.storage.retention_size)),
            ("query.timeout", telemetry::duration::format(config.query.timeout)),
            ("query.max-samples", config.query.samples_max.to_string()),
            ("web.listen-address", self.listen.to_string()),
        ])
    }
}

/// Opens the samples of earlier runs; reading a long log takes a moment.
fn open_storage(data: &Path, config: &StorageConfig) -> anyhow::Result<Storage> {
    let (storage, recovery) = Storage::open(&data.join("samples"), config.build())?;
    let storage::Recovery { series, log_records, cut_bytes, logs_set_aside, segments_set_aside, samples_lost } =
        recovery;
    if series > 0 {
        tracing::info!(series, log_records, cut_bytes, logs_set_aside, "samples of earlier runs are there");
    }
    if samples_lost > 0 {
        tracing::error!(samples_lost, segments_set_aside, "samples of earlier runs are gone or damaged on disk");
    }
    Ok(storage)
}

/// The directory exists and can be written to, or one message says why not.
fn prepare_data(data: &Path) -> anyhow::Result<()> {
    let shown = data.display();
    std::fs::create_dir_all(data).with_context(|| format!("failed to make the data directory `{shown}` (--data)"))?;
    let probe = data.join(".writable");
    std::fs::write(&probe, b"")
        .and_then(|()| std::fs::remove_file(&probe))
        .with_context(|| format!("the data directory `{shown}` (--data) is not writable"))
}
