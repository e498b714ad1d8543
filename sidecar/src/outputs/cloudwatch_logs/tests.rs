//! Against a CloudWatch Logs in this process that checks what the real one checks.

use std::collections::{BTreeSet, VecDeque};
use std::io::Read;
use std::sync::{Arc, Mutex};

use aws_sdk_cloudwatchlogs::config::{Credentials, SharedCredentialsProvider};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::stream;
use prometheus_client::metrics::counter::Counter;
use serde_json::{Value, json};
use service::backoff::Backoff;
use service::metrics::Metrics;
use service::{Shutdown, task};
use telemetry::Timestamp;
use telemetry::log_record::Level;

use super::*;
use crate::memory::Ceiling;
use crate::outputs::encode::Codec;
use crate::outputs::gzip::Scratch;
use crate::outputs::retry::Retry;
use crate::outputs::sink::{Options, Sink};
use crate::pipeline::account::{Account, Balance, DropReason};
use crate::pipeline::queue::QueueGauge;

#[derive(Default)]
struct Cloud {
    groups: BTreeSet<String>,
    streams: BTreeSet<String>,
    /// Messages in the order in which they were stored.
    stored: Vec<String>,
    /// Answers given before anything is looked at: status and error type.
    faults: VecDeque<(u16, &'static str)>,
    /// A request with such a message in it is refused whole.
    poison: Option<&'static str>,
    rejected: Option<Value>,
    /// So many answers break off behind their head; `false`: what was asked for is not done either.
    lost: VecDeque<bool>,
    /// What GetLogEvents is answered with, instead of the events.
    unreadable: Option<&'static str>,
    times: Vec<i64>,
    puts: usize,
    looks: usize,
    entity: Value,
}

type Shared = Arc<Mutex<Cloud>>;

fn error(status: u16, kind: &str) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    (status, json!({"__type": kind, "message": "as scripted"}).to_string()).into_response()
}

fn handle(cloud: &mut Cloud, operation: &str, body: &Value) -> Response {
    let text = |key: &str| body[key].as_str().expect("a string").to_owned();
    let group = text("logGroupName");
    match operation {
        "CreateLogGroup" => drop(cloud.groups.insert(group)),
        _ if !cloud.groups.contains(&group) => return error(400, "ResourceNotFoundException"),
        "CreateLogStream" => drop(cloud.streams.insert(text("logStreamName"))),
        _ if !cloud.streams.contains(&text("logStreamName")) => return error(400, "ResourceNotFoundException"),
        "PutLogEvents" => return put(cloud, body),
        "GetLogEvents" => return get(cloud, body),
        other => panic!("unexpected operation {other}"),
    }
    "{}".into_response()
}

fn put(cloud: &mut Cloud, body: &Value) -> Response {
    cloud.puts += 1;
    if let Some((status, kind)) = cloud.faults.pop_front() {
        return error(status, kind);
    }
    let events = body["logEvents"].as_array().expect("events");
    let messages: Vec<&str> = events.iter().map(|e| e["message"].as_str().expect("message")).collect();
    let times: Vec<i64> = events.iter().map(|e| e["timestamp"].as_i64().expect("time")).collect();
    if !times.is_sorted() || cloud.poison.is_some_and(|poison| messages.contains(&poison)) {
        return error(400, "InvalidParameterException");
    }
    let lost = cloud.lost.pop_front();
    let broken = || Response::new(Body::from_stream(stream::iter([Err::<Bytes, _>(std::io::Error::other("cut off"))])));
    if lost == Some(false) {
        return broken();
    }
    cloud.entity = body["entity"].clone();
    cloud.times.extend(times);
    cloud.stored.extend(messages.into_iter().map(str::to_owned));
    match cloud.rejected.take() {
        _ if lost.is_some() => broken(),
        Some(rejected) => json!({"rejectedLogEventsInfo": rejected}).to_string().into_response(),
        None => "{}".into_response(),
    }
}

fn get(cloud: &mut Cloud, body: &Value) -> Response {
    cloud.looks += 1;
    if let Some(kind) = cloud.unreadable {
        return error(400, kind);
    }
    let number = |key: &str| body[key].as_i64().expect("a number");
    let asked = number("startTime")..number("endTime");
    let events = cloud.times.iter().zip(&cloud.stored).filter(|(time, _)| asked.contains(time));
    let events: Vec<Value> = events.map(|(time, message)| json!({"timestamp": time, "message": message})).collect();
    json!({"events": events}).to_string().into_response()
}

struct Setup {
    cloud: Shared,
    output: CloudWatchLogs,
    sink: Sink,
    account: Account,
    retries: Counter,
}

