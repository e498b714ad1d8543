//! `cargo xtask bench`: ours beside the peers, in one run.

use anyhow::bail;

#[derive(clap::Args)]
pub(crate) struct Options {}

pub(crate) fn run(_options: &Options) -> anyhow::Result<()> {
    bail!("not there yet")
}
