//! One target, one task: waits for its moment, scrapes, hands on one batch, and tells the status.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use storage::{Exemplar, NewSeries, Refusal, Row};
use telemetry::exposition::MetricKind;
use telemetry::labels::METRIC_NAME;
use telemetry::{Labels, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;

use super::budget::{SeriesRefusal, Share};
use super::cache::Cache;
use super::request::{Clients, Scraped, fetch};
use super::{Cell, FailureLabels, FailureReason, Metadata, ScrapeError, Shared, TargetHealth, body, settings};
use crate::discovery::Target;
use crate::remote_write::FamilyMetadata;
use crate::write::{RowWriter, WriteClosed};

/// A scrape that starts this close to its due time is stored at the due time: even spacing compresses well.
const ALIGNMENT_MAX: Duration = Duration::from_millis(2);

/// Those behind [`REPORTS`] are written where the job asks for more.
const REPORT_SERIES: [&str; 8] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
    "scrape_timeout_seconds",
    "scrape_sample_limit",
    "scrape_body_size_bytes",
];
const REPORTS: usize = 5;

/// Rows' memory, used again: a fleet's rows together would be larger than what is kept of its samples.
#[derive(Clone, Default)]
pub(super) struct SpareRows(Arc<Mutex<Vec<Row>>>);

impl SpareRows {
    /// As many as are read at the same time.
    const KEPT: usize = 8;

    fn take(&self) -> Row {
        self.0.lock().expect("no one panics holding it").pop().unwrap_or_default()
    }

    fn put(&self, mut row: Row) {
        row.clear();
        // The first scrape of a target has all its series here; the others have next to none.
        row.new = Vec::new();
        let mut kept = self.0.lock().expect("no one panics holding it");
        if kept.len() < Self::KEPT {
            kept.push(row);
        }
    }
}

pub(super) struct TargetTask {
    target: Target,
    /// The target's next form; None when it is gone.
    next: watch::Receiver<Option<Target>>,
    cell: Cell,
    clients: Clients,
    shared: Shared,
    cache: Cache,
    share: Share,
    metadata: Arc<HashMap<String, Metadata>>,
    rows: RowWriter,
    /// Of the scrape under way; its memory belongs to all targets.
    row: Row,
    /// Of the scrape under way, with the labels of their series.
    exemplars: Vec<(Labels, Exemplar)>,
    /// Where the report series are in the target's group.
    report_slots: [Option<u32>; REPORT_SERIES.len()],
}

/// What the report series say.
struct Report {
    up: bool,
    duration: Duration,
    scraped: usize,
    kept: usize,
    added: usize,
    /// Uncompressed; -1 of a body over its limit.
    body_bytes: i64,
}

impl Report {
    /// In the order of [`REPORT_SERIES`].
    fn values(&self, target: &Target) -> [f64; REPORT_SERIES.len()] {
        let sample_limit = Some(target.settings.limits.samples_max).filter(|limit| *limit < u64::MAX);
        [
            f64::from(u8::from(self.up)),
            self.duration.as_secs_f64(),
            self.scraped as f64,
            self.kept as f64,
            self.added as f64,
            target.scrape_timeout.as_secs_f64(),
            sample_limit.unwrap_or(0) as f64,
            self.body_bytes as f64,
        ]
    }
}

impl TargetTask {
    pub(super) fn new(
        target: Target,
        next: watch::Receiver<Option<Target>>,
        cell: Cell,
        clients: Clients,
        shared: Shared,
    ) -> Self {
        let rows = shared.write.rows(rows_kept(target.scrape_interval));
        let share = Share::of(shared.budgets.of(&target));
        let cache = Cache::new(shared.alike.lines.clone());
        TargetTask {
            target,
            next,
            cell,
            clients,
            shared,
            cache,
            share,
            metadata: Arc::default(),
            rows,
            row: Row::default(),
            exemplars: Vec::new(),
            report_slots: [None; REPORT_SERIES.len()],
        }
    }

    /// Scrapes until the target is gone, which writes markers, or the program stops, which does not: after a restart
    /// the series go on.
    pub(super) async fn run(mut self) -> Result<(), WriteClosed> {
        let shutdown = self.shared.shutdown.clone();
        let mut due = self.first_due();
        loop {
            let wait = self.until(due);
            tokio::select! {
                biased;
                () = shutdown.requested() => return Ok(()),
                changed = self.next.changed() => {
                    let next = changed.ok().and_then(|()| self.next.borrow_and_update().clone());
                    let Some(next) = next else { return self.leave(due).await };
                    self.become_target(next);
                    due = self.first_due();
                    continue;
                }
                () = wait => {}
            }
            tokio::select! {
                biased;
                () = shutdown.requested() => return Ok(()),
                scraped = self.scrape(due) => scraped?,
            }
            due = self.due_after(due);
        }
    }

