//! Realistic traffic: customers who register, log in, browse, order, pay and read their notifications,
//! and an administrator who ships and reads reports.
//!
//! Open loop: requests start at the given rate, whatever the answers take, as traffic from many people
//! does. The number in flight is bounded; what would exceed it is counted as dropped. Every five seconds
//! and at the end one line of JSON tells what happened.

pub mod client;
pub mod crowd;
pub mod summary;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use service::Shutdown;
use service::config::{Env, ProcessEnv, Secret};
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior};

use crate::cli::LoadgenArgs;
use client::Targets;
use crowd::{Action, Crowd};
use summary::Summary;

/// Slow answers must not eat the memory of the generator.
const IN_FLIGHT_MAX: usize = 256;
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// How long a stack that is still starting is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// # Errors
/// The services do not come up, or the administrator cannot log in.
pub async fn run(mut args: LoadgenArgs) -> anyhow::Result<()> {
    args.admin_password = ProcessEnv.get("BOOTSTRAP_ADMIN_PASSWORD").filter(|p| !p.is_empty()).map(Secret::new);
    let shutdown = Shutdown::on_signals().context("signals cannot be heard")?;
    let seed = args.seed.unwrap_or_else(|| rand::rng().random());
    let targets = Targets::new(&args)?;
    let summary = Arc::new(Summary::new(seed));
    let crowd = Arc::new(Crowd::new(targets, summary.clone(), admin(&args)?));
    tokio::select! {
        () = shutdown.requested() => return Ok(()),
        ready = crowd.prepare(PATIENCE) => ready?,
    }
    summary.begin();
    let reporting = service::task::spawn("report", report(summary.clone()));
    generate(&args, seed, &crowd, &summary, &shutdown).await;
    reporting.abort();
    println!("{}", summary.line(true));
    Ok(())
}

/// # Errors
/// Only one of e-mail address and password is given.
fn admin(args: &LoadgenArgs) -> anyhow::Result<Option<(String, Secret)>> {
    match (&args.admin_email, &args.admin_password) {
        (Some(email), Some(password)) => Ok(Some((email.clone(), password.clone()))),
        (None, None) => {
            eprintln!(
                "platform-api loadgen: no administrator (BOOTSTRAP_ADMIN_EMAIL, BOOTSTRAP_ADMIN_PASSWORD): \
                 nothing is shipped, no report is read, no product is made"
            );
            Ok(None)
        }
        (Some(_), None) => anyhow::bail!("set BOOTSTRAP_ADMIN_PASSWORD to the administrator's password"),
        (None, Some(_)) => anyhow::bail!("set BOOTSTRAP_ADMIN_EMAIL or --admin-email beside BOOTSTRAP_ADMIN_PASSWORD"),
    }
}

async fn generate(args: &LoadgenArgs, seed: u64, crowd: &Arc<Crowd>, summary: &Arc<Summary>, shutdown: &Shutdown) {
    let rng = Mutex::new(StdRng::seed_from_u64(seed));
    let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / args.rate));
    // A tick that was missed is made up for: the rate is a promise.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let end = args.duration.map(|duration| Instant::now() + duration);
    loop {
        tokio::select! {
            () = shutdown.requested() => break,
            _ = ticks.tick() => {}
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            break;
        }
        let Ok(permit) = in_flight.clone().try_acquire_owned() else {
            summary.dropped();
            continue;
        };
        let (action, choice) = {
            let mut rng = rng.lock().expect("no one panics holding it");
            (Action::pick(&mut *rng), rng.random())
        };
        let crowd = crowd.clone();
        service::task::spawn("act", async move {
            crowd.act(action, choice).await;
            drop(permit);
        });
    }
    let _ = tokio::time::timeout(LAST_ANSWERS, in_flight.acquire_many(IN_FLIGHT_MAX as u32)).await;
}

async fn report(summary: Arc<Summary>) {
    let mut every = tokio::time::interval_at(Instant::now() + REPORT_EVERY, REPORT_EVERY);
    loop {
        every.tick().await;
        println!("{}", summary.line(false));
    }
}
