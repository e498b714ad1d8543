//! `cargo xtask demo`: builds the suite, then hands over to the demo program, which runs it.

use std::os::unix::process::CommandExt;

use anyhow::Context;

use crate::run::{cargo, command, step, target_dir};
use crate::tools::{ALERTMANAGER, POSTGRES, ensure};

pub(crate) fn run(options: &[String]) -> anyhow::Result<()> {
    let asks_for_help = options.iter().any(|option| option == "--help" || option == "-h");
    if !asks_for_help {
        ensure(&[&POSTGRES, &ALERTMANAGER])?;
    }
    build_binaries()?;
    let mut demo = command(target_dir().join("debug/picket-demo"));
    demo.args(options).arg("--bin-dir").arg(target_dir().join("debug"));
    // The demo takes this process' place: it owns the terminal, hears Ctrl-C first and sets the exit code.
    Err(demo.exec()).context("failed to start target/debug/picket-demo")
}

/// Builds every binary of the suite in the development profile.
pub(crate) fn build_binaries() -> anyhow::Result<()> {
    step("building the suite", cargo().args(["build", "--locked", "--workspace", "--bins"]))
}
