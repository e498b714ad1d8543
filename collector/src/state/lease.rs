//! Leases: who alone may do what only one may do (dashboards, scaling bounds, recorded series in shared storage).
//!
//! A row per lease with a holder and an epoch that grows with every change of holder; no session locks, which
//! break behind poolers and outlive their owner's doubts. The database's clock decides. A holder that cannot
//! renew stops acting before the lease can pass to another, by its own monotonic clock, counted from before it
//! asked. What is done under a lease is idempotent, so that a call that was under way at the end does no harm.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use service::metrics::Metrics;
use service::{Shutdown, Tasks};
use tokio::sync::watch;
use tokio::time::Instant;

use super::db::on;
use super::{State, StateError};

/// Without renewal a lease ends after this; with the renewals of the others it has moved within 16 s.
pub const TTL: Duration = Duration::from_secs(12);
const RENEW_EVERY: Duration = Duration::from_secs(4);
/// A holder stops acting this long before its lease can pass on.
const MARGIN: Duration = Duration::from_secs(3);

/// One row's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseName {
    /// CloudWatch's dashboards, metrics and alarms.
    Publish,
    /// Bounds of scalable targets.
    Scaling,
    /// Recorded series and `ALERTS` in storage that replicas share.
    RulesWrite,
    /// Webhook receivers, which nobody deduplicates for.
    Notify,
}

impl LeaseName {
    pub const ALL: [LeaseName; 4] = [LeaseName::Publish, LeaseName::Scaling, LeaseName::RulesWrite, LeaseName::Notify];

    pub fn as_str(self) -> &'static str {
        match self {
            LeaseName::Publish => "publish",
            LeaseName::Scaling => "scaling",
            LeaseName::RulesWrite => "rules-write",
            LeaseName::Notify => "notify",
        }
    }
}

/// Until when a lease is ours, and which change of holder it was.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Held {
    epoch: i64,
    until: Instant,
}

/// A lease as its user sees it; clones share it.
#[derive(Clone)]
pub struct Lease {
    name: LeaseName,
    held: watch::Receiver<Option<Held>>,
}

impl Lease {
    /// The epoch while the lease is ours, None while it is another's or nobody knows.
    pub fn epoch(&self) -> Option<i64> {
        self.held.borrow().filter(|held| Instant::now() < held.until).map(|held| held.epoch)
    }

    pub fn is_held(&self) -> bool {
        self.epoch().is_some()
    }

    pub fn name(&self) -> LeaseName {
        self.name
    }

