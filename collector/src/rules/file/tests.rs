use super::*;
use telemetry::Labels;
use url::Url;

fn globals() -> Globals {
    Globals { external_url: Url::parse("http://localhost/").expect("a URL"), external_labels: Labels::empty() }
}

fn check(text: &str, names: NameValidation) -> Result<RuleFile, RuleFileError> {
    parse(text, Path::new("r.yml"), &globals(), names)
}

#[test]
fn a_file_is_read_with_group_labels_merged_into_its_rules() {
    let text = r#"
groups:
  - name: g
    interval: 30s
    query_offset: 5s
    limit: 7
    labels: {team: platform, severity: none}
    rules:
      - alert: Down
        expr: up == 0
        for: 1m30s
        keep_firing_for: 2m
        labels: {severity: page}
        annotations: {summary: "{{ $labels.service }}"}
      - record: new
        expr: 1
        labels: {literal: "{{ not expanded }}"}
"#;
    let file = check(text, NameValidation::Utf8).expect("good");
    let group = &file.groups[0];
    assert_eq!(
        (group.interval, group.query_offset, group.limit),
        (Some(Duration::from_secs(30)), Some(Duration::from_secs(5)), 7)
    );
    let labels = |rule: &RuleSpec| rule.labels.iter().map(|(n, v)| format!("{n}={}", v.source())).collect::<Vec<_>>();
    assert_eq!(labels(&group.rules[0]), ["severity=page", "team=platform"]);
    assert_eq!(labels(&group.rules[1]), ["literal={{ not expanded }}", "severity=none", "team=platform"]);
    assert_eq!(group.rules[1].expr, "1");
    let RuleKind::Alert { hold, keep_firing_for, annotations, .. } = &group.rules[0].kind else { panic!("an alert") };
    assert_eq!((*hold, *keep_firing_for, annotations.len()), (Duration::from_secs(90), Duration::from_secs(120), 1));
    assert_eq!(group.rules[0].place.line, 9);
}

#[test]
fn every_mistake_is_named_with_its_place() {
    let text = r#"groups:
  - name: g
    interval: soon
    rules:
      - alert: A
        expr: rate(hi)
        annotations: {summary: "{{ nosuch }}"}
      - record: b{c="d"}
        expr: 1
        for: 1m
  - name: g
"#;
    let error = check(text, NameValidation::Utf8).expect_err("bad").to_string();
    let places: Vec<_> = error.lines().map(|line| line.split(": ").next().unwrap_or("")).collect();
    assert_eq!(
        places,
        ["r.yml:3:15", "r.yml:6:15", "r.yml:7:32", "r.yml:10:14", "r.yml:8:17", "r.yml:11:5"],
        "{error}"
    );
    assert!(error.contains("function \"nosuch\" not defined"), "{error}");
}

#[test]
fn names_follow_the_scheme_that_is_configured() {
    let text = "groups: [{name: g, rules: [{alert: A, expr: 1, annotations: {ins-tance: x}}]}]";
    assert!(check(text, NameValidation::Utf8).is_ok());
    let error = check(text, NameValidation::Legacy).expect_err("not a legacy name").to_string();
    assert!(error.ends_with("invalid annotation name \"ins-tance\""), "{error}");
}

#[test]
fn empty_files_hold_no_rules() {
    for text in ["", "\n# nothing\n", "groups:\n", "groups: []\n"] {
        assert_eq!(check(text, NameValidation::Utf8).expect("fine").groups, [], "{text:?}");
    }
}

#[test]
fn rules_that_would_meet_are_found() {
    let text = r#"
groups:
  - name: g
    rules:
      - {record: a, expr: 1}
      - {record: a, expr: 2}
      - {record: a, expr: 2, labels: {x: y}}
      - {alert: a, expr: 2}
"#;
    let file = check(text, NameValidation::Utf8).expect("good");
    let found: Vec<_> = duplicates(&file).iter().map(ToString::to_string).collect();
    assert_eq!(found, ["r.yml:6:9: \"a\" has the name and the labels of the rule on line 5"]);
}

/// Others' rule files, where they are at hand: the name says what is expected.
#[test]
fn prometheus_own_rule_files_are_accepted_and_refused_as_named() {
    use service::config::{Env, ProcessEnv};
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = ProcessEnv.get("PICKET_SHARED").map_or(beside, PathBuf::from);
    let Ok(entries) = std::fs::read_dir(shared.join("conformance/rulefmt")) else { return };
    let mut seen = 0;
    for path in entries.map(|entry| entry.expect("listed").path()) {
        let name = path.file_name().expect("has one").to_string_lossy().into_owned();
        let scheme = if name.starts_with("legacy_") { NameValidation::Legacy } else { NameValidation::Utf8 };
        let result = load(&path, &globals(), scheme);
        assert_eq!(result.is_err(), name.contains(".bad."), "{name}: {result:?}");
        seen += 1;
    }
    assert!(seen >= 16, "only {seen} cases were there");
}
