//! The rules of Grafana's dashboard-linter, with `service` and `environment` where it wants `instance` and `job`.
//! (Its two rules for Loki are left out: nothing here asks Loki. Whether an expression parses is for the collector to
//! say, which has the parser.)

use super::model::{DATASOURCE, Dashboard, Panel, Target, Visual};

/// One rule that a dashboard breaks, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub rule: &'static str,
    /// `service-red: Errors`.
    pub place: String,
    pub message: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} ({})", self.place, self.message, self.rule)
    }
}

type Rule = fn(&Dashboard) -> Vec<(String, String)>;

/// Every rule by its name.
pub const RULES: [(&str, Rule); 12] = [
    ("uneditable", uneditable),
    ("template-datasource", template_datasource),
    ("template-on-time-change-reload", template_reloads),
    ("template-label-promql", template_label_values),
    ("template-service-environment", template_service_environment),
    ("panel-datasource", panel_datasource),
    ("panel-title-description", panel_title_description),
    ("panel-units", panel_units),
    ("panel-no-targets", panel_no_targets),
    ("target-rate-interval", target_rate_interval),
    ("target-service-environment", target_service_environment),
    ("target-counter-agg", target_counter_agg),
];

/// Everything that a dashboard does wrong.
pub fn lint(dashboard: &Dashboard) -> Vec<Finding> {
    let findings = |(rule, check): &(&'static str, Rule)| {
        let rule = *rule;
        let found = check(dashboard).into_iter();
        found.map(move |(place, message)| Finding { rule, place: format!("{}: {place}", dashboard.uid), message })
    };
    RULES.iter().flat_map(findings).collect()
}

fn finding(place: &str, message: impl Into<String>) -> (String, String) {
    (place.to_owned(), message.into())
}

fn uneditable(dashboard: &Dashboard) -> Vec<(String, String)> {
    let edited =
        dashboard.editable.then(|| finding("dashboard", "is editable, but what is changed in Grafana is lost"));
    edited.into_iter().collect()
}

fn template_datasource(dashboard: &Dashboard) -> Vec<(String, String)> {
    let first = dashboard.templating.list.first();
    let good = first.is_some_and(|variable| {
        variable.kind == "datasource" && variable.name == "datasource" && variable.query == "prometheus"
    });
    if good { Vec::new() } else { vec![finding("variables", "the first is not the Prometheus data source")] }
}

fn query_variables(dashboard: &Dashboard) -> impl Iterator<Item = &super::Variable> {
    dashboard.templating.list.iter().filter(|variable| variable.kind == "query")
}

fn template_reloads(dashboard: &Dashboard) -> Vec<(String, String)> {
    let stale = query_variables(dashboard).filter(|variable| variable.refresh != 2);
    stale.map(|variable| finding(&variable.name, "is not asked again when the time range changes")).collect()
}

fn template_label_values(dashboard: &Dashboard) -> Vec<(String, String)> {
    let odd = query_variables(dashboard).filter(|variable| {
        let text = variable.query["query"].as_str().unwrap_or_default();
        !(text.starts_with("label_values(") && text.ends_with(&format!(", {})", variable.name)))
    });
    odd.map(|variable| finding(&variable.name, "is not asked by label_values(selector, label)")).collect()
}

fn template_service_environment(dashboard: &Dashboard) -> Vec<(String, String)> {
    let missing = ["environment", "service"].into_iter().filter(|wanted| {
        !query_variables(dashboard).any(|variable| {
            let all_is_some = variable.all_value.as_deref().is_none_or(|all| all == ".+");
            variable.name == *wanted && all_is_some
        })
    });
    missing.map(|name| finding("variables", format!("there is no `{name}` whose \"All\" is `.+`"))).collect()
}

fn panel_datasource(dashboard: &Dashboard) -> Vec<(String, String)> {
    let fixed = |target: &&Target| target.datasource.uid != DATASOURCE;
    each_panel(dashboard, |panel| {
        panel.targets.iter().find(fixed).map(|target| format!("target {} names one data source", target.ref_id))
    })
}

fn panel_title_description(dashboard: &Dashboard) -> Vec<(String, String)> {
    each_panel(dashboard, |panel| {
        let missing = panel.title.is_empty() || panel.description.is_empty();
        missing.then(|| "title or description is missing".to_owned())
    })
}

fn panel_units(dashboard: &Dashboard) -> Vec<(String, String)> {
    each_panel(dashboard, |panel| panel.field_config.defaults.unit.is_none().then(|| "has no unit".to_owned()))
}

fn panel_no_targets(dashboard: &Dashboard) -> Vec<(String, String)> {
    each_panel(dashboard, |panel| panel.targets.is_empty().then(|| "asks nothing".to_owned()))
}

fn target_rate_interval(dashboard: &Dashboard) -> Vec<(String, String)> {
    each_expr(dashboard, |expr| {
        let ranges = expr.split('[').skip(1).filter_map(|rest| rest.split_once(']')).map(|(range, _)| range);
        let mut fixed = ranges.filter(|range| *range != "$__rate_interval");
        fixed.next().map(|range| format!("asks over [{range}] instead of [$__rate_interval]"))
    })
}

