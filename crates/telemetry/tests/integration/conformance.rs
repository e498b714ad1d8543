//! The OpenMetrics project's own cases, where they lie beside the checkout or PICKET_SHARED says where.

use std::path::{Path, PathBuf};

use telemetry::exposition::{Format, strict};

#[expect(clippy::disallowed_methods, reason = "a test of a crate that must not know service::config")]
fn shared(what: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let root = std::env::var("PICKET_SHARED").map_or_else(|_| beside(), PathBuf::from);
    Some(root.join(what)).filter(|path| path.is_dir())
}

#[test]
fn open_metrics_cases_are_judged_as_their_authors_do() {
    let Some(cases) = shared("conformance/openmetrics") else {
        eprintln!("no ../shared/conformance/openmetrics and no PICKET_SHARED: the OpenMetrics cases did not run");
        return;
    };
    let mut wrong = Vec::new();
    let mut counts = (0, 0);
    for case in std::fs::read_dir(cases).unwrap() {
        let case = case.unwrap().path();
        let Ok(description) = std::fs::read(case.join("test.json")) else { continue };
        let description: serde_json::Value = serde_json::from_slice(&description).unwrap();
        let body = std::fs::read(case.join(description["file"].as_str().unwrap())).unwrap();
        let verdict = strict::check(&body);
        let expected = description["shouldParse"].as_bool().unwrap();
        if expected {
            counts.0 += 1;
        } else {
            counts.1 += 1;
        }
        if verdict.is_ok() != expected {
            wrong.push(format!("{}: {verdict:?}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{} cases judged wrongly:\n{}", wrong.len(), wrong.join("\n"));
    assert!(counts.0 > 0 && counts.1 > 0, "the cases are incomplete: {counts:?}");
    eprintln!("OpenMetrics cases: {} accepted, {} refused", counts.0, counts.1);
}

#[test]
fn bodies_of_real_exporters_are_read_whole() {
    let Some(bodies) = shared("fixtures/exposition") else {
        eprintln!("no ../shared/fixtures/exposition and no PICKET_SHARED: its bodies were not read");
        return;
    };
    for (file, format) in [
        ("alltypes.237mfs.prom.txt", Format::Prometheus),
        ("alltypes.237mfs.nometa.prom.txt", Format::Prometheus),
        ("alltypes.5mfs.om.txt", Format::OpenMetrics),
        ("1histogram.om.txt", Format::OpenMetrics),
    ] {
        let body = std::fs::read_to_string(bodies.join(file)).unwrap();
        let families = telemetry::exposition::parse(&body, format).unwrap_or_else(|e| panic!("{file}: {e}"));
        let lines = body.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).count();
        assert_eq!(families.iter().map(|f| f.samples.len()).sum::<usize>(), lines, "{file}");
    }
}
