use telemetry::MatchOp;

use super::*;

mod disk;
mod full_disk;
mod model;
mod segments;
mod sheets;

fn series(text: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(text.iter().copied())
}

fn sample(labels: &Labels, time: i64, value: f64) -> Sample {
    Sample { labels: labels.clone(), timestamp: Timestamp(time), value }
}

fn matcher(name: &str, op: &str, value: &str) -> Matcher {
    let ops = [("=", MatchOp::Equal), ("!=", MatchOp::NotEqual), ("=~", MatchOp::Regex), ("!~", MatchOp::NotRegex)];
    let op = ops.iter().find(|(text, _)| *text == op).unwrap().1;
    Matcher::new(name, op, value).unwrap()
}

const ALWAYS: (Timestamp, Timestamp) = (Timestamp::MIN, Timestamp::MAX);

fn selected(storage: &Storage, matchers: &[Matcher], start: i64, end: i64) -> Vec<(Labels, Vec<(i64, u64)>)> {
    let series = storage.select(matchers, Timestamp(start), Timestamp(end));
    let bits = |s: SeriesData| (s.labels, s.samples.into_iter().map(|(t, v)| (t.0, v.to_bits())).collect());
    let mut series: Vec<_> = series.into_iter().map(bits).collect();
    series.sort();
    series
}

#[test]
fn matchers_select_as_in_prometheus() {
    let storage = Storage::new(Config::default());
    let names = [
        ("a", series(&[("__name__", "m"), ("n", "1")])),
        ("b", series(&[("__name__", "m"), ("n", "1"), ("i", "a")])),
        ("c", series(&[("__name__", "m"), ("n", "1"), ("i", "b")])),
        ("d", series(&[("__name__", "m"), ("n", "2")])),
        ("e", series(&[("__name__", "m"), ("n", "2.5")])),
    ];
    let batch: Vec<_> = names.iter().map(|(_, labels)| sample(labels, 0, 1.0)).collect();
    storage.append(&batch, Timestamp(0));
    // After TestPostingsForMatchers in prometheus tsdb/querier_test.go.
    for (selector, expected) in [
        (vec![], "abcde"),
        (vec![("n", "=", "1")], "abc"),
        (vec![("n", "=", "1"), ("i", "=", "a")], "b"),
        (vec![("n", "=", "1"), ("i", "=", "missing")], ""),
        (vec![("missing", "=", "")], "abcde"),
        (vec![("missing", "!=", "")], ""),
        (vec![("missing", "=~", ".+")], ""),
        (vec![("n", "!=", "1")], "de"),
        (vec![("i", "!=", "")], "bc"),
        (vec![("missing", "!=", "x")], "abcde"),
        (vec![("n", "=", "1"), ("i", "!=", "a")], "ac"),
        (vec![("n", "=", "1"), ("i", "!=", "")], "bc"),
        (vec![("n", "=~", "^1$")], "abc"),
        (vec![("n", "=", "1"), ("i", "=~", "^a$")], "b"),
        (vec![("n", "=", "1"), ("i", "=~", "^a?$")], "ab"),
        (vec![("i", "=~", "^$")], "ade"),
        (vec![("n", "=", "1"), ("i", "=~", "^.*$")], "abc"),
        (vec![("n", "=", "1"), ("i", "=~", "^.+$")], "bc"),
        (vec![("n", "!~", "^1$")], "de"),
        (vec![("n", "!~", "1|2")], "e"),
        (vec![("n", "!~", "1|2.5")], "d"),
        (vec![("n", "=", "1"), ("i", "!~", "^a$")], "ac"),
        (vec![("n", "=", "1"), ("i", "!~", "^a?$")], "c"),
        (vec![("i", "!~", "^.*$")], ""),
        (vec![("n", "=", "1"), ("i", "!~", "^.+$")], "a"),
        (vec![("n", "=", "1"), ("i", "!=", ""), ("i", "=", "a")], "b"),
        (vec![("n", "=", "1"), ("i", "!=", "b"), ("i", "=~", "^(b|a).*$")], "b"),
        (vec![("n", "=~", "2|2\\.5")], "de"),
        (vec![("n", "!~", "x"), ("i", "=~", "[ab]")], "bc"),
        (vec![("n", "=~", "2.*")], "de"),
        (vec![("n", "!~", "2.*")], "abc"),
        (vec![("n", "=~", "2.+")], "e"),
        (vec![("i", "=~", "|a")], "abde"),
        (vec![("i", "!~", "|a")], "c"),
        (vec![("i", "!~", ".+")], "ade"),
        (vec![("i", "!~", "a.*")], "acde"),
        (vec![("i", "!=", "a"), ("n", "!=", "1")], "de"),
    ] {
        let matchers: Vec<_> = selector.iter().map(|(name, op, value)| matcher(name, op, value)).collect();
        let found = storage.series_labels(&matchers, ALWAYS.0, ALWAYS.1);
        let letters: String = names.iter().filter(|(_, l)| found.contains(l)).map(|(letter, _)| *letter).collect();
        assert_eq!(letters, expected, "{selector:?}");
        assert_eq!(storage.select(&matchers, ALWAYS.0, ALWAYS.1).len(), expected.len(), "{selector:?}");
    }
}

