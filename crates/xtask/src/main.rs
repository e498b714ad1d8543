//! The project's own commands: `cargo xtask demo | test | ci | bench | fuzz | lean | check-arrows`.
//!
//! Everything that CI does is one of these, so that a laptop and CI run the same checks.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod arrows;
mod bench;
mod checks;
mod ci;
mod demo;
mod fuzz;
mod lean;
mod run;
mod soak;
mod test;
mod tools;

/// Builds, demonstrates and checks Picket.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the whole suite on this machine: services, sidecars, collector, a fault, an alert, a scaling action.
    ///
    /// Ctrl-C ends everything. `--once` tells the story once and exits; `--help` after `demo --` lists all options.
    #[command(disable_help_flag = true)]
    Demo {
        /// Options of the demo itself: --once, --report FILE, --help for all.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Run every test, installing what the tests need.
    Test,
    /// Run what CI runs: format, lints, architecture, rule, template and compose checks, then `test`.
    Ci,
    /// Measure ours beside the peers in one run and print ratios.
    Bench(bench::Options),
    /// Build the sidecar as it ships: static, stripped, what runs in a task put together.
    Lean(lean::Options),
    /// Run the fuzz targets of every parser and decoder, each for some minutes.
    Fuzz(fuzz::Options),
    /// Long runs: the loss matrix of log delivery, Alertmanager away for five minutes.
    #[command(subcommand)]
    Soak(soak::Soak),
    /// Check that crates depend on each other only along the allowed arrows.
    CheckArrows,
}

fn main() -> ExitCode {
    if let Some(code) = fuzz::wrapped() {
        return code;
    }
    let result = match Args::parse().command {
        Command::Demo { options } => demo::run(&options),
        Command::Test => test::run(),
        Command::Ci => ci::run(),
        Command::Bench(options) => bench::run(&options),
        Command::Lean(options) => lean::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Soak(soak) => soak::run(&soak),
        Command::CheckArrows => arrows::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
