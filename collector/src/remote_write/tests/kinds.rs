//! Everything that is no sample, and several requests at a time.

use super::*;

const V1: &str = "protobuf_message: prometheus.WriteRequest";
const V2: &str = "protobuf_message: io.prometheus.write.v2.Request";

fn wait() -> Labels {
    Labels::from_pairs([("__name__", "wait"), ("queue", "a")])
}

fn native() -> Histogram {
    Histogram { count: 5.0, sum: 12.5, positive: vec![(1, 2.0), (2, 3.0)], ..Histogram::default() }
}

/// Bounds of its own, which 1.0 cannot say.
fn custom() -> Histogram {
    let custom_values = vec![1.0, 2.0];
    Histogram { schema: -53, count: 2.0, sum: 3.0, positive: vec![(1, 2.0)], custom_values, ..Histogram::default() }
}

fn at(time: i64, histogram: Histogram) -> HistogramSample {
    HistogramSample { labels: wait(), timestamp: Timestamp(time), histogram }
}

fn traced() -> storage::Exemplar {
    let labels = Labels::from_pairs([("trace_id", "abc")]);
    storage::Exemplar { labels, value: 0.5, timestamp: Timestamp(7) }
}

fn known(family: &str, kind: MetricKind) -> FamilyMetadata {
    FamilyMetadata { family: family.to_owned(), kind, help: format!("What {family} is."), unit: String::new() }
}

fn feed(stage: &Stage) {
    stage.taps.metadata(vec![known("wait", MetricKind::Histogram), known("orders", MetricKind::Counter)]);
    stage.taps.samples(samples(0..3));
    stage.taps.histograms(vec![at(1, native()), at(2, custom()), at(3, Histogram::stale())]);
    stage.taps.exemplars(vec![(wait(), traced())]);
}

/// The value of a counter with this further label.
fn counted(text: &str, name: &str, label: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(&format!("{name}{{")) && line.contains(label));
    line.map_or(0, |line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
}

#[tokio::test]
async fn histograms_exemplars_and_metadata_are_sent_with_the_samples() {
    for (message, times) in [(V1, &[1, 3][..]), (V2, &[1, 2, 3])] {
        let (fake, shutdown, data) = (Fake::default(), Shutdown::new(), tempfile::tempdir().unwrap());
        let keys = format!("{message}, send_native_histograms: true, send_exemplars: true");
        let stage = start(&config(&fake.serve(&shutdown).await, &keys), data.path(), &Labels::empty());
        feed(&stage);
        fake.until(|s| s.taken.len() == 3 && s.histograms.len() == times.len() && s.exemplars.len() == 1).await;
        let names = if message == V1 { ["orders", "wait"] } else { ["orders_total", "wait"] };
        let kinds = [MetricKind::Counter, MetricKind::Histogram];
        let helps = ["What orders is.", "What wait is."].map(str::to_owned);
        let expected: HashSet<_> = (0..2).map(|i| (names[i].to_owned(), kinds[i], helps[i].clone())).collect();
        fake.until(|state| state.metadata == expected).await;
        let text = stage.stop().await;
        let state = fake.state();
        let of_wait = r#"wait{queue="a"}"#.to_owned();
        let found: Vec<i64> = state.histograms.iter().map(|(_, at, _)| *at).collect();
        assert_eq!(found, times, "{message}");
        assert_eq!(state.histograms[0], (of_wait.clone(), 1, native()));
        assert!(state.histograms.last().unwrap().2.is_stale());
        let storage::Exemplar { labels, value, timestamp } = traced();
        assert_eq!(state.exemplars, [(of_wait, Exemplar { labels, value, timestamp: Some(timestamp) })]);
        let lost = counted(&text, "prometheus_remote_storage_histograms_dropped_total", "nhcb_in_rw1_not_supported");
        assert_eq!(lost, u64::from(message == V1));
        assert_eq!(counted(&text, "prometheus_remote_storage_histograms_in_total", "there"), 3);
        assert_eq!(counted(&text, "prometheus_remote_storage_histograms_total", "there"), times.len() as u64);
        assert_eq!(counted(&text, "prometheus_remote_storage_exemplars_total", "there"), 1);
        assert!(counted(&text, "prometheus_remote_storage_metadata_total", "there") >= 2);
        assert_eq!(counted(&text, "prometheus_remote_storage_samples_total", "there"), 3);
        shutdown.request();
    }
}

