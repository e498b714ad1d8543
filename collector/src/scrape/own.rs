//! The collector as its own target: job `collector`, added where the configuration has no job of that name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use service::config::Secret;
use telemetry::Labels;

use super::{Authorization, Config};
use crate::discovery::fixed;

const JOB: &str = "collector";

/// Where the collector answers, and the token by which it asks itself.
#[derive(Clone)]
pub struct OwnTarget {
    addr: SocketAddr,
    token: Secret,
}

impl OwnTarget {
    /// The token is made up at each start and never leaves the process but to itself.
    pub fn new(addr: SocketAddr) -> Self {
        let ip = match addr.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let token = Secret::new(hex::encode(rand::random::<[u8; 32]>()));
        OwnTarget { addr: SocketAddr::new(ip, addr.port()), token }
    }

    /// Where links lead that leave the process, unless the configuration knows better.
    pub fn url(&self) -> url::Url {
        url::Url::parse(&format!("http://{}/", self.addr)).expect("an address and a port make a URL")
    }

    pub fn token(&self) -> &str {
        self.token.expose()
    }

    /// Adds the job unless the user has one of that name.
    pub fn add_to(&self, jobs: &mut Vec<Config>) {
        if jobs.iter().any(|job| job.job_name == JOB) {
            return;
        }
        let mut job = Config::new(JOB);
        job.static_configs = vec![fixed::Config { targets: vec![self.addr.to_string()], labels: Labels::empty() }];
        job.authorization = Some(Authorization {
            kind: super::config::bearer(),
            credentials: Some(self.token.clone()),
            credentials_file: None,
        });
        jobs.push(job);
    }
}
