//! The lines of real loggers, which all say the same ten things (`tests/testdata/loggers/generate`).

use serde_json::Value;
use telemetry::log_record::LogRecord;

use super::*;

const LOGGERS: [(&str, &str); 13] = [
    ("pino", include_str!("../../../tests/testdata/loggers/pino.log")),
    ("winston", include_str!("../../../tests/testdata/loggers/winston.log")),
    ("bunyan", include_str!("../../../tests/testdata/loggers/bunyan.log")),
    ("zap", include_str!("../../../tests/testdata/loggers/zap.log")),
    ("logrus", include_str!("../../../tests/testdata/loggers/logrus.log")),
    ("logrus-text", include_str!("../../../tests/testdata/loggers/logrus-text.log")),
    ("slog", include_str!("../../../tests/testdata/loggers/slog.log")),
    ("slog-text", include_str!("../../../tests/testdata/loggers/slog-text.log")),
    ("structlog", include_str!("../../../tests/testdata/loggers/structlog.log")),
    ("python-json-logger", include_str!("../../../tests/testdata/loggers/python-json-logger.log")),
    ("logback", include_str!("../../../tests/testdata/loggers/logback.log")),
    ("serilog", include_str!("../../../tests/testdata/loggers/serilog.log")),
    ("tracing", include_str!("../../../tests/testdata/loggers/tracing.log")),
];

const SAID: [(&str, &str); 10] = [
    ("debug", "cache warmed"),
    ("info", "order accepted"),
    ("info", "quote \" and \\ backslash"),
    ("info", "unicode žluťoučký 漢字"),
    ("info", "two\nlines"),
    ("warn", "queue is filling"),
    ("error", "payment failed"),
    ("info", "within a trace"),
    ("info", "a foreign trace"),
    ("error", "giving up"),
];

/// Long before anything was logged: a time that was not read shows.
const NOW: Timestamp = Timestamp(0);
const THIS_DAY: &str = "2026-11-2";

fn records(log: &str) -> Vec<LogRecord> {
    let author = Author { service: "order".into(), version: "1".into(), environment: "prod".into() };
    let additions = Additions { members: Vec::new(), xray: true };
    let record = |line: &str| {
        let mut out = Vec::new();
        parse(line.as_bytes(), &author, NOW, &additions, &mut Scratch::default(), &mut out).expect("not blank");
        serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)))
    };
    log.lines().map(record).collect()
}

/// Text or number, as far as logfmt tells them apart.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[test]
fn every_logger_s_lines_become_the_platform_s() {
    for (logger, log) in LOGGERS {
        let records = records(log);
        assert_eq!(records.len(), SAID.len(), "{logger}");
        for (record, (level, message)) in records.iter().zip(SAID) {
            assert_eq!((record.level.as_str(), record.message.as_str()), (level, message), "{logger}");
            assert!(record.timestamp.starts_with(THIS_DAY), "{logger}: {}", record.timestamp);
            assert_eq!(record.service, "order", "{logger}");
            // What has found its place is not said twice.
            for name in ["level", "time", "ts", "timestamp", "@timestamp", "@t", "@l", "levelname", "asctime", "msg"] {
                assert!(!record.data.contains_key(name), "{logger}: {name} in {:?}", record.data);
            }
        }
        let data = |line: usize, key: &str| text(&records[line].data[key]);
        assert_eq!(
            (data(0, "entries"), data(1, "order_id"), data(1, "amount")),
            ("42".into(), "o-1".into(), "12.5".into()),
            "{logger}"
        );
        assert_eq!(data(5, "depth"), "900", "{logger}");
        let error = Value::Object(records[6].data.clone()).to_string();
        assert!(error.contains("card refused"), "{logger}: {error}");
        let trace = &records[7];
        assert_eq!(trace.trace_id.as_deref(), Some("0af7651916cd43dd8448eb211c80319c"), "{logger}");
        assert_eq!(trace.span_id.as_deref(), Some("b7ad6b7169203331"), "{logger}");
        assert_eq!(records[8].trace_id, None, "{logger}");
        assert_eq!(data(8, INVALID_TRACE_ID), "12345", "{logger}");
        assert_eq!((data(9, "attempts"), data(9, "ok")), ("3".into(), "false".into()), "{logger}");
    }
}