#[tokio::test]
async fn what_is_not_wanted_is_counted_and_2_0_always_has_histograms() {
    for (message, histograms) in [(V1, 0), (V2, 3)] {
        let (fake, shutdown, data) = (Fake::default(), Shutdown::new(), tempfile::tempdir().unwrap());
        let keys = format!("{message}, metadata_config: {{send: false}}");
        let stage = start(&config(&fake.serve(&shutdown).await, &keys), data.path(), &Labels::empty());
        feed(&stage);
        fake.until(|state| state.taken.len() == 3 && state.histograms.len() == histograms).await;
        let text = stage.stop().await;
        let dropped = |kind: &str| {
            counted(&text, &format!("prometheus_remote_storage_{kind}_dropped_total"), "reason=\"switched_off\"")
        };
        assert_eq!(dropped("histograms"), 3 - histograms as u64);
        assert_eq!((dropped("exemplars"), dropped("metadata")), (1, 2));
        assert!(fake.state().exemplars.is_empty() && fake.state().metadata.is_empty());
        shutdown.request();
    }
}

#[tokio::test]
async fn a_server_of_1_0_gets_what_1_0_can_say() {
    let fake = Fake::answering(&[(415, None)]);
    let (shutdown, data) = (Shutdown::new(), tempfile::tempdir().unwrap());
    let keys = format!("{V2}, send_exemplars: true");
    let stage = start(&config(&fake.serve(&shutdown).await, &keys), data.path(), &Labels::empty());
    feed(&stage);
    fake.until(|s| s.taken.len() == 3 && s.histograms.len() == 2 && s.exemplars.len() == 1).await;
    let text = stage.stop().await;
    let name = "prometheus_remote_storage_histograms";
    assert_eq!(counted(&text, &format!("{name}_dropped_total"), "nhcb_in_rw1_not_supported"), 1);
    assert_eq!(
        (counted(&text, &format!("{name}_total"), ""), counted(&text, &format!("{name}_failed_total"), "")),
        (2, 0)
    );
    shutdown.request();
}

#[tokio::test]
async fn several_requests_travel_at_a_time_and_each_series_stays_in_order() {
    // A request is answered when a second one is there: one at a time would never be.
    let fake = Fake(Arc::default(), Some(Arc::new(Barrier::new(2))));
    let (shutdown, data) = (Shutdown::new(), tempfile::tempdir().unwrap());
    let config = config(&fake.serve(&shutdown).await, "metadata_config: {send: false}");
    let mut config = config;
    (config.queue_config.min_shards, config.queue_config.max_shards) = (2, 2);
    let stage = start(&config, data.path(), &Labels::empty());
    // Both halves get as many, so that no request is left alone at the end.
    let shards = shards::Shards::new(&config.queue_config);
    let of = |half: u16| {
        let series = (0..).map(|n| Labels::from_pairs([("__name__".to_owned(), format!("m{n}"))]));
        let is_of =
            move |labels: &Labels| shards.of(xxhash_rust::xxh3::xxh3_64(labels.encoded().as_bytes())).number == half;
        series.filter(is_of).take(5).collect::<Vec<_>>()
    };
    let series = [of(0), of(1)].concat();
    for time in 0..20 {
        let sample = |labels: &Labels| Sample { labels: labels.clone(), timestamp: Timestamp(time), value: 0.0 };
        stage.taps.samples(series.iter().map(sample).collect());
    }
    fake.until_taken(200).await;
    let text = stage.stop().await;
    assert_eq!(metric(&text, "prometheus_remote_storage_shards"), "2");
    let taken = fake.state().taken.clone();
    for labels in &series {
        let times = taken.iter().filter(|(of, ..)| *of == labels.to_string()).map(|(_, time, _)| *time);
        assert_eq!(times.collect::<Vec<_>>(), (0..20).collect::<Vec<_>>(), "{labels}");
    }
    shutdown.request();
}
