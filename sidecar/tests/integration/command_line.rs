//! The binary itself: exit codes and messages.

use std::process::{Command, Output};

use crate::setup::Sidecar;

fn run(arguments: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidecar"));
    command.args(arguments).env_clear().envs(env.iter().copied()).output().expect("runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn check_config_names_every_fault_and_exits_64() {
    assert_eq!(run(&["check-config"], &[]).status.code(), Some(0));
    let faulty = run(&["check-config"], &[("SIDECAR_LISTEN", "here"), ("SIDECAR_LOG_START", "middle")]);
    assert_eq!(faulty.status.code(), Some(64));
    let errors = text(&faulty.stderr);
    assert!(errors.contains("SIDECAR_LISTEN (listen): \"here\"") && errors.contains("\"middle\""), "{errors}");
}

#[test]
fn a_misspelt_variable_is_told_and_keeps_nothing_from_running() {
    const SAYS: &str = "SIDECAR_STATE_DIRS is set but is no setting: is SIDECAR_STATE_DIR meant?";
    let checked = run(&["check-config"], &[("SIDECAR_STATE_DIRS", "/x")]);
    assert_eq!((checked.status.code(), text(&checked.stderr)), (Some(0), format!("sidecar: {SAYS}\n")));
    // It ends by the port, after it has told.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("port 0");
    let addr = taken.local_addr().expect("bound").to_string();
    let told = text(&run(&["run"], &[("SIDECAR_STATE_DIRS", "/x"), ("SIDECAR_LISTEN", &addr)]).stdout);
    assert!(told.lines().any(|line| line.contains(SAYS) && line.contains("\"level\":\"warn\"")), "{told}");
}

#[test]
fn a_port_in_use_is_one_clear_message() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("port 0");
    let addr = taken.local_addr().expect("bound").to_string();
    let refused = run(&["run"], &[("SIDECAR_LISTEN", &addr)]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(
        text(&refused.stderr),
        format!(
            "sidecar: {addr} is already in use: stop the other program or choose another address by SIDECAR_LISTEN\n"
        )
    );
}

#[test]
fn bad_usage_exits_2() {
    assert_eq!(run(&["fly"], &[]).status.code(), Some(2));
    assert_eq!(run(&["fake-ecs", "--service", "x", "--container", "app"], &[]).status.code(), Some(2));
}

#[tokio::test]
async fn healthcheck_asks_the_running_sidecar() {
    let sidecar = Sidecar::start(&[
        ("SIDECAR_APP_METRICS_URL", "off"),
        ("SIDECAR_APP_HEALTH_URL", "http://127.0.0.1:1/health/ready"),
    ])
    .await;
    let addr = sidecar.url.trim_start_matches("http://").to_owned();
    let ask = |arguments: &'static [&'static str], addr: String| async move {
        let asked = tokio::task::spawn_blocking(move || run(arguments, &[("SIDECAR_LISTEN", &addr)]));
        asked.await.expect("no panic")
    };
    assert_eq!(ask(&["healthcheck"], addr.clone()).await.status.code(), Some(0));
    let sick = ask(&["healthcheck", "--app"], addr).await;
    assert_eq!(sick.status.code(), Some(1));
    assert!(text(&sick.stderr).contains("/health/app answered 503"), "{}", text(&sick.stderr));
    sidecar.stop().await;
    let gone = ask(&["healthcheck"], "127.0.0.1:1".to_owned()).await;
    assert_eq!(gone.status.code(), Some(1));
    assert!(text(&gone.stderr).contains("nothing listens on 127.0.0.1:1"), "{}", text(&gone.stderr));
}
