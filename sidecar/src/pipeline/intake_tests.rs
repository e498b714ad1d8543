//! From a line to what is remembered of it, and to the books.

use super::*;
use crate::pipeline::route::{Filter, TagPattern};

const NOW: Timestamp = Timestamp(1_705_314_600_000);

struct Taken {
    lines: Vec<serde_json::Value>,
    intake: Intake,
    metrics: Metrics,
}

fn origin() -> Origin {
    Origin { tag: "app-firelens-t1".into(), container: "app".into(), source: "stderr".into() }
}

fn take(config: Config, lines: &[&str]) -> Taken {
    let recent = Recent::new(Default::default());
    let (intake, metrics) = testing::intake(config, recent.clone());
    let stream = intake.stream(&origin());
    lines.iter().for_each(|line| intake.accept(&stream, line.as_bytes(), NOW, None));
    intake.finish();
    let lines = recent.last(None, None, 100).0;
    let lines = lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    Taken { lines, intake, metrics }
}

#[tokio::test]
async fn a_record_says_where_it_is_from_and_the_rest_is_counted() {
    let mut config = testing::config();
    let matches = TagPattern::Glob("app-*".into());
    config.routes.members.push((matches.clone(), "ecs_cluster".into(), "main".into()));
    let pattern = regex::bytes::Regex::new("healthz").expect("valid");
    config.routes.filters.push(Filter { matches, pattern, exclude: true });
    config.choose.level_min = Some(Level::Info);
    let taken = take(config, &["ERROR order 7 lost", "GET /healthz", "", "level=debug msg=\"x\""]);
    let [line] = &taken.lines[..] else { panic!("{:?}", taken.lines) };
    assert_eq!((&line["message"], &line["container_name"]), (&"ERROR order 7 lost".into(), &"app".into()));
    assert_eq!((&line["source"], &line["ecs_cluster"]), (&"stderr".into(), &"main".into()));
    let balance = taken.intake.balance();
    assert_eq!((balance.received, balance.dropped, balance.waiting), (3, 2, 1));
    let text = taken.metrics.expose();
    for series in [
        "sidecar_log_records_dropped_total{reason=\"filtered\"} 2",
        "sidecar_log_records_total{level=\"error\",container=\"app\"} 1",
        "sidecar_log_records_total{level=\"debug\",container=\"app\"} 1",
        "sidecar_log_error_signatures_total{signature=\"ERROR order # lost\"} 1",
    ] {
        assert!(text.contains(series), "{series} not in {text}");
    }
}

#[tokio::test]
async fn a_trace_is_one_record_and_counts_as_its_lines() {
    let mut config = testing::config();
    config.multiline = vec![(Some("other".into()), Rule::Off), (None, Rule::Any)];
    let taken = take(config, &["Traceback (most recent call last):", "  File \"x\"", "ValueError: y", "INFO next"]);
    let messages: Vec<&str> = taken.lines.iter().filter_map(|line| line["message"].as_str()).collect();
    assert_eq!(messages, ["Traceback (most recent call last):\n  File \"x\"\nValueError: y", "INFO next"]);
    assert_eq!(taken.intake.balance().received, 4);
}

#[tokio::test]
async fn a_trace_below_logfmt_keeps_the_line_s_fields() {
    let config = Config { multiline: vec![(None, Rule::Any)], ..testing::config() };
    let lines = [
        "level=error msg=\"order failed\" trace_id=0af7651916cd43dd8448eb211c80319c password=hunter2",
        "Traceback (most recent call last):",
        "  File \"x\"",
        "ValueError: y",
        "level=info msg=next",
    ];
    let taken = take(config, &lines);
    let [failed, next] = &taken.lines[..] else { panic!("{:?}", taken.lines) };
    assert_eq!((&failed["level"], &failed["message"]), (&"error".into(), &"order failed".into()));
    assert_eq!(failed["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(failed["data"]["stack_trace"], lines[1..4].join("\n"));
    assert_ne!(failed["data"]["password"], "hunter2");
    assert_eq!((&next["message"], next.get("data")), (&"next".into(), None));
    assert_eq!(taken.intake.balance().received, 5);
    let signature = "sidecar_log_error_signatures_total{signature=\"order failed\"} 1";
    assert!(taken.metrics.expose().contains(signature));
}

#[tokio::test]
async fn a_long_line_is_cut_and_says_so() {
    let taken = take(testing::config(), &[&"x".repeat(1001)]);
    assert_eq!(taken.lines[0]["message"].as_str().map(str::len), Some(1000));
    assert_eq!(taken.lines[0]["truncated"], true);
    assert!(taken.metrics.expose().contains("sidecar_log_lines_truncated_total 1\n"));
}
