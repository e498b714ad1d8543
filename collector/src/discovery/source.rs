//! One discovery mechanism of one scrape configuration, running: it publishes the groups that it knows now.

use std::sync::{Arc, Mutex};

use service::Shutdown;
use telemetry::Timestamp;
use tokio::sync::Notify;

use super::dns::{self, DnsSource};
use super::ecs::{self, EcsSource, Known};
use super::file::{self, FileSource};
use super::http::{self, HttpSource};
use super::{TargetGroup, fixed};
use crate::aws::Aws;
use crate::clock::Clock;

/// The closed set of mechanisms.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum SourceConfig {
    Fixed(fixed::Config),
    File(file::Config),
    Http(http::Config),
    Dns(dns::Config),
    Ecs(ecs::Config),
}

impl SourceConfig {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            SourceConfig::Fixed(_) => "static",
            SourceConfig::File(_) => "file",
            SourceConfig::Http(_) => "http",
            SourceConfig::Dns(_) => "dns",
            SourceConfig::Ecs(_) => "ecs",
        }
    }
}

/// What a source says, and how fresh that is.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) groups: Arc<Vec<TargetGroup>>,
    pub(super) refreshed: Option<Timestamp>,
    pub(super) error: Option<String>,
}

/// A source's end of the line to the driver.
#[derive(Clone)]
pub(super) struct Publisher {
    found: Arc<Mutex<Found>>,
    changed: Arc<Notify>,
    clock: Clock,
}

impl Publisher {
    /// One whose news can be looked at.
    #[cfg(test)]
    pub(super) fn of_test(changed: Arc<Notify>, clock: Clock) -> (Self, Arc<Mutex<Found>>) {
        let found = Arc::new(Mutex::new(Found::default()));
        (Publisher { found: found.clone(), changed, clock }, found)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Replaces what is known; `error` says that part of it is old.
    pub(super) fn publish(&self, groups: Vec<TargetGroup>, error: Option<String>) {
        let mut found = self.found.lock().expect("no one panics holding it");
        if error.is_none() {
            found.refreshed = Some(self.clock.now());
        }
        if *found.groups != groups {
            found.groups = Arc::new(groups);
        }
        found.error = error;
        self.changed.notify_one();
    }
}

/// A running source; stops when it is dropped.
pub(super) struct Source {
    pub(super) pool: Arc<str>,
    pub(super) config: SourceConfig,
    found: Arc<Mutex<Found>>,
    stop: Shutdown,
}

impl Source {
    /// `changed` is notified whenever there is news.
    pub(super) fn start(
        pool: Arc<str>,
        config: SourceConfig,
        changed: Arc<Notify>,
        aws: &Arc<Aws>,
        known: &Known,
        clock: Clock,
        shutdown: &Shutdown,
    ) -> Self {
        let found = Arc::new(Mutex::new(Found::default()));
        let publisher = Publisher { found: found.clone(), changed, clock };
        let stop = shutdown.child();
        match &config {
            SourceConfig::Fixed(list) => publisher.publish(vec![list.group(&pool, &[])], None),
            SourceConfig::File(files) => {
                let source = FileSource::new(files.clone(), publisher);
                service::task::spawn("discovery-file", source.run(stop.clone()));
            }
            SourceConfig::Http(http) => {
                let source = HttpSource::new(http.clone(), publisher);
                service::task::spawn("discovery-http", source.run(stop.clone()));
            }
            SourceConfig::Dns(dns) => {
                let source = DnsSource::new(dns.clone(), publisher);
                service::task::spawn("discovery-dns", source.run(stop.clone()));
            }
            SourceConfig::Ecs(ecs) => {
                let source = EcsSource::new(ecs.clone(), aws.clone(), publisher, known.clone());
                service::task::spawn("discovery-ecs", source.run(stop.clone()));
            }
        }
        Source { pool, config, found, stop }
    }

    pub(super) fn found(&self) -> Found {
        self.found.lock().expect("no one panics holding it").clone()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.stop.request();
    }
}
