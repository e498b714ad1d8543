//! Orders: created on reserved stock, paid through a provider, shipped.

pub mod idempotency;
pub mod model;
pub mod payment;
pub mod repo;
pub mod routes;
pub mod service;
pub mod state;

pub use routes::router;
