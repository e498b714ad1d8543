//! `collector test rules FILE…`: promtool's unit-test files, unchanged, with promtool's verdicts.
//!
//! In: test files and the rule files they name. Out: per file every failed expectation, in promtool's words.
//! Time is virtual and the samples live in a store of the test's own, so a day of evaluations takes
//! milliseconds. Follows prometheus cmd/promtool/unittest.go and docs/configuration/unit_testing_rules.md.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::paths;

mod case;
pub(super) mod series;

/// promtool's default.
const EVALUATION_INTERVAL: Duration = Duration::from_secs(60);

/// What a test file's run showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub file: PathBuf,
    /// What kept the file from being run.
    pub broken: Option<String>,
    pub tests: Vec<TestResult>,
    /// Per alerting rule of the rule files, whether any test made it fire.
    pub coverage: Coverage,
}

/// One test and the expectations that were not met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestResult {
    pub name: String,
    pub failures: Vec<String>,
}

/// Alerting rules by file, line and name, and whether they fired.
pub type Coverage = BTreeMap<(PathBuf, u64, String), bool>;

impl Verdict {
    pub fn passed(&self) -> bool {
        self.broken.is_none() && self.tests.iter().all(|test| test.failures.is_empty())
    }

    /// Every failure with the name of its test.
    pub fn failures(&self) -> Vec<String> {
        let named = |test: &TestResult| -> Vec<String> {
            test.failures.iter().map(|failure| format!("{}: {failure}", test.name)).collect()
        };
        self.broken.iter().cloned().chain(self.tests.iter().flat_map(named)).collect()
    }
}

/// Runs one test file.
pub async fn run(file: &Path) -> Verdict {
    let mut verdict = Verdict { file: file.to_owned(), ..Verdict::default() };
    if let Err(why) = run_tests(file, &mut verdict).await {
        verdict.broken = Some(why);
    }
    verdict
}

async fn run_tests(file: &Path, verdict: &mut Verdict) -> Result<(), String> {
    let written: TestFile = service::config::load_yaml("rule test file", file).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{error}{cause}")
    })?;
    let directory = file.parent().unwrap_or(Path::new(""));
    let patterns: Vec<_> = written.rule_files.iter().map(|pattern| directory.join(pattern)).collect();
    let rule_files = paths::resolve(&patterns)?;
    let order = group_order(&written.group_eval_order)?;
    for (number, test) in written.tests.iter().enumerate() {
        let run = case::Run {
            test,
            rule_files: &rule_files,
            group_order: &order,
            evaluation_interval: written.evaluation_interval.unwrap_or(EVALUATION_INTERVAL),
            fuzzy: written.fuzzy_compare,
        };
        let name = match test.name.as_str() {
            "" => format!("test {}", number + 1),
            name => name.to_owned(),
        };
        let failures = run.run(&mut verdict.coverage).await;
        verdict.tests.push(TestResult { name, failures });
    }
    Ok(())
}

fn group_order(names: &[String]) -> Result<BTreeMap<String, usize>, String> {
    let mut seen = BTreeSet::new();
    match names.iter().find(|name| !seen.insert(*name)) {
        Some(repeated) => Err(format!("group name repeated in evaluation order: {repeated}")),
        None => Ok(names.iter().cloned().zip(0..).collect()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TestFile {
    #[serde(default)]
    rule_files: Vec<String>,
    #[serde(default, with = "service::config::duration_option")]
    evaluation_interval: Option<Duration>,
    #[serde(default)]
    group_eval_order: Vec<String>,
    #[serde(default)]
    fuzzy_compare: bool,
    #[serde(default)]
    tests: Vec<Test>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    #[serde(default)]
    name: String,
    /// Between the values of the input series.
    #[serde(default, with = "service::config::duration_option")]
    interval: Option<Duration>,
    #[serde(default)]
    start_timestamp: Option<String>,
    #[serde(default)]
    input_series: Vec<InputSeries>,
    #[serde(default)]
    alert_rule_test: Vec<AlertTest>,
    #[serde(default)]
    promql_expr_test: Vec<ExprTest>,
    #[serde(default)]
    external_labels: BTreeMap<String, String>,
    #[serde(default)]
    external_url: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InputSeries {
    series: String,
    #[serde(default)]
    values: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AlertTest {
    #[serde(default, with = "service::config::duration_option")]
    eval_time: Option<Duration>,
    #[serde(default)]
    alertname: String,
    #[serde(default)]
    exp_alerts: Vec<ExpectedAlert>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedAlert {
    #[serde(default)]
    exp_labels: BTreeMap<String, String>,
    #[serde(default)]
    exp_annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExprTest {
    expr: String,
    #[serde(default, with = "service::config::duration_option")]
    eval_time: Option<Duration>,
    #[serde(default)]
    exp_samples: Vec<ExpectedSample>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedSample {
    #[serde(default)]
    labels: String,
    #[serde(default)]
    value: f64,
    #[serde(default)]
    histogram: String,
}

#[cfg(test)]
mod tests;
