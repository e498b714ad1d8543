//! Our own `alertmanager.yml` in a real Alertmanager: who hears of what, and what the message shows.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use service::Shutdown;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::world::{World, free_port};

/// What came, by where it came.
#[derive(Clone, Default)]
struct Inbox {
    chat: Arc<Mutex<Vec<Value>>>,
    /// Recipient and text.
    mail: Arc<Mutex<Vec<(String, String)>>>,
    switch: Arc<Mutex<usize>>,
}

impl Inbox {
    /// The messages of a channel as (title, text).
    fn channel(&self, name: &str) -> Vec<(String, String)> {
        let text = |message: &Value, key: &str| message["attachments"][0][key].as_str().unwrap_or_default().to_owned();
        let messages = self.chat.lock().expect("fine");
        let of = messages.iter().filter(|message| message["channel"] == name);
        of.map(|message| (text(message, "title"), text(message, "text"))).collect()
    }

    fn mails(&self, to: &str) -> Vec<String> {
        let mails = self.mail.lock().expect("fine");
        mails.iter().filter(|(recipient, _)| recipient == to).map(|(_, text)| text.clone()).collect()
    }
}

/// As much of SMTP as Alertmanager speaks.
async fn take_mail(stream: TcpStream, inbox: Inbox) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    write.write_all(b"220 test\r\n").await?;
    let mut to = String::new();
    while let Some(line) = lines.next_line().await? {
        let answer: &[u8] = match line.get(..4).unwrap_or_default() {
            "RCPT" => {
                line.split_once('<')
                    .and_then(|(_, rest)| rest.split_once('>'))
                    .unwrap_or_default()
                    .0
                    .clone_into(&mut to);
                b"250 good\r\n"
            }
            "DATA" => {
                write.write_all(b"354 go on\r\n").await?;
                let mut text = String::new();
                while let Some(line) = lines.next_line().await?.filter(|line| line != ".") {
                    // Quoted-printable breaks long lines by a `=` at their end.
                    match line.strip_suffix('=') {
                        Some(part) => text.push_str(part),
                        None => text.push_str(&(line + "\n")),
                    }
                }
                inbox.mail.lock().expect("fine").push((to.clone(), text));
                b"250 taken\r\n"
            }
            "QUIT" => b"221 bye\r\n",
            _ => b"250 good\r\n",
        };
        write.write_all(answer).await?;
    }
    Ok(())
}