#[test]
fn label_names_and_values_are_those_of_series_alive_in_the_range() {
    let storage = Storage::new(Config::default());
    let (old, new) = (series(&[("__name__", "m"), ("old", "1")]), series(&[("__name__", "m"), ("new", "2")]));
    storage.append(&[sample(&old, 1_000, 1.0), sample(&new, 90_000, 1.0)], Timestamp(90_000));
    let m = [matcher("__name__", "=", "m")];
    assert_eq!(storage.label_names(&m, ALWAYS.0, ALWAYS.1), ["__name__", "new", "old"]);
    assert_eq!(storage.label_names(&m, Timestamp(2_000), Timestamp(90_000)), ["__name__", "new"]);
    assert_eq!(storage.label_values("old", &[], ALWAYS.0, ALWAYS.1), ["1"]);
    assert_eq!(storage.label_values("old", &[], Timestamp(1_000), ALWAYS.1), [""; 0]);
}

#[test]
fn new_series_alone_are_refused_while_memory_is_short() {
    let storage = Storage::new(Config::default());
    let known = series(&[("__name__", "up"), ("job", "a")]);
    let new = series(&[("__name__", "up"), ("job", "b")]);
    let batch = |time: i64| [sample(&known, time, 1.0), sample(&new, time, 1.0)];
    assert_eq!(storage.append(&batch(1)[..1], Timestamp(1)).appended, 1);
    storage.memory_is_short(true);
    let report = storage.append(&batch(2), Timestamp(2));
    assert_eq!((report.appended, report.refused.get(Refusal::MemoryLimit)), (1, 1));
    let row = Row {
        time: Timestamp(2),
        new: vec![NewSeries { labels: new.clone(), time: None, value: 1.0 }],
        ..Row::default()
    };
    let report = storage.append_row(&storage.group(0), &row, Timestamp(2));
    assert_eq!((report.slots, report.append.refused.get(Refusal::MemoryLimit)), (vec![None], 1));
    storage.memory_is_short(false);
    assert_eq!(storage.append(&batch(3), Timestamp(3)).appended, 2);
}

#[test]
fn a_job_with_as_many_series_as_it_may_have_gets_no_new_ones_by_a_push() {
    let storage = Storage::new(Config::default());
    let limits = JobLimits { by_job: [("a".to_owned(), 2)].into(), others: Some(1) };
    let at = |name: &str, job: &str, time: i64| sample(&series(&[("__name__", name), ("job", job)]), time, 1.0);
    let push = |samples: &[Sample], now: i64| {
        let report = storage.append_pushed(samples, Timestamp(now), &limits);
        (report.appended, report.refused.get(Refusal::JobSeriesLimit))
    };
    assert_eq!(push(&[at("x", "a", 1), at("y", "a", 1), at("z", "a", 1), at("x", "b", 1), at("y", "b", 1)], 1), (3, 2));
    // Those that are known go on, also where the limit is lower than what there is.
    assert_eq!(storage.append(&[at("z", "a", 2)], Timestamp(2)).appended, 1);
    assert_eq!(push(&[at("x", "a", 3), at("y", "a", 3), at("z", "a", 3), at("w", "a", 3)], 3), (3, 1));
    let histogram = |name: &str| HistogramSample {
        labels: series(&[("__name__", name), ("job", "c")]),
        timestamp: Timestamp(4),
        histogram: Histogram::default(),
    };
    let report = storage.append_pushed_histograms(&[histogram("h"), histogram("i")], Timestamp(4), &limits);
    assert_eq!((report.appended, report.refused.get(Refusal::JobSeriesLimit)), (1, 1));
    // What is gone makes room.
    storage.expire(Timestamp(5) + Config::default().retention);
    assert_eq!(push(&[at("w", "a", 30_000_000)], 30_000_000), (1, 0));
}

#[test]
fn a_full_store_refuses_new_series_and_keeps_taking_samples_of_known_ones() {
    let storage = Storage::new(Config { series_max: Some(1), ..Config::default() });
    let (known, unknown) = (series(&[("a", "1")]), series(&[("a", "2")]));
    storage.append(&[sample(&known, 0, 1.0)], Timestamp(0));
    let report = storage.append(&[sample(&known, 1, 1.0), sample(&unknown, 1, 1.0)], Timestamp(1));
    assert_eq!((report.appended, report.refused.get(Refusal::SeriesLimit)), (1, 1));
    assert_eq!(storage.stats().refused_total.iter().collect::<Vec<_>>(), [(Refusal::SeriesLimit, 1)]);

    let later = Timestamp(0) + Config::default().retention + Duration::from_secs(60);
    storage.expire(later);
    assert_eq!(storage.append(&[sample(&unknown, later.0, 1.0)], later).appended, 1);
}

#[test]
fn readers_run_beside_the_writer_and_see_whole_batches() {
    let storage = Storage::new(Config::default());
    let all: Vec<Labels> = (0..50).map(|i| series(&[("__name__", "m"), ("i", &i.to_string())])).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for time in 1..200 {
                let batch: Vec<_> = all.iter().map(|labels| sample(labels, time, time as f64)).collect();
                storage.append(&batch, Timestamp(time));
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                let mut newest = 0;
                while newest < 199 {
                    let series = storage.select(&[matcher("__name__", "=", "m")], ALWAYS.0, ALWAYS.1);
                    let ends: Vec<_> = series.iter().filter_map(|s| s.samples.last().map(|(t, _)| t.0)).collect();
                    assert!(ends.iter().all(|end| *end == ends[0]), "a batch was seen in part: {ends:?}");
                    newest = ends.first().copied().unwrap_or(newest);
                }
            });
        }
    });
}
