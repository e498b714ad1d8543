//! The platform's services as tasks of the local ECS, and the traffic on them.

use std::net::SocketAddr;

use anyhow::Context;
use serde_json::{Value, json};

use super::Suite;
use super::collector::BOUNDS_BEFORE;

/// The domains, in the order of their ports.
pub const SERVICES: [&str; 5] = ["user", "product", "order", "analytics", "notification"];
/// The service whose bounds the demo's schedule moves. Not the failing one: a fresh task would dilute its errors.
pub const SCALED_SERVICE: &str = "product";

pub(super) const CLUSTER: &str = "dev-enterprise-cluster";
pub(super) const REGION: &str = "us-east-1";
/// The administrator who seeds the products; lives in this run's private database only.
pub(super) const ADMIN: [(&str, &str); 2] =
    [("BOOTSTRAP_ADMIN_EMAIL", "admin@example.com"), ("BOOTSTRAP_ADMIN_PASSWORD", "demo-Admin-Passw0rd!")];

impl Suite {
    pub(super) async fn start_services(&mut self, database_url: &str, traces: SocketAddr) -> anyhow::Result<()> {
        let topology = self.workplace.dir.join("topology.json");
        let text = serde_json::to_string_pretty(&self.topology(database_url, traces))?;
        std::fs::write(&topology, text).with_context(|| format!("failed to write {}", topology.display()))?;
        let mut aws = self.binary("fake-aws")?;
        aws.args(["serve", "--listen", &format!("127.0.0.1:{}", self.options.aws_port)]);
        aws.arg("--topology").arg(&topology);
        aws.arg("--file-sd").arg(self.targets_file());
        aws.arg("--log-dir").arg(self.logs());
        self.launch("fake-aws", aws)?;
        for service in SERVICES {
            let url = format!("{}/health/ready", self.service_url(service));
            self.wait_for(&url).await?;
        }
        self.register_scalable_target().await
    }

    /// As the service's CloudFormation template does; the collector's schedule then moves the bounds.
    async fn register_scalable_target(&self) -> anyhow::Result<()> {
        let [min, max] = BOUNDS_BEFORE;
        let body = json!({
            "ServiceNamespace": "ecs",
            "ScalableDimension": "ecs:service:DesiredCount",
            "ResourceId": format!("service/{CLUSTER}/{SCALED_SERVICE}"),
            "MinCapacity": min,
            "MaxCapacity": max,
        });
        self.client.aws(&self.aws(), "AnyScaleFrontendService.RegisterScalableTarget", &body).await.map(drop)
    }

    pub(super) fn targets_file(&self) -> std::path::PathBuf {
        self.workplace.dir.join("targets.json")
    }

    pub(super) async fn start_loadgen(&mut self) -> anyhow::Result<()> {
        let mut command = self.binary("platform-api")?;
        command.args(["loadgen", "--rate", &self.options.rate.to_string()]).envs(ADMIN);
        for service in SERVICES {
            command.arg(format!("--{service}")).arg(self.service_url(service));
        }
        self.launch("loadgen", command)
    }

    /// One ECS service per domain and one for the worker, each task with app, sidecar and metadata endpoint.
    fn topology(&self, database_url: &str, traces: SocketAddr) -> Value {
        let mut services = serde_json::Map::new();
        for (index, domain) in SERVICES.iter().enumerate() {
            let app = json!([self.path("platform-api"), "serve", "--domain", domain, "--listen", "{task_ip}:3000"]);
            let mut service = self.service(domain, &app, database_url, traces);
            let listen = format!("127.0.0.1:{}", usize::from(self.options.service_port) + index);
            service["load_balancer"] = json!({"listen": listen, "container": "app", "port": 3000});
            services.insert((*domain).to_owned(), service);
        }
        let app = json!([self.path("platform-api"), "worker", "--listen", "{task_ip}:3000"]);
        services.insert("worker".to_owned(), self.service("worker", &app, database_url, traces));
        json!({
            "region": REGION,
            "environment": "dev",
            "network": format!("127.{}", self.options.network),
            "clusters": {CLUSTER: {"services": services}},
        })
    }

    fn service(&self, name: &str, app: &Value, database_url: &str, traces: SocketAddr) -> Value {
        let (platform, sidecar) = (self.path("platform-api"), self.path("sidecar"));
        let metadata = json!([
            sidecar,
            "fake-ecs",
            "--listen",
            "{task_ip}:51679",
            "--service",
            name,
            "--cluster",
            CLUSTER,
            "--task-id",
            "{task_id}",
            "--container",
            "app={task_ip}:3000",
            "--container",
            "sidecar={task_ip}:9464"
        ]);
        let containers = json!([
            {
                "name": "app", "image": "platform-api:demo", "port": 3000, "command": app,
                "env": self.app_environment(database_url), "stop_timeout": "8s",
                "health_check": {"command": ["CMD", platform, "healthcheck", "--addr", "{task_ip}:3000"], "interval": "5s"},
            },
            {
                "name": "sidecar", "image": "sidecar:demo", "port": 9464, "command": [sidecar, "run"], "essential": false,
                "docker_labels": {"PROMETHEUS_EXPORTER_PORT": "9464"}, "stop_timeout": "8s",
                "env": {
                    "ENVIRONMENT": "dev",
                    "SIDECAR_SERVICE": name,
                    "SIDECAR_LISTEN": "{task_ip}:9464",
                    "SIDECAR_OTLP_LISTEN": "{task_ip}:4318",
                    "SIDECAR_APP_METRICS_URL": "http://{task_ip}:3000/metrics",
                    "SIDECAR_APP_HEALTH_URL": "http://{task_ip}:3000/health/ready",
                    "SIDECAR_LOG_FILES": "{log_dir}/{service}-{task_id}-app.log",
                    // A task's log is its own: nothing in it is older than the task.
                    "SIDECAR_LOG_START": "beginning",
                    "ECS_CONTAINER_METADATA_URI_V4": "http://{task_ip}:51679/v4/{task_id}",
                    "OTEL_EXPORTER_OTLP_ENDPOINT": format!("http://{traces}"),
                    "SIDECAR_STOP_TIMEOUT": "6s",
                },
            },
            {"name": "metadata", "image": "sidecar:demo", "port": 51679, "command": metadata, "essential": false, "stop_timeout": "3s"},
        ]);
        let family = format!("dev-{name}");
        json!({"desired_count": 1, "task_definition": {"family": family, "containers": containers}})
    }

    /// What every service of the platform needs to know.
    fn app_environment(&self, database_url: &str) -> Value {
        let mut environment = json!({
            "ENVIRONMENT": "dev",
            "LOG_LEVEL": "info",
            "DATABASE_URL": database_url,
            "JWT_PRIVATE_KEY_PATH": self.workplace.dir.join("keys/private.pem"),
            "JWT_PUBLIC_KEY_PATH": self.workplace.dir.join("keys/public.pem"),
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://{task_ip}:4318",
            "FAULT_INJECTION": "enabled",
            // There is no load balancer that needs time to notice.
            "DRAIN_DELAY": "0s",
        });
        for service in SERVICES {
            environment[format!("SERVICE_URL_{}", service.to_uppercase())] = self.service_url(service).into();
        }
        environment
    }

    pub(super) fn path(&self, binary: &str) -> String {
        self.options.bin_dir.join(binary).to_string_lossy().into_owned()
    }
}