/// Chat and the dead man's switch over HTTP, mail over SMTP; their addresses.
async fn open(inbox: &Inbox) -> (String, String) {
    let chat = |State(inbox): State<Inbox>, Json(message): Json<Value>| async move {
        inbox.chat.lock().expect("fine").push(message);
        "ok"
    };
    let switch = |State(inbox): State<Inbox>| async move { *inbox.switch.lock().expect("fine") += 1 };
    let router = Router::new().route("/chat", post(chat)).route("/switch", post(switch)).with_state(inbox.clone());
    let listener = service::http::bind(([127, 0, 0, 1], 0).into(), "test").await.expect("port 0");
    let http = listener.local_addr().expect("bound").to_string();
    service::task::spawn("inbox", service::http::serve(listener, router, Shutdown::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port 0");
    let smtp = listener.local_addr().expect("bound").to_string();
    let inbox = inbox.clone();
    service::task::spawn("mail", async move {
        while let Ok((stream, _)) = listener.accept().await {
            service::task::spawn("mail-session", take_mail(stream, inbox.clone()));
        }
    });
    (http, smtp)
}

/// Our file with the addresses of the test, and seconds instead of minutes.
fn configuration(world: &World, http: &str, smtp: &str) {
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../alertmanager-rules");
    let text = std::fs::read_to_string(format!("{rules}/alertmanager.yml")).expect("readable");
    let url = world.dir.path().join("chat-url");
    std::fs::write(&url, format!("http://{http}/chat")).expect("written");
    let mut changed = text;
    for (from, to) in [
        ("mailpit:1025", smtp.to_owned()),
        ("/etc/alertmanager/secrets/slack-url", url.display().to_string()),
        ("templates/*.tmpl", format!("{rules}/templates/*.tmpl")),
        ("http://dead-mans-switch.example/picket", format!("http://{http}/switch")),
        ("group_wait: 30s", "group_wait: 2s".to_owned()),
    ] {
        assert!(changed.contains(from), "alertmanager.yml has no {from}");
        changed = changed.replace(from, &to);
    }
    std::fs::write(world.dir.path().join("alertmanager.yml"), changed).expect("written");
}

fn alert(name: &str, labels: Value, annotations: Value) -> Value {
    let mut alert = json!({"labels": labels, "annotations": annotations, "generatorURL": "http://collector/graph"});
    alert["labels"]["alertname"] = name.into();
    alert["labels"]["environment"] = "prod".into();
    alert
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_routes_reach_whom_they_name_and_the_message_shows_the_evidence() {
    let Some(world) = World::new().await else { return };
    let inbox = Inbox::default();
    let (http, smtp) = open(&inbox).await;
    configuration(&world, &http, &smtp);
    let alertmanager = world.alertmanager(free_port(), &[]).await;
    let evidence = json!({
        "summary": "order fails 12 % of its requests", "description": "More than 5 % for 5 minutes.",
        "runbook_url": "http://collector/runbooks/HighErrorRate", "dashboard_url": "http://grafana/order",
        "evidence_logs": "12:00:01 payment refused\n12:00:02 payment timed out", "evidence_task": "task-7f",
        "evidence_trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "evidence_image_digest": "sha256:0a1b",
        "evidence_deployment": "ecs-svc/1 in progress", "evidence_stops": "OutOfMemory twice",
    });
    let of =
        |severity: &str, team: &str, service: &str| json!({"severity": severity, "team": team, "service": service});
    let alerts = json!([
        alert("HighErrorRate", of("critical", "platform", "order"), evidence),
        alert("HighErrorRate", of("warning", "platform", "order"), json!({"summary": "inhibited"})),
        alert("AuroraStorage", of("warning", "data", "order"), json!({"summary": "storage runs out"})),
        alert("Watchdog", json!({"severity": "none", "team": "observability"}), json!({"summary": "alive"})),
    ]);
    let posted = world.client.post(alertmanager.url("/api/v2/alerts")).json(&alerts).send().await.expect("asked");
    assert!(posted.status().is_success());
    world
        .until("everybody has heard", async || {
            let heard = ["#on-call", "#platform", "#data"].map(|channel| inbox.channel(channel).len());
            let mails = ["on-call@picket.example", "platform@picket.example", "data@picket.example"];
            heard == [1; 3]
                && mails.map(|to| inbox.mails(to).len()) == [1; 3]
                && *inbox.switch.lock().expect("fine") > 0
        })
        .await;

    let (title, text) = inbox.channel("#on-call").remove(0);
    assert_eq!(title, "[CRITICAL] HighErrorRate: order (prod)");
    let mail = inbox.mails("on-call@picket.example").remove(0);
    assert!(mail.contains("[CRITICAL] HighErrorRate: order (prod)"), "{mail}");
    for wanted in [
        "order fails 12 % of its requests",
        "12:00:01 payment refused\n12:00:02 payment timed out",
        "task-7f",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "sha256:0a1b",
        "ecs-svc/1 in progress",
        "OutOfMemory twice",
        "http://collector/runbooks/HighErrorRate",
        "http://grafana/order",
    ] {
        assert!(text.contains(wanted), "chat without {wanted:?}: {text}");
        assert!(mail.contains(wanted), "mail without {wanted:?}: {mail}");
    }
    assert!(inbox.channel("#data")[0].1.contains("storage runs out"));
    // The warning of the same name is inhibited, and the switch is nobody's message.
    let everything = format!("{:?}{:?}", inbox.chat.lock().expect("fine"), inbox.mail.lock().expect("fine"));
    assert!(!everything.contains("inhibited") && !everything.contains("alive"), "{everything}");
}
