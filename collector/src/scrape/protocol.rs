//! Content negotiation: what is asked for, and what an answer is read as.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use telemetry::exposition::{Format, protobuf};

/// A format by Prometheus' name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum ScrapeProtocol {
    #[serde(rename = "PrometheusProto")]
    PrometheusProto,
    #[serde(rename = "PrometheusText0.0.4")]
    PrometheusText004,
    #[serde(rename = "PrometheusText1.0.0")]
    PrometheusText100,
    #[serde(rename = "OpenMetricsText0.0.1")]
    OpenMetricsText001,
    #[serde(rename = "OpenMetricsText1.0.0")]
    OpenMetricsText100,
}

use ScrapeProtocol::{OpenMetricsText001, OpenMetricsText100, PrometheusProto, PrometheusText004, PrometheusText100};

/// Prometheus' own defaults.
const DEFAULT: &[ScrapeProtocol] = &[OpenMetricsText100, OpenMetricsText001, PrometheusText100, PrometheusText004];
const WITH_NATIVE_HISTOGRAMS: &[ScrapeProtocol] =
    &[PrometheusProto, OpenMetricsText100, OpenMetricsText001, PrometheusText100, PrometheusText004];

/// The best has this many tenths, each further one a tenth less.
const BEST_QUALITY: usize = 6;

/// How a body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFormat {
    Text(Format),
    Protobuf,
}

impl BodyFormat {
    pub(super) fn from_content_type(content_type: &str) -> Option<Self> {
        let text = Format::from_content_type(content_type).map(BodyFormat::Text);
        text.or_else(|| protobuf::is_content_type(content_type).then_some(BodyFormat::Protobuf))
    }
}

impl From<ScrapeProtocol> for BodyFormat {
    fn from(protocol: ScrapeProtocol) -> Self {
        match protocol {
            PrometheusProto => BodyFormat::Protobuf,
            PrometheusText004 | PrometheusText100 => BodyFormat::Text(Format::Prometheus),
            OpenMetricsText001 | OpenMetricsText100 => BodyFormat::Text(Format::OpenMetrics),
        }
    }
}

impl ScrapeProtocol {
    fn media_type(self) -> &'static str {
        match self {
            PrometheusProto => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
            }
            PrometheusText004 => "text/plain;version=0.0.4",
            // Names may be any UTF-8, in quotes.
            PrometheusText100 => "text/plain;version=1.0.0;escaping=allow-utf-8",
            OpenMetricsText001 => "application/openmetrics-text;version=0.0.1",
            OpenMetricsText100 => "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8",
        }
    }
}

/// # Errors
/// A list of nothing, or one that repeats itself.
pub fn check(protocols: Option<&[ScrapeProtocol]>) -> Result<(), String> {
    let Some(protocols) = protocols else { return Ok(()) };
    let repeated = |i: usize| protocols[..i].contains(&protocols[i]);
    match () {
        () if protocols.is_empty() => Err("scrape_protocols cannot be empty".to_owned()),
        () if (0..protocols.len()).any(repeated) => {
            Err(format!("duplicated protocol in scrape_protocols, got {protocols:?}"))
        }
        () => Ok(()),
    }
}

/// The `Accept` header of a job: its own list, or the one of `global`, or the default.
pub(super) fn accept(lists: [Option<&[ScrapeProtocol]>; 2], native_histograms: bool) -> String {
    let default = if native_histograms { WITH_NATIVE_HISTOGRAMS } else { DEFAULT };
    let protocols = lists.into_iter().flatten().next().unwrap_or(default);
    let mut header = String::new();
    for (i, protocol) in protocols.iter().enumerate() {
        // There are fewer protocols than tenths.
        let quality = BEST_QUALITY.saturating_sub(i);
        write!(header, "{};q=0.{quality},", protocol.media_type()).expect("writing into a String cannot fail");
    }
    write!(header, "*/*;q=0.{}", BEST_QUALITY.saturating_sub(protocols.len())).expect("as above");
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_that_of_prometheus() {
        let text = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                    application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
                    text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert_eq!(accept([None, None], false), text);
        let proto = accept([None, None], true);
        let first = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,";
        assert!(proto.starts_with(first), "{proto}");
        assert!(proto.ends_with("text/plain;version=0.0.4;q=0.2,*/*;q=0.1"), "{proto}");
        // A list counts more than the wish for native histograms, a job's more than that of all.
        let (job, global) = ([PrometheusText004], [OpenMetricsText100]);
        assert_eq!(accept([Some(&job), Some(&global)], true), "text/plain;version=0.0.4;q=0.6,*/*;q=0.5");
        assert!(accept([None, Some(&global)], true).starts_with("application/openmetrics-text;version=1.0.0"));
    }

    #[test]
    fn an_answer_is_read_as_what_it_says() {
        for (content_type, format) in [
            ("text/plain; version=1.0.0; escaping=allow-utf-8", Some(BodyFormat::Text(Format::Prometheus))),
            ("application/openmetrics-text; version=0.0.1", Some(BodyFormat::Text(Format::OpenMetrics))),
            (protobuf::CONTENT_TYPE, Some(BodyFormat::Protobuf)),
            ("application/vnd.google.protobuf; proto=other.Message; encoding=delimited", None),
            ("text/html", None),
            ("", None),
        ] {
            assert_eq!(BodyFormat::from_content_type(content_type), format, "{content_type}");
        }
    }
}
