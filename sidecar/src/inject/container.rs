//! The sidecar's container, and what the task's own containers get beside it.

use super::edit::Source;
use super::policy::{self, LogGroup, Policy};
use super::record::{LABEL, Record};
use super::task::{Container, Task, address};
use super::tree::{Kind, Node};
use super::value::{Key, Style, Value, chosen, copied, fields, text};
use super::{Additions, CONTAINER, Fault, IMAGE, Logs, Options};

/// CPU units that it reserves: an eighth of the smallest task's share would be too much, and it uses less.
pub(super) const CPU: u64 = 32;
/// In MiB; ECS counts this one against the task's memory.
pub(super) const MEMORY_RESERVATION: u64 = 32;
/// In MiB; above it the kernel ends the sidecar, not the app.
const MEMORY: u64 = 128;
const PORT: u64 = 9464;
/// In seconds, of at most 120 on Fargate; with the app's 60 it fits a Spot interruption.
const STOP_TIMEOUT: u64 = 50;
const METRICS_PATH: &str = "/metrics";
const HEALTH_PATH: &str = "/health/ready";
const OFF: &str = "off";
/// Lines that the driver may hold for each container: the default of a million can outgrow the task.
const DRIVER_BUFFER: &str = "8388608";

const OTLP_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const OTLP_PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";

/// What the joining of this task comes to.
pub(super) struct Joined {
    style: Style,
    options: Options,
    app: String,
    app_variables: Vec<Value>,
    firelens: bool,
    /// Containers whose log driver changes.
    redirected: Vec<String>,
    metrics_url: Option<Value>,
    health_url: Option<Value>,
    log_group: Option<Value>,
    log_group_place: Option<LogGroup>,
    /// As the app's own: group and region.
    own_log: Option<Value>,
    pub(super) notes: Vec<String>,
}

impl Joined {
    pub(super) fn find(task: &Task<'_>, source: &Source<'_>, options: &Options) -> Result<Joined, Fault> {
        let style = source.style;
        let app = app(task, options)?;
        let mut joined = Joined {
            style,
            options: options.clone(),
            app: app.name.clone(),
            app_variables: Vec::new(),
            firelens: false,
            redirected: Vec::new(),
            metrics_url: None,
            health_url: None,
            log_group: None,
            log_group_place: None,
            own_log: own_log(app, source),
            notes: Vec::new(),
        };
        joined.find_app(app, source);
        joined.find_logs(task, app, source)?;
        Ok(joined)
    }

    fn find_app(&mut self, app: &Container<'_>, source: &Source<'_>) {
        let style = self.style;
        let paths = [(&self.options.metrics_path, METRICS_PATH), (&self.options.health_path, HEALTH_PATH)];
        let urls = paths.map(|(path, default)| match (path.as_deref().unwrap_or(default), self.options.app_port) {
            (OFF, _) => Some(text(OFF)),
            (path, Some(port)) => Some(text(format!("http://127.0.0.1:{port}{path}"))),
            (path, None) => app.port().and_then(|port| address(port, path, style)),
        });
        if urls.iter().any(Option::is_none) {
            self.notes.push(format!(
                "container `{}` has no port mapping that can be read: its metrics and its health are not asked for; \
                 --app-port names the port",
                app.name
            ));
        }
        let [metrics, health] = urls.map(|url| url.or(Some(text(OFF))));
        (self.metrics_url, self.health_url) = (metrics, health);
        if let Some(element) = app.variable(OTLP_ENDPOINT) {
            let value =
                element.get(&style.field("value")).map(|value| style.inline(&copied(value, source.text, style)));
            self.notes.push(format!(
                "container `{}` sends its traces to {} and goes on doing so: take out {OTLP_ENDPOINT} to send them by \
                 the sidecar, and give the sidecar that address",
                app.name,
                value.as_deref().unwrap_or("an address from a secret"),
            ));
        } else {
            self.app_variables.push(variable(OTLP_ENDPOINT, text("http://127.0.0.1:4318")));
            if app.variable(OTLP_PROTOCOL).is_none() {
                self.app_variables.push(variable(OTLP_PROTOCOL, text("http/protobuf")));
            }
        }
        if let Some(service) = self.options.service.clone().filter(|_| app.variable(SERVICE_NAME).is_none()) {
            self.app_variables.push(variable(SERVICE_NAME, text(service)));
        }
    }

