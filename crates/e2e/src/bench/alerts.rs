//! From the moment a failing value exists in the target to the alert's arrival at an Alertmanager: a thousand rules
//! over fifty services, ours beside Prometheus in one run, over the same failures.
//!
//! The Alertmanager is played by the measurement: it takes `POST /api/v2/alerts` and notes when each alert first
//! came. What real Alertmanagers add (`group_wait`) is the same for both. The wait for the next scrape and from there
//! to the next evaluation is most of every figure and hangs on phases that are drawn anew in each round; the way from
//! the evaluation to the arrival is what is left of it, and is printed apart.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::Options;
use super::usage::Usage;
use crate::process::Workplace;

mod lab;
mod subjects;

use lab::Lab;
use subjects::{rules, start_all};

const SERVICES: usize = 50;
const RULES: usize = 1000;
const GROUPS: usize = 20;
/// Failures that are measured in a round: enough for a 99th percentile.
const FAILURES: usize = 200;

/// What one subject did in one round, a value for each failure, in seconds.
#[derive(Default)]
struct Waits {
    to_scrape: Vec<f64>,
    whole: Vec<f64>,
    since_evaluation: Vec<f64>,
    cpu_seconds_per_minute: f64,
}

/// Runs all measurements and prints them.
///
/// # Errors
/// A server that does not start, or an alert that never arrives.
pub async fn run(options: &Options, workplace: &Workplace) -> anyhow::Result<()> {
    for interval in options.alert_intervals.iter().copied().map(Duration::from_secs) {
        let mut rounds = Vec::new();
        for round in 0..options.alert_rounds.max(1) {
            rounds.push(latency(options, workplace, interval, round).await?);
        }
        print_latency(interval, &rounds);
    }
    killed_inside_for(options, workplace).await
}

