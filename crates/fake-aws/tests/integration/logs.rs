use std::time::{SystemTime, UNIX_EPOCH};

use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::types::InputLogEvent;

use crate::setup::{self, Setup, sleepers};

const GROUP: &str = "/platform/test/order";
const HOUR: i64 = 3_600_000;

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or_default()
}

fn event(timestamp: i64, message: impl Into<String>) -> InputLogEvent {
    InputLogEvent::builder().timestamp(timestamp).message(message).build().expect("both are set")
}

async fn with_stream(network: &str) -> (Setup, Client) {
    let setup = setup::start(&sleepers(network, &[])).await;
    let client = setup.logs();
    client.create_log_group().log_group_name(GROUP).send().await.expect("a group");
    client.create_log_stream().log_group_name(GROUP).log_stream_name("s").send().await.expect("a stream");
    (setup, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_stored_read_in_order_and_filtered() {
    let (setup, client) = with_stream("127.34").await;
    let t = now();
    let put = client.put_log_events().log_group_name(GROUP).log_stream_name("s");
    let put = put.log_events(event(t, r#"{"level":"info"}"#)).log_events(event(t + 1, r#"{"level":"error"}"#));
    assert_eq!(put.send().await.unwrap().rejected_log_events_info(), None);

    let read = |token: Option<String>| {
        client
            .get_log_events()
            .log_group_name(GROUP)
            .log_stream_name("s")
            .start_from_head(true)
            .limit(1)
            .set_next_token(token)
    };
    let first = read(None).send().await.unwrap();
    assert_eq!(first.events()[0].message(), Some(r#"{"level":"info"}"#));
    let second = read(first.next_forward_token).send().await.unwrap();
    assert_eq!(second.events()[0].timestamp(), Some(t + 1));
    let end = read(second.next_forward_token.clone()).send().await.unwrap();
    assert_eq!((end.events().len(), end.next_forward_token), (0, second.next_forward_token));

    let errors = client.filter_log_events().log_group_name(GROUP).filter_pattern("{ $.level = \"error\" }");
    assert_eq!(errors.send().await.unwrap().events()[0].timestamp(), Some(t + 1));
    let streams = client.describe_log_streams().log_group_name(GROUP).send().await.unwrap();
    assert_eq!(streams.log_streams()[0].last_event_timestamp(), Some(t + 1));
    setup.aws.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_out_of_time_is_rejected_singly_and_the_rest_is_stored() {
    let (setup, client) = with_stream("127.35").await;
    let put = |events: Vec<InputLogEvent>| {
        client.put_log_events().log_group_name(GROUP).log_stream_name("s").set_log_events(Some(events)).send()
    };
    let t = now();
    let old = put(vec![event(t - 14 * 24 * HOUR - 1000, "old"), event(t - 14 * 24 * HOUR + HOUR, "good")]).await;
    assert_eq!(old.unwrap().rejected_log_events_info().and_then(|r| r.too_old_log_event_end_index()), Some(1));
    let new = put(vec![event(t, "good"), event(t + 2 * HOUR + 60_000, "new")]).await.unwrap();
    assert_eq!(new.rejected_log_events_info().and_then(|r| r.too_new_log_event_start_index()), Some(1));
    let stored = client.get_log_events().log_group_name(GROUP).log_stream_name("s").send().await.unwrap();
    assert!(stored.events().iter().all(|e| e.message() == Some("good")));
    assert_eq!(stored.events().len(), 2);
    setup.aws.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_putlogevents_refuses_is_refused() {
    let (setup, client) = with_stream("127.36").await;
    let t = now();
    let large = "x".repeat(500_000);
    for (what, events) in [
        ("nothing", vec![]),
        ("an empty message", vec![event(t, "")]),
        ("disorder", vec![event(t, "a"), event(t - 1, "b")]),
        ("more than a day", vec![event(t - 25 * HOUR, "a"), event(t, "b")]),
        ("too many", vec![event(t, "a"); 10_001]),
        ("too large an event", vec![event(t, "x".repeat(1_048_551))]),
        ("too large a batch", vec![event(t, large.clone()), event(t, large.clone()), event(t, large.clone())]),
    ] {
        let put = client.put_log_events().log_group_name(GROUP).log_stream_name("s").set_log_events(Some(events));
        let error = put.send().await.expect_err(what).into_service_error();
        assert!(error.is_invalid_parameter_exception(), "{what}: {error:?}");
    }
    let missing =
        client.put_log_events().log_group_name(GROUP).log_stream_name("t").log_events(event(t, "a")).send().await;
    assert!(missing.unwrap_err().into_service_error().is_resource_not_found_exception());
    let twice = client.create_log_group().log_group_name(GROUP).send().await.unwrap_err().into_service_error();
    assert!(twice.is_resource_already_exists_exception());
    let retention = client.put_retention_policy().log_group_name(GROUP).retention_in_days(31).send().await;
    assert!(retention.unwrap_err().into_service_error().is_invalid_parameter_exception());
    client.put_retention_policy().log_group_name(GROUP).retention_in_days(30).send().await.unwrap();
    setup.aws.stop().await.unwrap();
}
