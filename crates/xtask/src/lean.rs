//! `cargo xtask lean`: the sidecar as it ships, and the order of what is in it.

use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::run::{cargo, command, find, quiet, root, step, target_dir};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Find which functions run in a task and write them to sidecar/link/used-functions.txt: worth doing after
    /// changes that show in `cargo xtask bench footprint`. Needs valgrind; takes some ten minutes.
    #[arg(long)]
    record: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    if options.record {
        record()?;
    }
    println!("{}", build()?.join("sidecar").display());
    Ok(())
}

/// As the Dockerfile builds it: with the C library inside, so that nothing else is mapped beside it. A target that is named
/// keeps that flag away from build scripts and macros. Returns the folder of the program.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    build_with("building the sidecar as it ships", "")
}

fn build_with(what: &str, keep_symbols: &str) -> anyhow::Result<PathBuf> {
    let rustc = quiet("asking rustc for its target", command("rustc").arg("-vV"))?;
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
    let mut lean = cargo();
    lean.args(["build", "--locked", "-p", "sidecar", "--profile", "lean", "--bin", "sidecar", "--target", host]);
    lean.env("RUSTFLAGS", "-C target-feature=+crt-static").env("PICKET_KEEP_SYMBOLS", keep_symbols);
    step(what, &mut lean)?;
    Ok(target_dir().join(host).join("lean"))
}

fn record() -> anyhow::Result<()> {
    if find("valgrind").is_none() {
        bail!("valgrind is not installed; it sees which functions run (Debian: apt-get install valgrind)");
    }
    let with_symbols = build_with("building the sidecar with its symbols", "1")?;
    let cloud = ["build", "--locked", "-p", "fake-aws", "--profile", "ci", "--bin", "fake-aws"];
    step("building the local AWS", cargo().args(cloud))?;
    let mut python = command("python3");
    python.arg("crates/xtask/bench/used_functions.py").arg("--binary").arg(with_symbols.join("sidecar"));
    python.arg("--cloud-dir").arg(target_dir().join("ci"));
    python.arg("--out").arg(root().join("sidecar/link/used-functions.txt"));
    step("running the sidecar to see what it uses", &mut python)
}
