//! What is measured, and what each figure is held against.

/// A line of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measure {
    pub name: &'static str,
    pub bound: Bound,
}

/// Below the gate the work may be called done; the goal is what we are after.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// A share of what this peer takes in the same run.
    Share {
        of: &'static str,
        gate: f64,
        goal: Option<f64>,
    },
    /// By itself.
    Most {
        gate: f64,
        goal: f64,
    },
    /// By itself.
    Least {
        gate: f64,
    },
    None,
}

pub const PROMETHEUS: &str = "prometheus";
pub const VICTORIA_METRICS: &str = "victoriametrics";

const fn beside(name: &'static str, of: &'static str, gate: f64, goal: f64) -> Measure {
    Measure { name, bound: Bound::Share { of, gate, goal: Some(goal) } }
}

impl Measure {
    pub const RECEIVE: Measure = beside("CPU per received sample, us", VICTORIA_METRICS, 0.8, 0.33);
    pub const SCRAPE: Measure = beside("CPU per scraped sample, us", PROMETHEUS, 0.4, 0.1);
    pub const RESIDENT: Measure = beside("resident bytes per series", VICTORIA_METRICS, 0.75, 0.33);
    pub const RULE: Measure = beside("CPU per rule, us", PROMETHEUS, 0.1, 0.03);
    pub const ALERT_QUERIES: Measure = beside("alert queries by service, warm, CPU ms", PROMETHEUS, 0.1, 0.04);
    pub const RULE_MIX: Measure = beside("15 rule shapes, CPU ms", PROMETHEUS, 0.15, 0.05);
    pub const RANGE: Measure = beside("p99 by service, 1 h every 30 s, CPU ms", VICTORIA_METRICS, 0.5, 0.12);
    pub const WRITTEN: Measure = beside("bytes written per sample", PROMETHEUS, 0.6, 0.33);
    pub const STORED: Measure = beside("bytes stored per sample", VICTORIA_METRICS, 0.8, 0.5);
    /// The goal is in seconds, and another for each number of series: 0.3 s at 100,000, 1 s at 500,000.
    pub const READY: Measure =
        Measure { name: "ready after kill -9, s", bound: Bound::Share { of: PROMETHEUS, gate: 0.3, goal: None } };
    /// VictoriaMetrics loses what it has not written yet.
    pub const KEPT: Measure =
        Measure { name: "series at the last scrape it still has, %", bound: Bound::Least { gate: 100.0 } };
    /// The two of a million series on two cores.
    pub const SHARE_OF_CORE: Measure =
        Measure { name: "cores, scraping and rules", bound: Bound::Most { gate: 1.0, goal: 0.6 } };
    pub const GIBIBYTES: Measure =
        Measure { name: "resident memory, GiB", bound: Bound::Most { gate: 4.0, goal: 1.5 } };

    /// A figure that is held against nothing.
    pub const fn plain(name: &'static str) -> Measure {
        Measure { name, bound: Bound::None }
    }
}

impl Bound {
    /// Gate, goal and what came of it, as the table shows them; `ratio` gives our share of a peer, if there is that peer.
    pub fn verdict(self, own: f64, ratio: impl Fn(&str) -> Option<f64>) -> [String; 3] {
        match self {
            Bound::Share { of, gate, goal } => [
                format!("<= {gate}x {}", if of == PROMETHEUS { "Prom" } else { "VM" }),
                goal.map_or_else(String::new, |goal| format!("<= {goal}x")),
                ratio(of).map_or_else(|| "no peer".to_owned(), |ratio| held(ratio, gate, goal)),
            ],
            Bound::Most { gate, goal } => [format!("<= {gate}"), format!("<= {goal}"), held(own, gate, Some(goal))],
            Bound::Least { gate } => {
                [format!(">= {gate}"), String::new(), if own >= gate { "held" } else { "MISSED" }.to_owned()]
            }
            Bound::None => Default::default(),
        }
    }
}

fn held(figure: f64, gate: f64, goal: Option<f64>) -> String {
    match () {
        () if goal.is_some_and(|goal| figure <= goal) => "goal",
        () if figure <= gate => "held",
        () => "MISSED",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_held_missed_or_has_no_peer() {
        let verdict = |ratio: Option<f64>| Measure::SCRAPE.bound.verdict(1.0, |_| ratio)[2].clone();
        assert_eq!(verdict(Some(0.4)), "held");
        assert_eq!(verdict(Some(0.41)), "MISSED");
        assert_eq!(verdict(Some(0.1)), "goal");
        assert_eq!(verdict(None), "no peer");
        assert_eq!(Measure::KEPT.bound.verdict(99.9, |_| None)[2], "MISSED");
        assert_eq!(Measure::GIBIBYTES.bound.verdict(1.6, |_| None)[2], "held");
    }
}
