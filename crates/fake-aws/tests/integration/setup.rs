//! A running local AWS with a topology, and the SDK's clients for it.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use fake_aws::topology::Topology;
use fake_aws::{FakeAws, Options};

/// Long enough for a loaded machine; nothing waits this long when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Setup {
    pub(crate) aws: FakeAws,
    pub(crate) config: SdkConfig,
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) async fn start(topology: &str) -> Setup {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = Options {
        listen: ([127, 0, 0, 1], 0).into(),
        topology: Topology::parse(topology).expect("a valid topology"),
        file_sd: Some(dir.path().join("targets.json")),
        log_dir: dir.path().join("logs"),
    };
    let aws = FakeAws::start(options).await.expect("the local AWS starts");
    let config = config(&aws.url(), "us-east-1").await;
    Setup { aws, config, dir }
}

/// Retries are off: a test sees the first answer.
pub(crate) async fn config(url: &str, region: &str) -> SdkConfig {
    let credentials = aws_sdk_ecs::config::Credentials::new("test", "test", None, None, "test");
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(region.to_owned()))
        .endpoint_url(url)
        .credentials_provider(credentials)
        .retry_config(RetryConfig::disabled())
        .load()
        .await
}

impl Setup {
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&[fake_aws::TaskView]) -> bool) {
        if tokio::time::timeout(PATIENCE, self.aws.wait_for_tasks(wanted)).await.is_err() {
            panic!("never came: {what}; tasks: {:#?}", self.aws.tasks());
        }
    }

    pub(crate) fn ecs(&self) -> aws_sdk_ecs::Client {
        aws_sdk_ecs::Client::new(&self.config)
    }

    pub(crate) fn autoscaling(&self) -> aws_sdk_applicationautoscaling::Client {
        aws_sdk_applicationautoscaling::Client::new(&self.config)
    }

    pub(crate) fn cloudwatch(&self) -> aws_sdk_cloudwatch::Client {
        aws_sdk_cloudwatch::Client::new(&self.config)
    }

    pub(crate) fn logs(&self) -> aws_sdk_cloudwatchlogs::Client {
        aws_sdk_cloudwatchlogs::Client::new(&self.config)
    }
}

/// One cluster `demo` with services of the given names and counts, whose tasks sleep.
pub(crate) fn sleepers(network: &str, services: &[(&str, u32)]) -> String {
    let mut text = format!("network: \"{network}\"\nclusters:\n  demo:\n    services:\n");
    for (name, desired) in services {
        text.push_str(&format!(
            "      {name}:\n        desired_count: {desired}\n        task_definition:\n          family: demo-{name}\n\
             \x20         containers: [{{name: app, image: sleep, command: [sleep, '1000'], stop_timeout: 2s}}]\n"
        ));
    }
    text
}

pub(crate) fn running(tasks: &[fake_aws::TaskView], service: &str) -> usize {
    tasks.iter().filter(|t| t.service == service && t.status == fake_aws::TaskStatus::Running).count()
}
