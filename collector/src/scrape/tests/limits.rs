//! The limit of a job's series.

use super::*;

/// The value of one of the job's figures.
fn figure(rig: &Rig, name: &str) -> u64 {
    let text = rig.metrics.expose();
    let line = text.lines().find(|line| line.starts_with(&format!("{name}{{")) && line.contains("\"test\""));
    line.map_or(0, |line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
}

#[tokio::test]
async fn new_series_over_the_limit_are_refused_and_counted_and_the_others_go_on() {
    let rig = Rig::start("  series_limit: 2\n", Answer::text("a 1\nb 1\n")).await;
    rig.scraped().await;
    rig.answer(Answer::text("a 2\nb 2\nc 2\nd 2\n"));
    rig.scraped().await;
    assert_eq!(rig.newest("a"), [r#"a{instance="one", job="test"} 2"#]);
    assert_eq!(rig.newest("b"), [r#"b{instance="one", job="test"} 2"#]);
    assert!(rig.newest("c").is_empty() && rig.newest("d").is_empty());
    assert_eq!(rig.newest("up"), [r#"up{instance="one", job="test"} 1"#], "the scrape does not fail");
    assert_eq!(figure(&rig, "collector_scrape_series"), 2);
    assert_eq!(figure(&rig, "collector_scrape_series_limit"), 2);
    let refused = figure(&rig, "collector_scrape_series_refused_total");
    assert!(refused >= 4 && refused.is_multiple_of(2), "{refused}");

    // A place that is free goes to one that waits, and what it has is not asked for again.
    rig.answer(Answer::text("b 3\nc 3\nd 3\n"));
    rig.until("c or d", || rig.newest("c").len() + rig.newest("d").len() == 1).await;
    assert!(rig.newest("a")[0].ends_with("stale"));
    rig.scraped().await;
    assert_eq!(rig.newest("b"), [r#"b{instance="one", job="test"} 3"#]);
    assert_eq!(figure(&rig, "collector_scrape_series"), 2);
}

#[tokio::test]
async fn a_lower_limit_or_other_rules_refuse_no_series_that_is_there() {
    let rig = Rig::start("  series_limit: 3\n", Answer::text("a 1\nb 1\nc 1\n")).await;
    rig.scraped().await;
    let lower = rig.yaml.replace("series_limit: 3", "series_limit: 1");
    let relabelled = format!("{lower}  metric_relabel_configs: [{{target_label: x, replacement: y}}]\n");
    rig.config.send(Arc::new(serde_saphyr::from_str(&lower).unwrap())).unwrap();
    rig.until("the new limit", || figure(&rig, "collector_scrape_series_limit") == 1).await;
    rig.answer(Answer::text("a 2\nb 2\nc 2\n"));
    rig.scraped().await;
    let all = |value: &str| ["a", "b", "c"].iter().all(|name| rig.newest(name).iter().any(|l| l.ends_with(value)));
    assert!(all(" 2"));
    assert_eq!(figure(&rig, "collector_scrape_series_refused_total"), 0);
    // Their labels change; the target has as many as before.
    rig.config.send(Arc::new(serde_saphyr::from_str(&relabelled).unwrap())).unwrap();
    rig.until("all under new labels", || {
        ["a", "b", "c"].iter().all(|name| rig.newest(name).iter().any(|l| l.contains("x=\"y\"") && l.ends_with(" 2")))
    })
    .await;
    assert_eq!(figure(&rig, "collector_scrape_series"), 3);
    rig.config.send(Arc::new(serde_saphyr::from_str("scrape_configs: []").unwrap())).unwrap();
    rig.until("places given back", || figure(&rig, "collector_scrape_series") == 0).await;
}
