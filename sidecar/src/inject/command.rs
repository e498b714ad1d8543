//! The command line of `inject`: files in, files out, everything else on standard error.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use service::cli::Exit;

use super::snippet::{self, Part};
use super::{Fault, Format, Logs, Options, inject, remove};

/// A template of CloudFormation has at most 1 MB.
const FILE_BYTES_MAX: u64 = 4 << 20;

const AFTER_HELP: &str = "\
The result goes to standard output, notes and the policy that the task role needs to standard error.

Examples:
  sidecar inject --in taskdef.json --service order > joined.json
  sidecar inject --in template.yaml --service order --logs firelens --out template.yaml
  sidecar inject --in template.yaml --check      exit 1 where the sidecar is missing or not up to date
  sidecar inject --in template.yaml --remove     the bytes that were there before
  sidecar inject --print container               for adding it by hand

What is not said again stays as it was said the first time; the image too, and variables that were added by hand.";

/// Add the sidecar to a task definition (ECS JSON, CloudFormation JSON or YAML), or take it out again
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Arguments {
    /// The file with the task definition; - for standard input
    #[arg(long = "in", value_name = "FILE", required_unless_present = "print")]
    input: Option<PathBuf>,
    /// Where the result goes; may be the same file
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    out: Option<PathBuf>,
    /// What the file is; found out where not given
    #[arg(long)]
    format: Option<Format>,
    /// Change nothing; exit 1 where something would change
    #[arg(long, conflicts_with = "remove")]
    check: bool,
    /// Take the sidecar out again
    #[arg(long)]
    remove: bool,
    /// Which AWS::ECS::TaskDefinition of the template; needed where it has several
    #[arg(long, value_name = "NAME")]
    resource: Option<String>,
    /// The service's name on metrics, lines and traces; as the task's metadata says where not given
    #[arg(long)]
    service: Option<String>,
    /// The environment's name on metrics and lines
    #[arg(long)]
    environment: Option<String>,
    /// The sidecar's image, best by digest
    #[arg(long, env = "SIDECAR_IMAGE")]
    image: Option<String>,
    /// The app's container; the first essential one with a port where not given
    #[arg(long, value_name = "CONTAINER")]
    app: Option<String>,
    /// The app's port; of its first port mapping where not given
    #[arg(long, value_name = "PORT")]
    app_port: Option<u16>,
    /// Where the app serves its metrics, or off  [default: /metrics]
    #[arg(long, value_name = "PATH")]
    metrics_path: Option<String>,
    /// Where the app answers for its health, or off  [default: /health/ready]
    #[arg(long, value_name = "PATH")]
    health_path: Option<String>,
    /// Who takes the app's log lines  [default: keep]
    #[arg(long)]
    logs: Option<Logs>,
    /// The CloudWatch log group for --logs firelens; that of the app's awslogs driver where not given
    #[arg(long, value_name = "NAME")]
    log_group: Option<String>,
    /// Whether the sidecar's end ends the task  [default: false, with FireLens true]
    #[arg(long, value_name = "BOOL")]
    essential: Option<bool>,
    /// Print one of the parts that are generated from the same code
    #[arg(long, value_name = "PART", conflicts_with = "input")]
    print: Option<Part>,
}

/// Runs it.
///
/// # Errors
/// A file that cannot be read, written or edited (with line and column); with `--check`, one that is not joined.
pub fn run(arguments: Arguments) -> Result<(), Exit> {
    if let Some(part) = arguments.print {
        print(&snippet::part(part))?;
        return Ok(());
    }
    let path = arguments.input.clone().ok_or_else(|| anyhow!("--in is missing"))?;
    let text = read(&path)?;
    let options = options(&arguments)?;
    let named = |fault: Fault| {
        let (line, column) = fault.position(&text);
        anyhow!("{}:{line}:{column}: {fault}", path.display())
    };
    if arguments.remove {
        let bare = remove(&text, &options).map_err(named)?;
        if bare == text {
            eprintln!("sidecar: {}: there is no sidecar in it", path.display());
        }
        return Ok(write(arguments.out.as_deref(), &bare)?);
    }
    let outcome = inject(&text, &options).map_err(named)?;
    if arguments.check {
        return match outcome.text == text {
            true => Ok(()),
            false => Err(anyhow!("{}: {}", path.display(), difference(&text, &outcome.text)).into()),
        };
    }
    for note in &outcome.notes {
        eprintln!("sidecar: {note}");
    }
    if outcome.text == text {
        eprintln!("sidecar: {}: the sidecar is in it and up to date", path.display());
    }
    match &outcome.policy {
        Some(policy) => {
            eprintln!("sidecar: the task role must allow this, and for the sidecar nothing else:\n{policy}")
        }
        None => eprintln!("sidecar: for the sidecar the task role need allow nothing"),
    }
    Ok(write(arguments.out.as_deref(), &outcome.text)?)
}

fn options(arguments: &Arguments) -> anyhow::Result<Options> {
    for (option, path) in [("--metrics-path", &arguments.metrics_path), ("--health-path", &arguments.health_path)] {
        if let Some(path) = path
            && !path.starts_with('/')
            && path != "off"
        {
            bail!("{option} {path}: write a path that begins with /, or off");
        }
    }
    Ok(Options {
        format: arguments.format,
        resource: arguments.resource.clone(),
        image: arguments.image.clone(),
        service: arguments.service.clone(),
        environment: arguments.environment.clone(),
        app: arguments.app.clone(),
        app_port: arguments.app_port,
        metrics_path: arguments.metrics_path.clone(),
        health_path: arguments.health_path.clone(),
        logs: arguments.logs,
        log_group: arguments.log_group.clone(),
        essential: arguments.essential,
    })
}

/// The first line that differs.
fn difference(now: &str, wanted: &str) -> String {
    let place = now.lines().zip(wanted.lines()).position(|(a, b)| a != b);
    let line = place.unwrap_or_else(|| now.lines().count().min(wanted.lines().count()));
    let text = wanted.lines().nth(line).map_or("nothing", str::trim);
    format!("the sidecar is missing or not up to date: line {} would be `{text}`; run without --check", line + 1)
}

fn read(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let result = match path == Path::new("-") {
        true => {
            if std::io::stdin().is_terminal() {
                eprintln!("sidecar: reading the task definition from standard input");
            }
            std::io::stdin().lock().take(FILE_BYTES_MAX + 1).read_to_string(&mut text)
        }
        false => std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)),
    };
    result.with_context(|| format!("failed to read `{}`", path.display()))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        bail!("`{}` is larger than 4 MiB: that is no task definition", path.display());
    }
    Ok(text)
}

fn write(path: Option<&Path>, text: &str) -> anyhow::Result<()> {
    match path {
        Some(path) => std::fs::write(path, text).with_context(|| format!("failed to write `{}`", path.display())),
        None => print(text),
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().lock().write_all(text.as_bytes()).context("failed to write to standard output")
}
