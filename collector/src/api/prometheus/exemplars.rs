//! `query_exemplars`: which traces made the samples that an expression looks at.

use axum::extract::State;
use promql::ast::Node;
use promql::format_value;
use serde::Serialize;
use storage::Exemplar;
use telemetry::{Labels, Matcher, Timestamp};

use super::params::Params;
use super::{ApiError, ApiResult, Success};
use crate::api::Sources;
use crate::query::Window;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OfSeries {
    series_labels: Labels,
    exemplars: Vec<Shown>,
}

#[derive(Serialize)]
struct Shown {
    labels: Labels,
    value: String,
    /// Seconds.
    timestamp: f64,
}

impl From<Exemplar> for Shown {
    fn from(exemplar: Exemplar) -> Self {
        let Exemplar { labels, value, timestamp } = exemplar;
        Shown { labels, value: format_value(value), timestamp: timestamp.as_secs_f64() }
    }
}

pub(super) async fn exemplars(State(sources): State<Sources>, params: Params) -> ApiResult<Vec<OfSeries>> {
    let start = params.time("start")?.unwrap_or(Timestamp::MIN);
    let end = params.time("end")?.unwrap_or(Timestamp::MAX);
    if end < start {
        return Err(ApiError::BadData("end timestamp must not be before start timestamp".to_owned()));
    }
    let expr = promql::parse(params.query()).map_err(|e| ApiError::BadData(e.to_string()))?;
    let mut selectors = Vec::new();
    collect(expr.root(), &mut selectors);
    let found = sources.querier.exemplars(selectors, Window { start, end }).await?;
    let shown = found.into_iter().map(|(series_labels, exemplars)| OfSeries {
        series_labels,
        exemplars: exemplars.into_iter().map(Shown::from).collect(),
    });
    Ok(Success::new(shown.collect()))
}

/// The matchers of all selectors in the tree.
fn collect(node: &Node, selectors: &mut Vec<Vec<Matcher>>) {
    match node {
        Node::Number(_) | Node::String(_) => {}
        Node::Vector(selector) => selectors.push(selector.matchers.to_vec()),
        Node::Matrix(matrix) => selectors.push(matrix.selector.matchers.to_vec()),
        Node::Subquery(subquery) => collect(&subquery.expr, selectors),
        Node::Aggregate(aggregate) => {
            collect(&aggregate.expr, selectors);
            aggregate.param.iter().for_each(|param| collect(param, selectors));
        }
        Node::Binary(binary) => {
            collect(&binary.lhs, selectors);
            collect(&binary.rhs, selectors);
        }
        Node::Unary(unary) => collect(&unary.expr, selectors),
        Node::Paren(paren) => collect(&paren.expr, selectors),
        Node::Call(call) => call.args.iter().for_each(|arg| collect(arg, selectors)),
        Node::StepInvariant(inner) => collect(inner, selectors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_selector_of_the_expression_counts() {
        let expr = promql::parse(
            "histogram_quantile(scalar(q), sum by (le) (rate(a[5m]))) / -(max_over_time(b[1h:]) + topk(scalar(c), d)) > 1",
        );
        let mut selectors = Vec::new();
        collect(expr.unwrap().root(), &mut selectors);
        let names: Vec<&str> = selectors.iter().map(|matchers| matchers[0].value.as_str()).collect();
        assert_eq!(names, ["q", "a", "b", "d", "c"]);
    }
}
