//! Programs that tests and the demo need beside Rust, and how to come by them.
//!
//! As root on Debian they are installed, and that is said. Otherwise each missing one is named together
//! with what its absence leaves untested; under `CI=true` a missing one is an error.

use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::run::{command, find, is_ci, quiet, root, step, target_dir};

/// A program of the system.
pub(crate) struct Tool {
    /// Any of these paths or names proves that it is there; a `*` stands for one folder.
    pub(crate) proofs: &'static [&'static str],
    /// Where being there is not enough: a command that must succeed.
    pub(crate) trial: &'static [&'static str],
    pub(crate) package: &'static str,
    pub(crate) untested_without: &'static str,
}

pub(crate) const POSTGRES: Tool = Tool {
    proofs: &["postgres", "/usr/lib/postgresql/*/bin/postgres", "/opt/homebrew/bin/postgres"],
    trial: &[],
    package: "postgresql",
    untested_without: "platform-api on its database, the whole suite end to end",
};
pub(crate) const ALERTMANAGER: Tool = Tool {
    proofs: &["prometheus-alertmanager", "alertmanager"],
    trial: &[],
    package: "prometheus-alertmanager",
    untested_without: "delivery to a real Alertmanager, amtool on alertmanager.yml",
};
pub(crate) const PROMETHEUS: Tool = Tool {
    proofs: &["promtool"],
    trial: &[],
    package: "prometheus",
    untested_without: "promtool on our rules, PromQL compared with Prometheus, remote write from and to it",
};
pub(crate) const VICTORIA_METRICS: Tool = Tool {
    proofs: &["victoria-metrics"],
    trial: &[],
    package: "victoria-metrics",
    untested_without: "remote write to VictoriaMetrics",
};
pub(crate) const REDIS: Tool = Tool {
    proofs: &["redis-server"],
    trial: &[],
    package: "redis-server",
    untested_without: "the sidecar's probe of a real Redis",
};
pub(crate) const CHROMIUM: Tool = Tool {
    proofs: &["chromium", "chromium-browser", "google-chrome"],
    trial: &[],
    package: "chromium",
    untested_without: "the web UI in a browser",
};
pub(crate) const NODE: Tool = Tool {
    proofs: &["node"],
    trial: &[],
    package: "nodejs",
    untested_without: "the web UI's own tests and the browser tests",
};
pub(crate) const NPM: Tool = Tool {
    proofs: &["npm"],
    trial: &[],
    package: "npm",
    untested_without: "the browser tests (playwright-core, axe-core)",
};
pub(crate) const PYTHON: Tool = Tool {
    proofs: &["python3"],
    // Debian's python3 comes without the modules that make an environment.
    trial: &["python3", "-c", "import ensurepip, venv"],
    package: "python3-venv",
    untested_without: "cfn-lint, the compose schema, boto3 and moto as a second reading of AWS, the walk over the API's description",
};
pub(crate) const SHELLCHECK: Tool =
    Tool { proofs: &["shellcheck"], trial: &[], package: "shellcheck", untested_without: "the shell scripts" };

impl Tool {
    pub(crate) fn is_present(&self) -> bool {
        let passes_trial = || match self.trial {
            [] => true,
            [program, arguments @ ..] => quiet("trial", command(program).args(arguments)).is_ok(),
        };
        let is_there = self.proofs.iter().any(|proof| match proof.split_once('*') {
            Some((before, after)) => {
                let entries = std::fs::read_dir(before).into_iter().flatten().flatten();
                entries.map(|entry| entry.path().join(after.trim_start_matches('/'))).any(|path| path.is_file())
            }
            None => find(proof).is_some(),
        });
        is_there && passes_trial()
    }
}

