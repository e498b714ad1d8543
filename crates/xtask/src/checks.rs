//! Checks of what is not Rust: rules, Alertmanager's configuration, templates, compose, scripts.

use std::path::{Path, PathBuf};

use crate::run::{cargo, command, find, is_ci, quiet, root};
use crate::tools::{ALERTMANAGER, PROMETHEUS, PYTHON, SHELLCHECK, ensure, python_environment};

pub(crate) fn run() -> anyhow::Result<()> {
    ensure(&[&PROMETHEUS, &ALERTMANAGER, &PYTHON, &SHELLCHECK])?;
    if find("promtool").is_some() {
        rules()?;
    }
    if find("amtool").is_some() {
        quiet("amtool", command("amtool").args(["check-config", "alertmanager-rules/alertmanager.yml"]))?;
        eprintln!("amtool: alertmanager.yml is valid");
    }
    if find("shellcheck").is_some() {
        let scripts = scripts()?;
        quiet("shellcheck", command("shellcheck").args(&scripts))?;
        eprintln!("shellcheck: {} scripts are clean", scripts.len());
    }
    match python_environment() {
        Ok(python) => templates_and_compose(&python)?,
        Err(error) if is_ci() => return Err(error),
        Err(error) => eprintln!("unchecked: templates and compose file: {error:#}"),
    }
    quiet("dashboards check", cargo().args(["run", "--locked", "--quiet", "-p", "dashboards", "--", "check"]))?;
    eprintln!("dashboards: the committed files are what the descriptions generate");
    if find("cargo-deny").is_some() {
        quiet("cargo deny", cargo().args(["deny", "--offline", "check", "bans", "licenses", "sources"]))?;
        eprintln!("cargo deny: bans, licences and sources as deny.toml says");
    }
    Ok(())
}

fn rules() -> anyhow::Result<()> {
    let dir = root().join("alertmanager-rules");
    let rules = files(&dir, ".rules.yml")?;
    quiet("promtool check rules", command("promtool").args(["check", "rules"]).args(&rules))?;
    let tests = files(&dir, ".test.yml")?;
    quiet("promtool test rules", command("promtool").args(["test", "rules"]).args(&tests))?;
    eprintln!("promtool: {} rule files are valid, {} test files pass", rules.len(), tests.len());
    Ok(())
}

fn templates_and_compose(python: &Path) -> anyhow::Result<()> {
    let templates = files(&root().join("infra/cloudformation"), ".yaml")?;
    quiet("cfn-lint", command(python.join("bin/cfn-lint")).args(["--regions", "us-east-1", "--"]).args(&templates))?;
    eprintln!("cfn-lint: {} templates are clean", templates.len());
    let schema = |name: &str, file: &str| {
        let mut check = command(python.join("bin/check-jsonschema"));
        quiet(name, check.args(["--builtin-schema", name, file]))
    };
    schema("vendor.compose-spec", "docker-compose.yml")?;
    schema("vendor.github-workflows", ".github/workflows/ci.yml")?;
    eprintln!("compose file and workflow fit their schemas");
    Ok(())
}

fn files(dir: &Path, suffix: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)?.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.to_string_lossy().ends_with(suffix));
    files.sort();
    anyhow::ensure!(!files.is_empty(), "no *{suffix} in {}", dir.display());
    Ok(files)
}

fn scripts() -> anyhow::Result<Vec<String>> {
    let listed = quiet("git ls-files", command("git").args(["ls-files", "--", "*.sh", ".ci/run"]))?;
    Ok(listed.lines().map(str::to_owned).collect())
}
