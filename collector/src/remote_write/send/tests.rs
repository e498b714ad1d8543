use reqwest::header::HeaderValue;
use telemetry::Timestamp;

use super::*;

#[test]
fn an_answer_is_judged_as_the_specifications_say() {
    let record = |message| {
        let (counts, shard) = (Counts::samples(10), Shard { bits: 0, number: 0 });
        Record { message, counts, shard, newest: Timestamp(0), body: Vec::new().into() }
    };
    let (v1, v2) = (record(Message::V1), record(Message::V2));
    let queue = QueueConfig::default();
    let judged = |record: &Record, status: u16, headers: &[(&'static str, &'static str)]| {
        let headers = headers.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)));
        judge(StatusCode::from_u16(status).unwrap(), &headers.collect(), "why", record, &queue, 784_111_777_000)
    };
    let again = |verdict: Verdict| match verdict {
        Verdict::Again { after, .. } => after,
        other => panic!("{other:?}"),
    };
    let written = "x-prometheus-remote-write-samples-written";
    assert_eq!(judged(&v1, 204, &[]), Verdict::Taken);
    assert_eq!(judged(&v2, 200, &[(written, "10")]), Verdict::Taken);
    assert_eq!(again(judged(&v1, 503, &[])), None);
    assert_eq!(again(judged(&v1, 429, &[("retry-after", "7")])), Some(Duration::from_secs(7)));
    let date = [("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT")];
    assert_eq!(again(judged(&v1, 500, &date)), Some(Duration::from_secs(10)));
    assert_eq!(again(judged(&v1, 500, &[("retry-after", "99999")])), Some(RETRY_AFTER_MAX));
    assert_eq!(again(judged(&v1, 500, &[("retry-after", "soon")])), None);
    for status in [400, 401, 404, 413, 415, 302] {
        assert!(matches!(judged(&v1, status, &[]), Verdict::Never(_)), "{status}");
    }
    let partly = Verdict::Partly { failed: Counts::samples(4), why: "HTTP status 400 Bad Request: why".to_owned() };
    assert_eq!(judged(&v2, 400, &[(written, "6")]), partly);
    // Of the other kinds a header that is missing says that nothing was stored.
    let mixed = Record { counts: Counts::of([10, 2, 3, 5]), ..record(Message::V2) };
    let of_histograms = "x-prometheus-remote-write-histograms-written";
    let failed = Counts::of([0, 0, 3, 0]);
    let why = "HTTP status 200 OK: why".to_owned();
    let partly = Verdict::Partly { failed, why };
    assert_eq!(judged(&mixed, 200, &[(written, "10"), (of_histograms, "2")]), partly);
    assert!(matches!(judged(&v2, 400, &[(written, "0")]), Verdict::Never(_)));
    // A receiver of 1.0 answers 2.0 with a success and stores nothing.
    assert!(matches!(judged(&v2, 204, &[]), Verdict::Never(why) if why.contains("does not speak 2.0")));
    let strict = QueueConfig { retry_on_http_429: false, ..QueueConfig::default() };
    let refused = judge(StatusCode::TOO_MANY_REQUESTS, &HeaderMap::new(), "", &v1, &strict, 0);
    assert!(matches!(refused, Verdict::Never(_)));
}
