//! Which Alertmanagers there are: each entry of `alertmanagers` is discovered as a scrape job is.
//!
//! In: the configuration. Out: the addresses of the moment, each with its entry's settings. Lists, files, HTTP,
//! DNS and ECS, relabelling included, are those of [`crate::discovery`].

use std::sync::Arc;
use std::time::Duration;

use service::metrics::Metrics;
use service::{Shutdown, Tasks};
use tokio::sync::watch;
use url::Url;

use super::{AlertmanagerConfig, Config};
use crate::aws::Aws;
use crate::clock::Clock;
use crate::config::{Config as WholeConfig, ConfigWatch};
use crate::discovery::{self, Target, Targets};
use crate::scrape::{self, Auth};

/// An Alertmanager that does not accept a connection within this time is away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Where one Alertmanager takes alerts, and how it is spoken to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Endpoint {
    pub(super) url: Url,
    pub(super) settings: Arc<AlertmanagerConfig>,
}

/// The name of an entry's job; targets carry it as their pool.
fn job_name(entry: usize) -> String {
    format!("alertmanagers[{entry}]")
}

impl AlertmanagerConfig {
    fn api_path(&self) -> String {
        let prefix = self.path_prefix.trim_matches('/');
        if prefix.is_empty() { "/api/v2/alerts".to_owned() } else { format!("/{prefix}/api/v2/alerts") }
    }

    fn job(&self, entry: usize) -> scrape::Config {
        let mut job = scrape::Config::new(&job_name(entry));
        job.metrics_path = self.api_path();
        job.scheme = self.scheme;
        job.static_configs.clone_from(&self.static_configs);
        job.file_sd_configs.clone_from(&self.file_sd_configs);
        job.http_sd_configs.clone_from(&self.http_sd_configs);
        job.dns_sd_configs.clone_from(&self.dns_sd_configs);
        job.aws_sd_configs.clone_from(&self.aws_sd_configs);
        job.relabel_configs.clone_from(&self.relabel_configs);
        job
    }

    /// A client that trusts and shows what the entry says.
    ///
    /// # Errors
    /// A file of `tls_config` that cannot be used.
    pub(super) fn client(&self) -> anyhow::Result<reqwest::Client> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("picket-collector/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(self.timeout);
        Ok(self.tls_config.apply(client)?.build()?)
    }

    pub(super) fn auth(&self) -> Option<Auth> {
        let header = self.authorization.clone().map(Auth::Header);
        self.basic_auth.clone().map(Auth::Basic).or(header)
    }

    /// # Errors
    /// Keys that contradict each other, a target that is no address.
    pub(super) fn check(&self) -> Result<(), String> {
        for target in self.static_configs.iter().flat_map(|list| &list.targets) {
            let url =
                Url::parse(&format!("http://{target}/")).ok().filter(|url| url.has_host() && !target.contains('/'));
            url.ok_or_else(|| format!("alertmanager target {target:?} is not HOST:PORT"))?;
        }
        if self.basic_auth.is_some() && self.authorization.is_some() {
            return Err("alertmanagers: at most one of basic_auth and authorization must be configured".to_owned());
        }
        if self.timeout.is_zero() {
            return Err("alertmanagers: timeout cannot be 0".to_owned());
        }
        self.tls_config.check()?;
        self.file_sd_configs.iter().try_for_each(discovery::file::Config::check)?;
        self.http_sd_configs.iter().try_for_each(discovery::http::Config::check)?;
        self.dns_sd_configs.iter().try_for_each(discovery::dns::Config::check)?;
        self.aws_sd_configs.iter().try_for_each(discovery::ecs::Config::check)
    }
}

/// The configuration that discovery follows: a job per entry, and nothing else.
fn jobs(config: &WholeConfig) -> Arc<WholeConfig> {
    let jobs = config.alerting.alertmanagers.iter().enumerate().map(|(entry, am)| am.job(entry));
    Arc::new(WholeConfig { scrape_configs: jobs.collect(), ..WholeConfig::default() })
}

/// Starts looking; what stands in the configuration and in files is there when this returns.
pub(super) fn discover(
    mut config: ConfigWatch,
    aws: Arc<Aws>,
    clock: Clock,
    tasks: &mut Tasks,
    shutdown: &Shutdown,
) -> Targets {
    let (sender, watched) = watch::channel(jobs(&config.borrow()));
    let stop = shutdown.clone();
    tasks.spawn("alertmanager jobs", async move {
        loop {
            tokio::select! {
                () = stop.requested() => return Ok(()),
                changed = config.changed() => match changed {
                    Ok(()) => drop(sender.send_replace(jobs(&config.borrow_and_update()))),
                    // Nobody is left who could change it.
                    Err(_) => stop.requested().await,
                },
            }
        }
    });
    // Its figures would stand beside those of the scrape jobs under the same names: `collector_alertmanagers` is ours.
    let (targets, _) = discovery::spawn(tasks, watched, aws, clock, &Metrics::new(), shutdown.clone());
    targets
}

impl Config {
    /// The Alertmanagers that the targets stand for, each once.
    pub(super) fn endpoints(&self, targets: &[Target]) -> Vec<Endpoint> {
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for (entry, settings) in self.alertmanagers.iter().enumerate() {
            let settings = Arc::new(settings.clone());
            let pool = job_name(entry);
            for target in targets.iter().filter(|target| *target.pool == *pool) {
                let endpoint = Endpoint { url: target.scrape_url.clone(), settings: settings.clone() };
                if !endpoints.iter().any(|known| known.url == endpoint.url) {
                    endpoints.push(endpoint);
                }
            }
        }
        endpoints
    }
}