    fn become_target(&mut self, next: Target) {
        if next.settings != self.target.settings {
            self.forget();
        }
        let budget = self.shared.budgets.of(&next);
        if next.pool != self.target.pool {
            self.share = self.share.moved(budget);
        }
        self.target = next;
    }

    /// The next moment that is `phase` into an interval.
    fn first_due(&self) -> Timestamp {
        let interval = millis(self.target.scrape_interval);
        let phase = settings::phase(&self.target, self.shared.phase_seed);
        let now = self.shared.clock.now().as_millis();
        let due = Timestamp::from_millis(now - now.rem_euclid(interval)) + phase;
        if due.as_millis() < now { due + self.target.scrape_interval } else { due }
    }

    /// One interval on; where a scrape took longer than that, the missed ones are left out, not made up for.
    fn due_after(&self, due: Timestamp) -> Timestamp {
        let next = due + self.target.scrape_interval;
        let late = self.shared.clock.now().since(next);
        let missed = late.as_nanos().div_ceil(self.target.scrape_interval.as_nanos().max(1));
        let missed = u32::try_from(missed).unwrap_or(u32::MAX);
        self.shared.metrics.skipped.inc_by(missed.into());
        next + self.target.scrape_interval.saturating_mul(missed)
    }

    fn until(&self, due: Timestamp) -> tokio::time::Sleep {
        tokio::time::sleep(due.since(self.shared.clock.now()))
    }

    async fn scrape(&mut self, due: Timestamp) -> Result<(), WriteClosed> {
        let now = self.shared.clock.now();
        let tolerance = ALIGNMENT_MAX.min(self.target.scrape_interval / 100);
        let at = if now.since(due) <= tolerance { due } else { now };
        let started = Instant::now();
        let fetched = fetch(&self.clients, &self.target, self.shared.bodies.take()).await;
        let duration = started.elapsed();
        self.row = self.shared.rows.take();
        self.row.time = at;
        let (report, error) = self.judge(fetched, duration);
        self.tell(at, &report, error.as_ref());
        self.add_report(&report.values(&self.target));
        self.write().await
    }

    /// All of the body's samples with markers for what is gone, or markers alone.
    fn judge(&mut self, fetched: Result<Scraped, ScrapeError>, duration: Duration) -> (Report, Option<ScrapeError>) {
        let mut report = Report { up: false, duration, scraped: 0, kept: 0, added: 0, body_bytes: 0 };
        let known = self.metadata.clone();
        let error = match fetched {
            Err(error) => {
                body::end_all(&mut self.cache, &mut self.row);
                report.body_bytes = if error.reason == FailureReason::BodySizeLimit { -1 } else { 0 };
                error
            }
            Ok(scraped) => {
                let body = (&*scraped.body, scraped.format);
                report.body_bytes = i64::try_from(scraped.body.len()).unwrap_or(i64::MAX);
                let (parsed, result) =
                    body::read(&self.target, &mut self.cache, &mut self.metadata, body, &mut self.row);
                self.shared.bodies.put(scraped.body);
                report = Report { scraped: parsed.scraped, kept: parsed.kept, added: parsed.added, ..report };
                match result {
                    Err(error) => error,
                    Ok(()) => {
                        if !Arc::ptr_eq(&known, &self.metadata) {
                            self.tell_metadata(&known);
                            self.shared.alike.share_metadata(&mut self.metadata);
                        }
                        self.exemplars = parsed.exemplars;
                        return (Report { up: true, ..report }, None);
                    }
                }
            }
        };
        if self.cache.series.is_worthless() {
            self.cache.series.release_all(&mut self.row);
            self.cache.lines.forget();
            self.cache.histograms.forget();
        }
        (report, Some(error))
    }

    /// What the target says of its metrics, where it differs from before.
    fn tell_metadata(&self, known: &HashMap<String, Metadata>) {
        if !self.shared.write.sends_on() {
            return;
        }
        let news = self.metadata.iter().filter(|(family, metadata)| known.get(*family) != Some(*metadata));
        let news = news.map(|(family, metadata)| FamilyMetadata {
            family: family.clone(),
            kind: MetricKind::named(metadata.kind).unwrap_or_default(),
            help: metadata.help.clone(),
            unit: metadata.unit.clone(),
        });
        self.shared.write.metadata(news.collect());
    }

