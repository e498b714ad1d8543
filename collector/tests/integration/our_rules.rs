//! The rules of `alertmanager-rules/`: everything that whoever is woken by them relies upon.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use collector::rules::file::{self, NameValidation, RuleFile, RuleKind, RuleSpec};
use collector::rules::lint::{self, KnownMetrics};
use collector::rules::template::Globals;
use collector::rules::unit_test;
use serde_json::Value;
use telemetry::Labels;

/// Metrics of programs that are not ours; the runbook of the alert names the exporter.
const OTHERS: [(&str, &str); 4] = [
    ("pg_stat_activity_count", "postgres_exporter"),
    ("pg_settings_max_connections", "postgres_exporter"),
    ("aws_rds_free_local_storage_average", "yet-another-cloudwatch-exporter"),
    ("probe_ssl_earliest_cert_expiry", "blackbox_exporter"),
];
const SEVERITIES: [&str; 3] = ["critical", "warning", "none"];
const ANNOTATIONS: [&str; 4] = ["summary", "description", "runbook_url", "dashboard_url"];

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn files(suffix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(repository().join("alertmanager-rules")).expect("a folder").flatten();
    let mut files: Vec<_> =
        entries.map(|entry| entry.path()).filter(|p| p.to_string_lossy().ends_with(suffix)).collect();
    files.sort();
    files
}

fn rule_files() -> Vec<RuleFile> {
    let external_url = url::Url::parse("http://localhost/").expect("a URL");
    let globals = Globals { external_url, external_labels: Labels::empty() };
    files(".rules.yml").iter().map(|f| file::load(f, &globals, NameValidation::Legacy).expect("a rule file")).collect()
}

fn alerts(files: &[RuleFile]) -> Vec<&RuleSpec> {
    let rules = files.iter().flat_map(|file| &file.groups).flat_map(|group| &group.rules);
    rules.filter(|rule| matches!(rule.kind, RuleKind::Alert { .. })).collect()
}

fn runbook(alert: &str) -> String {
    let path = repository().join(format!("docs/operations/{alert}.md"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("no runbook {}: {error}", path.display()))
}

#[test]
fn every_alert_says_how_bad_it_is_whose_it_is_what_it_is_and_where_to_read_on() {
    let files = rule_files();
    for rule in alerts(&files) {
        let RuleKind::Alert { name, annotations, .. } = &rule.kind else { continue };
        let label = |name: &str| rule.labels.iter().find(|(n, _)| n == name).map(|(_, v)| v.source());
        assert!(label("severity").is_some_and(|severity| SEVERITIES.contains(&severity)), "{name}");
        assert!(label("team").is_some(), "{name} belongs to no team");
        for wanted in ANNOTATIONS {
            let text = annotations.iter().find(|(n, _)| n == wanted).map(|(_, text)| text.source());
            let text = text.unwrap_or_else(|| panic!("{name} has no {wanted}"));
            assert!(!text.is_empty(), "{name}: {wanted}");
            if wanted == "runbook_url" {
                assert_eq!(text, format!("{{{{ $externalURL }}}}/runbooks/{name}"));
            }
        }
        let page = runbook(name);
        let heading = format!("# {name}\n\n**Means**: ");
        assert!(page.starts_with(&heading), "{name}: the page says first what it means");
        assert!(page.lines().count() <= 40, "{name}: more than a page");
    }
}

#[test]
fn every_runbook_belongs_to_an_alert() {
    let files = rule_files();
    let names: BTreeSet<_> = alerts(&files).iter().map(|rule| rule.name().to_owned()).collect();
    for entry in std::fs::read_dir(repository().join("docs/operations")).expect("a folder").flatten() {
        let name = entry.path().file_stem().expect("a name").to_string_lossy().into_owned();
        // Pages in lower case are not about one alert.
        assert!(names.contains(&name) || name.starts_with(char::is_lowercase), "{name}.md is about no alert");
    }
}

/// Every alert fires in a test, and there is a time at which a test says that it must not.
#[tokio::test]
async fn every_alert_fires_in_one_test_and_keeps_quiet_in_another() {
    let mut fired = BTreeMap::new();
    let mut quiet = BTreeSet::from(["Watchdog".to_owned()]);
    for path in files(".test.yml") {
        let verdict = unit_test::run(&path).await;
        assert!(verdict.passed(), "{}: {:#?}", path.display(), verdict.failures());
        for ((_, line, name), did) in verdict.coverage {
            *fired.entry((name, line)).or_insert(false) |= did;
        }
        let text = std::fs::read_to_string(&path).expect("readable");
        let tests: Value = serde_saphyr::from_str(&text).expect("YAML");
        let tests = tests["tests"].as_array().expect("a list").clone();
        let expectations =
            tests.iter().flat_map(|test| test["alert_rule_test"].as_array().cloned().unwrap_or_default());
        let silent = expectations.filter(|e| e["exp_alerts"].as_array().is_none_or(Vec::is_empty));
        quiet.extend(silent.filter_map(|e| Some(e["alertname"].as_str()?.to_owned())));
    }
    assert!(fired.len() >= 35, "{}", fired.len());
    for ((name, line), fired) in fired {
        assert!(fired, "{name} on line {line} fires in no test");
        assert!(quiet.contains(&name), "{name} is kept quiet by no test");
    }
}

/// Names from our own sources: constants of `telemetry::names`, what the collector registers and what every binary does.
fn our_metrics() -> BTreeSet<String> {
    let mut sources = String::new();
    let sources_of = ["crates/telemetry/src", "crates/service/src", "collector/src"];
    let mut folders: Vec<_> = sources_of.map(|folder| repository().join(folder)).into();
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            match path.extension().and_then(|e| e.to_str()) {
                Some("rs") => sources.push_str(&std::fs::read_to_string(&path).expect("readable")),
                _ if path.is_dir() => folders.push(path),
                _ => {}
            }
        }
    }
    let name = regex::Regex::new(r#""([a-z]+(?:_[a-z0-9]+)+)""#).expect("a pattern");
    let names = name.captures_iter(&sources).map(|found| found[1].to_owned());
    // prometheus-client appends _total to counters, histograms have three series.
    names.flat_map(|n| ["", "_total", "_bucket", "_count", "_sum"].map(|suffix| format!("{n}{suffix}"))).collect()
}

#[test]
fn every_metric_is_exposed_by_us_or_by_an_exporter_that_the_runbook_names() {
    let files = rule_files();
    let mut known = KnownMetrics::new(our_metrics().into_iter().chain(OTHERS.map(|(name, _)| name.to_owned())));
    files.iter().for_each(|file| known.add_recorded(file));
    for file in &files {
        let findings: Vec<_> = lint::lint(file, Some(&known)).iter().map(ToString::to_string).collect();
        assert!(findings.is_empty(), "{findings:#?}");
    }
    for rule in alerts(&files) {
        for (metric, exporter) in OTHERS {
            if rule.expr.contains(metric) {
                assert!(runbook(rule.name()).contains(exporter), "{}: {exporter}", rule.name());
            }
        }
    }
}
