//! What runs in the account: the topology file. Its format stands in the crate's documentation.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use service::config::ConfigError;

/// Fargate's pairs of CPU units and the memory sizes in MiB that go with them.
const FARGATE_SIZES: [(u32, u32, u32); 7] = [
    (256, 512, 2048),
    (512, 1024, 4096),
    (1024, 2048, 8192),
    (2048, 4096, 16_384),
    (4096, 8192, 30_720),
    (8192, 16_384, 61_440),
    (16_384, 32_768, 122_880),
];

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    #[serde(default = "account")]
    pub account: String,
    #[serde(default = "region")]
    pub region: String,
    /// The label `environment` in the service discovery file.
    #[serde(default = "environment")]
    pub environment: String,
    /// First two octets of the tasks' addresses: `127.0` gives 127.0.N.M, N per service, M per task.
    #[serde(default = "network")]
    pub network: String,
    /// Secrets by access key. Where there are some, every call must be signed with one of them.
    #[serde(default)]
    pub credentials: BTreeMap<String, String>,
    /// Caps every page, so that a small account has several.
    #[serde(default)]
    pub page_size_max: Option<usize>,
    /// How long a task stays in PROVISIONING.
    #[serde(default, with = "service::config::duration")]
    pub start_delay: Duration,
    #[serde(default)]
    pub clusters: BTreeMap<String, Cluster>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    #[serde(default)]
    pub services: BTreeMap<String, Service>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    pub desired_count: u32,
    #[serde(default)]
    pub load_balancer: Option<LoadBalancer>,
    pub task_definition: TaskDefinition,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadBalancer {
    pub listen: SocketAddr,
    pub container: String,
    pub port: u16,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskDefinition {
    pub family: String,
    #[serde(default = "cpu")]
    pub cpu: u32,
    /// MiB.
    #[serde(default = "memory")]
    pub memory: u32,
    pub containers: Vec<Container>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    pub name: String,
    pub image: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default = "essential")]
    pub essential: bool,
    #[serde(default)]
    pub port: Option<u16>,
    #[serde(default)]
    pub docker_labels: BTreeMap<String, String>,
    #[serde(default)]
    pub health_check: Option<HealthCheck>,
    /// Between SIGTERM and SIGKILL.
    #[serde(default = "stop_timeout", with = "service::config::duration")]
    pub stop_timeout: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// `[CMD, program, …]` or `[CMD-SHELL, line]`.
    pub command: Vec<String>,
    #[serde(default = "interval", with = "service::config::duration")]
    pub interval: Duration,
    #[serde(default = "timeout", with = "service::config::duration")]
    pub timeout: Duration,
    #[serde(default = "retries")]
    pub retries: u32,
    #[serde(default, with = "service::config::duration")]
    pub start_period: Duration,
}

fn account() -> String {
    "000000000000".to_owned()
}
fn region() -> String {
    "us-east-1".to_owned()
}
fn environment() -> String {
    "dev".to_owned()
}
fn network() -> String {
    "127.0".to_owned()
}
fn cpu() -> u32 {
    256
}
fn memory() -> u32 {
    512
}
fn essential() -> bool {
    true
}
fn stop_timeout() -> Duration {
    Duration::from_secs(30)
}
fn interval() -> Duration {
    Duration::from_secs(30)
}
fn timeout() -> Duration {
    Duration::from_secs(5)
}
fn retries() -> u32 {
    3
}

impl Topology {
    /// # Errors
    /// The file cannot be read, is not YAML, has an unknown key, or describes what AWS would refuse.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let topology: Topology = service::config::load_yaml("topology file", path)?;
        topology.check().map_err(|message| ConfigError::Invalid { path: path.to_owned(), message })?;
        Ok(topology)
    }

    /// # Errors
    /// See [`Topology::load`].
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let path = Path::new("topology.yml");
        let topology: Topology = service::config::parse_yaml(text, path)?;
        topology.check().map_err(|message| ConfigError::Invalid { path: path.to_owned(), message })?;
        Ok(topology)
    }

    fn check(&self) -> Result<(), String> {
        let octets: Vec<_> = self.network.split('.').map(str::parse::<u8>).collect();
        if !matches!(octets[..], [Ok(127), Ok(_)]) {
            return Err(format!("network {:?} is not of the form 127.N", self.network));
        }
        let services = self.clusters.values().flat_map(|c| &c.services);
        if services.clone().count() > 254 {
            return Err("more than 254 services have no room in one network".to_owned());
        }
        for (name, service) in services {
            service.check().map_err(|why| format!("service `{name}`: {why}"))?;
        }
        Ok(())
    }
}

impl Service {
    fn check(&self) -> Result<(), String> {
        let definition = &self.task_definition;
        let fits =
            |&(cpu, low, high): &(u32, u32, u32)| cpu == definition.cpu && (low..=high).contains(&definition.memory);
        if !FARGATE_SIZES.iter().any(fits) {
            return Err(format!("Fargate has no size of {} CPU units and {} MiB", definition.cpu, definition.memory));
        }
        if !definition.containers.iter().any(|c| c.essential) {
            return Err("no container is essential".to_owned());
        }
        for container in &definition.containers {
            if container.command.is_empty() {
                return Err(format!("container `{}` has no command", container.name));
            }
            if let Some(check) = &container.health_check {
                check.argv().map_err(|why| format!("container `{}`: {why}", container.name))?;
            }
        }
        match &self.load_balancer {
            Some(lb) if definition.containers.iter().all(|c| c.name != lb.container) => {
                Err(format!("the load balancer names container `{}`, which is not there", lb.container))
            }
            _ => Ok(()),
        }
    }
}

impl HealthCheck {
    /// The command as it is run.
    ///
    /// # Errors
    /// The form is neither CMD nor CMD-SHELL.
    pub fn argv(&self) -> Result<Vec<String>, String> {
        match self.command.split_first() {
            Some((kind, rest)) if kind == "CMD" && !rest.is_empty() => Ok(rest.to_vec()),
            Some((kind, [line])) if kind == "CMD-SHELL" => Ok(vec!["/bin/sh".into(), "-c".into(), line.clone()]),
            _ => Err("a health check's command is [CMD, program, …] or [CMD-SHELL, line]".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str = "clusters: {c: {services: {s: {desired_count: 1, task_definition: {family: f, ";

    #[test]
    fn what_fargate_refuses_is_refused_by_name() {
        for (rest, part) in [
            ("cpu: 256, memory: 8192, containers: [{name: a, image: i, command: [x]}]}}}}}", "no size of 256"),
            ("containers: [{name: a, image: i, command: [x], essential: false}]}}}}}", "no container is essential"),
            ("containers: [{name: a, image: i, command: []}]}}}}}", "has no command"),
            ("containers: [{name: a, image: i, command: [x], privileged: true}]}}}}}", "privileged"),
            ("containers: [{name: a, image: i, command: [x], health_check: {command: [curl]}}]}}}}}", "CMD-SHELL"),
        ] {
            let error = Topology::parse(&format!("{SERVICE}{rest}")).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
