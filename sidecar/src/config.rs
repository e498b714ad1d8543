//! The sidecar's configuration: none needed, the environment first, a YAML file for the rest.
//!
//! A fault never keeps the sidecar from starting, for that would take the task down with it: the default
//! stands in for what cannot be used, and the fault is listed, told on `/health` and counted on `/metrics`.

mod found;
mod logs;
mod metrics_out;
mod settings;
mod variables;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use service::config::{Env, Secret, byte_size};
use telemetry::duration;

pub use self::found::Found;
use self::settings::{File, Settings};
use crate::inputs::firelens::FireLens;
use crate::inputs::{app_metrics, ecs_task, file_tail, firelens, fluent_forward, otlp, statsd};
use crate::memory::Ceiling;
use crate::outputs::delivery::SpoolConfig;
pub use crate::outputs::destination::LogsOutput;
use crate::outputs::{emf, otlp as otlp_out, push, remote_write};
use crate::pipeline::{intake, sample};
use crate::{health, recent};

/// Everything parsed and ready for use.
#[derive(Clone, Debug)]
pub struct Config {
    /// None: as the task's metadata says.
    pub service: Option<String>,
    pub version: String,
    pub environment: String,
    pub task_id: Option<String>,
    pub listen: SocketAddr,
    pub ecs: ecs_task::Config,
    pub app_metrics: app_metrics::Config,
    pub health: health::Config,
    pub logs: file_tail::Config,
    pub fluent: fluent_forward::Config,
    pub recent: recent::Config,
    /// What is done to log lines, and where they go.
    pub intake: intake::Config,
    pub delivery: DeliveryConfig,
    /// Read lines from standard input.
    pub stdin: bool,
    /// TCP that only has to be open: FireLens' health check.
    pub firelens_health: Option<SocketAddr>,
    pub ceiling: Ceiling,
    pub otlp: otlp::Config,
    pub traces: otlp_out::Config,
    pub otlp_metrics: Option<push::Config>,
    pub remote_write: remote_write::Config,
    pub emf: emf::Config,
    pub sampling: sample::Config,
    /// Whether requests are counted from server spans.
    pub red: bool,
    pub statsd: statsd::Config,
    /// For everything that has to happen between the order to stop and the end.
    pub stop_timeout: Duration,
    /// An event loop that has stood still for so long ends the process.
    pub stuck_after: Duration,
    /// What was written and cannot be used.
    pub problems: Vec<String>,
    /// What was written and is not read: a misspelt variable for one.
    pub warnings: Vec<String>,
}

/// How log records reach their destinations.
#[derive(Clone, Debug)]
pub struct DeliveryConfig {
    /// Of each destination's queue in memory.
    pub queue_bytes: usize,
    /// None: nothing waits on disk.
    pub spool: Option<SpoolConfig>,
    pub give_up_after: Duration,
    /// CloudWatch Logs, where it is not AWS' own.
    pub endpoint: Option<String>,
}

const LISTEN: &str = "0.0.0.0:9464";
const OTLP_LISTEN: &str = "127.0.0.1:4318";
const OTLP_GRPC_LISTEN: &str = "127.0.0.1:4317";
const STATSD_LISTEN: &str = "127.0.0.1:8125";
const APP_METRICS_URL: &str = "http://127.0.0.1:3000/metrics";
const APP_HEALTH_URL: &str = "http://127.0.0.1:3000/health/ready";
/// Where a state directory is tried for under FireLens.
const FIRELENS_STATE_DIR: &str = "/var/lib/sidecar";
/// A record must fit into a request of 1 MiB, with what is put around it.
const LINE_BYTES_MAX: usize = 1000 * 1024;
/// Switches off what has a default.
const OFF: &str = "off";

impl Config {
    /// Reads the file, where one is named, and the environment over it; under FireLens what ECS wrote as well.
    pub fn load(file: Option<&Path>, env: &dyn Env) -> Config {
        Config::load_with(file, None, env)
    }

