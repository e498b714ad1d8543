//! Each program, given something that cannot be used, says in one message what and where, and ends with the promised code.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use crate::story::named_by;

/// No message needs more lines than this; a panic's backtrace does.
const LINES_MAX: usize = 4;

struct Case {
    output: Output,
    said: String,
}

fn run(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Option<Case> {
    let binaries = named_by("PICKET_BIN_DIR", "bad input to the real programs")?;
    let output = Command::new(binaries.join(program)).args(arguments).envs(environment.iter().copied()).output();
    let output = output.unwrap_or_else(|error| panic!("{program} is not built: {error}"));
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!said.contains("panicked"), "{said}");
    Some(Case { output, said })
}

impl Case {
    fn fails_with(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.output.status.code(), Some(code), "{}", self.said);
        for part in parts {
            assert!(self.said.contains(part), "no {part:?} in: {}", self.said);
        }
        let on_stderr = String::from_utf8_lossy(&self.output.stderr);
        assert!(on_stderr.lines().count() <= LINES_MAX, "more than one message: {on_stderr}");
    }
}

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("a file");
    path.to_string_lossy().into_owned()
}

#[test]
fn an_unknown_key_is_named_with_file_line_and_column() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = write(dir.path(), "collector.yml", "global:\n  scrape_interval: 15s\n  scrape_intervall: 15s\n");
    let data = dir.path().join("data").to_string_lossy().into_owned();
    let arguments = ["serve", "--config", &config, "--data", &data, "--listen", "127.0.0.1:0"];
    let Some(case) = run("collector", &arguments, &[]) else { return };
    case.fails_with(64, &[&format!("{config}:3:3: "), "scrape_intervall"]);
}

#[test]
fn a_missing_file_is_named() {
    let arguments = ["serve", "--config", "/nowhere/collector.yml", "--data", "/tmp", "--listen", "127.0.0.1:0"];
    let Some(case) = run("collector", &arguments, &[]) else { return };
    case.fails_with(64, &["/nowhere/collector.yml", "No such file"]);
}

#[test]
fn a_port_in_use_is_named_with_the_flag_that_changes_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let config = write(dir.path(), "collector.yml", "global: {}\n");
    let data = dir.path().join("data").to_string_lossy().into_owned();
    let arguments = ["serve", "--config", &config, "--data", &data, "--listen", &address];
    let Some(case) = run("collector", &arguments, &[]) else { return };
    case.fails_with(1, &[&address, "already in use", "--listen"]);
}

#[test]
fn a_database_that_is_down_is_named_without_its_password() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("bound").to_string();
    drop(free);
    let url = format!("postgres://platform:hunter2@{address}/platform");
    let Some(case) = run("platform-api", &["migrate"], &[("DATABASE_URL", &url), ("DATABASE_WAIT", "1s")]) else {
        return;
    };
    assert!(!case.said.contains("hunter2"), "{}", case.said);
    case.fails_with(1, &[&address]);
}

#[test]
fn a_sidecar_s_bad_configuration_is_told_by_check_config() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = write(dir.path(), "sidecar.yml", "lisen: 0.0.0.0:9464\n");
    let Some(case) = run("sidecar", &["check-config", "--config", &config], &[]) else { return };
    case.fails_with(64, &["sidecar.yml", "lisen"]);
}

#[test]
fn bad_usage_ends_with_two() {
    for program in ["collector", "sidecar", "platform-api"] {
        let Some(case) = run(program, &["no-such-command"], &[]) else { return };
        assert_eq!(case.output.status.code(), Some(2), "{program}: {}", case.said);
    }
}
