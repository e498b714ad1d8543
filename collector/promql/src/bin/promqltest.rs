//! Runs PromQL test scripts: `promqltest [--show-failures] PATH…`; a folder stands for the `.test` files in it.
//!
//! Prints `FILE passed/total` for each and the sum at the end; exits 0 only if every evaluation passes, 2 for
//! bad usage.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: promqltest [--show-failures] PATH...\n\n\
    Runs scripts in the format of Prometheus' PromQL tests. PATH is a script or a folder of *.test files.\n";

fn main() -> ExitCode {
    let mut show_failures = false;
    let mut paths = Vec::new();
    for argument in std::env::args_os().skip(1) {
        match argument.to_str() {
            Some("--show-failures") => show_failures = true,
            Some("--help" | "-h") => {
                print!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            Some(flag) if flag.starts_with('-') => {
                eprint!("unknown flag {flag}\n{USAGE}");
                return ExitCode::from(2);
            }
            _ => paths.push(PathBuf::from(argument)),
        }
    }
    if paths.is_empty() {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    }
    let (mut passed, mut failed) = (0, 0);
    let mut unreadable = false;
    for path in paths {
        match scripts(&path) {
            Ok(files) => {
                for file in files {
                    match run(&file, show_failures) {
                        Ok((p, f)) => (passed, failed) = (passed + p, failed + f),
                        Err(message) => {
                            eprintln!("{}: {message}", file.display());
                            unreadable = true;
                        }
                    }
                }
            }
            Err(error) => {
                eprintln!("{}: {error}", path.display());
                unreadable = true;
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 && !unreadable { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn scripts(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "test") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn run(path: &Path, show_failures: bool) -> Result<(usize, usize), String> {
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let outcomes = promql::promqltest::run(&text).map_err(|e| e.to_string())?;
    let failures: Vec<_> = outcomes.iter().filter_map(|o| Some((o, o.failure.as_ref()?))).collect();
    let passed = outcomes.len() - failures.len();
    println!("{} {passed}/{}", path.display(), outcomes.len());
    if show_failures {
        for (outcome, failure) in &failures {
            println!("  line {}: {}\n    {failure}", outcome.line, outcome.expression);
        }
    }
    Ok((passed, failures.len()))
}
