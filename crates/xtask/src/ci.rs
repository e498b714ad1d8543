//! `cargo xtask ci`: the whole of CI, cheap checks first, tests last.

use std::time::Instant;

use crate::run::{cargo, step};
use crate::{arrows, checks, test};

pub(crate) fn run() -> anyhow::Result<()> {
    let started = Instant::now();
    step("format", cargo().args(["fmt", "--all", "--check"]))?;
    arrows::run()?;
    checks::run()?;
    let clippy = ["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
    step("lints", cargo().args(clippy))?;
    let counts = test::test()?;
    eprintln!("\nci: {:.0} s", started.elapsed().as_secs_f64());
    println!("{} passed, {} failed", counts.passed, counts.failed);
    Ok(())
}
