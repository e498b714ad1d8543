//! `dns_sd_configs`: targets that the DNS lists under a name, asked for again and again.
//!
//! Promises what file discovery promises, for each name on its own: servers that do not answer, or with an error, keep
//! the targets that the name last had. That a name does not exist is an answer: then it has none.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use hickory_resolver::config::{ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Resolver, system_conf};
use serde::{Deserialize, Serialize};
use service::Shutdown;
use telemetry::{Labels, LabelsBuilder};

use super::source::Publisher;
use super::{ADDRESS, TargetGroup};

const META_NAME: &str = "__meta_dns_name";
const META_SRV_TARGET: &str = "__meta_dns_srv_record_target";
const META_SRV_PORT: &str = "__meta_dns_srv_record_port";
const META_MX_TARGET: &str = "__meta_dns_mx_record_target";
const META_NS_TARGET: &str = "__meta_dns_ns_record_target";

/// One entry of `dns_sd_configs`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub names: Vec<String>,
    #[serde(default = "default_refresh", with = "service::config::duration")]
    pub refresh_interval: Duration,
    /// Of the records that are asked for.
    #[serde(default, rename = "type")]
    pub kind: RecordKind,
    /// Of the targets; SRV records have ports of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// In either case, as in Prometheus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RecordKind {
    #[default]
    #[serde(alias = "srv")]
    Srv,
    #[serde(alias = "a")]
    A,
    #[serde(alias = "aaaa")]
    Aaaa,
    #[serde(alias = "mx")]
    Mx,
    #[serde(alias = "ns")]
    Ns,
}

impl From<RecordKind> for RecordType {
    fn from(kind: RecordKind) -> RecordType {
        match kind {
            RecordKind::Srv => RecordType::SRV,
            RecordKind::A => RecordType::A,
            RecordKind::Aaaa => RecordType::AAAA,
            RecordKind::Mx => RecordType::MX,
            RecordKind::Ns => RecordType::NS,
        }
    }
}

/// Prometheus' default.
fn default_refresh() -> Duration {
    Duration::from_secs(30)
}

impl Config {
    /// # Errors
    /// No names, or no port where one is needed.
    pub fn check(&self) -> Result<(), String> {
        let needs_port = self.kind != RecordKind::Srv;
        match () {
            () if self.names.is_empty() => Err("dns_sd_configs: names cannot be empty".to_owned()),
            () if self.refresh_interval.is_zero() => Err("dns_sd_configs: refresh_interval cannot be 0".to_owned()),
            () if needs_port && self.port.unwrap_or(0) == 0 => {
                Err("dns_sd_configs: a port is required for all record types except SRV".to_owned())
            }
            () => Ok(()),
        }
    }
}

/// Who is asked; None: whom `/etc/resolv.conf` names, read at every refresh.
type Servers = Option<(ResolverConfig, ResolverOpts)>;

/// Asks again and again.
pub(super) struct DnsSource {
    config: Config,
    servers: Servers,
    /// The last answer for each name.
    known: BTreeMap<String, Vec<Labels>>,
    complaint: Option<String>,
    publisher: Publisher,
}

impl DnsSource {
    pub(super) fn new(config: Config, publisher: Publisher) -> Self {
        DnsSource { config, servers: None, known: BTreeMap::new(), complaint: None, publisher }
    }

    pub(super) async fn run(mut self, stop: Shutdown) {
        loop {
            tokio::select! {
                () = stop.requested() => return,
                () = self.refresh() => {}
            }
            tokio::select! {
                () = stop.requested() => return,
                () = tokio::time::sleep(self.config.refresh_interval) => {}
            }
        }
    }

    async fn refresh(&mut self) {
        let mut errors = Vec::new();
        match Lookup::new(self.servers.clone()) {
            Ok(lookup) => {
                let names = self.config.names.iter().map(|name| lookup.targets(name, &self.config));
                let answers = join_all(names).await;
                for (name, answer) in self.config.names.iter().zip(answers) {
                    match answer {
                        Ok(targets) => _ = self.known.insert(name.clone(), targets),
                        Err(error) => errors.push(format!("failed to look up {name:?}: {error}")),
                    }
                }
            }
            Err(error) => errors.push(error),
        }
        let error = (!errors.is_empty()).then(|| errors.join("; "));
        if let Some(error) = &error
            && self.complaint.as_ref() != Some(error)
        {
            tracing::warn!(error, "DNS discovery keeps its last targets");
        }
        self.complaint.clone_from(&error);
        let group = |(source, targets): (&String, &Vec<Labels>)| TargetGroup {
            source: source.clone(),
            targets: targets.clone(),
        };
        self.publisher.publish(self.known.iter().map(group).collect(), error);
    }
}

