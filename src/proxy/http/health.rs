//! `/healthz`: whether the process goes on serving.

use hyper::StatusCode;

use super::{Answer, text};
use crate::admin::Shutdown;
use crate::proxy::Proxy;

pub(super) fn health(proxy: &Proxy) -> Answer {
    match proxy.ending_now() {
        None => text(StatusCode::OK, "ok"),
        Some(how) => text(StatusCode::SERVICE_UNAVAILABLE, end_described(how)),
    }
}

pub(super) fn end_described(how: Shutdown) -> &'static str {
    match how {
        Shutdown::Now => "shutting down",
        Shutdown::WaitForServers => "shutting down when the connections to PostgreSQL are free",
        Shutdown::WaitForClients => "shutting down when the clients have left",
        Shutdown::Drain => "draining",
        Shutdown::TakenOver => "another process has taken over",
    }
}
