//! The index compared with one as simple as can be.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use telemetry::{Labels, MatchOp, Matcher};

use super::ids::{Ids, gallop};
use super::{Index, SeriesKey};

/// Of targets with lines, as they come; few enough for series to come again.
fn labels(target: u32, line: u32) -> Labels {
    let (instance, number, path) =
        (format!("instance-{target}"), format!("{:.2}", line % 7), format!("/api/{}", line / 14));
    let mut pairs = vec![("__name__", if line % 5 < 3 { "requests_total" } else { "seconds_bucket" })];
    pairs.extend([("instance", &*instance), ("job", if target % 3 < 2 { "orders" } else { "payments" })]);
    if line % 14 < 12 {
        pairs.push(("le", &number));
    }
    if line % 40 != 39 {
        pairs.push(("path", &path));
    }
    // One that has nothing at all.
    Labels::from_pairs(if (target, line) == (0, 39) { Vec::new() } else { pairs })
}

/// With more pairs than a set has bits for.
fn long_labels(target: u32, len: usize) -> Labels {
    let pairs = (0..len).map(|at| (format!("label_{at:03}"), format!("value-{}", at as u32 % (target + 1))));
    Labels::from_pairs(pairs)
}

#[derive(Clone, Debug)]
enum Step {
    /// Lines of a target come, those that are there already excepted.
    Come {
        target: u32,
        lines: std::ops::Range<u32>,
    },
    Long {
        target: u32,
        len: usize,
    },
    /// Series of which `ids % of == rest` go.
    Go {
        of: u32,
        rest: u32,
    },
    /// All of a target goes.
    End(u32),
    /// As after a restart: each series has its id again, in another order.
    Restore {
        turned: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let come =
        (0..6u32, 0..40u32, 1..120u32).prop_map(|(target, from, len)| Step::Come { target, lines: from..from + len });
    let long = (0..4u32, 60..140usize).prop_map(|(target, len)| Step::Long { target, len });
    let go = (1..7u32).prop_flat_map(|of| (Just(of), 0..of)).prop_map(|(of, rest)| Step::Go { of, rest });
    let restore = any::<bool>().prop_map(|turned| Step::Restore { turned });
    let step = prop_oneof![8 => come, 1 => long, 3 => go, 2 => (0..6u32).prop_map(Step::End), 1 => restore];
    prop::collection::vec(step, 1..25)
}

/// Which series live, by id, and what has lived.
#[derive(Default)]
struct Model {
    series: BTreeMap<u32, Labels>,
    gone: Vec<(u32, u32)>,
}

impl Model {
    fn come(&mut self, index: &mut Index, labels: Labels) {
        let known = self.series.iter().find(|(_, known)| **known == labels).map(|(id, _)| *id);
        assert_eq!(index.find(&labels), known);
        if known.is_none() {
            let id = index.insert(&labels);
            let lowest = (0..).find(|id| !self.series.contains_key(id));
            assert_eq!(Some(id), lowest, "the lowest that is free");
            assert!(self.series.insert(id, labels).is_none());
        }
    }

    fn go(&mut self, index: &mut Index, is_dead: impl Fn(u32, &Labels) -> bool) {
        let dead: Vec<u32> = self.series.iter().filter(|(id, set)| is_dead(**id, set)).map(|(id, _)| *id).collect();
        let keys: Vec<_> = dead.iter().map(|id| index.key(*id)).collect();
        assert!(keys.iter().all(|key| index.lives(*key)));
        index.remove(&dead);
        // Twice is no more than once.
        index.remove(&dead);
        for key in keys {
            assert!(!index.lives(key));
            self.series.remove(&key.id);
            self.gone.push((key.id, key.generation));
        }
    }

    fn select(&self, matchers: &[Matcher]) -> Vec<u32> {
        let accepted = |labels: &Labels| matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or_default()));
        self.series.iter().filter(|(_, labels)| accepted(labels)).map(|(id, _)| *id).collect()
    }
}

fn restored(model: &Model, ids_len: usize, turned: bool) -> Index {
    let mut index = Index::default();
    index.reserve_ids(ids_len);
    let mut series: Vec<_> = model.series.iter().collect();
    if turned {
        series.reverse();
    }
    for (id, labels) in &series {
        assert_eq!(index.insert_at(**id, labels), Some(()));
        assert_eq!(index.insert_at(**id, labels), Some(()), "it is there already");
        assert_eq!(index.insert_at(**id, &Labels::from_pairs([("another", "series")])), None);
        assert_eq!(index.insert_at(ids_len as u32, labels), None, "it has another id");
    }
    index.find_free_ids();
    index
}

