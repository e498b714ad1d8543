use std::collections::HashMap;

use super::*;
use crate::outputs::destination::Stream;

fn load(env: &[(&str, &str)]) -> Config {
    Config::load(None, &HashMap::from_iter(env.iter().copied()))
}

#[test]
fn nothing_needs_to_be_configured() {
    let config = load(&[]);
    assert_eq!(config.problems, [""; 0]);
    assert_eq!(config.listen.to_string(), "0.0.0.0:9464");
    assert_eq!(config.local_addr().to_string(), "127.0.0.1:9464");
    assert_eq!(config.otlp.listen.map(|l| l.to_string()).as_deref(), Some("127.0.0.1:4318"));
    assert_eq!(config.app_metrics.url.as_deref(), Some("http://127.0.0.1:3000/metrics"));
    assert_eq!(config.ecs.refresh, Duration::from_secs(10));
    assert_eq!(config.intake.output, LogsOutput::None);
    assert_eq!(config.traces.traces_url, None);
}

#[test]
fn the_environment_outranks_the_file() {
    let directory = tempfile::tempdir().expect("tempdir");
    let path = directory.path().join("sidecar.yml");
    let yaml = "service: file\nlisten: 127.0.0.1:1\nlogs:\n  files: [/a/*.log]\n  output: stdout\ntraces:\n  endpoint: https://otel.example/x/\n";
    std::fs::write(&path, yaml).expect("write");
    let config = Config::load(Some(&path), &HashMap::from([("SIDECAR_SERVICE", "env"), ("SIDECAR_LISTEN", "")]));
    assert_eq!(config.problems, [""; 0]);
    assert_eq!(config.service.as_deref(), Some("env"));
    assert_eq!(config.listen.to_string(), "127.0.0.1:1", "an empty variable is none");
    assert_eq!(config.logs.files, ["/a/*.log"]);
    assert_eq!(config.intake.output, LogsOutput::Stdout);
    assert_eq!(config.traces.traces_url.as_deref(), Some("https://otel.example/x/v1/traces"));
}

#[test]
fn a_fault_is_named_and_the_default_stands_in() {
    for (variable, value, problem) in [
        (
            "SIDECAR_LISTEN",
            "9464",
            r#"SIDECAR_LISTEN (listen): "9464" cannot be used (invalid socket address syntax), using 0.0.0.0:9464"#,
        ),
        (
            "SIDECAR_STOP_TIMEOUT",
            "soon",
            r#"SIDECAR_STOP_TIMEOUT: "soon" cannot be used (not a valid duration string: "soon"; write for example 15s, 5m or 1h30m), using 25s"#,
        ),
        (
            "SIDECAR_LOG_QUEUE",
            "8 apples",
            r#"SIDECAR_LOG_QUEUE: "8 apples" cannot be used (not a valid size: "8 apples"; write for example 512KiB, 64MiB or 10GiB), using 8MiB"#,
        ),
        (
            "SIDECAR_APP_METRICS_URL",
            "localhost:3000",
            r#"SIDECAR_APP_METRICS_URL: "localhost:3000" is no http:// or https:// address, using http://127.0.0.1:3000/metrics"#,
        ),
        (
            "SIDECAR_LOGS_OUTPUT",
            "splunk",
            r#"SIDECAR_LOGS_OUTPUT (logs.output): "splunk" is no output: write `cloudwatch`, `otlp`, `forward`, `file`, `stdout` or `none`"#,
        ),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "api-key",
            r#"OTEL_EXPORTER_OTLP_HEADERS: the header "api-key" is not written as name=value"#,
        ),
    ] {
        assert_eq!(load(&[(variable, value)]).problems, [problem]);
    }
}

#[test]
fn an_unknown_key_is_named_by_file_and_line() {
    let directory = tempfile::tempdir().expect("tempdir");
    let path = directory.path().join("sidecar.yml");
    std::fs::write(&path, "service: order\nlogs:\n  file: [a]\n").expect("write");
    let config = Config::load(Some(&path), &HashMap::new());
    let [problem] = &config.problems[..] else { panic!("one problem, not {:?}", config.problems) };
    assert!(problem.contains("sidecar.yml:3:3: ") && problem.contains("file"), "{problem}");
    let missing = Config::load(Some(&directory.path().join("no.yml")), &HashMap::new());
    assert!(missing.problems[0].starts_with("failed to read configuration file `"), "{:?}", missing.problems);
}

#[test]
fn a_variable_that_nobody_reads_is_named_with_the_one_that_was_meant() {
    let config = load(&[
        ("SIDECAR_LOG_FILE", "hunter2"),
        ("SIDECAR_LOGS_OUPTUT", "stdout"),
        ("SIDECAR_FLAVOUR_OF_THE_DAY", "x"),
        // Read only when another is set, or by the command line.
        ("SIDECAR_TRACE_SLOW", "1s"),
        ("SIDECAR_CONFIG", "x.yml"),
        ("SIDECARD", "x"),
        ("LOG_GROUPS", "x"),
    ]);
    assert_eq!(config.problems, [""; 0]);
    let expected = [
        "SIDECAR_FLAVOUR_OF_THE_DAY is set but is no setting, and none has a name like it",
        "SIDECAR_LOGS_OUPTUT is set but is no setting: is SIDECAR_LOGS_OUTPUT meant?",
        "SIDECAR_LOG_FILE is set but is no setting: is SIDECAR_LOGS_FILE or SIDECAR_LOG_FILES meant?",
    ];
    assert_eq!(config.warnings, expected);
}

#[test]
fn traces_are_not_sent_round_in_circles() {
    let config =
        load(&[("SIDECAR_OTLP_LISTEN", "127.0.0.1:4318"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")]);
    assert_eq!(config.traces.traces_url, None);
    assert!(config.problems[0].contains("is the sidecar itself"), "{:?}", config.problems);
}

#[test]
fn cloudwatch_needs_a_group() {
    let config = load(&[("SIDECAR_LOGS_OUTPUT", "cloudwatch")]);
    assert!(config.problems[0].contains("LOG_GROUP"), "{:?}", config.problems);
    let config = load(&[("SIDECAR_LOGS_OUTPUT", "cloudwatch"), ("LOG_GROUP", "/app/order")]);
    let LogsOutput::CloudWatch(output) = config.intake.output else { panic!("not cloudwatch") };
    assert_eq!((output.group.as_str(), output.stream, output.create_group), ("/app/order", Stream::OfTask, false));
}
