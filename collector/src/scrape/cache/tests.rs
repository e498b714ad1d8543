use telemetry::exposition::Order;

use super::*;

/// A table with the slots that a store would give.
#[derive(Default)]
struct Rig {
    table: SeriesTable,
    numbers: BTreeMap<&'static str, u32>,
    slots: BTreeMap<Labels, u32>,
    row: Row,
}

impl Rig {
    /// One good scrape with these lines; returns the slots that it marks as gone and those that it releases.
    fn scrape(&mut self, lines: &[&'static str]) -> (Vec<u32>, Vec<u32>) {
        self.row.clear();
        self.table.begin();
        let mut order = Order::Same;
        for line in lines {
            self.line(line, None, &mut order);
        }
        self.numbers.retain(|line, _| {
            let kept = lines.contains(line);
            order = if kept { order } else { Order::Other };
            kept
        });
        self.table.commit(order, &mut self.row);
        self.stored();
        self.outcome()
    }

    fn line(&mut self, line: &'static str, own_time: Option<Timestamp>, order: &mut Order) {
        let number = *self.numbers.entry(line).or_insert_with(|| {
            *order = Order::Other;
            // The text's letters in order stand for its labels.
            let mut letters: Vec<char> = line.chars().collect();
            letters.sort_unstable();
            self.table.learn(Some(Labels::from_pairs([("__name__", letters.into_iter().collect::<String>())])))
        });
        assert!(self.table.see(number, own_time.is_some()));
        self.table.add(number, own_time, 1.0, &mut self.row);
    }

    fn stored(&mut self) -> Option<Row> {
        let mut slot = |labels: &Labels| {
            let known = self.slots.get(labels).copied();
            let slot = known.unwrap_or(self.slots.len() as u32);
            self.slots.insert(labels.clone(), slot);
            Some(slot)
        };
        let slots: Vec<Option<u32>> = self.row.new.iter().map(|new| slot(&new.labels)).collect();
        self.table.place(&slots, Timestamp(1000))
    }

    fn failure(&mut self) -> Vec<u32> {
        self.row.clear();
        self.table.begin();
        self.table.end_all(&mut self.row);
        self.outcome().0
    }

    fn outcome(&self) -> (Vec<u32>, Vec<u32>) {
        (self.row.ended.clone(), self.row.released.clone())
    }

    fn slot(&self, name: &str) -> u32 {
        self.slots[&Labels::from_pairs([("__name__", name)])]
    }
}

#[test]
fn a_series_that_vanishes_is_marked_once() {
    let mut rig = Rig::default();
    assert_eq!(rig.scrape(&["a", "b", "c"]), (vec![], vec![]));
    assert_eq!(rig.row.new.len(), 3);
    let (a, b, c) = (rig.slot("a"), rig.slot("b"), rig.slot("c"));
    assert_eq!(rig.scrape(&["b"]), (vec![a, c], vec![a, c]));
    assert_eq!(rig.row.values[0], (b, 1.0));
    assert_eq!(rig.scrape(&["b"]), (vec![], vec![]));
    assert_eq!(rig.scrape(&["a", "b"]), (vec![], vec![]));
    assert_eq!(rig.scrape(&["a"]), (vec![b], vec![b]));
}

#[test]
fn a_failed_scrape_marks_everything_once_and_a_good_one_brings_it_back() {
    let mut rig = Rig::default();
    rig.scrape(&["a", "b"]);
    let (a, b) = (rig.slot("a"), rig.slot("b"));
    assert_eq!(rig.failure(), [a, b]);
    assert_eq!(rig.failure(), [0; 0]);
    assert_eq!(rig.scrape(&["a"]), (vec![], vec![b]), "b has its marker already");
    assert_eq!(rig.row.values, [(a, 1.0)]);
    assert_eq!(rig.scrape(&[]), (vec![a], vec![a]));
}

#[test]
fn the_same_series_written_differently_is_not_gone() {
    let mut rig = Rig::default();
    rig.scrape(&["xy"]);
    let slot = rig.slot("xy");
    // Only the store knows that both are one: it lets the sample win and leaves the slot to the new line.
    assert_eq!(rig.scrape(&["yx"]), (vec![slot], vec![slot]));
    assert_eq!(rig.scrape(&["yx", "xy"]), (vec![], vec![]));
    assert_eq!(rig.scrape(&["yx"]), (vec![], vec![]));
    assert_eq!(rig.scrape(&[]).0, [rig.slot("xy")]);
}

#[test]
fn new_rules_mark_only_what_they_no_longer_let_through() {
    let mut rig = Rig::default();
    rig.scrape(&["a", "b"]);
    rig.table.forget();
    rig.numbers.clear();
    rig.row.clear();
    rig.table.begin();
    rig.line("a", None, &mut Order::Other);
    rig.table.commit(Order::Other, &mut rig.row);
    let rest = rig.stored().unwrap();
    let b = rig.slot("b");
    assert_eq!((rest.values.len(), rest.ended, rest.released), (0, vec![b], vec![b]));
}

#[test]
fn series_with_their_own_timestamps_are_not_marked() {
    let mut rig = Rig::default();
    rig.table.begin();
    rig.line("a", Some(Timestamp(5)), &mut Order::Other);
    rig.table.commit(Order::Other, &mut rig.row);
    assert_eq!(rig.row.new[0].time, Some(Timestamp(5)));
    rig.stored();
    let a = rig.slot("a");
    assert_eq!(rig.scrape(&[]), (vec![], vec![a]));
}

#[test]
fn what_the_store_refuses_is_offered_again_and_never_marked() {
    let mut rig = Rig::default();
    rig.table.begin();
    rig.line("a", None, &mut Order::Other);
    rig.table.commit(Order::Other, &mut rig.row);
    rig.table.place(&[None], Timestamp(1000));
    assert_eq!(rig.scrape(&["a"]), (vec![], vec![]));
    assert_eq!(rig.row.new.len(), 1);
    assert_eq!(rig.scrape(&["a"]).0, [0; 0]);
    assert_eq!((rig.row.new.len(), rig.row.values.len()), (0, 1));
}

#[test]
fn a_target_that_keeps_failing_gives_its_slots_back() {
    let mut rig = Rig::default();
    rig.scrape(&["a", "b"]);
    for _ in 0..FAILURES_KEPT {
        assert!(!rig.table.is_worthless());
        rig.failure();
    }
    assert!(rig.table.is_worthless());
    rig.table.release_all(&mut rig.row);
    assert_eq!(rig.row.released, [rig.slot("a"), rig.slot("b")]);
    assert!(!rig.table.is_worthless());
}
