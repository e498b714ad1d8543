//! The project's own scripts, and Prometheus' where they lie beside the checkout.

use std::path::{Path, PathBuf};

/// Runs every `.test` file of a folder; says which evaluations fail.
fn run_all(folder: &Path) -> usize {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "test"));
    files.sort();
    let (mut evaluations, mut failures) = (0, Vec::new());
    for file in &files {
        let outcomes = promql::promqltest::run(&std::fs::read_to_string(file).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        evaluations += outcomes.len();
        for outcome in outcomes {
            if let Some(failure) = outcome.failure {
                failures.push(format!("{}:{}: {failure}", file.display(), outcome.line));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {evaluations} failed:\n{}", failures.len(), failures.join("\n"));
    evaluations
}

#[test]
fn our_own_scripts_pass() {
    let evaluations = run_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata"));
    assert!(evaluations > 150, "only {evaluations} evaluations were found");
}

/// `PICKET_SHARED`, or `shared` beside the checkout.
fn shared() -> PathBuf {
    match std::env::var_os("PICKET_SHARED") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
    }
}

#[test]
fn scripts_of_prometheus_pass() {
    let folder = shared().join("conformance/promqltest");
    if !folder.is_dir() {
        eprintln!("skipped: no scripts in {}; set PICKET_SHARED to run them", folder.display());
        return;
    }
    run_all(&folder);
}

#[test]
fn a_script_that_expects_something_else_fails() {
    let script = "load 1m\n  a 1 2 3\n\neval instant at 1m a\n  a 3\n\neval instant at 1m a\n  a 2\n";
    let outcomes = promql::promqltest::run(script).unwrap();
    assert_eq!(outcomes.iter().map(|o| o.failure.is_some()).collect::<Vec<_>>(), [true, false]);
    let error = promql::promqltest::run("clear\nexplode\n").unwrap_err();
    assert_eq!(error.to_string(), "line 2: invalid command \"explode\"");
}
