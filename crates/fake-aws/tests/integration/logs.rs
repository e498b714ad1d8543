use std::time::{SystemTime, UNIX_EPOCH};

use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::error::ProvideErrorMetadata;
use aws_sdk_cloudwatchlogs::types::{Entity, InputLogEvent};
use fake_aws::{Fault, FaultKind};

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
async fn what_is_past_the_group_s_retention_is_rejected_apart_from_what_is_too_old() {
    let (setup, client) = with_stream("127.37").await;
    client.put_retention_policy().log_group_name(GROUP).retention_in_days(1).send().await.expect("a day");
    let t = now();
    // No batch spans more than a day, so the kinds are met one by one.
    let put = |events: Vec<InputLogEvent>| {
        client.put_log_events().log_group_name(GROUP).log_stream_name("s").set_log_events(Some(events)).send()
    };
    let answer = put(vec![event(t - 25 * HOUR, "past"), event(t - 2 * HOUR, "good")]).await.unwrap();
    let rejected = answer.rejected_log_events_info().expect("one is rejected");
    assert_eq!((rejected.expired_log_event_end_index(), rejected.too_old_log_event_end_index()), (Some(1), None));
    assert_eq!(setup.aws.log_stream(GROUP, "s").expect("the stream").messages, ["good"]);
    setup.aws.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_greatest_event_and_the_fullest_batch_are_taken() {
    let (setup, client) = with_stream("127.38").await;
    let t = now();
    let full = 1_048_576 / 2 - 26;
    for (what, events) in [
        ("the greatest event", vec![event(t, "x".repeat(1_048_576 - 26))]),
        ("the fullest batch", vec![event(t, "x".repeat(full)), event(t, "y".repeat(full))]),
        ("the most events", vec![event(t, "a"); 10_000]),
        ("a day", vec![event(t - 24 * HOUR, "a"), event(t, "b")]),
    ] {
        let put = client.put_log_events().log_group_name(GROUP).log_stream_name("s").set_log_events(Some(events));
        put.send().await.expect(what);
    }
    assert_eq!(setup.aws.log_stream(GROUP, "s").expect("the stream").messages.len(), 10_005);
    setup.aws.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_is_kept_or_rejected_and_the_events_are_stored_either_way() {
    let (setup, client) = with_stream("127.39").await;
    let entity = |keys: &[(&str, &str)], attributes: usize| {
        let mut entity = Entity::builder();
        for (key, value) in keys {
            entity = entity.key_attributes(*key, *value);
        }
        (0..attributes).fold(entity, |entity, n| entity.attributes(format!("a{n}"), "v")).build()
    };
    let put = |entity: Entity| {
        let put = client.put_log_events().log_group_name(GROUP).log_stream_name("s").log_events(event(now(), "a"));
        put.entity(entity).send()
    };
    let service = [("Type", "Service"), ("Name", "order"), ("Environment", "ecs:main")];
    assert_eq!(put(entity(&service, 10)).await.unwrap().rejected_entity_info(), None);
    for (keys, attributes, kind) in [
        (&service[..1], 0, "InvalidKeyAttributes"),
        (&[("Type", "Service"), ("Colour", "red")], 0, "InvalidKeyAttributes"),
        (&[("Name", "order"), ("Environment", "e")], 0, "MissingRequiredFields"),
        (&[("Type", "Carrier"), ("Name", "order")], 0, "InvalidTypeValue"),
        (&service, 11, "InvalidAttributes"),
    ] {
        let answer = put(entity(keys, attributes)).await.unwrap();
        let info = answer.rejected_entity_info().unwrap_or_else(|| panic!("{kind} is not told"));
        assert_eq!(info.error_type().as_str(), kind);
    }
    let stored = setup.aws.log_stream(GROUP, "s").expect("the stream");
    assert_eq!(stored.messages.len(), 6);
    assert_eq!(stored.entity.expect("the first one")["keyAttributes"]["Name"], "order");
    setup.aws.stop().await.unwrap();
}

/// The faults that are ordered speak for the account's quotas.
#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_or_failing_put_stores_nothing_and_says_why() {
    let (setup, client) = with_stream("127.40").await;
    let put =
        || client.put_log_events().log_group_name(GROUP).log_stream_name("s").log_events(event(now(), "a")).send();
    for (kind, code) in
        [(FaultKind::Throttle, "ThrottlingException"), (FaultKind::Error, "ServiceUnavailableException")]
    {
        setup.aws.order_fault(Fault { operation: "logs:PutLogEvents".into(), kind, count: 1 });
        assert_eq!(put().await.unwrap_err().into_service_error().code(), Some(code));
    }
    put().await.expect("both faults are used up");
    assert_eq!(setup.aws.log_stream(GROUP, "s").expect("the stream").messages, ["a"]);
    // Five groups at once and no more: the quota of CreateLogGroup, of which the setup has used one.
    let mut throttled = 0;
    for n in 0..8 {
        let made = client.create_log_group().log_group_name(format!("/g/{n}")).send().await;
        throttled += usize::from(made.is_err_and(|e| e.into_service_error().code() == Some("ThrottlingException")));
    }
    assert!((2..=4).contains(&throttled), "{throttled} of 8 throttled");
    setup.aws.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_secrets_are_known_only_calls_that_are_signed_with_them_pass() {
    let topology = format!("credentials: {{test: test, other: quite-another}}\n{}", sleepers("127.41", &[]));
    let setup = setup::start(&topology).await;
    setup.logs().create_log_group().log_group_name(GROUP).send().await.expect("signed with the secret");
    setup.ecs().list_clusters().send().await.expect("so is another service's call");
    let url = setup.aws.url();
    for (key, secret, code) in
        [("other", "test", "InvalidSignatureException"), ("unknown", "test", "UnrecognizedClientException")]
    {
        let credentials = aws_sdk_cloudwatchlogs::config::Credentials::new(key, secret, None, None, "test");
        let config = aws_sdk_cloudwatchlogs::config::Builder::from(&setup.config).credentials_provider(credentials);
        let refused = Client::from_conf(config.build()).delete_log_group().log_group_name(GROUP).send().await;
        assert_eq!(refused.unwrap_err().into_service_error().code(), Some(code), "{key}");
    }
    let unsigned = reqwest::Client::new().post(&url).header("x-amz-target", "Logs_20140328.DeleteLogGroup");
    let answer = unsigned.body(format!("{{\"logGroupName\":\"{GROUP}\"}}")).send().await.expect("answers");
    assert_eq!(answer.status(), 400);
    assert!(answer.text().await.expect("text").contains("MissingAuthenticationToken"));
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
