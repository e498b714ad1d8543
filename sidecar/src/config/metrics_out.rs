//! Settings of the outputs of metrics.

use telemetry::remote_write::Message;

use super::settings::{File, Settings};
use crate::outputs::{emf, push, remote_write};

pub(super) fn otlp(s: &mut Settings<'_>, file: &File) -> Option<push::Config> {
    let url = s.url("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &file.metrics.otlp_endpoint, None)?;
    let headers = s.optional("OTEL_EXPORTER_OTLP_HEADERS", &file.traces.headers).unwrap_or_default();
    let headers = s.headers("OTEL_EXPORTER_OTLP_HEADERS", &headers);
    Some(push_config(s, file, url, headers))
}

pub(super) fn remote_write(s: &mut Settings<'_>, file: &File) -> remote_write::Config {
    let version = s.text("SIDECAR_REMOTE_WRITE_VERSION", &file.metrics.remote_write_version, "1.0");
    let name = "SIDECAR_REMOTE_WRITE_VERSION (metrics.remote_write_version)";
    let message = s.parsed(name, &version, "1.0", |text| match text {
        "1" | "1.0" => Ok(Message::V1),
        "2" | "2.0" => Ok(Message::V2),
        _ => Err("write 1.0 or 2.0"),
    });
    let url = s.url("SIDECAR_REMOTE_WRITE_URL", &file.metrics.remote_write_url, None);
    let push = url.map(|url| {
        let headers = s.optional("SIDECAR_REMOTE_WRITE_HEADERS", &file.metrics.remote_write_headers);
        let headers = s.headers("SIDECAR_REMOTE_WRITE_HEADERS", &headers.unwrap_or_default());
        push_config(s, file, url, headers)
    });
    remote_write::Config { push, message }
}

fn push_config(
    s: &mut Settings<'_>,
    file: &File,
    url: String,
    headers: Vec<(String, service::config::Secret)>,
) -> push::Config {
    push::Config {
        url,
        headers,
        interval: s.duration("SIDECAR_METRICS_INTERVAL", &file.metrics.interval, "15s"),
        queue_bytes: s.bytes("SIDECAR_METRICS_QUEUE", &file.metrics.queue, "8MiB"),
        give_up_after: s.duration("SIDECAR_METRICS_GIVE_UP_AFTER", &file.metrics.give_up_after, "2h"),
    }
}

pub(super) fn emf(s: &mut Settings<'_>, file: &File) -> emf::Config {
    let mut dimensions = s.list("SIDECAR_EMF_DIMENSIONS", &file.emf.dimensions, "service,environment");
    if dimensions.len() > emf::DIMENSIONS_MAX {
        s.problems.push(format!(
            "SIDECAR_EMF_DIMENSIONS (emf.dimensions): CloudWatch takes {} dimensions, the rest is left out",
            emf::DIMENSIONS_MAX
        ));
        dimensions.truncate(emf::DIMENSIONS_MAX);
    }
    // Prices of us-east-1 below the first tier's end.
    let price_metric = s.price("SIDECAR_EMF_PRICE_METRIC", &file.emf.price_metric, "0.30");
    let price_gigabyte = s.price("SIDECAR_EMF_PRICE_GIGABYTE", &file.emf.price_gigabyte, "0.50");
    emf::Config {
        metrics: s.list("SIDECAR_EMF_METRICS", &file.emf.metrics, ""),
        namespace: s.text("SIDECAR_EMF_NAMESPACE", &file.emf.namespace, "Picket"),
        dimensions,
        interval: s.duration("SIDECAR_EMF_INTERVAL", &file.emf.interval, "60s"),
        metrics_max: s.number("SIDECAR_EMF_METRICS_MAX", &file.emf.metrics_max, "100"),
        price_metric,
        price_gigabyte,
    }
}
