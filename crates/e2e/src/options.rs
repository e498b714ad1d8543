//! What can be chosen about a run: ports, places, timings.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Runs the whole suite on loopback: PostgreSQL, a local AWS that starts five services and the worker with
/// a sidecar beside each, the collector, Alertmanager and a load generator; then a fault, an alert, a scaling action.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo xtask demo", bin_name = "cargo xtask demo", override_usage = "cargo xtask demo [OPTIONS]", version = service::cli::version())]
pub struct Options {
    /// Tell the story once and exit: 0 if all of it came true, 1 otherwise.
    #[arg(long)]
    pub once: bool,

    /// Write what was seen as JSON (with --once).
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// The collector's port: web UI and Prometheus API.
    #[arg(long, default_value_t = 9090, value_name = "PORT")]
    pub collector_port: u16,

    /// Alertmanager's port.
    #[arg(long, default_value_t = 9093, value_name = "PORT")]
    pub alertmanager_port: u16,

    /// The local AWS' port.
    #[arg(long, default_value_t = 4566, value_name = "PORT")]
    pub aws_port: u16,

    /// PostgreSQL's port.
    #[arg(long, default_value_t = 5439, value_name = "PORT")]
    pub postgres_port: u16,

    /// First of the five services' ports (user, product, order, analytics, notification).
    #[arg(long, default_value_t = 3001, value_name = "PORT")]
    pub service_port: u16,

    /// The second byte of the tasks' loopback addresses: 127.N.x.y.
    #[arg(long, default_value_t = 77, value_name = "N")]
    pub network: u8,

    /// Requests per second of the load generator; with few, one request in ten is not one in ten of every window.
    #[arg(long, default_value_t = 40, value_name = "N")]
    pub rate: u32,

    /// Where data, generated configuration and logs go.
    #[arg(long, default_value = ".data/demo", value_name = "DIR")]
    pub data: PathBuf,

    /// Seconds of healthy traffic before the fault.
    #[arg(long, default_value = "30", value_parser = seconds, value_name = "SECONDS")]
    pub baseline: Duration,

    /// Seconds for which `order` fails one request in ten.
    #[arg(long, default_value = "60", value_parser = seconds, value_name = "SECONDS")]
    pub fault: Duration,

    /// Where the suite's binaries lie.
    #[arg(long, value_name = "DIR", hide = true)]
    pub bin_dir: PathBuf,
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_secs).map_err(|_| format!("{text:?} is not a whole number of seconds"))
}

/// A port and the flag that changes it.
#[derive(Clone, Copy, Debug)]
pub struct Port {
    pub number: u16,
    pub flag: &'static str,
    pub of: &'static str,
}

impl Options {
    /// Every port that the run will take.
    pub fn ports(&self) -> Vec<Port> {
        let mut ports = vec![
            Port { number: self.collector_port, flag: "--collector-port", of: "the collector" },
            Port { number: self.alertmanager_port, flag: "--alertmanager-port", of: "Alertmanager" },
            Port { number: self.aws_port, flag: "--aws-port", of: "the local AWS" },
            Port { number: self.postgres_port, flag: "--postgres-port", of: "PostgreSQL" },
        ];
        ports.extend((0..5).map(|i| Port { number: self.service_port + i, flag: "--service-port", of: "a service" }));
        ports
    }

    /// Fails if a port is taken, naming the flag that changes it.
    ///
    /// # Errors
    /// Names the port, its owner in the demo and the flag.
    pub fn check_ports(&self) -> anyhow::Result<()> {
        for Port { number, flag, of } in self.ports() {
            if std::net::TcpListener::bind(("127.0.0.1", number)).is_err() {
                anyhow::bail!(
                    "port {number}, wanted for {of}, is in use: stop the other program or choose another port with {flag} PORT"
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named_with_its_flag() {
        let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = taken.local_addr().expect("bound").port().to_string();
        let options = Options::parse_from(["demo", "--bin-dir", "x", "--collector-port", &port]);
        let error = options.check_ports().expect_err("taken").to_string();
        assert!(error.contains(&port) && error.contains("--collector-port"), "{error}");
    }
}
