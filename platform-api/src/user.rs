//! Accounts: registration, login, tokens, one's own profile.

pub mod model;
pub mod repo;
pub mod routes;
pub mod service;

pub use routes::router;