    fn find_logs(&mut self, task: &Task<'_>, app: &Container<'_>, source: &Source<'_>) -> Result<(), Fault> {
        let router = task.containers.iter().find(|c| c.is_router());
        let wants = self.options.logs == Some(Logs::Firelens);
        if let (Some(router), true) = (router, wants) {
            let message = format!(
                "container `{}` routes the logs already, and a task has one FireLens router: take it out first \
                 (docs/migrate/fluent-bit.md says what maps to what)",
                router.name
            );
            return Err(Fault::at(router.node.start, message));
        }
        if let Some(router) = router {
            self.notes.push(format!("the log lines stay with the router `{}`", router.name));
            return Ok(());
        }
        // Without a router ECS refuses such a task: the sidecar is it.
        let orphans = task.containers.iter().any(|c| c.log_driver() == Some("awsfirelens"));
        self.firelens = wants || orphans;
        if !self.firelens {
            return Ok(());
        }
        for container in &task.containers {
            let log = container.get("logConfiguration");
            match (log, container.log_driver()) {
                (_, Some("awsfirelens")) => {}
                (Some(_), Some("awslogs")) | (None, None) if wants => self.redirected.push(container.name.clone()),
                (None, _) => {}
                (Some(_), Some(driver)) => {
                    self.notes.push(format!("container `{}` keeps its log driver `{driver}`", container.name));
                }
                (Some(log), None) => {
                    let message = "which log driver this is cannot be told here: write it out";
                    return Err(Fault::at(log.start, message));
                }
            }
        }
        let group = task.containers.iter().find_map(|c| c.log_option("awslogs-group"));
        self.log_group = match &self.options.log_group {
            Some(group) => Some(text(group)),
            None => group.map(|group| copied(group, source.text, self.style)),
        };
        let Some(value) = &self.log_group else {
            let message =
                "which CloudWatch log group the lines go to cannot be told from the task: name it by --log-group";
            return Err(Fault::at(app.node.start, message));
        };
        let region = task.containers.iter().find_map(|c| c.log_option("awslogs-region")).and_then(Node::text);
        let roles = ["taskRoleArn", "executionRoleArn"];
        let role = |field: &&str| task.map.get(&self.style.field(field)).and_then(Node::text);
        self.log_group_place = Some(LogGroup {
            name: match (&self.options.log_group, group.and_then(Node::text)) {
                (Some(name), _) => name.clone(),
                (None, Some(name)) => name.to_owned(),
                (None, None) => group.and_then(reference).unwrap_or_else(|| format!("<{}>", self.style.inline(value))),
            },
            cloudformation: self.style.cloudformation,
            region: region.map(str::to_owned),
            account: roles.iter().find_map(|field| policy::account(role(field)?)),
        });
        self.notes.push(
            "the sidecar takes the log lines by FireLens: it is essential, for without it they would be lost, and its \
             restart policy brings it back"
                .to_owned(),
        );
        Ok(())
    }

