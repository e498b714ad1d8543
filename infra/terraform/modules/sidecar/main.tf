# Adds the sidecar to a list of container definitions. Made by `sidecar inject --print terraform`; not edited by hand.
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
  given      = [for c in jsondecode(var.container_definitions) : c if c.name != "sidecar"]
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
    for e in [
      { "name" : "OTEL_EXPORTER_OTLP_ENDPOINT", "value" : "http://127.0.0.1:4318" },
      { "name" : "OTEL_EXPORTER_OTLP_PROTOCOL", "value" : "http/protobuf" },
      { "name" : "OTEL_SERVICE_NAME", "value" : "${var.service}" }
    ] : e
    if !contains(local.app_names, e.name) && !(
      e.name == "OTEL_EXPORTER_OTLP_PROTOCOL" && contains(local.app_names, "OTEL_EXPORTER_OTLP_ENDPOINT")
    )
  ]
  depends_on = var.logs == "firelens" ? [{ "containerName" : "sidecar", "condition" : "HEALTHY" }] : [{ "containerName" : "sidecar", "condition" : "START" }]

  keep = {
    "name" : "sidecar",
    "image" : "${var.image}",
    "essential" : false,
    "restartPolicy" : { "enabled" : true, "restartAttemptPeriod" : 60 },
    "cpu" : 32,
    "memoryReservation" : 32,
    "memory" : 128,
    "readonlyRootFilesystem" : true,
    "user" : "65532:65532",
    "stopTimeout" : 50,
    "portMappings" : [{ "containerPort" : 9464, "protocol" : "tcp" }],
    "environment" : [
      { "name" : "SIDECAR_SERVICE", "value" : "${var.service}" },
      { "name" : "ENVIRONMENT", "value" : "${var.environment}" },
      { "name" : "SIDECAR_APP_METRICS_URL", "value" : "${local.metrics_url}" },
      { "name" : "SIDECAR_APP_HEALTH_URL", "value" : "${local.health_url}" },
      { "name" : "SIDECAR_STOP_TIMEOUT", "value" : "48s" }
    ],
    "healthCheck" : {
      "command" : ["CMD", "/sidecar", "healthcheck"],
      "interval" : 10,
      "timeout" : 5,
      "retries" : 3,
      "startPeriod" : 10
    },
    "logConfiguration" : {
      "logDriver" : "awslogs",
      "options" : {
        "awslogs-group" : "${local.own_group}",
        "awslogs-region" : "${local.region}",
        "awslogs-stream-prefix" : "sidecar"
      }
    },
    "dockerLabels" : {
      "PROMETHEUS_EXPORTER_PORT" : "9464"
    }
  }
  firelens = {
    "name" : "sidecar",
    "image" : "${var.image}",
    "essential" : true,
    "restartPolicy" : { "enabled" : true, "restartAttemptPeriod" : 60 },
    "cpu" : 32,
    "memoryReservation" : 32,
    "memory" : 128,
    "readonlyRootFilesystem" : true,
    "user" : "0",
    "stopTimeout" : 50,
    "portMappings" : [{ "containerPort" : 9464, "protocol" : "tcp" }],
    "firelensConfiguration" : { "type" : "fluentbit" },
    "environment" : [
      { "name" : "SIDECAR_SERVICE", "value" : "${var.service}" },
      { "name" : "ENVIRONMENT", "value" : "${var.environment}" },
      { "name" : "SIDECAR_APP_METRICS_URL", "value" : "${local.metrics_url}" },
      { "name" : "SIDECAR_APP_HEALTH_URL", "value" : "${local.health_url}" },
      { "name" : "SIDECAR_STOP_TIMEOUT", "value" : "48s" },
      { "name" : "SIDECAR_FLUENT_SOCKET", "value" : "/var/run/fluent.sock" },
      { "name" : "SIDECAR_LOGS_OUTPUT", "value" : "cloudwatch" },
      { "name" : "LOG_GROUP", "value" : "${local.group}" }
    ],
    "healthCheck" : {
      "command" : ["CMD", "/sidecar", "healthcheck"],
      "interval" : 10,
      "timeout" : 5,
      "retries" : 3,
      "startPeriod" : 10
    },
    "logConfiguration" : {
      "logDriver" : "awslogs",
      "options" : {
        "awslogs-group" : "${local.own_group}",
        "awslogs-region" : "${local.region}",
        "awslogs-stream-prefix" : "sidecar"
      }
    },
    "dockerLabels" : {
      "PROMETHEUS_EXPORTER_PORT" : "9464"
    }
  }
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
        for key, value in { logConfiguration = { "logDriver" : "awsfirelens", "options" : { "log-driver-buffer-limit" : "8388608" } } } : key => value
        if var.logs == "firelens" && try(c.logConfiguration.logDriver, "awslogs") == "awslogs"
      },
    )
  ]

  policy = {
    "Version" : "2012-10-17",
    "Statement" : [
      {
        "Sid" : "SidecarLogs",
        "Effect" : "Allow",
        "Action" : ["logs:CreateLogStream", "logs:PutLogEvents", "logs:GetLogEvents"],
        "Resource" : "arn:aws:logs:${local.region}:*:log-group:${local.group}:log-stream:*"
      }
    ]
  }
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
