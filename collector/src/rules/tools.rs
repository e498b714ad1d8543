//! `collector check rules`, `test rules`, `explain`, `backtest` and `noise`: what people and CI run over rule files.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use service::config::Secret;
use telemetry::{Labels, Timestamp};
use url::Url;

use super::backtest::{self, Window};
use super::file::{self, NameValidation, RuleFile, RuleKind};
use super::lint::{self, Code, KnownMetrics};
use super::noise;
use super::template::Globals;
use super::unit_test::{self, Coverage, Verdict};

/// What `test rules` does beside running the tests.
#[derive(Clone, Debug, Default)]
pub struct TestOptions {
    /// Name the alerts that no test made fire.
    pub coverage: bool,
    /// Write the results there as JUnit XML.
    pub junit: Option<PathBuf>,
}

/// What `check rules` is asked.
#[derive(Debug, Default)]
pub struct CheckOptions {
    pub files: Vec<PathBuf>,
    /// Fail on warnings too.
    pub strict: bool,
    /// A running engine that says which metrics there are; None leaves R008 out.
    pub url: Option<Url>,
    pub token: Option<Secret>,
}

/// Checks each file and prints what it holds, every mistake with its place, and what is probably not meant.
///
/// # Errors
/// When a file is wrong, the engine does not answer, or, if `strict`, when something is probably not meant.
pub fn check(options: &CheckOptions) -> anyhow::Result<()> {
    let external_url = Url::parse("http://localhost/").expect("a constant URL");
    let globals = Globals { external_url, external_labels: Labels::empty() };
    let loaded: Vec<_> = options.files.iter().map(|path| file::load(path, &globals, NameValidation::Utf8)).collect();
    let mut known = match &options.url {
        Some(url) => Some(known_metrics(url, options.token.as_ref())?),
        None => None,
    };
    for file in loaded.iter().flatten() {
        known.iter_mut().for_each(|known| known.add_recorded(file));
    }
    let (mut bad, mut warnings) = (0, 0);
    for result in &loaded {
        match result {
            Ok(file) => {
                println!("{}", contents(file));
                let duplicates = file::duplicates(file);
                duplicates.iter().for_each(|duplicate| println!("{duplicate}"));
                let findings = lint::lint(file, known.as_ref());
                findings.iter().for_each(|finding| println!("{finding}"));
                warnings += duplicates.len() + findings.len();
            }
            Err(error) => {
                bad += 1;
                println!("{error}");
            }
        }
    }
    if warnings > 0 {
        println!("{warnings} warnings; `collector explain CODE` says why each matters");
    }
    anyhow::ensure!(bad == 0, "{bad} of {} rule files cannot be used", loaded.len());
    anyhow::ensure!(!options.strict || warnings == 0, "{warnings} warnings, and --strict allows none");
    Ok(())
}

/// The names of all metrics that an engine knows.
fn known_metrics(url: &Url, token: Option<&Secret>) -> anyhow::Result<KnownMetrics> {
    #[derive(serde::Deserialize)]
    struct Names {
        data: Vec<String>,
    }
    let url = url.join("api/v1/label/__name__/values").context("the URL cannot have a path below it")?;
    let mut request = reqwest::Client::new().get(url.clone());
    if let Some(token) = token {
        request = request.bearer_auth(token.expose());
    }
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    let names: Names = runtime
        .block_on(async { request.send().await?.error_for_status()?.json().await })
        .with_context(|| format!("failed to ask {url} for the names of metrics (--url)"))?;
    Ok(KnownMetrics::new(names.data))
}

fn contents(file: &RuleFile) -> String {
    let rules = || file.groups.iter().flat_map(|group| &group.rules);
    let alerts = rules().filter(|rule| matches!(rule.kind, RuleKind::Alert { .. })).count();
    let recorded = rules().count() - alerts;
    format!("{}: {alerts} alerting and {recorded} recording rules, good", file.path.display())
}

/// Prints what a code means.
///
/// # Errors
/// When there is no such code.
pub fn explain(code: &str) -> anyhow::Result<()> {
    let known = || Code::ALL.map(Code::as_str).join(", ");
    let code = Code::parse(code).with_context(|| format!("no such code {code:?}; there are {}", known()))?;
    println!("{code}: {}", code.explanation());
    Ok(())
}

/// Runs each test file and prints its verdict.
///
/// # Errors
/// When a test failed or the report could not be written.
pub fn test(files: &[PathBuf], options: &TestOptions) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().context("failed to start the runtime")?;
    let verdicts: Vec<_> = files.iter().map(|path| runtime.block_on(unit_test::run(path))).collect();
    for verdict in &verdicts {
        match verdict.passed() {
            true => println!("{}: {} tests passed", verdict.file.display(), verdict.tests.len()),
            false => {
                println!("{}: FAILED", verdict.file.display());
                for failure in verdict.failures() {
                    println!("  {}", failure.replace('\n', "\n  "));
                }
            }
        }
    }
    if options.coverage {
        print!("{}", coverage(&verdicts));
    }
    if let Some(path) = &options.junit {
        write_report(path, &verdicts)?;
    }
    let failed = verdicts.iter().filter(|verdict| !verdict.passed()).count();
    anyhow::ensure!(failed == 0, "{failed} of {} rule test files failed", files.len());
    Ok(())
}

/// What `backtest` is asked.
#[derive(Debug)]
pub struct BacktestOptions {
    pub file: PathBuf,
    /// Another version of the file, to compare with.
    pub against: Option<PathBuf>,
    pub url: Url,
    pub token: Option<Secret>,
    pub since: Duration,
    pub interval: Duration,
}

