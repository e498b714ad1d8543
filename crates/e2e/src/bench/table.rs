//! The figures of all runs: medians, and what lies between the least and the greatest of the ratios.

use std::fmt;

/// Rows in the order in which they first came, columns by server.
#[derive(Default)]
pub struct Table {
    servers: Vec<&'static str>,
    rows: Vec<(String, Vec<Vec<f64>>)>,
}

impl Table {
    /// A run begins; each has the same servers.
    pub fn begin(&mut self, servers: impl Iterator<Item = &'static str>) {
        self.servers = servers.collect();
    }

    /// One run's figures of one kind, by server.
    pub fn row(&mut self, what: &str, figures: Vec<f64>) {
        match self.rows.iter_mut().find(|(known, _)| known == what) {
            Some((_, runs)) => runs.push(figures),
            None => self.rows.push((what.to_owned(), vec![figures])),
        }
    }
}

/// The median, the least and the greatest.
fn spread(mut figures: Vec<f64>) -> (f64, f64, f64) {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    let median = if figures.len() % 2 == 1 { figures[middle] } else { (figures[middle - 1] + figures[middle]) / 2.0 };
    (median, figures[0], figures[figures.len() - 1])
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{:<48}", "")?;
        self.servers.iter().try_for_each(|server| write!(f, "{server:>17}"))?;
        self.servers.iter().skip(1).try_for_each(|server| write!(f, "{:>24}", format!("/ {server}")))?;
        for (what, runs) in &self.rows {
            write!(f, "\n{what:<48}")?;
            for server in 0..self.servers.len() {
                let (median, ..) = spread(runs.iter().map(|figures| figures[server]).collect());
                write!(f, "{median:>17.2}")?;
            }
            for peer in 1..self.servers.len() {
                let (median, least, most) = spread(runs.iter().map(|figures| figures[0] / figures[peer]).collect());
                write!(f, "{:>24}", format!("{median:.3} ({least:.3}-{most:.3})"))?;
            }
        }
        writeln!(
            f,
            "\nRatios are the collector's share. Resident memory includes the program itself; stored bytes are all in the"
        )?;
        write!(f, "data directory while the server runs; VictoriaMetrics loses at a kill what it has not written yet.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_one_run_each_and_their_median_is_shown() {
        let mut table = Table::default();
        table.begin(["ours", "theirs"].into_iter());
        for (ours, theirs) in [(1.0, 2.0), (3.0, 4.0), (1.0, 10.0)] {
            table.row("bytes", vec![ours, theirs]);
        }
        let text = table.to_string();
        let row: Vec<&str> =
            text.lines().find(|line| line.starts_with("bytes")).expect("a row").split_whitespace().collect();
        assert_eq!(row, ["bytes", "1.00", "4.00", "0.500", "(0.100-0.750)"]);
    }
}
