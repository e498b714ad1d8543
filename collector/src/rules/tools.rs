//! `collector check rules` and `collector test rules`: what people and CI run over rule files.

use std::path::PathBuf;

use anyhow::Context;
use telemetry::Labels;
use url::Url;

use super::file::{self, NameValidation, RuleKind};
use super::template::Globals;
use super::unit_test;

/// Checks each file and prints what it holds, or every mistake with its place.
///
/// # Errors
/// When a file is wrong.
pub fn check(files: &[PathBuf]) -> anyhow::Result<()> {
    let external_url = Url::parse("http://localhost/").expect("a constant URL");
    let globals = Globals { external_url, external_labels: Labels::empty() };
    let mut bad = 0;
    for path in files {
        match file::load(path, &globals, NameValidation::Utf8) {
            Ok(file) => {
                let rules = || file.groups.iter().flat_map(|group| &group.rules);
                let alerts = rules().filter(|rule| matches!(rule.kind, RuleKind::Alert { .. })).count();
                let recorded = rules().count() - alerts;
                println!("{}: {alerts} alerting and {recorded} recording rules, good", path.display());
                for duplicate in file::duplicates(&file) {
                    println!("warning: {duplicate}");
                }
            }
            Err(error) => {
                bad += 1;
                println!("{error}");
            }
        }
    }
    anyhow::ensure!(bad == 0, "{bad} of {} rule files cannot be used", files.len());
    Ok(())
}

/// Runs each test file and prints its verdict.
///
/// # Errors
/// When a test failed.
pub fn test(files: &[PathBuf]) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().context("failed to start the runtime")?;
    let mut failed = 0;
    for path in files {
        let verdict = runtime.block_on(unit_test::run(path));
        match verdict.passed() {
            true => println!("{}: {} tests passed", path.display(), verdict.tests),
            false => {
                failed += 1;
                println!("{}: FAILED", path.display());
                for failure in &verdict.failures {
                    println!("  {}", failure.replace('\n', "\n  "));
                }
            }
        }
    }
    anyhow::ensure!(failed == 0, "{failed} of {} rule test files failed", files.len());
    Ok(())
}
