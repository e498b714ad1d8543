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
    /// The store killed at random moments under load, and cut off from its power: compared with a model each time.
    Store(Store),
    /// Discovery over 3 clusters, 40 services and 500 tasks while they are deployed and while ECS fails; prints the calls.
    Fleet,
}

#[derive(clap::Args)]
pub(crate) struct Store {
    /// How often the store is killed; every third time its unsynced writes are lost, too.
    #[arg(default_value_t = 200)]
    rounds: u64,
    /// Repeats a run as far as time allows: what is appended is the same, the moments of the kills nearly so.
    #[arg(long)]
    seed: Option<u64>,
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
        Soak::Store(store) => run_store(store),
        Soak::Fleet => run_fleet(),
    }
}

fn run_store(store: &Store) -> anyhow::Result<()> {
    let build = ["build", "--locked", "--profile", "ci", "-p", "storage", "--example", "crash"];
    step("building optimised", cargo().args(build))?;
    let mut crash = command(target_dir().join("ci/examples/crash"));
    crash.arg(store.rounds.to_string()).args(store.seed.map(|seed| seed.to_string()));
    step("killing the store", &mut crash)
}

fn run_fleet() -> anyhow::Result<()> {
    let test = ["test", "--locked", "-p", "collector", "--test", "integration", "ecs_fleet"];
    step("a fleet under deployment and failures", cargo().args(test).args(["--", "--ignored", "--nocapture"]))
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