/// Installs what is missing where that is possible, and says so.
///
/// # Errors
/// Under `CI=true` when something stays missing.
pub(crate) fn ensure(tools: &[&Tool]) -> anyhow::Result<()> {
    let missing = || tools.iter().filter(|tool| !tool.is_present()).collect::<Vec<_>>();
    if missing().is_empty() {
        return Ok(());
    }
    if is_root() && find("apt-get").is_some() {
        let packages: Vec<&str> = missing().iter().map(|tool| tool.package).collect();
        eprintln!("installing from Debian's packages: {}", packages.join(" "));
        let env = [("DEBIAN_FRONTEND", "noninteractive")];
        quiet("apt-get update", command("apt-get").envs(env).args(["update", "-q"]))?;
        let install = ["install", "-y", "-q", "--no-install-recommends"];
        quiet("apt-get install", command("apt-get").envs(env).args(install).args(&packages))?;
    }
    let missing = missing();
    for tool in &missing {
        let Tool { proofs, package, untested_without, .. } = tool;
        eprintln!("missing: {} (Debian package {package}); without it is untested: {untested_without}", proofs[0]);
    }
    if is_ci() && !missing.is_empty() {
        bail!("CI skips nothing: install what is named above, or run as root on Debian");
    }
    Ok(())
}

/// Python packages of the checks, pinned.
const PYTHON_PACKAGES: &[&str] = &[
    "cfn-lint==1.58.0",
    "check-jsonschema==0.39.0",
    "boto3",
    "moto[server]==5.2.5",
    "cbor2==5.7.1",
    "yamllint",
    // Clients that send to the sidecar, and one that it scrapes.
    "opentelemetry-sdk==1.45.2",
    "opentelemetry-exporter-otlp-proto-grpc==1.45.2",
    "opentelemetry-exporter-otlp-proto-http==1.45.2",
    // A server whose health the sidecar asks for; of the version that the exporter's grpcio has.
    "grpcio-health-checking==1.85.1",
    "datadog==0.56.0",
    "prometheus-client==0.26.0",
    // Walks the API by its description.
    "schemathesis==4.32.5",
    // Sends log records by Fluent Forward.
    "fluent-logger==0.11.1",
];

/// The virtual environment under `target/` with the checks' Python packages; made on first use.
///
/// # Errors
/// When it cannot be made; the message says what is then untested.
pub(crate) fn python_environment() -> anyhow::Result<PathBuf> {
    let dir = target_dir().join("python");
    let (stamp, wanted) = (dir.join("installed"), PYTHON_PACKAGES.join("\n"));
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(dir);
    }
    let made = || -> anyhow::Result<()> {
        step("making target/python", command("python3").args(["-m", "venv"]).arg(&dir))?;
        eprintln!("installing into target/python: {}", PYTHON_PACKAGES.join(" "));
        // Not bin/pip: its first line names the place where the environment was made, which may have moved since.
        let mut pip = command(dir.join("bin/python"));
        quiet(
            "pip install",
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PYTHON_PACKAGES),
        )?;
        std::fs::write(&stamp, &wanted)?;
        Ok(())
    };
    made().with_context(|| {
        format!("no Python environment in {}; untested: {}", dir.display(), PYTHON.untested_without)
    })?;
    Ok(dir)
}

/// Installs the packages of the browser tests (`collector/ui/tools`) or of the sidecar's clients
/// (`sidecar/tests/clients`) as their lock file says.
pub(crate) fn node_packages(dir: &str) -> anyhow::Result<()> {
    let (name, dir) = (dir, root().join(dir));
    let (stamp, lock) = (dir.join("node_modules/.installed"), std::fs::read_to_string(dir.join("package-lock.json"))?);
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    let npm = ["ci", "--no-audit", "--no-fund", "--loglevel=error"];
    step(&format!("installing {name} (npm ci)"), command("npm").current_dir(&dir).args(npm))?;
    std::fs::write(&stamp, lock)?;
    Ok(())
}

pub(crate) fn is_root() -> bool {
    quiet("id", command("id").arg("-u")).is_ok_and(|uid| uid.trim() == "0")
}
