//! Puts a service together: pool, metrics, health, the domains' routes and background work, in the
//! order in which they stop again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use service::cli::Exit;
use service::health::Latch;
use service::metrics::Metrics;
use service::{Health, Shutdown, Tasks};
use tokio::net::TcpListener;

use crate::cli::Domain;
use crate::config::Config;
use crate::order::service::Orders;
use crate::product::service::Products;
use crate::shared::auth::internal::ServiceKeys;
use crate::shared::client::{Neighbour, Neighbours, http_client};
use crate::shared::db::{self, Db};
use crate::shared::fault::{self, Faults};
use crate::shared::metrics::{AppMetrics, PoolFigures, UserFigures, register_token_key};
use crate::shared::{Parts, Platform, middleware, outbox};
use crate::user::service::Users;
use crate::worker::Relay;
use crate::{analytics, notification, order, product, user};

/// Below ECS' stop timeout, above the request timeout.
const STOP_GRACE: Duration = Duration::from_secs(20);

/// What this process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Serve(Domain),
    Worker,
    /// All domains and the worker.
    Everything,
}

impl Role {
    fn domain(self) -> Option<Domain> {
        match self {
            Role::Serve(domain) => Some(domain),
            Role::Worker => None,
            Role::Everything => Some(Domain::All),
        }
    }

    fn delivers(self) -> bool {
        matches!(self, Role::Worker | Role::Everything)
    }
}

/// A service that is built and not yet running.
pub struct App {
    pub platform: Platform,
    pub health: Health,
    router: Router,
    listener: TcpListener,
    latch: Latch,
    serves_users: bool,
    config: Config,
    tasks: Vec<(&'static str, TaskFn)>,
}

type TaskFn = Box<dyn FnOnce(Shutdown) -> std::pin::Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>> + Send>;

/// A background task; it hears the order to stop.
fn task<F, Fut>(name: &'static str, run: F) -> (&'static str, TaskFn)
where
    F: FnOnce(Shutdown) -> Fut + Send + 'static,
    Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    (name, Box::new(move |shutdown| Box::pin(run(shutdown))))
}

impl App {
    /// Binds first: a taken port is known before anything else happens.
    ///
    /// # Errors
    /// The port is taken, or a setting is missing or unusable.
    pub async fn build(config: Config, role: Role, listen: SocketAddr) -> Result<App, Exit> {
        let listener = service::http::bind(listen, "--listen").await?;
        let own = listener.local_addr().map_err(anyhow::Error::from)?;
        let domain = role.domain();
        let metrics = Metrics::new();
        let app_metrics = Arc::new(metrics.register(AppMetrics::register));
        let pool = config.database.pool(config.pool_max);
        metrics.register(|r| r.register_collector(Box::new(PoolFigures(pool.clone()))));

        let signer = match domain {
            Some(domain) if domain.includes(Domain::User) => Some(config.signer()?),
            _ => None,
        };
        let http = http_client()?;
        let verifier = match role {
            // The worker answers no tokens.
            Role::Worker => crate::shared::auth::jwt::Verifier::fixed(&[])?,
            _ => config.verifier(signer.as_deref(), &http)?,
        };
        let service_keys = ServiceKeys::new(pool.clone());
        let platform = Platform::new(Parts {
            db: Db::new(pool.clone(), app_metrics.clone()),
            metrics: app_metrics,
            verifier,
            service_keys: service_keys.clone(),
            neighbours: neighbours(&config, role, own, &http, &service_keys)?,
            faults: Faults::new(config.faults_enabled),
            trusted_proxy_hops: config.trusted_proxy_hops,
        });

        let mut routes = fault::router(&platform.faults);
        let mut tasks = Vec::new();
        let includes = |other| domain.is_some_and(|domain| domain.includes(other));
        let serves_users = signer.is_some();
        if let Some(signer) = signer {
            if let Some(created) = signer.created {
                metrics.register(|r| register_token_key(r, &signer.jwk.kid, created));
            }
            let users = Users { platform: platform.clone(), signer, lifetimes: config.lifetimes };
            let figures = metrics.register(UserFigures::register);
            routes = routes.merge(user::router(users.clone()));
            tasks.push(task("user_figures", |shutdown| users.count(figures, shutdown)));
        }
        if includes(Domain::Product) {
            let products = Products::new(platform.clone());
            routes = routes.merge(product::router(products.clone()));
            tasks.push(task("reservation_expiry", |shutdown| products.expire(shutdown)));
        }
        if includes(Domain::Order) {
            let orders = Orders::new(platform.clone());
            routes = routes.merge(order::router(orders.clone()));
            tasks.push(task("order_tidy", |shutdown| orders.tidy(shutdown)));
        }
        if includes(Domain::Analytics) {
            let platform = platform.clone();
            routes = routes.merge(analytics::router());
            tasks.push(task("analytics_prune", |shutdown| analytics::service::prune(platform, shutdown)));
        }
        if includes(Domain::Notification) {
            let platform = platform.clone();
            routes = routes.merge(notification::router());
            tasks.push(task("notification_prune", |shutdown| notification::service::prune(platform, shutdown)));
        }
        if includes(Domain::Order) || role.delivers() {
            let platform = platform.clone();
            tasks.push(task("queue_figures", |shutdown| outbox::measure(platform, shutdown)));
        }
        if role.delivers() {
            let relay = Relay::new(platform.clone());
            tasks.push(task("relay", |shutdown| relay.run(shutdown)));
        }

        let health = Health::new();
        let latch = health.latch("schema");
        let asked = pool;
        health.check("database", move || {
            let pool = asked.clone();
            async move { sqlx::query("SELECT 1").execute(&pool).await.map(drop).map_err(|error| db::why(&error)) }
        });
        let router = middleware::surround(routes, platform.clone()).merge(metrics.router()).merge(health.router());
        Ok(App { platform, health, router, listener, latch, serves_users, config, tasks })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr().expect("a bound listener has an address")
    }

