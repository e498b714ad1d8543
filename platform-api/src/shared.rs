//! What every domain uses: the database, errors as problem+json, request checks, identity and
//! permissions, the middleware round each request, the client for the neighbours, the outbox.
//!
//! Nothing here knows a domain.

pub mod auth;
pub mod cache;
pub mod client;
pub mod db;
pub mod error;
pub mod extract;
pub mod fault;
pub mod metrics;
pub mod middleware;
pub mod outbox;
pub mod page;
pub mod trace;

use std::sync::Arc;

use auth::internal::ServiceKeys;
use auth::jwt::Verifier;
use client::Neighbours;
use db::Db;
use fault::Faults;
use metrics::AppMetrics;

/// What handlers of all domains share; cheap to clone.
#[derive(Clone)]
pub struct Platform(Arc<Parts>);

/// The parts of [`Platform`].
pub struct Parts {
    pub db: Db,
    pub metrics: Arc<AppMetrics>,
    pub verifier: Verifier,
    pub service_keys: ServiceKeys,
    pub neighbours: Neighbours,
    pub faults: Faults,
    /// How many proxies in front of us append to X-Forwarded-For.
    pub trusted_proxy_hops: usize,
}

impl Platform {
    pub fn new(parts: Parts) -> Self {
        Platform(Arc::new(parts))
    }
}

impl std::ops::Deref for Platform {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}
