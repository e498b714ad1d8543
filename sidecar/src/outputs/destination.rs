//! Where log records go: as it is configured, and as it is for the records of one tag.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use service::config::Secret;

use super::cloudwatch_logs::{Place, stream_name};
use crate::identity::Identity;

/// As configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogsOutput {
    /// Nowhere: the recent lines and the counters are all there is.
    None,
    Stdout,
    File(PathBuf),
    CloudWatch(CloudWatch),
    Otlp {
        url: String,
        headers: Vec<(String, Secret)>,
    },
    /// Fluent Forward, `host:port`.
    Forward(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudWatch {
    /// With Fluent Bit's placeholders: `$(ecs_cluster)`, `$(ecs_task_id)`, `$(container)`, `$(tag)`.
    pub group: String,
    pub stream: Stream,
    pub region: Option<String>,
    pub endpoint: Option<String>,
    /// Make the group when it is missing.
    pub create_group: bool,
    pub retention_days: Option<i32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stream {
    /// `<service>/<task id>`.
    OfTask,
    /// With placeholders, as the group.
    Named(String),
    /// What stands here and the record's tag: Fluent Bit's `log_stream_prefix`.
    PrefixAndTag(String),
}

/// For the records of one tag; also the name by which a later run knows what is left on disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    Nowhere,
    Stdout,
    File(PathBuf),
    CloudWatch(Place),
    Otlp { url: String },
    Forward { address: String, tag: String },
}

impl LogsOutput {
    /// The value of the label `output`.
    pub fn name(&self) -> &'static str {
        match self {
            LogsOutput::None => "none",
            LogsOutput::Stdout => "stdout",
            LogsOutput::File(_) => "file",
            LogsOutput::CloudWatch(_) => "cloudwatch",
            LogsOutput::Otlp { .. } => "otlp",
            LogsOutput::Forward(_) => "forward",
        }
    }

    /// The log group that the task's lines go to.
    pub fn group(&self) -> Option<&str> {
        if let LogsOutput::CloudWatch(cloudwatch) = self { Some(&cloudwatch.group) } else { None }
    }

    pub fn destination(&self, tag: &str, identity: &Identity) -> Destination {
        let filled = |text: &str| fill(text, tag, identity);
        match self {
            LogsOutput::None => Destination::Nowhere,
            LogsOutput::Stdout => Destination::Stdout,
            LogsOutput::File(path) => Destination::File(path.clone()),
            LogsOutput::Otlp { url, .. } => Destination::Otlp { url: url.clone() },
            LogsOutput::Forward(address) => Destination::Forward { address: address.clone(), tag: tag.to_owned() },
            LogsOutput::CloudWatch(cloudwatch) => Destination::CloudWatch(Place {
                group: filled(&cloudwatch.group),
                stream: stream_name(&match &cloudwatch.stream {
                    Stream::OfTask => format!("{}/{}", identity.service, identity.task_id),
                    Stream::Named(name) => filled(name),
                    Stream::PrefixAndTag(prefix) => format!("{}{tag}", filled(prefix)),
                }),
                region: cloudwatch.region.clone(),
                endpoint: cloudwatch.endpoint.clone(),
                create_group: cloudwatch.create_group,
                retention_days: cloudwatch.retention_days,
            }),
        }
    }
}

impl Destination {
    pub fn output(&self) -> &'static str {
        match self {
            Destination::Nowhere => "none",
            Destination::Stdout => "stdout",
            Destination::File(_) => "file",
            Destination::CloudWatch(_) => "cloudwatch",
            Destination::Otlp { .. } => "otlp",
            Destination::Forward { .. } => "forward",
        }
    }

    /// For messages and for the label `queue`.
    pub fn name(&self) -> String {
        match self {
            Destination::Nowhere => "logs".to_owned(),
            Destination::Stdout => "logs to stdout".to_owned(),
            Destination::File(path) => format!("logs to {}", path.display()),
            Destination::CloudWatch(place) => format!("logs to {} {}", place.group, place.stream),
            Destination::Otlp { url } => format!("logs to {url}"),
            Destination::Forward { address, tag } => format!("logs to {address} {tag}"),
        }
    }

    /// Worth keeping on disk: it may be away.
    pub fn is_remote(&self) -> bool {
        matches!(self, Destination::CloudWatch(_) | Destination::Otlp { .. } | Destination::Forward { .. })
    }
}

/// The container's name of a tag as FireLens makes it: `<container>-firelens-<task id>`.
pub fn container_of(tag: &str) -> &str {
    tag.split_once("-firelens-").map_or(tag, |(container, _)| container)
}

fn fill(text: &str, tag: &str, identity: &Identity) -> String {
    if !text.contains("$(") {
        return text.to_owned();
    }
    text.replace("$(ecs_cluster)", identity.cluster.as_deref().unwrap_or(crate::identity::UNKNOWN))
        .replace("$(ecs_task_id)", &identity.task_id)
        .replace("$(container)", container_of(tag))
        .replace("$(service)", &identity.service)
        .replace("$(tag)", tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_named_as_fluent_bit_names_it() {
        let identity = Identity {
            service: "order".into(),
            version: "1".into(),
            environment: "prod".into(),
            task_id: "t1".into(),
            cluster: Some("main".into()),
            region: None,
            task: crate::identity::AwsTask::default(),
        };
        let tag = "app-firelens-t1";
        for (stream, expected) in [
            (Stream::OfTask, "order/t1"),
            (Stream::PrefixAndTag("fb-".into()), "fb-app-firelens-t1"),
            (Stream::Named("$(ecs_cluster)/$(ecs_task_id)/$(container):*".into()), "main/t1/app--"),
        ] {
            let output = LogsOutput::CloudWatch(CloudWatch {
                group: "/ecs/$(container)".into(),
                stream,
                region: None,
                endpoint: None,
                create_group: false,
                retention_days: None,
            });
            let Destination::CloudWatch(place) = output.destination(tag, &identity) else { panic!("another kind") };
            assert_eq!((place.group.as_str(), place.stream.as_str()), ("/ecs/app", expected));
        }
    }
}