async fn setup(place: Place, give_up_after: Duration, cloud: Cloud) -> Setup {
    let cloud: Shared = Arc::new(Mutex::new(cloud));
    let served = cloud.clone();
    let answer = move |headers: HeaderMap, body: Bytes| {
        assert!(headers["authorization"].to_str().expect("text").starts_with("AWS4-HMAC-SHA256 Credential=id/"));
        let target = headers["x-amz-target"].to_str().expect("text").to_owned();
        let operation = target.strip_prefix("Logs_20140328.").expect("the API's version").to_owned();
        let body = match headers.get("content-encoding") {
            Some(encoding) => {
                assert_eq!(encoding, "gzip");
                let mut text = Vec::new();
                flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut text).expect("gzip");
                serde_json::from_slice(&text).expect("JSON")
            }
            None => serde_json::from_slice(&body).expect("JSON"),
        };
        let response = handle(&mut served.lock().expect("not poisoned"), &operation, &body);
        async move { response }
    };
    let listener = service::http::bind(([127, 0, 0, 1], 0).into(), "test").await.expect("port 0");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    task::spawn("cloud", service::http::serve(listener, Router::new().route("/", post(answer)), Shutdown::new()));
    let sdk = aws_config::SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("id", "secret", None, None, "test")))
        .retry_config(RetryConfig::disabled())
        .build();
    let aws = Aws { sdk, endpoint: Some(url), http: reqwest::Client::new() };
    let identity = Identity {
        service: "order".into(),
        version: "1".into(),
        environment: "prod".into(),
        task_id: "t1".into(),
        cluster: Some("main".into()),
        region: None,
        task: crate::identity::AwsTask::default(),
    };
    let account = Account::of_logs(&Metrics::new(), "cloudwatch");
    let retries = Counter::default();
    let backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(2));
    let codec = Codec::cloudwatch(&place.group, &place.stream, entity(&identity).as_ref());
    let options = Options {
        name: "test".into(),
        output: "cloudwatch",
        in_flight_max: Options::in_flight(&codec),
        codec,
        memory_bytes: 1 << 20,
        ceiling: Ceiling::new(48 << 20),
        retry: Retry::new("test".into(), give_up_after, retries.clone()).with_backoff(backoff),
    };
    let sink = Sink::new(options, account.clone(), None, QueueGauge::default());
    let mut output = CloudWatchLogs::new(place, &aws).expect("region and credentials");
    output.shows_after = Duration::from_millis(5);
    Setup { cloud, output, sink, account, retries }
}

impl Setup {
    /// Sends these lines, with these times, and waits until all are settled.
    async fn deliver(self, lines: &[(&str, i64)]) -> (Shared, Account, Counter) {
        for (line, at) in lines {
            self.sink.push(line.as_bytes(), Timestamp(*at), Level::Info, 1, None);
        }
        self.sink.close();
        self.sink.run(self.output).await.expect("ends with the queue");
        assert_eq!(self.account.balance().waiting, 0);
        (self.cloud, self.account, self.retries)
    }
}

const MINUTE: Duration = Duration::from_secs(60);

fn place() -> Place {
    Place {
        group: "/app/order".into(),
        stream: "order/t1".into(),
        region: None,
        endpoint: None,
        create_group: false,
        retention_days: None,
    }
}

fn with_group() -> Cloud {
    Cloud { groups: BTreeSet::from(["/app/order".to_owned()]), ..Cloud::default() }
}

fn ready() -> Cloud {
    Cloud { streams: BTreeSet::from(["order/t1".to_owned()]), ..with_group() }
}

#[tokio::test]
async fn a_missing_stream_is_made_and_events_arrive_in_order_of_time() {
    let (cloud, account, _) = setup(place(), MINUTE, with_group()).await.deliver(&[("b", 2), ("a", 1), ("c", 2)]).await;
    let cloud = cloud.lock().expect("not poisoned");
    assert_eq!(cloud.streams, BTreeSet::from(["order/t1".to_owned()]));
    assert_eq!(cloud.stored, ["a", "b", "c"]);
    assert_eq!(cloud.entity["keyAttributes"], json!({"Type": "Service", "Name": "order", "Environment": "ecs:main"}));
    assert_eq!(account.balance(), Balance { received: 3, delivered: 3, dropped: 0, waiting: 0 });
}

#[tokio::test]
async fn a_missing_group_is_made_where_that_was_asked_for() {
    let place = Place { create_group: true, ..place() };
    let (cloud, account, _) = setup(place, MINUTE, Cloud::default()).await.deliver(&[("a", 1)]).await;
    assert_eq!(cloud.lock().expect("not poisoned").stored, ["a"]);
    assert_eq!(account.balance().delivered, 1);
}

#[tokio::test]
async fn a_missing_group_that_nobody_makes_is_given_up_in_the_end() {
    let (_, account, _) = setup(place(), Duration::from_millis(20), Cloud::default()).await.deliver(&[("a", 1)]).await;
    assert_eq!(account.dropped(DropReason::GaveUp), 1);
}

