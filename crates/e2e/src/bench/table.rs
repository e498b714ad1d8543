//! The figures of all runs: medians, our share of each peer's with what lies between the least and the greatest of the
//! runs, and whether the gate is held.

use std::fmt;

use super::gates::Measure;

/// Rows in the order in which they first came, columns by server.
#[derive(Default)]
pub struct Table {
    servers: Vec<&'static str>,
    rows: Vec<(Measure, Vec<Vec<Option<f64>>>)>,
}

impl Table {
    /// A run begins; each has the same servers.
    pub fn begin(&mut self, servers: impl Iterator<Item = &'static str>) {
        self.servers = servers.collect();
    }

    /// One run's figures of one kind, by server.
    pub fn row(&mut self, measure: Measure, figures: impl IntoIterator<Item = f64>) {
        self.row_of_some(measure, figures.into_iter().map(Some).collect());
    }

    /// The same where a server may have none.
    pub fn row_of_some(&mut self, measure: Measure, figures: Vec<Option<f64>>) {
        match self.rows.iter_mut().find(|(known, _)| known.name == measure.name) {
            Some((_, runs)) => runs.push(figures),
            None => self.rows.push((measure, vec![figures])),
        }
    }
}

/// The median, the least and the greatest; None of nothing.
fn spread(figures: impl Iterator<Item = Option<f64>>) -> Option<(f64, f64, f64)> {
    let mut figures: Vec<f64> = figures.flatten().collect();
    figures.sort_by(f64::total_cmp);
    let (first, last) = (*figures.first()?, *figures.last()?);
    let middle = figures.len() / 2;
    let median = if figures.len() % 2 == 1 { figures[middle] } else { (figures[middle - 1] + figures[middle]) / 2.0 };
    Some((median, first, last))
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{:<44}", "")?;
        self.servers.iter().try_for_each(|server| write!(f, "{server:>16}"))?;
        self.servers.iter().skip(1).try_for_each(|server| write!(f, "{:>26}", format!("/ {server}")))?;
        write!(f, "{:>14}{:>10}  ", "gate", "goal")?;
        for (measure, runs) in &self.rows {
            write!(f, "\n{:<44}", measure.name)?;
            let of = |server: usize| spread(runs.iter().map(|figures| figures[server]));
            let share = |peer: usize| {
                spread(runs.iter().map(|figures| Some(figures[0]? / figures[peer]?).filter(|share| share.is_finite())))
            };
            for server in 0..self.servers.len() {
                let figure = of(server).map_or("-".to_owned(), |(median, ..)| format!("{median:.3}"));
                write!(f, "{figure:>16}")?;
            }
            for peer in 1..self.servers.len() {
                let ratio = share(peer)
                    .map_or("-".to_owned(), |(median, least, most)| format!("{median:.3}x ({least:.3}-{most:.3})"));
                write!(f, "{ratio:>26}")?;
            }
            let own = of(0).map_or(f64::NAN, |(median, ..)| median);
            let peer = |name: &str| self.servers.iter().position(|server| *server == name).filter(|peer| *peer > 0);
            let [gate, goal, verdict] =
                measure.bound.verdict(own, |name| share(peer(name)?).map(|(median, ..)| median));
            write!(f, "{gate:>14}{goal:>10}  {verdict}")?;
        }
        writeln!(
            f,
            "\nRatios are the collector's share, medians and in brackets the least and the greatest of the runs. Resident memory"
        )?;
        writeln!(
            f,
            "includes the program itself; bytes stored are all in the data directory while the server runs, index, logs and"
        )?;
        write!(f, "checkpoints included; VictoriaMetrics loses at a kill what it has not written yet.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(table: &Table, begins: &str) -> Vec<String> {
        let text = table.to_string();
        let line = text.lines().find(|line| line.starts_with(begins)).expect("a row");
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn ratios_are_of_one_run_each_and_their_median_is_shown() {
        let mut table = Table::default();
        table.begin(["ours", "theirs"].into_iter());
        for (ours, theirs) in [(1.0, 2.0), (3.0, 4.0), (1.0, 10.0)] {
            table.row(Measure::plain("bytes"), [ours, theirs]);
        }
        assert_eq!(row(&table, "bytes"), ["bytes", "1.000", "4.000", "0.500x", "(0.100-0.750)"]);
    }

    #[test]
    fn a_gate_is_held_by_the_median_against_its_own_peer() {
        let mut table = Table::default();
        table.begin(["collector", "prometheus", "victoriametrics"].into_iter());
        table.row(Measure::SCRAPE, [0.3, 1.0, 0.1]);
        table.row(Measure::RESIDENT, [0.9, 9.0, 1.0]);
        table.row_of_some(Measure::RULE, vec![Some(0.01), Some(1.0), None]);
        assert_eq!(row(&table, "CPU per scraped").last().map(String::as_str), Some("held"));
        assert_eq!(row(&table, "resident bytes").last().map(String::as_str), Some("MISSED"));
        assert_eq!(row(&table, "CPU per rule").last().map(String::as_str), Some("goal"));
    }
}
