//! Roll-ups of the platform's events, and the reports over them.

pub mod model;
pub mod repo;
pub mod routes;
pub mod service;

pub use routes::router;
