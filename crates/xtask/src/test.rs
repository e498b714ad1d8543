//! `cargo xtask test`: every test, with what they need installed first.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, bail};

use crate::demo::build_binaries;
use crate::run::{cargo, command, is_ci, root, step, target_dir, var};
use crate::tools::{
    ALERTMANAGER, CHROMIUM, NODE, NPM, POSTGRES, PROMETHEUS, PYTHON, REDIS, Tool, VICTORIA_METRICS, ensure,
    node_packages, python_environment,
};

/// What the test runners counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

pub(crate) fn run() -> anyhow::Result<()> {
    let counts = test()?;
    println!("\n{} passed, {} failed", counts.passed, counts.failed);
    Ok(())
}

/// Installs, builds and runs; fails on the first runner that fails.
pub(crate) fn test() -> anyhow::Result<Counts> {
    const ALL: [&Tool; 9] =
        [&POSTGRES, &ALERTMANAGER, &PROMETHEUS, &VICTORIA_METRICS, &REDIS, &CHROMIUM, &NODE, &NPM, &PYTHON];
    ensure(&ALL)?;
    let python = optional("Python packages", python_environment())?;
    let node = optional("browser test packages", node_packages("collector/ui/tools"))?;
    let clients = optional("OpenTelemetry and Prometheus clients for Node", node_packages("sidecar/tests/clients"))?;
    build_binaries()?;

    eprintln!("\n==> tests");
    let mut cargo = cargo();
    cargo.args(["test", "--locked", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"]);
    cargo.env("PICKET_BIN_DIR", target_dir().join("debug"));
    if let Some(python) = &python {
        cargo.env("PICKET_PYTHON", python.join("bin/python"));
    }
    if node.is_some() {
        cargo.env("PICKET_UI_TOOLS", ui_tools());
    }
    if clients.is_some() {
        cargo.env("PICKET_SIDECAR_CLIENTS", "1");
    }
    if let Some(shared) = shared() {
        cargo.env("PICKET_SHARED", shared);
    }
    let mut counts = counted(&mut cargo)?;
    if node.is_some() {
        let vendor = ["run", "--silent", "vendor:check"];
        step("vendored modules are what their packages hold", command("npm").current_dir(ui_tools()).args(vendor))?;
        counts = counts.plus(ui_unit_tests()?);
    }
    Ok(counts)
}

fn ui_tools() -> std::path::PathBuf {
    root().join("collector/ui/tools")
}

/// Others' test cases, where they lie beside the checkout; a clone alone tests without them.
fn shared() -> Option<String> {
    let beside = root().join("../shared");
    var("PICKET_SHARED").or_else(|| beside.join("conformance").is_dir().then(|| beside.to_string_lossy().into_owned()))
}

/// Without CI a part that cannot be had is said and left out; in CI it is an error.
fn optional<T>(what: &str, result: anyhow::Result<T>) -> anyhow::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_ci() => Err(error),
        Err(error) => {
            eprintln!("untested without {what}: {error:#}");
            Ok(None)
        }
    }
}

/// Runs `cargo test`, shows its output and adds up its closing lines.
fn counted(cargo: &mut std::process::Command) -> anyhow::Result<Counts> {
    let mut child = cargo.stdout(Stdio::piped()).spawn().context("failed to start cargo test")?;
    let mut counts = Counts::default();
    for line in BufReader::new(child.stdout.take().expect("stdout is piped")).lines() {
        let line = line?;
        println!("{line}");
        counts = counts.plus(Counts::of(&line).unwrap_or_default());
    }
    if !child.wait()?.success() {
        bail!("{} tests failed, {} passed", counts.failed, counts.passed);
    }
    Ok(counts)
}

fn ui_unit_tests() -> anyhow::Result<Counts> {
    let dir = root().join("collector/ui/tests/unit");
    let files = test_files(&dir)?;
    eprintln!("\n==> web UI: unit tests");
    let output = command("node").arg("--test").args(&files).output().context("failed to start node")?;
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    if !output.status.success() {
        bail!("the web UI's unit tests failed\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let number = |word: &str| -> u64 {
        let line = text.lines().find_map(|l| l.trim_start_matches(['#', 'ℹ', ' ']).strip_prefix(word));
        line.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
    };
    Ok(Counts { passed: number("pass "), failed: number("fail "), ignored: 0 })
}

fn test_files(dir: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("failed to list {}", dir.display()))?;
    let mut files: Vec<_> = entries.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    files.retain(|file| file.to_string_lossy().ends_with(".test.mjs"));
    files.sort();
    Ok(files)
}

impl Counts {
    /// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn of(line: &str) -> Option<Counts> {
        let rest = line.strip_prefix("test result: ")?;
        let number = |word: &str| -> Option<u64> {
            rest.split([';', '.']).find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok())
        };
        Some(Counts { passed: number("passed")?, failed: number("failed")?, ignored: number("ignored")? })
    }

    fn plus(self, other: Counts) -> Counts {
        Counts {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            ignored: self.ignored + other.ignored,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runner_s_closing_line_is_counted_and_others_are_not() {
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(Counts::of(line), Some(Counts { passed: 3, failed: 2, ignored: 1 }));
        assert_eq!(Counts::of("test health::tests::x ... ok"), None);
    }
}
