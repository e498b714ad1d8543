//! The Terraform module: no provider, JSON in and JSON out. The sidecar's container in it is what `inject` writes,
//! with the module's variables in the place of the example's values.

use super::{CONTAINER, Logs, Options, inject, snippet};

/// The example with Terraform's own notation where the module's variables go.
const EXAMPLE: &str = r#"{
  "containerDefinitions": [
    {
      "name": "app",
      "image": "app",
      "portMappings": [{ "containerPort": 8080 }],
      "logConfiguration": {
        "logDriver": "awslogs",
        "options": { "awslogs-group": "${local.own_group}", "awslogs-region": "${local.region}" }
      }
    }
  ]
}"#;
const METRICS_URL: &str = "http://127.0.0.1:8080/metrics";
const HEALTH_URL: &str = "http://127.0.0.1:8080/health/ready";

/// main.tf.
pub(super) fn module() -> String {
    let keep = joined(Logs::Keep);
    let firelens = joined(Logs::Firelens);
    let parts = [
        ("@KEEP@", indented(&snippet::sidecar(&keep.text), "  ")),
        ("@FIRELENS@", indented(&snippet::sidecar(&firelens.text), "  ")),
        ("@ENVIRONMENT@", indented(&snippet::app_field(&keep.text, "environment"), "    ")),
        ("@DEPENDS_KEEP@", hcl(&snippet::app_field(&keep.text, "dependsOn"))),
        ("@DEPENDS_FIRELENS@", hcl(&snippet::app_field(&firelens.text, "dependsOn"))),
        ("@LOG@", indented(&snippet::app_field(&firelens.text, "logConfiguration"), "        ")),
        ("@POLICY@", indented(&firelens.policy.expect("the lines go to CloudWatch"), "  ")),
        ("@NAME@", CONTAINER.to_owned()),
    ];
    let mut module = MODULE.to_owned();
    for (place, text) in parts {
        module = module.replace(
            place,
            &text.replace(METRICS_URL, "${local.metrics_url}").replace(HEALTH_URL, "${local.health_url}"),
        );
    }
    module
}

fn joined(logs: Logs) -> super::Outcome {
    let variable = |name: &str| Some(format!("${{{name}}}"));
    let options = Options {
        service: variable("var.service"),
        environment: variable("var.environment"),
        image: variable("var.image"),
        log_group: variable("local.group"),
        logs: Some(logs),
        ..Options::default()
    };
    inject(EXAMPLE, &options).expect("the example can be joined")
}

fn indented(text: &str, margin: &str) -> String {
    hcl(text).replace('\n', &format!("\n{margin}"))
}

/// JSON is an expression of Terraform's language too; this sets it as `terraform fmt` does.
fn hcl(json: &str) -> String {
    let (mut out, mut in_text, mut escaped) = (String::new(), false, false);
    let mut letters = json.chars().peekable();
    while let Some(c) = letters.next() {
        match c {
            ':' if !in_text => out.push_str(" :"),
            '{' if !in_text && letters.peek() != Some(&'\n') => out.push_str("{ "),
            '}' if !in_text && !out.ends_with([' ', '\n']) => out.push_str(" }"),
            c => out.push(c),
        }
        in_text ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
    }
    out
}

const MODULE: &str = r#"# Adds the sidecar to a list of container definitions. Made by `sidecar inject --print terraform`; not edited by hand.
#
# There is no provider: what comes out goes into aws_ecs_task_definition.container_definitions, and the policy, where
# it is not null, to the task role. What the task's size must hold is in `reserves`.

terraform {
  required_version = ">= 1.3"
}

variable "container_definitions" {
  type        = string
  description = "The task's containers as JSON: what aws_ecs_task_definition takes."
}

variable "service" {
  type        = string
  description = "The service's name on metrics, lines and traces."
}

variable "environment" {
  type        = string
  default     = ""
  description = "The environment's name on metrics and lines."
}

variable "image" {
  type        = string
  description = "The sidecar's image, best by digest."
}

variable "app" {
  type        = string
  default     = null
  description = "The app's container; the first essential one with a port where not given."
}

variable "app_port" {
  type        = number
  default     = null
  description = "The app's port; of its first port mapping where not given."
}

variable "logs" {
  type        = string
  default     = "keep"
  description = "keep: whoever takes the lines now. firelens: the sidecar; awslogs becomes awsfirelens. Needed where a container has awsfirelens and there is no router."

  validation {
    condition     = contains(["keep", "firelens"], var.logs)
    error_message = "Write keep or firelens."
  }
}

variable "log_group" {
  type        = string
  default     = null
  description = "The CloudWatch log group for firelens; that of the app's awslogs driver where not given."
}

locals {
  given      = [for c in jsondecode(var.container_definitions) : c if c.name != "@NAME@"]
  essential  = [for c in local.given : c if try(c.essential, true)]
  with_ports = [for c in local.essential : c if length(try(c.portMappings, [])) > 0]
  app = [
    for c in concat(local.with_ports, local.essential, local.given) : c if var.app == null || c.name == var.app
  ][0]
  app_port    = var.app_port != null ? var.app_port : try(local.app.portMappings[0].containerPort, null)
  metrics_url = local.app_port == null ? "off" : "http://127.0.0.1:${local.app_port}/metrics"
  health_url  = local.app_port == null ? "off" : "http://127.0.0.1:${local.app_port}/health/ready"
  app_names = concat(
    [for e in try(local.app.environment, []) : e.name],
    [for e in try(local.app.secrets, []) : e.name],
  )

  own_group = try(local.app.logConfiguration.options["awslogs-group"], "")
  region    = try(local.app.logConfiguration.options["awslogs-region"], "*")
  group     = var.log_group != null ? var.log_group : local.own_group

  additions = [
    for e in @ENVIRONMENT@ : e
    if !contains(local.app_names, e.name) && !(
      e.name == "OTEL_EXPORTER_OTLP_PROTOCOL" && contains(local.app_names, "OTEL_EXPORTER_OTLP_ENDPOINT")
    )
  ]
  depends_on = var.logs == "firelens" ? @DEPENDS_FIRELENS@ : @DEPENDS_KEEP@

  keep = @KEEP@
  firelens = @FIRELENS@
  chosen = jsondecode(var.logs == "firelens" ? jsonencode(local.firelens) : jsonencode(local.keep))
  sidecar = merge(
    { for key, value in local.chosen : key => value if key != "logConfiguration" || local.own_group != "" },
    { environment = [for e in local.chosen.environment : e if e.value != ""] },
  )

  joined = [
    for c in local.given : merge(
      c,
      { dependsOn = concat(try(c.dependsOn, []), local.depends_on) },
      { for key, value in { environment = concat(try(c.environment, []), local.additions) } : key => value if c.name == local.app.name },
      {
        for key, value in { logConfiguration = @LOG@ } : key => value
        if var.logs == "firelens" && try(c.logConfiguration.logDriver, "awslogs") == "awslogs"
      },
    )
  ]

  policy = @POLICY@
}

output "container_definitions" {
  value       = jsonencode(concat(local.joined, [local.sidecar]))
  description = "The containers with the sidecar among them, as JSON."
}

output "policy" {
  value       = var.logs == "firelens" ? jsonencode(local.policy) : null
  description = "What the task role must allow for the sidecar; null where it is nothing."
}

output "reserves" {
  value       = { cpu = local.sidecar.cpu, memory = local.sidecar.memoryReservation }
  description = "CPU units and MiB that the task's size must hold beside what the others reserve."
}
"#;