struct Lookup {
    resolver: Resolver<TokioRuntimeProvider>,
    search: Vec<Name>,
    ndots: usize,
}

impl Lookup {
    fn new(servers: Servers) -> Result<Self, String> {
        let read = || system_conf::read_system_conf().map_err(|e| format!("failed to read /etc/resolv.conf: {e}"));
        let (config, mut options) = servers.map_or_else(read, Ok)?;
        // The refresh interval says how old an answer may be.
        options.cache_size = 0;
        let (search, ndots) = (config.search().to_vec(), options.ndots);
        let builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options);
        let resolver = builder.build().map_err(|e| format!("failed to build a resolver: {e}"))?;
        Ok(Lookup { resolver, search, ndots })
    }

    /// The first of the names that exists counts. Errors count only where none does: then nobody knows.
    async fn targets(&self, name: &str, config: &Config) -> Result<Vec<Labels>, String> {
        let (mut kept, mut failure) = (None, None);
        for candidate in self.candidates(name)? {
            match self.resolver.lookup(candidate, config.kind.into()).await {
                Ok(found) => {
                    kept = Some(found.answers().iter().filter_map(|r| target(name, &r.data, config)).collect());
                    break;
                }
                Err(NetError::Dns(DnsError::NoRecordsFound(none))) => match none.response_code {
                    ResponseCode::NXDomain => {}
                    // It exists, without records of this type.
                    ResponseCode::NoError => {
                        kept = Some(Vec::new());
                        break;
                    }
                    code => failure = Some(format!("the servers answer {code}")),
                },
                Err(error) => failure = Some(error.to_string()),
            }
        }
        match (kept, failure) {
            (Some(targets), _) => {
                let mut targets: Vec<Labels> = targets;
                // Servers turn the list round at every answer.
                targets.sort_by(|a, b| a.encoded().cmp(b.encoded()));
                targets.dedup();
                Ok(targets)
            }
            (None, Some(failure)) => Err(failure),
            (None, None) => Ok(Vec::new()),
        }
    }

    /// The name as it stands and below each domain that is searched; first as it stands if it has dots enough.
    fn candidates(&self, name: &str) -> Result<Vec<Name>, String> {
        let mut plain = Name::from_str_relaxed(name).map_err(|error| error.to_string())?;
        if plain.is_fqdn() {
            return Ok(vec![plain]);
        }
        let below = self.search.iter().filter_map(|domain| plain.clone().append_domain(domain).ok());
        let mut candidates: Vec<Name> = below.collect();
        let dots = name.matches('.').count();
        plain.set_fqdn(true);
        let first = if dots >= self.ndots { 0 } else { candidates.len() };
        candidates.insert(first, plain);
        Ok(candidates)
    }
}

/// None for records of other types, such as the CNAME on the way.
fn target(name: &str, data: &RData, config: &Config) -> Option<Labels> {
    let port = config.port.unwrap_or(0);
    let mut labels = LabelsBuilder::default();
    labels.set(META_NAME, name);
    let address = match data {
        RData::SRV(record) if config.kind == RecordKind::Srv => {
            labels.set(META_SRV_TARGET, &record.target.to_utf8());
            labels.set(META_SRV_PORT, &record.port.to_string());
            format!("{}:{}", host(&record.target), record.port)
        }
        RData::MX(record) if config.kind == RecordKind::Mx => {
            labels.set(META_MX_TARGET, &record.exchange.to_utf8());
            format!("{}:{port}", host(&record.exchange))
        }
        RData::NS(record) if config.kind == RecordKind::Ns => {
            labels.set(META_NS_TARGET, &record.0.to_utf8());
            format!("{}:{port}", host(&record.0))
        }
        RData::A(record) if config.kind == RecordKind::A => format!("{}:{port}", record.0),
        RData::AAAA(record) if config.kind == RecordKind::Aaaa => format!("[{}]:{port}", record.0),
        _ => return None,
    };
    labels.set(ADDRESS, &address);
    Some(labels.build())
}

/// Without the dot of a rooted name, to look more usual.
fn host(name: &Name) -> String {
    name.to_utf8().trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests;