    /// Runs until `shutdown`, then: unready, still serving for the drain delay, no new connections, open
    /// requests end, background work ends.
    ///
    /// # Errors
    /// The database did not come up in time, or a part failed.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let App { health, router, listener, latch, serves_users, config, tasks: background, platform } = self;
        let mut tasks = Tasks::new();
        let no_more_requests = Shutdown::new();
        tasks.spawn("http", service::http::serve(listener, router, no_more_requests.clone()));
        let stop = shutdown.clone();
        tasks.spawn("drain", async move {
            stop.requested().await;
            health.drain();
            tokio::time::sleep(config.drain_delay).await;
            no_more_requests.request();
            Ok(())
        });
        let stop = shutdown.clone();
        tasks.spawn("startup", async move {
            tokio::select! {
                () = stop.requested() => return Ok(()),
                usable = db::wait_until_usable(&config.database, config.database_patience) => usable?,
            }
            if let Some(admin) = config.bootstrap_admin.as_ref().filter(|_| serves_users) {
                user::service::bootstrap_admin(&platform.db, &admin.email, admin.password.clone()).await?;
            }
            latch.release();
            tracing::info!("ready, with the database at {}", config.database);
            let (mut work, stop) = (Tasks::new(), stop.child());
            for (name, run) in background {
                work.spawn(name, run(stop.clone()));
            }
            work.run(stop, STOP_GRACE).await
        });
        tasks.run(shutdown, STOP_GRACE).await
    }
}

fn neighbours(
    config: &Config,
    role: Role,
    own: SocketAddr,
    http: &reqwest::Client,
    keys: &ServiceKeys,
) -> Result<Neighbours, Exit> {
    let (urls, domain) = (&config.urls, role.domain());
    let neighbour = |name, variable, url, needed| {
        // Whoever never calls it needs no address; the one it gets is never used.
        let domain = if needed { domain } else { Some(Domain::All) };
        Ok::<_, Exit>(Neighbour::new(name, &config.neighbour(variable, url, domain, own)?, http.clone(), keys.clone()))
    };
    let orders = domain.is_some_and(|domain| domain.includes(Domain::Order));
    Ok(Neighbours {
        product: neighbour("product", "SERVICE_URL_PRODUCT", &urls.product, orders)?,
        analytics: neighbour("analytics", "SERVICE_URL_ANALYTICS", &urls.analytics, role.delivers())?,
        notification: neighbour("notification", "SERVICE_URL_NOTIFICATION", &urls.notification, role.delivers())?,
    })
}
