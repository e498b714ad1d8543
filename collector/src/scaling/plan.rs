//! Schedules and the time -> wanted bounds; wanted, actual and objections -> what to do. Pure.

use telemetry::Timestamp;

use super::schedule::{Bounds, Change, Resource, Schedule};

/// What a schedule wants of one service now.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    pub resource: Resource,
    pub schedule: String,
    pub timezone: String,
    pub window: Option<String>,
    pub bounds: Bounds,
    pub next: Option<Change>,
}

impl Wanted {
    /// For people: why these bounds are wanted.
    pub fn reason(&self) -> String {
        match &self.window {
            Some(window) => format!("window {window} {} of schedule {}", self.timezone, self.schedule),
            None => format!("default of schedule {}", self.schedule),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// AWS has what is wanted.
    Keep,
    Apply(Bounds),
    /// Lowering has to wait; what is to be raised is raised.
    Hold {
        raise: Option<Bounds>,
        why: String,
    },
}

/// The wanted bounds of every service that has a schedule.
pub fn wanted(schedules: &[Schedule], now: Timestamp) -> Vec<Wanted> {
    let of = |schedule: &Schedule| {
        let position = schedule.at(now);
        let want = |resource: &Resource| Wanted {
            resource: resource.clone(),
            schedule: schedule.name.clone(),
            timezone: schedule.timezone.name().to_owned(),
            window: position.window.clone(),
            bounds: position.bounds,
            next: position.next.clone(),
        };
        schedule.targets.iter().map(want).collect::<Vec<_>>()
    };
    schedules.iter().flat_map(of).collect()
}

/// Whether going from `actual` to `wanted` can take tasks away. Without a scalable target that depends on `desired`.
pub fn is_reduction(wanted: Bounds, actual: Option<Bounds>, desired: Option<u32>) -> bool {
    match (actual, desired) {
        (Some(actual), _) => wanted.min < actual.min || wanted.max < actual.max,
        (None, Some(desired)) => desired > wanted.max,
        (None, None) => true,
    }
}

/// `objection` is asked for only where bounds would be lowered.
pub fn decide(wanted: Bounds, actual: Option<Bounds>, reduction: bool, objection: Option<String>) -> Decision {
    match (actual, objection) {
        (Some(actual), _) if actual == wanted => Decision::Keep,
        (Some(actual), Some(why)) if reduction => {
            let raised = Bounds { min: wanted.min.max(actual.min), max: wanted.max.max(actual.max) };
            Decision::Hold { raise: (raised != actual).then_some(raised), why }
        }
        (None, Some(why)) if reduction => Decision::Hold { raise: None, why },
        _ => Decision::Apply(wanted),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bounds(min: u32, max: u32) -> Bounds {
        Bounds { min, max }
    }

    #[test]
    fn objections_hold_reductions_back_and_never_increases() {
        let held = |raise: Option<Bounds>| Decision::Hold { raise, why: "alert".to_owned() };
        for (wanted, actual, objects, expected) in [
            (bounds(2, 4), Some(bounds(2, 4)), true, Decision::Keep),
            (bounds(2, 4), Some(bounds(1, 2)), true, Decision::Apply(bounds(2, 4))),
            (bounds(1, 2), Some(bounds(2, 4)), false, Decision::Apply(bounds(1, 2))),
            (bounds(1, 2), Some(bounds(2, 4)), true, held(None)),
            (bounds(1, 6), Some(bounds(2, 4)), true, held(Some(bounds(2, 6)))),
            (bounds(3, 3), Some(bounds(2, 4)), true, held(Some(bounds(3, 4)))),
            (bounds(1, 2), None, false, Decision::Apply(bounds(1, 2))),
        ] {
            let reduction = is_reduction(wanted, actual, Some(1));
            let objection = objects.then(|| "alert".to_owned());
            assert_eq!(decide(wanted, actual, reduction, objection), expected, "{wanted} {actual:?}");
        }
        assert!(is_reduction(bounds(1, 2), None, Some(3)), "a first registration may take tasks away too");
        assert!(!is_reduction(bounds(1, 2), None, Some(2)));
    }

    proptest! {
        /// Whatever an objection lets through lowers nothing and has its minimum below its maximum.
        #[test]
        fn under_an_objection_no_bound_falls(a in 0u32..9, b in 0u32..9, c in 0u32..9, d in 0u32..9) {
            let (wanted, actual) = (bounds(a.min(b), a.max(b)), bounds(c.min(d), c.max(d)));
            let reduction = is_reduction(wanted, Some(actual), None);
            let set = match decide(wanted, Some(actual), reduction, Some("no".to_owned())) {
                Decision::Keep => actual,
                Decision::Apply(bounds) => bounds,
                Decision::Hold { raise, .. } => raise.unwrap_or(actual),
            };
            prop_assert!(set.min >= actual.min && set.max >= actual.max && set.min <= set.max);
        }
    }
}
