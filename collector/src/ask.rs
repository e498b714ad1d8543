//! The `query` command: asks a running collector (or any Prometheus) and prints the answer as promtool does.

use anyhow::{Context, bail};
use reqwest::Client;
use serde::Deserialize;
use serde_json::Value;
use service::config::Secret;
use telemetry::Labels;

/// Whom to ask, and what.
#[derive(Debug)]
pub struct Question {
    pub url: url::Url,
    pub token: Option<Secret>,
    pub expr: String,
    /// Seconds or RFC 3339; now when absent.
    pub time: Option<String>,
}

#[derive(Deserialize)]
struct Envelope {
    data: Option<Data>,
    #[serde(default)]
    error: String,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
struct Data {
    result: Value,
}

#[derive(Deserialize)]
struct Series {
    metric: Labels,
    value: Option<(f64, String)>,
    #[serde(default)]
    values: Vec<(f64, String)>,
}

impl Question {
    /// The answer as text, one series per line.
    ///
    /// # Errors
    /// When nobody answers, or the answer is an error.
    pub async fn ask(self) -> anyhow::Result<String> {
        let url = self.url.join("api/v1/query").context("the URL cannot have a path below it")?;
        let time = self.time.map(|time| ("time", time));
        let form: Vec<(&str, String)> = [("query", self.expr)].into_iter().chain(time).collect();
        let mut request = Client::new().post(url.clone()).form(&form);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        let response = request.send().await.with_context(|| format!("failed to ask {url}"))?;
        let status = response.status();
        let text = response.text().await.with_context(|| format!("failed to read the answer of {url}"))?;
        let Ok(answer) = serde_json::from_str::<Envelope>(&text) else {
            bail!("{url} answered {status}: {}", text.trim());
        };
        let Some(data) = answer.data else { bail!("{}", answer.error) };
        answer.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
        print(data.result)
    }
}

/// Why a running collector does or does not scrape a task, in words.
///
/// # Errors
/// When nobody answers, or the task is not known.
pub async fn explain_task(url: &url::Url, token: Option<&Secret>, task: &str) -> anyhow::Result<String> {
    let mut url = url.join("api/v1/discovery/explain").context("the URL cannot have a path below it")?;
    url.query_pairs_mut().append_pair("task", task);
    let mut request = Client::new().get(url.clone());
    if let Some(token) = token {
        request = request.bearer_auth(token.expose());
    }
    let response = request.send().await.with_context(|| format!("failed to ask {url}"))?;
    let status = response.status();
    let text = response.text().await.with_context(|| format!("failed to read the answer of {url}"))?;
    let Ok(answer) = serde_json::from_str::<Value>(&text) else {
        bail!("{url} answered {status}: {}", text.trim());
    };
    let data = &answer["data"];
    if data.is_null() {
        bail!("{}", answer["error"].as_str().unwrap_or("the answer has no data"));
    }
    let text = |value: &Value| value.as_str().unwrap_or("none").to_owned();
    let verdict = match data["reason"].as_str() {
        None => "is scraped".to_owned(),
        Some(reason) => format!("is not scraped: {reason}"),
    };
    let (id, service, cluster) = (text(&data["task"]), text(&data["service"]), text(&data["cluster"]));
    let mut lines = vec![format!("task {id} of service {service} in cluster {cluster} {verdict}")];
    lines.extend(data["words"].as_array().into_iter().flatten().map(|words| format!("  {}", text(words))));
    let age = data["ageSeconds"].as_f64().unwrap_or_default();
    lines.push(match data["error"].as_str() {
        Some(error) => format!("  what is known of the cluster is {age:.0} s old: {error}"),
        None => format!("  what is known of the cluster is {age:.0} s old"),
    });
    Ok(lines.join("\n"))
}

fn print(result: Value) -> anyhow::Result<String> {
    if let Ok((time, value)) = serde_json::from_value::<(f64, String)>(result.clone()) {
        return Ok(format!("{value} @[{time}]"));
    }
    let series: Vec<Series> = serde_json::from_value(result).context("the answer is no query result")?;
    let lines = series.into_iter().map(|series| match series.value {
        Some((time, value)) => format!("{} => {value} @[{time}]", series.metric),
        None => {
            let points = series.values.iter().map(|(time, value)| format!("\n{value} @[{time}]"));
            format!("{} =>{}", series.metric, points.collect::<String>())
        }
    });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_printed_as_promtool_prints_them() {
        for (json, expected) in [
            (r#"[4,"2"]"#, "2 @[4]"),
            (r#"[{"metric":{"__name__":"up","job":"a"},"value":[1.5,"1"]}]"#, r#"up{job="a"} => 1 @[1.5]"#),
            (r#"[{"metric":{},"values":[[1,"1"],[2,"3"]]}]"#, "{} =>\n1 @[1]\n3 @[2]"),
            ("[]", ""),
        ] {
            assert_eq!(print(serde_json::from_str(json).unwrap()).unwrap(), expected);
        }
    }
}