    /// With FireLens' configuration from another place than ECS puts it.
    pub fn load_with(file: Option<&Path>, firelens: Option<&Path>, env: &dyn Env) -> Config {
        Config::explain(file, firelens, env).0
    }

    /// Beside the configuration what each setting is and where it comes from, for people to read.
    pub fn explain(file: Option<&Path>, firelens: Option<&Path>, env: &dyn Env) -> (Config, Found) {
        let mut problems = Vec::new();
        let file = match file.map(|path| service::config::load_yaml::<File>("configuration file", path)) {
            None => File::default(),
            Some(Ok(file)) => file,
            Some(Err(error)) => {
                problems.push(format!("{:#}", anyhow::Error::from(error)));
                File::default()
            }
        };
        let mut settings = Settings::new(env, problems);
        let firelens = settings.firelens(firelens);
        let config = build(&mut settings, &file, firelens);
        let warnings = variables::unknown(env);
        (Config { problems: settings.problems, warnings, ..config }, settings.found)
    }

    /// Where our own server answers from inside the task.
    pub fn local_addr(&self) -> SocketAddr {
        let mut addr = self.listen;
        if addr.ip().is_unspecified() {
            addr.set_ip(match addr {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        addr
    }
}

fn build(s: &mut Settings<'_>, file: &File, firelens: Option<FireLens>) -> Config {
    let otlp_listen = match s.text("SIDECAR_OTLP_LISTEN", &file.traces.listen, OTLP_LISTEN) {
        off if off == OFF => None,
        text => Some(s.parsed("SIDECAR_OTLP_LISTEN (traces.listen)", &text, OTLP_LISTEN, str::parse::<SocketAddr>)),
    };
    let listen = s.text("SIDECAR_LISTEN", &file.listen, LISTEN);
    let line_bytes_max = s.bytes("SIDECAR_LOG_LINE_MAX", &file.logs.line_max, "256KiB").clamp(1, LINE_BYTES_MAX);
    let state_dir = s.optional("SIDECAR_STATE_DIR", &file.state_dir).map(PathBuf::from);
    // Under FireLens nothing but the image was changed: what can be written is taken for what must survive a restart.
    let state_dir = state_dir.or_else(|| {
        firelens.as_ref()?;
        std::fs::create_dir_all(FIRELENS_STATE_DIR).ok().map(|()| PathBuf::from(FIRELENS_STATE_DIR))
    });
    Config {
        service: s.optional("SIDECAR_SERVICE", &file.service),
        version: s.text("SIDECAR_SERVICE_VERSION", &file.service_version, crate::identity::UNKNOWN),
        environment: s.text("ENVIRONMENT", &file.environment, "dev"),
        task_id: s.optional("SIDECAR_TASK_ID", &file.task_id),
        listen: s.parsed("SIDECAR_LISTEN (listen)", &listen, LISTEN, str::parse::<SocketAddr>),
        ecs: ecs_task::Config {
            uri: s.optional("ECS_CONTAINER_METADATA_URI_V4", &None).map(|uri| uri.trim_end_matches('/').to_owned()),
            refresh: s.duration("SIDECAR_ECS_REFRESH", &file.ecs.refresh, "10s"),
        },
        app_metrics: app_metrics::Config {
            url: s.url("SIDECAR_APP_METRICS_URL", &file.app.metrics_url, Some(APP_METRICS_URL)),
            timeout: s.duration("SIDECAR_APP_METRICS_TIMEOUT", &file.app.metrics_timeout, "5s"),
            body_bytes_max: s.bytes("SIDECAR_APP_METRICS_MAX", &file.app.metrics_max, "4MiB"),
            series_max: s.number("SIDECAR_APP_SERIES_MAX", &file.app.series_max, "5000"),
        },
        health: health::Config {
            url: s.url("SIDECAR_APP_HEALTH_URL", &file.app.health_url, Some(APP_HEALTH_URL)),
            interval: s.duration("SIDECAR_APP_HEALTH_INTERVAL", &file.app.health_interval, "5s"),
            probes: probes(s, file),
        },
        logs: tail(s, file, state_dir.clone(), line_bytes_max),
        fluent: fluent(s, file, firelens.as_ref()),
        stdin: s.flag("SIDECAR_LOG_STDIN", &file.logs.stdin, "false"),
        firelens_health: firelens.as_ref().and_then(|firelens| firelens.health),
        ceiling: Ceiling::find(
            s.optional("SIDECAR_MEMORY_MAX", &file.memory_max)
                .map(|_| s.bytes("SIDECAR_MEMORY_MAX", &file.memory_max, "48MiB")),
        ),
        recent: recent::Config::default(),
        intake: logs::intake(s, file, firelens.map(|firelens| firelens.routes).unwrap_or_default(), line_bytes_max),
        delivery: logs::delivery(s, file, state_dir),
        traces: traces(s, file, otlp_listen),
        otlp_metrics: metrics_out::otlp(s, file),
        remote_write: metrics_out::remote_write(s, file),
        emf: metrics_out::emf(s, file),
        sampling: sampling(s, file),
        red: s.switch("SIDECAR_RED", &file.traces.red, "on"),
        statsd: statsd::Config {
            listen: s.listen("SIDECAR_STATSD_LISTEN", &file.statsd.listen, STATSD_LISTEN),
            listen_asked_for: s.optional("SIDECAR_STATSD_LISTEN", &file.statsd.listen).is_some(),
            socket: s.optional("SIDECAR_STATSD_SOCKET", &file.statsd.socket).map(Into::into),
        },
        otlp: otlp::Config {
            listen: otlp_listen,
            grpc_listen: s.listen("SIDECAR_OTLP_GRPC_LISTEN", &file.traces.grpc_listen, OTLP_GRPC_LISTEN),
            grpc_asked_for: s.optional("SIDECAR_OTLP_GRPC_LISTEN", &file.traces.grpc_listen).is_some(),
            body_bytes_max: s.bytes("SIDECAR_OTLP_BODY_MAX", &file.traces.body_max, "4MiB"),
        },
        stop_timeout: s.duration("SIDECAR_STOP_TIMEOUT", &file.stop_timeout, "25s"),
        stuck_after: s.duration("SIDECAR_STUCK_AFTER", &file.stuck_after, "45s"),
        problems: Vec::new(),
        warnings: Vec::new(),
    }
}

fn probes(s: &mut Settings<'_>, file: &File) -> Vec<(String, health::probe::Target)> {
    let Some(text) = s.optional("SIDECAR_PROBES", &file.app.probes) else { return Vec::new() };
    health::Config::parse_probes(&text).unwrap_or_else(|why| {
        // The text is not repeated: somebody may have written a password into an address.
        s.problems.push(format!("SIDECAR_PROBES (app.probes): {why}; none of them is asked"));
        Vec::new()
    })
}

fn tail(s: &mut Settings<'_>, file: &File, state_dir: Option<PathBuf>, line_bytes_max: usize) -> file_tail::Config {
    let files = s.list("SIDECAR_LOG_FILES", &file.logs.files, "");
    for pattern in &files {
        if let Err(error) = glob::Pattern::new(pattern) {
            s.problems.push(format!("SIDECAR_LOG_FILES (logs.files): {pattern:?} is no path or glob: {error}"));
        }
    }
    let start = s.text("SIDECAR_LOG_START", &file.logs.start, "end");
    let from_beginning = s.parsed("SIDECAR_LOG_START (logs.start)", &start, "end", |word| match word {
        "beginning" => Ok(true),
        "end" => Ok(false),
        _ => Err("write `beginning` or `end`"),
    });
    // One byte more than a line may have, so that the pipeline sees that it was too long.
    file_tail::Config { files, from_beginning, state_dir, line_bytes_max: line_bytes_max + 1 }
}

fn fluent(s: &mut Settings<'_>, file: &File, firelens: Option<&FireLens>) -> fluent_forward::Config {
    let listen = s.optional("SIDECAR_FLUENT_LISTEN", &file.logs.fluent_listen).filter(|text| text != OFF);
    let listen = listen.and_then(|text| {
        s.parsed("SIDECAR_FLUENT_LISTEN (logs.fluent_listen)", &text, OFF, |text| match text {
            OFF => Ok(None),
            text => text.parse::<SocketAddr>().map(Some),
        })
    });
    let socket = s.optional("SIDECAR_FLUENT_SOCKET", &file.logs.fluent_socket).filter(|text| text != OFF);
    fluent_forward::Config {
        listen: listen.or_else(|| firelens?.forward.listen),
        socket: socket.map(Into::into).or_else(|| firelens?.forward.socket.clone()),
    }
}

fn sampling(s: &mut Settings<'_>, file: &File) -> sample::Config {
    let share = s.text("SIDECAR_TRACE_SAMPLE", &file.traces.sample, "1");
    let ratio = s.parsed("SIDECAR_TRACE_SAMPLE (traces.sample)", &share, "1", |text| match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("write a share from 0 to 1"),
    });
    let wait = s.optional("SIDECAR_TRACE_TAIL_WAIT", &file.traces.tail_wait).filter(|text| text != OFF);
    let tail = wait.is_some().then(|| sample::Tail {
        wait: s.duration("SIDECAR_TRACE_TAIL_WAIT", &file.traces.tail_wait, "10s"),
        slow: s.duration("SIDECAR_TRACE_SLOW", &file.traces.slow, "1s"),
        bytes_max: s.bytes("SIDECAR_TRACE_TAIL_BUFFER", &file.traces.tail_buffer, "4MiB"),
    });
    sample::Config { ratio, tail }
}

fn compression(s: &mut Settings<'_>, file: &File) -> bool {
    let text = s.text("OTEL_EXPORTER_OTLP_COMPRESSION", &file.traces.compression, "none");
    s.parsed("OTEL_EXPORTER_OTLP_COMPRESSION (traces.compression)", &text, "none", |word| match word {
        "gzip" => Ok(true),
        "none" => Ok(false),
        _ => Err("write `gzip` or `none`"),
    })
}

fn traces(s: &mut Settings<'_>, file: &File, listen: Option<SocketAddr>) -> otlp_out::Config {
    // As the OTLP exporter specification has it: the signal's own address is whole, the general one a base.
    let whole = s.url("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &None, None);
    let base = s.url("OTEL_EXPORTER_OTLP_ENDPOINT", &file.traces.endpoint, None);
    let mut traces_url = whole.or(base.map(|base| format!("{}/v1/traces", base.trim_end_matches('/'))));
    let own = listen.map(|listen| format!("http://{listen}/"));
    if let (Some(url), Some(own)) = (&traces_url, own)
        && url.starts_with(&own)
    {
        s.problems.push(format!(
            "OTEL_EXPORTER_OTLP_ENDPOINT (traces.endpoint): {url} is the sidecar itself; name the backend there, traces \
             are dropped until then"
        ));
        traces_url = None;
    }
    let headers = s.optional("OTEL_EXPORTER_OTLP_HEADERS", &file.traces.headers).unwrap_or_default();
    otlp_out::Config {
        traces_url,
        headers: s.headers("OTEL_EXPORTER_OTLP_HEADERS", &headers),
        compress: compression(s, file),
        queue_bytes: s.bytes("SIDECAR_TRACE_QUEUE", &file.traces.queue, "8MiB"),
        give_up_after: s.duration("SIDECAR_TRACE_GIVE_UP_AFTER", &file.traces.give_up_after, "5m"),
    }
}

#[cfg(test)]
mod tests;