fn matchers() -> Vec<Vec<Matcher>> {
    let matcher = |name: &str, op, value: &str| Matcher::new(name, op, value).unwrap();
    let name = Matcher::equal("__name__", "seconds_bucket");
    vec![
        vec![],
        vec![name.clone()],
        vec![name.clone(), Matcher::equal("instance", "instance-3")],
        vec![name.clone(), matcher("le", MatchOp::Regex, "[1-4].*")],
        vec![name.clone(), matcher("le", MatchOp::NotRegex, "1.00|4.00"), Matcher::equal("job", "orders")],
        vec![name, matcher("path", MatchOp::Equal, "")],
        vec![matcher("le", MatchOp::NotEqual, "")],
        vec![matcher("path", MatchOp::NotEqual, "/api/0"), matcher("instance", MatchOp::Regex, "instance-[12]")],
        vec![matcher("path", MatchOp::Regex, "/api/.|")],
        vec![matcher("label_070", MatchOp::Regex, "value-.")],
        vec![matcher("nowhere", MatchOp::NotEqual, "a"), matcher("le", MatchOp::Regex, "5.00|3.00")],
        vec![matcher("nowhere", MatchOp::Regex, ".+")],
    ]
}

/// Ids near each other, and across the edges of pieces.
fn some_ids() -> impl Strategy<Value = Vec<u32>> {
    let id = prop_oneof![6 => 0..60u32, 3 => 32_750..32_790u32, 1 => 98_290..98_320u32, 1 => u32::MAX - 3..u32::MAX];
    prop::collection::vec(id, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn the_index_equals_a_naive_model(steps in steps()) {
        let (mut index, mut model) = (Index::default(), Model::default());
        for step in steps {
            match step {
                Step::Come { target, lines } => lines.for_each(|line| model.come(&mut index, labels(target, line))),
                Step::Long { target, len } => model.come(&mut index, long_labels(target, len)),
                Step::Go { of, rest } => model.go(&mut index, |id, _| id % of == rest),
                Step::End(target) => {
                    let instance = format!("instance-{target}");
                    model.go(&mut index, |_, labels| labels.get("instance") == Some(&instance));
                }
                Step::Restore { turned } => {
                    index = restored(&model, index.ids_len(), turned);
                    model.gone.clear();
                }
            }
            prop_assert_eq!(index.len(), model.series.len());
        }
        let ids: Vec<u32> = model.series.keys().copied().collect();
        prop_assert_eq!(index.ids(), ids.clone());
        let all: Vec<_> = model.series.clone().into_iter().collect();
        prop_assert_eq!(index.labels_of(ids).collect::<Vec<_>>(), all);
        for (id, labels) in &model.series {
            prop_assert_eq!(index.find(labels), Some(*id));
            prop_assert_eq!(&index.labels(*id), labels);
            prop_assert!(index.is_alive(*id) && index.lives(index.key(*id)));
        }
        for (id, generation) in &model.gone {
            let key = SeriesKey { id: *id, generation: *generation };
            prop_assert!(!index.lives(key));
        }
        for matchers in matchers() {
            prop_assert_eq!(index.select(&matchers), model.select(&matchers), "{:?}", matchers);
        }
        let orders = model.select(&[Matcher::equal("job", "orders")]).len();
        prop_assert_eq!(index.len_with("job", "orders"), orders);
    }

    #[test]
    fn ids_equal_a_plain_set(coming in some_ids(), going in some_ids(), asked in some_ids()) {
        let (mut ids, mut plain) = (Ids::default(), BTreeSet::new());
        for id in coming {
            if plain.insert(id) {
                ids.insert(id);
            }
        }
        for id in going {
            plain.remove(&id);
            ids.remove(id);
            prop_assert_eq!(ids.len(), plain.len());
        }
        let mut all = Vec::new();
        ids.add_to(&mut all);
        prop_assert_eq!(&all, &plain.iter().copied().collect::<Vec<_>>());
        let again: Ids = ids.runs().collect();
        prop_assert_eq!(again.runs().collect::<Vec<_>>(), ids.runs().collect::<Vec<_>>());
        for within in [true, false] {
            let mut some: Vec<u32> = asked.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
            let expected: Vec<u32> = some.iter().copied().filter(|id| plain.contains(id) == within).collect();
            ids.retain(&mut some, within);
            prop_assert_eq!(some, expected);
        }
        prop_assert_eq!(ids.pop_first(), plain.pop_first());
        prop_assert_eq!(ids.len(), plain.len());
    }

    #[test]
    fn gallop_finds_what_a_plain_search_finds(mut ids in prop::collection::vec(0..200u32, 0..100), id in 0..210u32) {
        ids.sort_unstable();
        ids.dedup();
        prop_assert_eq!(gallop(&ids, |i| *i < id), ids.partition_point(|i| *i < id));
    }
}

/// A fleet of tasks comes and goes all the time: what is held must not grow by that.
#[test]
fn ids_and_pairs_are_used_again() {
    let mut index = Index::default();
    for target in 0..50 {
        let dead: Vec<u32> = (0..200).map(|line| index.insert(&labels(target, line + 40))).collect();
        assert_eq!(dead, (0..200).collect::<Vec<_>>());
        index.remove(&dead);
    }
    assert_eq!((index.ids_len(), index.len(), index.created_total()), (200, 0, 10_000));
    assert_eq!(index.select(&[Matcher::equal("job", "orders")]), Vec::<u32>::new());
}
