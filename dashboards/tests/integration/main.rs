//! The committed files against the descriptions, and the descriptions against the names of the metrics.

use std::collections::BTreeSet;
use std::path::Path;

use dashboards::grafana::{self, Dashboard, lint};

fn committed(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn committed_files_are_what_the_crate_describes() {
    for (name, content) in grafana::files() {
        assert!(committed(&name) == content, "{name} differs: run `cargo run -p dashboards -- generate`");
    }
}

#[test]
fn committed_files_read_back_as_the_model() {
    for (dashboard, (name, _)) in grafana::dashboards().into_iter().zip(grafana::files()) {
        let read: Dashboard = serde_json::from_str(&committed(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(read == dashboard, "{name} reads as something else");
    }
}

#[test]
fn a_field_that_we_do_not_write_is_noticed() {
    let edited = committed("platform/service-red.json").replacen("\"uid\"", "\"version\": 7,\n  \"uid\"", 1);
    let error = serde_json::from_str::<Dashboard>(&edited).expect_err("saved from Grafana");
    assert!(error.to_string().contains("unknown field `version`"), "{error}");
}

#[test]
fn panels_have_ids_of_their_own_and_do_not_overlap() {
    for dashboard in grafana::dashboards() {
        let ids: Vec<u32> = dashboard.panels_flat().map(|panel| panel.id).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
        for (index, panel) in dashboard.panels.iter().enumerate() {
            let at = panel.grid;
            assert!(at.w > 0 && at.x + at.w <= 24, "{}: {at:?}", panel.title);
            for other in dashboard.panels[..index].iter().map(|panel| panel.grid) {
                let beside = at.x >= other.x + other.w || other.x >= at.x + at.w;
                let below = at.y >= other.y + other.h || other.y >= at.y + at.h;
                assert!(beside || below, "{}: {at:?} overlaps {other:?}", panel.title);
            }
        }
    }
}

/// Names come from `telemetry::names`, from the collector itself (`up`, `ALERTS`), or are a histogram's series.
#[test]
fn every_metric_asked_for_is_one_that_somebody_exports() {
    let listed = include_str!("../../../crates/telemetry/src/names.rs");
    let known: BTreeSet<&str> = listed.split('"').skip(1).step_by(2).collect();
    for question in grafana::questions() {
        let selectors = lint::selectors(&question.expr);
        assert!(!selectors.is_empty(), "{}: asks for nothing", question.place);
        for (metric, _) in selectors {
            let family = metric.strip_suffix("_bucket").unwrap_or(metric);
            let ours = ["up", "ALERTS"].contains(&metric);
            assert!(ours || known.contains(family), "{}: nobody exports {metric}", question.place);
        }
    }
}

#[test]
fn no_variable_is_left_in_a_question() {
    for question in grafana::questions() {
        assert!(!question.expr.contains('$'), "{}: {}", question.place, question.expr);
    }
}
