//! `cargo xtask bench`: ours beside the peers, in one run.

use crate::run::{cargo, command, step, target_dir};
use crate::tools::{PROMETHEUS, ensure};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Options of the measurement: --targets, --series, --interval, --window, --rounds, --alerts-only, --alert-rounds, --alert-intervals.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    ensure(&[&PROMETHEUS])?;
    let build = ["build", "--locked", "--profile", "ci", "--bin", "collector", "--bin", "picket-bench"];
    step("building optimised", cargo().args(build))?;
    let programs = target_dir().join("ci");
    let mut bench = command(programs.join("picket-bench"));
    bench.args(&options.options).arg("--bin-dir").arg(&programs).arg("--data").arg(target_dir().join("bench"));
    step("measuring", &mut bench)
}
