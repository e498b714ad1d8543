//! With the file that ECS writes.

use std::collections::HashMap;

use super::*;
use crate::pipeline::route::Origin;

/// As the ECS agent's template makes it of a task with two containers, one of them with options and an include pattern.
pub(crate) const GENERATED: &str = include_str!("../../../tests/testdata/firelens/fluent-bit.conf");

fn read(text: &str) -> FireLens {
    let mut firelens = FireLens::default();
    firelens.read_text(text, Path::new("/f.conf"), &HashMap::from([("SECRET_KEY_1", "s3cret")]), 0);
    firelens
}

fn origin(tag: &str) -> Origin {
    Origin { tag: tag.to_owned(), container: "c".to_owned(), source: String::new() }
}

#[test]
fn the_file_that_ecs_writes_is_understood_without_a_problem() {
    let firelens = read(GENERATED);
    assert_eq!(firelens.problems, [""; 0]);
    assert_eq!(firelens.forward.socket.as_deref(), Some(Path::new("/var/run/fluent.sock")));
    assert_eq!(firelens.forward.listen.map(|a| a.to_string()).as_deref(), Some("127.0.0.1:24224"));
    assert_eq!(firelens.health.map(|a| a.to_string()).as_deref(), Some("127.0.0.1:8877"));

    let app = firelens.routes.of(&origin("app-firelens-bae32def0ab64f06818e8862e58f8d6d"));
    let [(LogsOutput::CloudWatch(cloudwatch), false)] = &app.outputs[..] else { panic!("{:?}", app.outputs) };
    assert_eq!(cloudwatch.group, "/ecs/order");
    assert_eq!(cloudwatch.stream, Stream::PrefixAndTag("order-".into()));
    assert_eq!((cloudwatch.region.as_deref(), cloudwatch.create_group), (Some("eu-central-1"), true));
    let [(pattern, false)] = &app.filters[..] else { panic!("{:?}", app.filters) };
    assert!(pattern.is_match(b"an ERROR") && !pattern.is_match(b"fine"));
    let members: Vec<&str> = app.members.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(members, ["ecs_cluster", "ecs_task_arn", "ecs_task_definition"]);
    assert_eq!(app.members[2].1, "order:7");

    let envoy = firelens.routes.of(&origin("envoy-firelens-bae32def0ab64f06818e8862e58f8d6d"));
    assert_eq!(envoy.outputs, [(LogsOutput::Stdout, false)]);
    assert!(envoy.filters.is_empty());
    assert!(firelens.routes.of(&origin("other-firelens-t")).outputs.is_empty());
}

#[test]
fn every_alias_is_an_output() {
    for (options, expected) in [
        ("Name null", LogsOutput::None),
        ("Name stdout", LogsOutput::Stdout),
        ("Name forward\nHost h\nPort 1", LogsOutput::Forward("h:1".into())),
        ("Name opentelemetry\nHost h\nPort 1", LogsOutput::Otlp { url: "http://h:1/v1/logs".into(), headers: vec![] }),
        (
            "Name opentelemetry\nHost h\ntls On\nlogs_uri /x\nHeader key ${SECRET_KEY_1}",
            LogsOutput::Otlp {
                url: "https://h/x".into(),
                headers: vec![("key".into(), service::config::Secret::new("s3cret"))],
            },
        ),
        ("Name file\nPath /logs\nFile a", LogsOutput::File("/logs/a".into())),
        ("Name sidecar\noutput none", LogsOutput::None),
    ] {
        let firelens = read(&format!("[OUTPUT]\nMatch a*\n{options}"));
        assert_eq!(firelens.problems, [""; 0], "{options}");
        assert_eq!(firelens.routes.of(&origin("app")).outputs, [(expected, false)], "{options}");
    }
    for name in ["cloudwatch", "cloudwatch_logs", "sidecar"] {
        let text = format!(
            "[OUTPUT]\nMatch *\nName {name}\nlog_group_name g\nlog_stream_name s\nlog_key log\nlog_retention_days 7\nendpoint logs.x\nmultiline java"
        );
        let firelens = read(&text);
        assert_eq!(firelens.problems, [""; 0]);
        let route = firelens.routes.of(&origin("app"));
        let [(LogsOutput::CloudWatch(cloudwatch), true)] = &route.outputs[..] else { panic!("{route:?}") };
        assert_eq!((cloudwatch.retention_days, cloudwatch.endpoint.as_deref()), (Some(7), Some("https://logs.x")));
        assert_eq!(route.multiline, Some(Multiline::Java));
    }
}

#[test]
fn what_is_not_supported_is_named_by_file_line_and_key() {
    for (text, problem) in [
        (
            "[OUTPUT]\nName datadog\nMatch *",
            "/f.conf:1: Name: the output \"datadog\" is not supported: write sidecar, cloudwatch_logs, opentelemetry, forward, file, stdout or null; these records go where the sidecar itself is configured to send",
        ),
        ("[OUTPUT]\nName stdout", "/f.conf:1: Match: is missing, the section is left out"),
        (
            "[OUTPUT]\nName cloudwatch\nMatch *\nlog_group_name g\nrole_arn x",
            "/f.conf:5: role_arn: this option is not supported and has no effect",
        ),
        ("[OUTPUT]\nName cloudwatch\nMatch *", "/f.conf:1: log_group_name: is missing, these records go nowhere"),
        ("[FILTER]\nName lua\nMatch *", "/f.conf:1: Name: the filter \"lua\" is not supported and left out"),
        (
            "[FILTER]\nName grep\nMatch *\nRegex log (?=x)",
            "/f.conf:4: Regex: \"(?=x)\" cannot be used, every line passes it (error: look-around, including look-ahead and look-behind, is not supported)",
        ),
        ("[FILTER]\nName grep\nMatch *\nRegex a b", "/f.conf:4: Regex: only patterns for the key `log` are supported"),
        ("[INPUT]\nName tail", "/f.conf:1: Name: the input \"tail\" is not supported and left out"),
        ("[INPUT]\nName forward\nPort x", "/f.conf:1: Port: \"x\" is no port, nothing listens there"),
        ("[PARSER]\nName json", "/f.conf:1: PARSER: sections of this kind are not supported and left out"),
        (
            "@INCLUDE nowhere.conf",
            "failed to read FireLens configuration /nowhere.conf: No such file or directory (os error 2)",
        ),
    ] {
        assert_eq!(read(text).problems, [problem], "{text}");
    }
}

#[test]
fn an_address_that_is_open_to_others_becomes_loopback() {
    let firelens = read("[INPUT]\nName forward\nListen 0.0.0.0\nPort 24224");
    assert_eq!(firelens.forward.listen.map(|a| a.to_string()).as_deref(), Some("127.0.0.1:24224"));
}

#[test]
fn files_that_include_each_other_come_to_an_end() {
    let directory = tempfile::tempdir().expect("tempdir");
    let path = directory.path().join("a.conf");
    std::fs::write(&path, "@INCLUDE a.conf\n[OUTPUT]\nName stdout\nMatch *\n").expect("write");
    let firelens = FireLens::read(&path, &HashMap::new());
    assert_eq!(firelens.problems.len(), 1);
    assert!(firelens.problems[0].ends_with("a.conf:1: files include each other"));
}
