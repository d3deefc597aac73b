//! The HTTP server for monitoring.

mod health;
mod hostile;
mod metrics;
mod page;
