//! `cargo xtask fuzz`: parsers and decoders against libFuzzer, guided by coverage, on the stable compiler.
//!
//! libFuzzer needs coverage counters in our code; they come from stable code-generation options, which this program
//! adds as cargo's wrapper around rustc for the workspace's crates alone: dependencies stay as other builds left them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::run::{cargo, command, step, target_dir, var};

/// Set for the wrapper runs: this program then stands in front of rustc.
const WRAPPER: &str = "PICKET_FUZZ_WRAPPER";

/// What `cargo fuzz` passes without a sanitizer, and a check that release builds leave out. Debug assertions stay out:
/// rust-embed chooses by them what it expands to, and its own crates are built without.
const INSTRUMENTATION: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Coverflow-checks=on",
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Targets; all without any.
    targets: Vec<String>,
    /// How long each target runs.
    #[arg(long, value_name = "MINUTES", default_value_t = 10.0)]
    minutes: f64,
    /// Targets that run at the same time.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Print the targets' names and end.
    #[arg(long)]
    list: bool,
}

/// A run that goes on.
struct Running {
    name: String,
    child: Child,
    log: PathBuf,
    artifacts: PathBuf,
    started: Instant,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let program = build()?;
    let known = names(&program)?;
    if options.list {
        println!("{}", known.join("\n"));
        return Ok(());
    }
    if let Some(unknown) = options.targets.iter().find(|name| !known.contains(name)) {
        bail!("no target {unknown:?}; there are: {}", known.join(" "));
    }
    let mut waiting = if options.targets.is_empty() { known } else { options.targets.clone() };
    waiting.reverse();
    let (mut running, mut failed) = (Vec::new(), Vec::new());
    while !waiting.is_empty() || !running.is_empty() {
        while running.len() < options.jobs.max(1)
            && let Some(name) = waiting.pop()
        {
            running.push(start(&program, name, options.minutes)?);
        }
        std::thread::sleep(Duration::from_millis(200));
        let mut index = 0;
        while index < running.len() {
            match running[index].child.try_wait()? {
                None => index += 1,
                Some(status) => {
                    let run = running.swap_remove(index);
                    if !status.success() {
                        failed.push(run.name.clone());
                    }
                    println!("{}", summary(&run, status.success())?);
                }
            }
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(" "));
    }
    Ok(())
}

/// Stands in front of rustc: `xtask RUSTC ARGUMENTS`. None when this run is no wrapper's.
pub(crate) fn wrapped() -> Option<ExitCode> {
    var(WRAPPER)?;
    let mut arguments = std::env::args_os().skip(1);
    let mut rustc = Command::new(arguments.next()?);
    let arguments: Vec<_> = arguments.collect();
    // Build scripts and procedural macros run inside the build: there is no libFuzzer to link with them.
    let linked = |word: &str| arguments.iter().any(|argument| argument == word);
    let inside_build = linked("proc-macro") || linked("build_script_build") || linked("--print=cfg");
    rustc.args(&arguments);
    if !inside_build && linked("--crate-name") {
        rustc.args(INSTRUMENTATION);
    }
    match rustc.status() {
        Ok(status) => Some(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))),
        Err(error) => {
            eprintln!("xtask: failed to start {}: {error}", rustc.get_program().display());
            Some(ExitCode::FAILURE)
        }
    }
}

fn build() -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("this program's own path")?;
    let arguments = ["build", "--locked", "--profile", "ci", "-p", "fuzz", "--features", "libfuzzer"];
    let mut build = cargo();
    build.args(arguments).env("RUSTC_WORKSPACE_WRAPPER", this).env(WRAPPER, "1");
    step("building the fuzz targets", &mut build)?;
    Ok(target_dir().join("ci/picket-fuzz"))
}

fn names(program: &Path) -> anyhow::Result<Vec<String>> {
    let output = command(program).env_remove("PICKET_FUZZ_TARGET").output().context("the fuzz program")?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("PICKET_FUZZ_TARGET names one of: "));
    Ok(line.context("the fuzz program did not name its targets")?.split(' ').map(str::to_owned).collect())
}

fn start(program: &Path, name: String, minutes: f64) -> anyhow::Result<Running> {
    let dir = target_dir().join("fuzz").join(&name);
    let (corpus, artifacts, log) = (dir.join("corpus"), dir.join("artifacts"), dir.join("log"));
    fs::create_dir_all(&corpus).and_then(|()| fs::create_dir_all(&artifacts)).context("the fuzz directory")?;
    let output = fs::File::create(&log).context("the log")?;
    let mut fuzz = command(program);
    fuzz.env("PICKET_FUZZ_TARGET", &name).env("PICKET_FUZZ_SEEDS", &corpus);
    fuzz.arg(format!("-max_total_time={}", (minutes * 60.0) as u64)).arg("-print_final_stats=1");
    // A single input that takes 10 s or 2 GiB has run away.
    fuzz.args(["-timeout=10", "-rss_limit_mb=2048", "-max_len=65536"]);
    fuzz.arg(format!("-artifact_prefix={}/", artifacts.display())).arg(&corpus);
    let child = fuzz.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output).spawn().context("the fuzz program")?;
    eprintln!("{name}: running; {}", log.display());
    Ok(Running { name, child, log, artifacts, started: Instant::now() })
}

/// One line: what libFuzzer counted, or what it found.
fn summary(run: &Running, passed: bool) -> anyhow::Result<String> {
    let log = fs::read(&run.log).context("the log")?;
    let log = String::from_utf8_lossy(&log);
    let stat = |key: &str| log.lines().find_map(|line| line.strip_prefix(key)).map_or("?", str::trim);
    let executions = stat("stat::number_of_executed_units:");
    let took = run.started.elapsed().as_secs();
    if passed {
        let coverage = log.lines().rfind(|line| line.contains(" cov: ")).and_then(|line| line.split(" cov: ").nth(1));
        let edges = coverage.and_then(|rest| rest.split(' ').next()).unwrap_or("?");
        return Ok(format!("{}: {executions} executions in {took} s, {edges} edges, no crash", run.name));
    }
    let reason = log.lines().find(|line| line.contains("panicked at") || line.contains("ERROR: libFuzzer"));
    Ok(format!(
        "{}: FAILED after {took} s: {}\n    inputs in {}, output in {}",
        run.name,
        reason.unwrap_or("see the log"),
        run.artifacts.display(),
        run.log.display()
    ))
}