    /// Leaves out new series for which the job has no room.
    fn hold_to_budget(&mut self) {
        let Cache { series, histograms, .. } = &mut self.cache;
        let (floats, native) = (series.pending_len(), histograms.fresh_len());
        let granted = self.share.take(floats + native, series.placed_len() + histograms.old_len());
        series.limit_pending(granted, &mut self.row);
        histograms.limit_fresh(granted.saturating_sub(floats));
    }

    /// Hands the row on and learns where its new series are.
    async fn write(&mut self) -> Result<(), WriteClosed> {
        self.hold_to_budget();
        let (row, report) = self.rows.write(std::mem::take(&mut self.row), self.cache.histograms.take()).await?;
        let time = row.time;
        self.shared.rows.put(row);
        // Behind their series: who is sent an exemplar of a series that it does not know drops it.
        self.shared.write.exemplars(std::mem::take(&mut self.exemplars));
        let (series, reports) = report.slots.split_at(self.cache.series.pending_len().min(report.slots.len()));
        let unplaced = self.report_slots.iter_mut().filter(|slot| slot.is_none());
        unplaced.zip(reports).for_each(|(place, slot)| *place = *slot);
        let by_store = series.iter().filter(|slot| slot.is_none()).count();
        self.share.refused(SeriesRefusal::Store, by_store);
        let rest = self.cache.series.place(series, time);
        self.share.settle(self.cache.series.placed_len() + self.cache.histograms.old_len());
        if report.append.refused.get(Refusal::UnknownSeries) > 0 {
            // Everything about them has expired meanwhile: the next scrape begins anew.
            self.forget();
            self.report_slots = [None; REPORT_SERIES.len()];
        }
        if let Some(rest) = rest {
            self.rows.write(rest, Vec::new()).await?;
        }
        Ok(())
    }

    fn forget(&mut self) {
        self.cache.lines.forget();
        self.cache.series.forget();
        self.cache.histograms.forget();
    }

    fn tell(&self, at: Timestamp, report: &Report, error: Option<&ScrapeError>) {
        let metrics = &self.shared.metrics;
        metrics.scrapes.inc();
        match error {
            None => {
                metrics.samples.inc_by(report.kept as u64);
            }
            Some(error) => {
                metrics.failures.get_or_create(&FailureLabels { reason: error.reason.as_str() }).inc();
                tracing::debug!(job = self.target.job(), instance = self.target.instance(), %error, "scrape failed");
            }
        }
        let mut status = self.cell.lock().expect("no one panics holding it");
        status.target = self.target.clone();
        status.health = if report.up { TargetHealth::Up } else { TargetHealth::Down };
        status.last_scrape = Some(at);
        status.last_duration = report.duration;
        status.samples = report.kept;
        status.last_error = error.map(ToString::to_string).unwrap_or_default();
        status.metadata = self.metadata.clone();
    }

    fn add_report(&mut self, values: &[f64; REPORT_SERIES.len()]) {
        let written = if self.target.settings.extra_scrape_metrics { REPORT_SERIES.len() } else { REPORTS };
        // A reload may have ended the further ones.
        let ended: Vec<u32> = self.report_slots.iter_mut().skip(written).filter_map(Option::take).collect();
        self.row.ended.extend(&ended);
        self.row.released.extend(&ended);
        for ((name, slot), value) in REPORT_SERIES.into_iter().zip(self.report_slots).zip(*values).take(written) {
            match slot {
                Some(slot) => self.row.values.push((slot, value)),
                None => {
                    let labels = self.report_series(name);
                    self.row.new.push(NewSeries { labels, time: None, value });
                }
            }
        }
    }

    fn report_series(&self, name: &str) -> Labels {
        self.target.labels.with(METRIC_NAME, name)
    }

    /// Somebody else may go on with the same series (a target that moved to another job's list): the markers carry
    /// the time of the first scrape that is missed and are written one interval later, so that a newer sample wins.
    async fn leave(mut self, missed: Timestamp) -> Result<(), WriteClosed> {
        let interval = self.target.scrape_interval;
        let shutdown = self.shared.shutdown.clone();
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            () = self.until(missed + interval + interval / 10) => {}
        }
        self.row = Row { time: missed, ..Row::default() };
        body::end_all(&mut self.cache, &mut self.row);
        self.row.ended.extend(self.report_slots.iter().flatten());
        self.rows.write(self.row, self.cache.histograms.take()).await.map(drop)
    }
}

/// Alert rules mostly look back five minutes.
fn rows_kept(interval: Duration) -> usize {
    let rows = Duration::from_secs(300).as_nanos() / interval.as_nanos().max(1) + 2;
    usize::try_from(rows).unwrap_or(usize::MAX)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).max(1)
}