/// Prints what a rule file would have done, ending now.
///
/// # Errors
/// A rule file that is wrong, or an engine that does not answer.
pub fn backtest(options: BacktestOptions, now: Timestamp) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    let BacktestOptions { file, against, url, token, since, interval } = options;
    anyhow::ensure!(!interval.is_zero(), "--interval must be more than zero");
    let window = Window { url, token, start: now - since, end: now, interval };
    let report = runtime.block_on(backtest::run(&file, &window))?;
    match against {
        None => print!("{report}"),
        Some(old) => print!("{}", report.against(&runtime.block_on(backtest::run(&old, &window))?)),
    }
    Ok(())
}

/// What `noise` is asked.
#[derive(Debug)]
pub struct NoiseOptions {
    /// Whose rules, and where the state is.
    pub config: PathBuf,
    pub data: PathBuf,
    /// Ask the `ALERTS` series of this engine instead of the state database.
    pub url: Option<Url>,
    pub token: Option<Secret>,
    pub since: Duration,
}

/// Prints which alerts were worth their page.
///
/// # Errors
/// A configuration or database that cannot be used, an engine that does not answer.
pub fn noise(options: NoiseOptions, now: Timestamp) -> anyhow::Result<()> {
    let config = crate::config::Config::load(&options.config)?;
    let alerts = super::alert_names(&config)?;
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    let start = now - options.since;
    let history = runtime.block_on(async {
        match options.url {
            Some(url) => {
                let window = Window { url, token: options.token, start, end: now, interval: Duration::from_secs(60) };
                noise::from_series(&window).await
            }
            None => {
                let state = config.state.open(&options.data, &service::metrics::Metrics::new()).await?;
                noise::from_state(&state, start).await
            }
        }
    })?;
    print!("{}", noise::report(&history, &alerts, now));
    Ok(())
}

/// Which alerts fired in some test, over all test files together.
fn coverage(verdicts: &[Verdict]) -> String {
    let mut merged = Coverage::new();
    for (rule, fired) in verdicts.iter().flat_map(|verdict| &verdict.coverage) {
        // Two test files may name one rule file by different paths.
        let path = rule.0.canonicalize().unwrap_or_else(|_| rule.0.clone());
        *merged.entry((path, rule.1, rule.2.clone())).or_default() |= *fired;
    }
    let fired = merged.values().filter(|fired| **fired).count();
    let mut text = format!("coverage: {fired} of {} alerts fired in a test\n", merged.len());
    for ((path, line, name), _) in merged.iter().filter(|(_, fired)| !**fired) {
        writeln!(text, "{}:{line}: {name} never fired", path.display()).expect("writing to a string cannot fail");
    }
    text
}

fn write_report(path: &Path, verdicts: &[Verdict]) -> anyhow::Result<()> {
    std::fs::write(path, junit(verdicts)).with_context(|| format!("failed to write `{}` (--junit)", path.display()))
}

/// JUnit's XML, as far as CI systems read it: a suite per file, a case per test.
fn junit(verdicts: &[Verdict]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for verdict in verdicts {
        let mut cases: BTreeMap<usize, (&str, String)> = BTreeMap::new();
        let tests = verdict.tests.iter().map(|test| (test.name.as_str(), test.failures.join("\n")));
        let broken = verdict.broken.iter().map(|why| ("file", why.clone()));
        cases.extend(broken.chain(tests).enumerate());
        let failures = cases.values().filter(|(_, failure)| !failure.is_empty()).count();
        let suite = escape(&verdict.file.display().to_string());
        let mut line = |text: String| {
            xml.push_str(&text);
            xml.push('\n');
        };
        line(format!("  <testsuite name=\"{suite}\" tests=\"{}\" failures=\"{failures}\">", cases.len()));
        for (name, failure) in cases.values() {
            let case = format!("    <testcase classname=\"{suite}\" name=\"{}\"", escape(name));
            match failure.is_empty() {
                true => line(format!("{case}/>")),
                false => line(format!("{case}><failure>{}</failure></testcase>", escape(failure))),
            }
        }
        line("  </testsuite>".to_owned());
    }
    xml + "</testsuites>\n"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use unit_test::TestResult;

    fn verdict(fired: bool) -> Verdict {
        let failures = if fired { Vec::new() } else { vec!["exp: <1>".to_owned()] };
        Verdict {
            file: "a \"b\".test.yml".into(),
            broken: None,
            tests: vec![TestResult { name: "t".to_owned(), failures }],
            coverage: Coverage::from([
                (("r.yml".into(), 3, "A".to_owned()), fired),
                (("r.yml".into(), 9, "B".to_owned()), false),
            ]),
        }
    }

    #[test]
    fn coverage_is_over_all_files_together() {
        assert_eq!(
            coverage(&[verdict(false), verdict(true)]),
            "coverage: 1 of 2 alerts fired in a test\nr.yml:9: B never fired\n"
        );
    }

    #[test]
    fn the_report_is_junit() {
        assert_eq!(
            junit(&[verdict(false)]),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"a &quot;b&quot;.test.yml\" \
             tests=\"1\" failures=\"1\">\n    <testcase classname=\"a &quot;b&quot;.test.yml\" name=\"t\"><failure>exp: \
             &lt;1&gt;</failure></testcase>\n  </testsuite>\n</testsuites>\n"
        );
    }
}