/// Each selector follows both variables; one that does not shows other services' numbers under this one's name.
fn target_service_environment(dashboard: &Dashboard) -> Vec<(String, String)> {
    each_expr(dashboard, |expr| {
        selectors(expr).into_iter().find_map(|(metric, matchers)| {
            let mut wanted = [r#"environment=~"$environment""#, r#"service=~"$service""#].into_iter();
            wanted.find(|matcher| !matchers.contains(matcher)).map(|matcher| format!("{metric} lacks {matcher}"))
        })
    })
}

/// A counter only makes sense through rate or increase. One gauge ends in `_total` by requirement.
fn target_counter_agg(dashboard: &Dashboard) -> Vec<(String, String)> {
    each_expr(dashboard, |expr| {
        selectors(expr).into_iter().find_map(|(metric, _)| {
            let counter = ["_total", "_bucket", "_sum", "_count"].iter().any(|suffix| metric.ends_with(suffix))
                && metric != telemetry::names::app::USERS_ACTIVE_TOTAL;
            let through = |function: &str| expr.contains(&format!("{function}({metric}"));
            let bare = counter && !through("rate") && !through("increase") && !through("irate");
            bare.then(|| format!("counter {metric} is shown without rate"))
        })
    })
}

fn each_panel(dashboard: &Dashboard, check: impl Fn(&Panel) -> Option<String>) -> Vec<(String, String)> {
    let panels = dashboard.panels_flat().filter(|panel| !matches!(panel.visual, Visual::Row { .. }));
    panels.filter_map(|panel| Some(finding(&panel.title, check(panel)?))).collect()
}

fn each_expr(dashboard: &Dashboard, check: impl Fn(&str) -> Option<String>) -> Vec<(String, String)> {
    let panels =
        dashboard.panels_flat().flat_map(|panel| panel.targets.iter().map(|target| (&panel.title, &target.expr)));
    let annotations = dashboard.annotations.list.iter().map(|annotation| (&annotation.name, &annotation.target.expr));
    panels.chain(annotations).filter_map(|(place, expr)| Some(finding(place, check(expr)?))).collect()
}

/// Metric and matchers of every selector of an expression. Reads what we write: every selector of ours has braces.
pub fn selectors(expr: &str) -> Vec<(&str, &str)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    let mut rest = expr;
    while let Some(open) = rest.find('{') {
        let start = rest[..open].rfind(|c| !is_name(c)).map_or(0, |before| before + 1);
        let Some(close) = rest[open..].find('}') else { break };
        found.push((&rest[start..open], &rest[open + 1..open + close]));
        rest = &rest[open + close + 1..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grafana::{dashboards, panel};

    /// Rules that the dashboard breaks, each once.
    fn broken(dashboard: &Dashboard) -> Vec<&'static str> {
        let mut rules: Vec<_> = lint(dashboard).into_iter().map(|finding| finding.rule).collect();
        rules.dedup();
        rules
    }

    fn first_chart(dashboard: &mut Dashboard) -> &mut Panel {
        dashboard.panels.iter_mut().find(|panel| !panel.targets.is_empty()).unwrap()
    }

    #[test]
    fn our_dashboards_break_no_rule() {
        for dashboard in dashboards() {
            assert_eq!(lint(&dashboard), Vec::new());
        }
    }

    #[test]
    fn every_rule_finds_its_fault() {
        type Spoil = fn(&mut Dashboard);
        let faults: [(&str, Spoil); 12] = [
            ("uneditable", |dashboard| dashboard.editable = true),
            ("template-datasource", |dashboard| dashboard.templating.list.swap(0, 1)),
            ("template-on-time-change-reload", |dashboard| dashboard.templating.list[1].refresh = 1),
            ("template-label-promql", |dashboard| dashboard.templating.list[1].query = "up".into()),
            ("template-service-environment", |dashboard| {
                dashboard.templating.list.retain(|variable| variable.name != "service");
            }),
            ("panel-datasource", |dashboard| first_chart(dashboard).targets[0].datasource.uid = "collector".into()),
            ("panel-title-description", |dashboard| first_chart(dashboard).description.clear()),
            ("panel-units", |dashboard| first_chart(dashboard).field_config.defaults.unit = None),
            ("panel-no-targets", |dashboard| first_chart(dashboard).targets.clear()),
            ("target-rate-interval", |dashboard| {
                let expr = &mut first_chart(dashboard).targets[0].expr;
                *expr = expr.replace("$__rate_interval", "5m");
            }),
            ("target-service-environment", |dashboard| {
                let expr = &mut first_chart(dashboard).targets[0].expr;
                *expr = expr.replace(r#"service=~"$service""#, r#"service="order""#);
            }),
            ("target-counter-agg", |dashboard| {
                let selector = r#"sum(http_requests_total{environment=~"$environment",service=~"$service"})"#;
                first_chart(dashboard).targets[0] = panel::target(selector, "");
            }),
        ];
        assert_eq!(faults.map(|(rule, _)| rule), RULES.map(|(rule, _)| rule));
        for (rule, spoil) in faults {
            let mut dashboard = dashboards().remove(0);
            spoil(&mut dashboard);
            assert_eq!(broken(&dashboard), [rule]);
        }
    }

    #[test]
    fn selectors_are_read_with_their_matchers() {
        assert_eq!(
            selectors(r#"sum(rate(a_total{x="1"}[5m])) / max(b{y=~"2",z="3"})"#),
            [("a_total", r#"x="1""#), ("b", r#"y=~"2",z="3""#)]
        );
    }
}
