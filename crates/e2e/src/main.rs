//! The demo program behind `cargo xtask demo`.

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use e2e::options::Options;
use e2e::report::Report;
use e2e::story;
use e2e::suite::Suite;
use e2e::terminal::{Progress, Tone};
use service::Shutdown;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("\ndemo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// True if the story came true, or was ended by the user.
async fn run(options: Options) -> anyhow::Result<bool> {
    let progress = Progress::default();
    let interrupted = Shutdown::on_signals()?;
    let start = Suite::start(options.clone(), &progress);
    let mut suite = tokio::select! {
        suite = start => suite?,
        () = interrupted.requested() => return Ok(true),
    };
    progress.event(Tone::Good, &format!("the suite is up: web UI and Prometheus API at {}", suite.collector()));
    let outcome = tokio::select! {
        outcome = tell(&mut suite, &options, &progress) => outcome,
        () = interrupted.requested() => Ok(true),
    };
    progress.event(Tone::Plain, "stopping everything");
    let killed = suite.stop().await;
    if !killed.is_empty() {
        progress.note(&format!("had to be killed: {}", killed.join(", ")));
    }
    outcome
}

async fn tell(suite: &mut Suite, options: &Options, progress: &Progress) -> anyhow::Result<bool> {
    let report = story::tell(suite, progress).await?;
    // Before the last line: who waits for that line may read the report at once.
    if let Some(path) = &options.report {
        write(&report, path)?;
    }
    let missing = report.missing(suite.alertmanager.is_some());
    match missing.as_slice() {
        [] => progress.event(Tone::Good, "the whole story came true"),
        missing => progress.event(Tone::Bad, &format!("did not come true: {}", missing.join("; "))),
    }
    if !options.once {
        story::keep_showing(suite, progress).await?;
    }
    Ok(missing.is_empty())
}

fn write(report: &Report, path: &std::path::Path) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(report)? + "\n";
    std::fs::write(path, text).with_context(|| format!("failed to write the report `{}`", path.display()))
}