    /// What one of the task's own containers gets.
    pub(super) fn additions_to(&self, container: &Container<'_>) -> Additions {
        let mut additions = Additions::default();
        // FireLens' socket must be there before the first line; otherwise the app need not wait for the sidecar to
        // be well. Either way ECS stops the sidecar after whoever depends on it.
        let condition = if self.firelens { "HEALTHY" } else { "START" };
        if container.element_value("dependsOn", "containerName", CONTAINER).is_none() {
            let on = fields([("containerName", text(CONTAINER)), ("condition", text(condition))]);
            additions.elements.push(("dependsOn", vec![on]));
        }
        if container.name == self.app && !self.app_variables.is_empty() {
            additions.elements.push(("environment", self.app_variables.clone()));
        }
        if self.redirected.contains(&container.name) {
            let options = chosen([("log-driver-buffer-limit".to_owned(), text(DRIVER_BUFFER))]);
            let log = fields([("logDriver", text("awsfirelens")), ("options", options)]);
            additions.fields.push(("logConfiguration", log));
        }
        additions
    }

    /// The sidecar's own container.
    pub(super) fn container(&self, record: &Record, additions: Vec<(&'static str, Value)>) -> Value {
        let (secrets, variables): (Vec<_>, Vec<_>) = additions.into_iter().partition(|(list, _)| *list == "secrets");
        let mut environment = self.environment();
        environment.extend(variables.into_iter().map(|(_, value)| value));
        let words = |words: &[&str]| Value::List(words.iter().map(|word| text(*word)).collect());
        let mut entries = vec![
            ("name", text(CONTAINER)),
            ("image", text(self.options.image.as_deref().unwrap_or(IMAGE))),
            // Observability must not take the app down; where the lines go by it, its end must be seen.
            ("essential", Value::Bool(self.options.essential.unwrap_or(self.firelens))),
            ("restartPolicy", fields([("enabled", Value::Bool(true)), ("restartAttemptPeriod", Value::Number(60))])),
            ("cpu", Value::Number(CPU)),
            ("memoryReservation", Value::Number(MEMORY_RESERVATION)),
            ("memory", Value::Number(MEMORY)),
            ("readonlyRootFilesystem", Value::Bool(true)),
            // A FireLens router makes its socket in a directory that belongs to root.
            ("user", text(if self.firelens { "0" } else { "65532:65532" })),
            ("stopTimeout", Value::Number(STOP_TIMEOUT)),
            (
                "portMappings",
                Value::List(vec![fields([("containerPort", Value::Number(PORT)), ("protocol", text("tcp"))])]),
            ),
        ];
        if self.firelens {
            entries.push(("firelensConfiguration", fields([("type", text("fluentbit"))])));
        }
        entries.push(("environment", Value::List(environment)));
        if !secrets.is_empty() {
            entries.push(("secrets", Value::List(secrets.into_iter().map(|(_, value)| value).collect())));
        }
        let check = [
            ("command", words(&["CMD", "/sidecar", "healthcheck"])),
            ("interval", Value::Number(10)),
            ("timeout", Value::Number(5)),
            ("retries", Value::Number(3)),
            ("startPeriod", Value::Number(10)),
        ];
        entries.push(("healthCheck", fields(check)));
        entries.extend(self.own_log.clone().map(|log| ("logConfiguration", log)));
        let labels = [
            // The collector discovers by it, as Prometheus' file discovery for ECS does.
            ("PROMETHEUS_EXPORTER_PORT".to_owned(), text(PORT.to_string())),
            (LABEL.to_owned(), text(record.to_label())),
        ];
        entries.push(("dockerLabels", chosen(labels)));
        fields(entries)
    }

    fn environment(&self) -> Vec<Value> {
        let mut variables = Vec::new();
        let mut set = |name: &str, value: Option<Value>| variables.extend(value.map(|value| variable(name, value)));
        set("SIDECAR_SERVICE", self.options.service.as_ref().map(text));
        set("ENVIRONMENT", self.options.environment.as_ref().map(text));
        set("SIDECAR_APP_METRICS_URL", self.metrics_url.clone());
        set("SIDECAR_APP_HEALTH_URL", self.health_url.clone());
        // Two seconds less than stopTimeout.
        set("SIDECAR_STOP_TIMEOUT", Some(text(format!("{}s", STOP_TIMEOUT - 2))));
        if self.firelens {
            set("SIDECAR_FLUENT_SOCKET", Some(text("/var/run/fluent.sock")));
            set("SIDECAR_LOGS_OUTPUT", Some(text("cloudwatch")));
            set("LOG_GROUP", self.log_group.clone());
        }
        variables
    }

    pub(super) fn policy(&self, additions: &[(&'static str, Value)]) -> Option<String> {
        let mut policy = Policy::default();
        if let Some(group) = &self.log_group_place {
            policy.write_logs(group);
        }
        for (_, variable) in additions.iter().filter(|(list, _)| *list == "environment") {
            policy.send_to(&self.style.inline(variable));
        }
        policy.document()
    }
}

const OURS: [&str; 8] = [
    "SIDECAR_SERVICE",
    "ENVIRONMENT",
    "SIDECAR_APP_METRICS_URL",
    "SIDECAR_APP_HEALTH_URL",
    "SIDECAR_STOP_TIMEOUT",
    "SIDECAR_FLUENT_SOCKET",
    "SIDECAR_LOGS_OUTPUT",
    "LOG_GROUP",
];

/// Variables and secrets of a sidecar that are not ours.
pub(super) fn additions(sidecar: &Container<'_>, source: &Source<'_>) -> Vec<(&'static str, Value)> {
    let mut found = Vec::new();
    for list in ["environment", "secrets"] {
        for element in sidecar.get(list).and_then(Node::elements).unwrap_or_default() {
            let name = element.get(&source.style.field("name")).and_then(Node::text);
            if name.is_none_or(|name| !OURS.contains(&name)) {
                found.push((list, copied(element, source.text, source.style)));
            }
        }
    }
    found
}

fn app<'t, 'f>(task: &'t Task<'f>, options: &Options) -> Result<&'t Container<'f>, Fault> {
    if let Some(name) = &options.app {
        return task.containers.iter().find(|c| c.name == *name).ok_or_else(|| {
            let names: Vec<&str> = task.containers.iter().map(|c| c.name.as_str()).collect();
            Fault::at(task.list.start, format!("no container is called {name:?}; there are: {}", names.join(", ")))
        });
    }
    let candidates = || task.containers.iter().filter(|c| c.is_essential() && !c.is_router());
    let found = candidates().find(|c| c.port().is_some()).or_else(|| candidates().next());
    found.ok_or_else(|| Fault::at(task.list.start, "no container is essential: name the app's by --app"))
}

/// The sidecar's own lines go where the app's go, in streams of their own.
fn own_log(app: &Container<'_>, source: &Source<'_>) -> Option<Value> {
    let style = source.style;
    let copy = |option: &str| app.log_option(option).map(|node| copied(node, source.text, style));
    let (group, region) = (copy("awslogs-group")?, copy("awslogs-region")?);
    let prefix = Value::Text(CONTAINER.to_owned());
    let options = [("awslogs-group", group), ("awslogs-region", region), ("awslogs-stream-prefix", prefix)];
    let options = Value::Map(options.into_iter().map(|(key, value)| (Key::Chosen(key.to_owned()), value)).collect());
    Some(fields([("logDriver", text("awslogs")), ("options", options)]))
}

/// `!Ref LogGroup` and `!Sub '/app/${Name}'`, as they are written inside an `Fn::Sub`.
fn reference(node: &Node) -> Option<String> {
    let of = |function: &str, text: &str| match function {
        "Ref" => Some(format!("${{{text}}}")),
        "Sub" | "Fn::Sub" => Some(text.to_owned()),
        _ => None,
    };
    match (&node.tag, &node.kind) {
        (Some(tag), Kind::Scalar { value, .. }) => of(tag.trim_start_matches('!'), value),
        (None, Kind::Map(entries)) => match &entries[..] {
            [entry] => of(entry.key.text()?, entry.value.text()?),
            _ => None,
        },
        _ => None,
    }
}

fn variable(name: &str, value: Value) -> Value {
    fields([("name", text(name)), ("value", value)])
}
