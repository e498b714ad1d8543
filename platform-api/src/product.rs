//! Products, their stock, and the holds that orders have on it.

pub mod model;
pub mod repo;
pub mod routes;
pub mod service;

pub use routes::router;