#[tokio::test]
async fn a_failed_request_repeats_itself_and_nothing_else() {
    let faults =
        VecDeque::from([(400, "ThrottlingException"), (500, "InternalFailure"), (503, "ServiceUnavailableException")]);
    let (cloud, account, retries) =
        setup(place(), MINUTE, Cloud { faults, ..ready() }).await.deliver(&[("a", 1), ("b", 2)]).await;
    let cloud = cloud.lock().expect("not poisoned");
    assert_eq!((cloud.puts, &cloud.stored[..]), (4, &["a".to_owned(), "b".to_owned()][..]));
    assert_eq!((account.balance().delivered, retries.get()), (2, 3));
}

#[tokio::test]
async fn events_rejected_for_their_time_are_counted_by_kind() {
    // Of a b c d e: a is past retention (end 1), b is too old (end 2), e is too new (from 4).
    let rejected = json!({"expiredLogEventEndIndex": 1, "tooOldLogEventEndIndex": 2, "tooNewLogEventStartIndex": 4});
    let cloud = Cloud { rejected: Some(rejected), ..ready() };
    let lines = [("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 5)];
    let (_, account, _) = setup(place(), MINUTE, cloud).await.deliver(&lines).await;
    assert_eq!(account.balance(), Balance { received: 5, delivered: 2, dropped: 3, waiting: 0 });
    assert_eq!(account.losses(), "1 too_old, 1 too_new, 1 expired");
}

#[tokio::test]
async fn of_a_batch_that_is_refused_only_the_faulty_event_is_lost() {
    let cloud = Cloud { poison: Some("c"), ..ready() };
    let lines = [("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 5)];
    let (cloud, account, _) = setup(place(), MINUTE, cloud).await.deliver(&lines).await;
    assert_eq!(cloud.lock().expect("not poisoned").stored, ["a", "b", "d", "e"]);
    assert_eq!(account.losses(), "1 refused");
}

#[tokio::test]
async fn an_answer_that_was_lost_duplicates_nothing() {
    let cloud = Cloud { lost: VecDeque::from([true]), ..ready() };
    let lines = [("a", 1), ("b", 2), ("b", 2), ("c", 3)];
    let (cloud, account, _) = setup(place(), MINUTE, cloud).await.deliver(&lines).await;
    let cloud = cloud.lock().expect("not poisoned");
    assert_eq!((cloud.puts, cloud.looks, &cloud.stored[..]), (1, 1, &["a", "b", "b", "c"].map(str::to_owned)[..]));
    assert_eq!(account.balance().delivered, 4);
}

#[tokio::test]
async fn a_request_that_was_lost_is_repeated_after_the_stream_was_asked_twice() {
    let cloud = Cloud { lost: VecDeque::from([false]), stored: vec!["a".into()], times: vec![2], ..ready() };
    let (cloud, account, _) = setup(place(), MINUTE, cloud).await.deliver(&[("a", 1), ("b", 2)]).await;
    let cloud = cloud.lock().expect("not poisoned");
    assert_eq!((cloud.puts, cloud.looks, &cloud.stored[..]), (2, 2, &["a", "a", "b"].map(str::to_owned)[..]));
    assert_eq!(account.balance().delivered, 2);
}

#[tokio::test]
async fn who_may_not_look_sends_again() {
    for kind in ["AccessDeniedException", "ResourceNotFoundException"] {
        let cloud = Cloud { lost: VecDeque::from([true]), unreadable: Some(kind), ..ready() };
        let (cloud, account, _) = setup(place(), MINUTE, cloud).await.deliver(&[("a", 1)]).await;
        let cloud = cloud.lock().expect("not poisoned");
        assert_eq!((cloud.puts, cloud.looks, &cloud.stored[..]), (2, 1, &["a", "a"].map(str::to_owned)[..]), "{kind}");
        assert_eq!(account.balance().delivered, 1);
    }
}

#[tokio::test]
async fn what_an_earlier_run_had_on_its_way_is_looked_for_before_it_is_sent() {
    let cloud = Cloud { stored: vec!["a".into()], times: vec![1], ..ready() };
    let Setup { cloud, output, sink, account, .. } = setup(place(), MINUTE, cloud).await;
    let mut batch = crate::pipeline::batch::Batch::new(&account);
    let limits = crate::pipeline::batch::Limits::CLOUDWATCH;
    batch.add(&limits, b"a", Timestamp(1), Level::Info, 1);
    let body = Codec::cloudwatch("/app/order", "order/t1", None).encode(&mut batch, &mut Scratch::default());
    output.doubt(&body);
    assert_eq!(output.attempt(&body.into()).await, Attempt::Done(Answer::Stored));
    assert_eq!(cloud.lock().expect("not poisoned").puts, 0);
    drop(sink);
}
