//! `cargo xtask bench`: ours beside the peers, in one run.

use crate::run::{cargo, command, step, target_dir};
use crate::tools::{PROMETHEUS, VICTORIA_METRICS, ensure};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// `logs` for the sidecar's log delivery, `footprint` for what it costs its task (`--help` lists their options), else
    /// options of the measurement: --peers, --targets, --series, --interval, --history, --window, --rules, --rounds,
    /// --repeats, --no-alerts, --alerts-only, --alert-rounds, --alert-intervals; `cargo xtask bench -- --help` says what
    /// each does.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    match options.options.split_first() {
        Some((first, rest)) if first == "logs" => return run_logs(rest),
        Some((first, rest)) if first == "footprint" => return run_footprint(rest),
        _ => {}
    }
    ensure(&[&PROMETHEUS, &VICTORIA_METRICS])?;
    let build = ["build", "--locked", "--profile", "ci", "--bin", "collector", "--bin", "picket-bench"];
    step("building optimised", cargo().args(build))?;
    let programs = target_dir().join("ci");
    let mut bench = command(programs.join("picket-bench"));
    bench.args(&options.options).arg("--bin-dir").arg(&programs).arg("--data").arg(target_dir().join("bench"));
    step("measuring", &mut bench)
}

/// The sidecar as it ships, beside rsyslog and syslog-ng where they are installed: Debian's packages exclude each other,
/// and both want to be the machine's own logger, so neither is installed by this.
fn run_logs(options: &[String]) -> anyhow::Result<()> {
    let lean = crate::lean::build()?;
    let cloud = ["build", "--locked", "-p", "fake-aws", "--profile", "ci", "--bin", "fake-aws"];
    step("building the local AWS", cargo().args(cloud))?;
    let mut python = command("python3");
    python.arg("crates/xtask/bench/logs.py").arg("--bin-dir").arg(lean);
    python.arg("--cloud-dir").arg(target_dir().join("ci")).args(options);
    step("measuring log delivery", &mut python)
}

/// Beside vmagent, which Debian's package of VictoriaMetrics brings.
fn run_footprint(options: &[String]) -> anyhow::Result<()> {
    ensure(&[&PROMETHEUS, &VICTORIA_METRICS])?;
    let lean = crate::lean::build()?;
    let mut python = command("python3");
    python.arg("crates/xtask/bench/footprint.py").arg("--bin-dir").arg(lean).args(options);
    step("measuring what the sidecar costs its task", &mut python)
}
