//! `cargo xtask soak`: what takes longer than a test may.

use crate::run::{cargo, command, step, target_dir};
use crate::tools::{ALERTMANAGER, PROMETHEUS, ensure};

#[derive(clap::Subcommand)]
pub(crate) enum Soak {
    /// The loss matrix of log delivery: every way in which a task ends and a destination fails, each record looked for.
    Logs(Logs),
    /// Traces and remote write while their destinations are away: memory, the app beside, and what arrives afterwards.
    Metrics(Metrics),
    /// Alertmanager away for five minutes with Prometheus' own timing: what on-call is told when it is back.
    Alerting,
}

#[derive(clap::Args)]
pub(crate) struct Logs {
    /// --quick, --json, --scenario NAME, --rate RECORDS_PER_SECOND, --keep; --help lists the scenarios.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

#[derive(clap::Args)]
pub(crate) struct Metrics {
    /// How long the destinations are away; with 250 ms between two collections a minute is what an hour is at 15 s.
    #[arg(long, default_value_t = 120)]
    seconds: u32,
}

pub(crate) fn run(soak: &Soak) -> anyhow::Result<()> {
    match soak {
        Soak::Logs(logs) => run_logs(logs),
        Soak::Metrics(metrics) => run_metrics(metrics),
        Soak::Alerting => run_alerting(),
    }
}

fn run_logs(logs: &Logs) -> anyhow::Result<()> {
    let build = ["build", "--locked", "--profile", "ci", "--bin", "sidecar", "--bin", "fake-aws"];
    step("building optimised", cargo().args(build))?;
    let mut python = command("python3");
    python.arg("crates/xtask/soak/logs.py").arg("--bin-dir").arg(target_dir().join("ci")).args(&logs.options);
    step("losing nothing", &mut python)
}

fn run_alerting() -> anyhow::Result<()> {
    ensure(&[&ALERTMANAGER])?;
    let test = ["test", "--locked", "-p", "collector", "--test", "integration", "alertmanager::outage::"];
    step("telling late, but once", cargo().args(test).args(["--", "--ignored", "--nocapture"]))
}

fn run_metrics(metrics: &Metrics) -> anyhow::Result<()> {
    ensure(&[&PROMETHEUS])?;
    step("building optimised", cargo().args(["build", "--locked", "--profile", "ci", "--bin", "sidecar"]))?;
    let mut python = command("python3");
    python.arg("crates/xtask/soak/metrics.py").arg("--sidecar").arg(target_dir().join("ci/sidecar"));
    step("an outage of its destinations", python.args(["--seconds", &metrics.seconds.to_string()]))
}
