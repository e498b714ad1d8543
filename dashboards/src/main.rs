//! `dashboards`: writes the committed Grafana files, or checks that they are what this crate describes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use dashboards::grafana::{self, lint};

/// Grafana dashboards as code.
#[derive(Parser)]
#[command(name = "dashboards", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Where the files are.
    #[arg(long, global = true, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/grafana"))]
    dir: PathBuf,
}

#[derive(Clone, Copy, Subcommand)]
enum Command {
    /// Write the files.
    Generate,
    /// Fail when a file is not what would be written, or a dashboard breaks a rule.
    Check,
}

fn main() -> ExitCode {
    let Cli { command, dir } = Cli::parse();
    let done = match command {
        Command::Generate => generate(&dir),
        Command::Check => check(&dir),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dashboards: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn generate(dir: &Path) -> anyhow::Result<()> {
    for (name, content) in grafana::files() {
        let path = dir.join(name);
        let folder = path.parent().unwrap_or(dir);
        std::fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
        std::fs::write(&path, content).with_context(|| format!("failed to write {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

fn check(dir: &Path) -> anyhow::Result<()> {
    let findings: Vec<String> =
        grafana::dashboards().iter().flat_map(lint::lint).map(|finding| finding.to_string()).collect();
    if !findings.is_empty() {
        bail!("{}", findings.join("\n"));
    }
    let wanted = grafana::files();
    for (name, content) in &wanted {
        let path = dir.join(name);
        let present = std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        if present != *content {
            bail!("{} is not what this crate describes: run `cargo run -p dashboards -- generate`", path.display());
        }
    }
    println!("{} dashboards, {} questions: as described, no rule broken", wanted.len(), grafana::questions().len());
    Ok(())
}