    /// Returns when the lease is ours.
    pub async fn until_held(&self) {
        let mut held = self.held.clone();
        while !self.is_held() {
            if held.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// All leases of this process.
#[derive(Clone)]
pub struct Leases {
    pub publish: Lease,
    pub scaling: Lease,
    pub rules_write: Lease,
    pub notify: Lease,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LeaseLabel {
    lease: &'static str,
}

#[derive(Clone, Default)]
struct LeaseMetrics {
    held: Family<LeaseLabel, Gauge>,
    epoch: Family<LeaseLabel, Gauge>,
}

/// Starts renewing every lease; at the stop they are given up, so that others need not wait.
pub fn spawn(state: &State, metrics: &Metrics, tasks: &mut Tasks, shutdown: &Shutdown) -> Leases {
    let own = LeaseMetrics::default();
    metrics.register(|r| {
        r.register("collector_lease_held", "1 while this replica alone may do what the lease is for", own.held.clone());
        r.register("collector_lease_epoch", "How often the lease changed its holder", own.epoch.clone());
    });
    // Unique per process: a restarted task is somebody else.
    let holder: Arc<str> = hex::encode(rand::random::<[u8; 16]>()).into();
    let mut keep = |name| {
        let (sender, held) = watch::channel(None);
        let keeper = Keeper { name, holder: holder.clone(), state: state.clone(), held: sender, metrics: own.clone() };
        tasks.spawn("lease", keeper.run(shutdown.clone()));
        Lease { name, held }
    };
    Leases {
        publish: keep(LeaseName::Publish),
        scaling: keep(LeaseName::Scaling),
        rules_write: keep(LeaseName::RulesWrite),
        notify: keep(LeaseName::Notify),
    }
}

struct Keeper {
    name: LeaseName,
    holder: Arc<str>,
    state: State,
    held: watch::Sender<Option<Held>>,
    metrics: LeaseMetrics,
}

impl Keeper {
    async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                // A renewal that is cut off leaves the row as it was or renewed: either is good.
                () = shutdown.requested() => break,
                () = self.renew() => {}
            }
            tokio::select! {
                () = shutdown.requested() => break,
                () = tokio::time::sleep(RENEW_EVERY) => {}
            }
        }
        let had_it = self.held.send_replace(None).is_some();
        if had_it {
            // Failing that, it ends by itself.
            let _ = self.state.release_lease(self.name.as_str(), &self.holder).await;
        }
        Ok(())
    }

    async fn renew(&self) {
        // Before the request: the row's end is counted from later than this.
        let asked = Instant::now();
        let before = *self.held.borrow();
        match self.state.take_lease(self.name.as_str(), &self.holder, TTL).await {
            Ok(Some(epoch)) => {
                if before.is_none_or(|held| held.epoch != epoch) {
                    tracing::info!(lease = self.name.as_str(), epoch, "lease taken");
                }
                self.held.send_replace(Some(Held { epoch, until: asked + TTL - MARGIN }));
                self.metrics.epoch.get_or_create(&self.label()).set(epoch);
            }
            Ok(None) => {
                if before.is_some() {
                    tracing::warn!(lease = self.name.as_str(), "lease lost to another replica");
                }
                self.held.send_replace(None);
            }
            // What was held goes on until its end; the state has counted the failure.
            Err(error) => {
                if before.is_some_and(|held| held.until <= Instant::now()) {
                    let error = format!("{:#}", anyhow::Error::from(error));
                    tracing::error!(lease = self.name.as_str(), error, "lease ended, it could not be renewed");
                    self.held.send_replace(None);
                }
            }
        }
        let is_held = self.held.borrow().is_some_and(|held| Instant::now() < held.until);
        self.metrics.held.get_or_create(&self.label()).set(i64::from(is_held));
    }

    fn label(&self) -> LeaseLabel {
        LeaseLabel { lease: self.name.as_str() }
    }
}

impl State {
    /// Takes or renews a lease; its epoch, or None while another has it.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn take_lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<Option<i64>, StateError> {
        let now = self.db.now();
        let sql = format!(
            "INSERT INTO leases (name, holder, epoch, expires_at, renewed_at) VALUES ($1, $2, 1, {now} + $3, {now})
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder,
               epoch = leases.epoch + CASE WHEN leases.holder <> excluded.holder THEN 1 ELSE 0 END,
               expires_at = excluded.expires_at, renewed_at = excluded.renewed_at
             WHERE leases.holder = excluded.holder OR leases.expires_at < excluded.renewed_at
             RETURNING epoch"
        );
        let ttl_ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        let work = async {
            on!(&self.db, pool, DB => {
                // The text is ours: only the clock differs.
                let query = sqlx::query_scalar::<DB, i64>(sqlx::AssertSqlSafe(sql));
                query.bind(name.to_owned()).bind(holder.to_owned()).bind(ttl_ms).fetch_optional(pool).await
            })
        };
        self.call("take lease", work).await
    }

    /// Ends a lease of ours, so that another need not wait.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn release_lease(&self, name: &str, holder: &str) -> Result<(), StateError> {
        let work = async {
            on!(&self.db, pool, DB => {
                let query = sqlx::query::<DB>("UPDATE leases SET expires_at = 0 WHERE name = $1 AND holder = $2");
                query.bind(name.to_owned()).bind(holder.to_owned()).execute(pool).await.map(drop)
            })
        };
        self.call("release lease", work).await
    }

    /// Whether a lease is still this holder's, asked of the database: for the moment before something is done.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn holds_lease(&self, name: &str, epoch: i64) -> Result<bool, StateError> {
        let sql =
            format!("SELECT count(*) FROM leases WHERE name = $1 AND epoch = $2 AND expires_at >= {}", self.db.now());
        let work = async {
            on!(&self.db, pool, DB => {
                let query = sqlx::query_scalar::<DB, i64>(sqlx::AssertSqlSafe(sql));
                query.bind(name.to_owned()).bind(epoch).fetch_one(pool).await
            })
        };
        Ok(self.call("check lease", work).await? == 1)
    }
}
