//! `collector noise`: which alerts are worth their page, from what they did.
//!
//! In: when each alert fired and resolved, from the state database or from the `ALERTS` series of any engine, and the
//! alerts that there are. Out: per alert how often it fired, flapped and was over by itself before anybody could have
//! acted, the noisiest first; and those that never fired. Pure but for the two sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use telemetry::{Labels, Timestamp};

use super::backtest::{Episode, Window, fetch, flaps};
use super::file::ALERT_NAME;
use crate::state::{FiringRow, State};

/// Over before somebody could have got up and looked.
const BY_ITSELF: Duration = Duration::from_secs(5 * 60);
/// So many missing samples are the end of an episode: one may have been lost.
const GAP_STEPS: i64 = 3;

/// Episodes by alert.
pub type History = BTreeMap<String, Vec<Episode>>;

/// From the state database.
///
/// # Errors
/// A database that does not answer.
pub async fn from_state(state: &State, since: Timestamp) -> anyhow::Result<History> {
    let mut history = History::new();
    for FiringRow { alert, fired_at, resolved_at, labels, .. } in state.firings(since).await? {
        history.entry(alert).or_default().push(Episode { labels, fired_at, resolved_at });
    }
    Ok(history)
}

/// From the `ALERTS` series of a collector or Prometheus.
///
/// # Errors
/// An engine that does not answer.
pub async fn from_series(window: &Window) -> anyhow::Result<History> {
    let client = reqwest::Client::new();
    let mut history = History::new();
    for series in fetch(&client, window, r#"ALERTS{alertstate="firing"}"#, Duration::ZERO).await? {
        let times: Vec<Timestamp> = series.samples()?.into_iter().map(|(at, _)| at).collect();
        let labels = series.metric.retain(|name| !["__name__", "alertstate"].contains(&name));
        let alert = labels.get(ALERT_NAME).unwrap_or_default().to_owned();
        history.entry(alert).or_default().extend(episodes(&labels, &times, window.end));
    }
    Ok(history)
}

/// Cuts a series' times where samples are missing. What reaches to the end is still firing.
fn episodes(labels: &Labels, times: &[Timestamp], end: Timestamp) -> Vec<Episode> {
    let step = times.windows(2).map(|pair| pair[1].as_millis() - pair[0].as_millis()).min();
    let gap = step.unwrap_or(60_000) * GAP_STEPS;
    let mut episodes: Vec<Episode> = Vec::new();
    let mut last: Option<Timestamp> = None;
    for at in times {
        match (last, episodes.last_mut()) {
            (Some(before), Some(_)) if at.as_millis() - before.as_millis() <= gap => {}
            (before, open) => {
                if let (Some(before), Some(open)) = (before, open) {
                    open.resolved_at = Some(before);
                }
                episodes.push(Episode { labels: labels.clone(), fired_at: *at, resolved_at: None });
            }
        }
        last = Some(*at);
    }
    if let (Some(last), Some(open)) = (last, episodes.last_mut())
        && end.as_millis() - last.as_millis() > gap
    {
        open.resolved_at = Some(last);
    }
    episodes
}

/// The report: the noisiest first. `alerts` are the names of those that there are.
pub fn report(history: &History, alerts: &BTreeSet<String>, end: Timestamp) -> String {
    let mut lines: Vec<(usize, String)> = history.iter().map(|(alert, episodes)| line(alert, episodes, end)).collect();
    lines.sort_by(|(a, x), (b, y)| b.cmp(a).then(x.cmp(y)));
    let mut text = String::new();
    for (_, line) in lines {
        writeln!(text, "{line}").expect("writing to a string cannot fail");
    }
    let silent: Vec<&str> = alerts.iter().filter(|alert| !history.contains_key(*alert)).map(String::as_str).collect();
    if !silent.is_empty() {
        writeln!(text, "never fired: {}", silent.join(", ")).expect("writing to a string cannot fail");
    }
    text
}

/// How noisy an alert is, and its line.
fn line(alert: &str, episodes: &[Episode], end: Timestamp) -> (usize, String) {
    let flaps = flaps(episodes);
    let lasted = |episode: &Episode| episode.resolved_at.unwrap_or(end).since(episode.fired_at);
    let by_itself = episodes.iter().filter(|e| e.resolved_at.is_some() && lasted(e) < BY_ITSELF).count();
    let firing = episodes.iter().filter(|episode| episode.resolved_at.is_none()).count();
    let total: Duration = episodes.iter().map(lasted).sum();
    let mut line = format!(
        "{alert}: fired {}, flapped {flaps}, over by itself within {} {by_itself}, {} in all",
        episodes.len(),
        telemetry::duration::format(BY_ITSELF),
        telemetry::duration::format(Duration::from_secs(total.as_secs())),
    );
    if firing > 0 {
        line.push_str(&format!(", {firing} still firing"));
    }
    (flaps + by_itself, line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(n: i64) -> Timestamp {
        Timestamp(n * 60_000)
    }

    fn episode(fired: i64, resolved: Option<i64>) -> Episode {
        Episode { labels: Labels::empty(), fired_at: minutes(fired), resolved_at: resolved.map(minutes) }
    }

    #[test]
    fn the_noisiest_comes_first_and_what_never_fired_is_named() {
        let history = History::from([
            ("Calm".to_owned(), vec![episode(0, Some(60)), episode(900, None)]),
            ("Noisy".to_owned(), vec![episode(0, Some(2)), episode(5, Some(7)), episode(100, Some(101))]),
        ]);
        let alerts = ["Calm", "Noisy", "Silent"].map(str::to_owned).into();
        assert_eq!(
            report(&history, &alerts, minutes(1000)),
            "Noisy: fired 3, flapped 1, over by itself within 5m 3, 5m in all\n\
             Calm: fired 2, flapped 0, over by itself within 5m 0, 2h40m in all, 1 still firing\n\
             never fired: Silent\n"
        );
    }

    #[test]
    fn a_series_is_cut_where_samples_are_missing_and_open_where_it_reaches_the_end() {
        let times: Vec<_> = [0, 1, 2, 4, 20, 21, 58, 59, 60].map(minutes).into();
        let found = episodes(&Labels::empty(), &times, minutes(60));
        assert_eq!(found, [episode(0, Some(4)), episode(20, Some(21)), episode(58, None)]);
        assert_eq!(episodes(&Labels::empty(), &times[..4], minutes(60)), [episode(0, Some(4))]);
        assert_eq!(episodes(&Labels::empty(), &[], minutes(60)), []);
    }
}