/// One round: every subject's waits, in the subjects' order.
async fn latency(
    options: &Options,
    workplace: &Workplace,
    interval: Duration,
    round: u32,
) -> anyhow::Result<Vec<(&'static str, Waits)>> {
    let (lab, address, shutdown) = Lab::open().await?;
    let mut subjects = start_all(options, workplace, address, interval, &rules(RULES, None), round).await?;
    // Every series has been scraped and every rule evaluated before the first failure.
    tokio::time::sleep(interval * 2 + Duration::from_secs(5)).await;
    let started = Instant::now();
    let before: Vec<_> = subjects.iter().map(|subject| Usage::of(subject.process.id())).collect();
    // A failure every now and then, never in step with scrapes and evaluations: each meets another phase.
    let spread = (interval * 4).max(Duration::from_secs(20)).mul_f64(1.031);
    let mut alerts = Vec::new();
    for number in 0..FAILURES {
        tokio::time::sleep_until((started + spread * number as u32 / FAILURES as u32).into()).await;
        let alert = (number * 7 % RULES, number * 13 % SERVICES);
        lab.fail(alert);
        alerts.push(alert);
    }
    let deadline = Instant::now() + interval * 3 + Duration::from_secs(30);
    while lab.arrivals() < subjects.len() * FAILURES && Instant::now() < deadline {
        subjects.iter_mut().try_for_each(|subject| subject.process.check_alive())?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let minutes = started.elapsed().as_secs_f64() / 60.0;
    let mut found = Vec::new();
    for (subject, before) in subjects.iter().zip(before) {
        let cpu = (Usage::of(subject.process.id())?.cpu_seconds - before?.cpu_seconds) / minutes;
        let mut waits = Waits { cpu_seconds_per_minute: cpu, ..Waits::default() };
        for alert in &alerts {
            let (Some((to_scrape, whole)), Some(passage)) =
                (lab.waits(subject.name, *alert), lab.passage(subject.name, *alert))
            else {
                bail!("{}: the alert of rule {} never arrived", subject.name, alert.0);
            };
            waits.to_scrape.push(to_scrape);
            waits.whole.push(whole);
            waits.since_evaluation.push(passage.since_evaluation);
        }
        found.push((subject.name, waits));
    }
    shutdown.request();
    Ok(found)
}

fn print_latency(interval: Duration, rounds: &[Vec<(&'static str, Waits)>]) {
    println!(
        "\nfrom the failing value to the alert's arrival, scrapes and evaluations every {} s, {RULES} rules over \
         {SERVICES} services, {FAILURES} failures in each of {} rounds; of all, and lowest to highest of the rounds",
        interval.as_secs(),
        rounds.len()
    );
    println!("{:<12}{:<34}{:>26}{:>26}", "", "", "p50 s", "p99 s");
    let Some(first) = rounds.first() else { return };
    for (index, (who, _)) in first.iter().enumerate() {
        let waits: Vec<&Waits> = rounds.iter().filter_map(|round| round.get(index).map(|(_, waits)| waits)).collect();
        let row = |what: &str, of: fn(&Waits) -> &Vec<f64>| {
            let shown = |share: f64| {
                let (all, low, high) = spread(waits.iter().map(|waits| of(waits).as_slice()), share);
                format!("{all:.3} ({low:.3}-{high:.3})")
            };
            println!("{who:<12}{what:<34}{:>26}{:>26}", shown(0.5), shown(0.99));
        };
        row("to the arrival", |waits| &waits.whole);
        row("of it to the scrape", |waits| &waits.to_scrape);
        row("of it from evaluation to arrival", |waits| &waits.since_evaluation);
        let cpu = waits.iter().map(|waits| waits.cpu_seconds_per_minute).sum::<f64>() / waits.len() as f64;
        println!("{who:<12}CPU seconds per minute {cpu:.2}");
    }
}

/// A percentile over all rounds, and the lowest and highest of the rounds' own.
fn spread<'a>(rounds: impl Iterator<Item = &'a [f64]>, share: f64) -> (f64, f64, f64) {
    let (mut all, mut low, mut high) = (Vec::new(), f64::INFINITY, f64::NEG_INFINITY);
    for round in rounds {
        let own = percentile(&mut round.to_vec(), share);
        (low, high) = (low.min(own), high.max(own));
        all.extend_from_slice(round);
    }
    (percentile(&mut all, share), low, high)
}

fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = ((values.len() as f64 * share).ceil() as usize).clamp(1, values.len());
    values[index - 1]
}

/// A process that is killed while an alert is pending, and back four seconds later.
async fn killed_inside_for(options: &Options, workplace: &Workplace) -> anyhow::Result<()> {
    const FOR: Duration = Duration::from_secs(20);
    println!(
        "\nkilled 8 s into a `for` of 20 s and started again 4 s later: from the failing value to the alert's arrival"
    );
    let (lab, address, shutdown) = Lab::open().await?;
    let interval = Duration::from_secs(1);
    let mut subjects = start_all(options, workplace, address, interval, &rules(1, Some(FOR)), 0).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let began = Instant::now();
    lab.fail((0, 0));
    tokio::time::sleep(Duration::from_secs(8)).await;
    subjects.iter_mut().for_each(|subject| subject.process.kill());
    tokio::time::sleep(Duration::from_secs(4)).await;
    for subject in &mut subjects {
        let mut command = Command::new(&subject.program);
        command.args(&subject.arguments);
        subject.process = workplace.start(subject.name, &mut command)?;
    }
    let deadline = Instant::now() + FOR * 3;
    while lab.arrivals() < subjects.len() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for subject in &subjects {
        match lab.passage(subject.name, (0, 0)) {
            Some(passage) => {
                println!("{:<24}{:>10.1} s", subject.name, passage.arrived.duration_since(began).as_secs_f64())
            }
            None => println!("{:<24}  not within {:?}", subject.name, FOR * 3),
        }
    }
    shutdown.request();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let mut values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut values, 0.5), 100.0);
        assert_eq!(percentile(&mut values, 0.99), 198.0);
        assert_eq!(percentile(&mut [7.0], 0.99), 7.0);
        let rounds = [vec![1.0, 2.0, 3.0], vec![10.0, 20.0, 30.0]];
        assert_eq!(spread(rounds.iter().map(Vec::as_slice), 0.5), (3.0, 2.0, 20.0));
    }

    #[test]
    fn every_rule_is_in_a_group_and_none_twice() {
        let text = rules(RULES, Some(Duration::from_secs(20)));
        assert_eq!(text.matches("- alert: ").count(), RULES);
        assert_eq!(text.matches("  - name: ").count(), GROUPS);
        assert!(text.contains("alert: Bench999\n") && text.contains("for: 20s"));
    }
}
