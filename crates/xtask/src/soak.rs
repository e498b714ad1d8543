//! `cargo xtask soak`: what takes longer than a test may.

use crate::run::{cargo, command, step, target_dir};
use crate::tools::{ALERTMANAGER, ensure};

#[derive(clap::Subcommand)]
pub(crate) enum Soak {
    /// The loss matrix of log delivery: every way in which a task ends and a destination fails, each record looked for.
    Logs(Logs),
    /// Alertmanager away for five minutes with Prometheus' own timing: what on-call is told when it is back.
    Alerting,
}

#[derive(clap::Args)]
pub(crate) struct Logs {
    /// --quick, --json, --scenario NAME, --rate RECORDS_PER_SECOND, --keep; --help lists the scenarios.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

pub(crate) fn run(soak: &Soak) -> anyhow::Result<()> {
    match soak {
        Soak::Logs(logs) => run_logs(logs),
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
