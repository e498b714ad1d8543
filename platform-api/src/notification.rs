//! What users are told inside the application about their accounts and orders.

pub mod model;
pub mod repo;
pub mod routes;
pub mod service;

pub use routes::router;
