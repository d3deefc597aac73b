//! What the log says of the process, in its own words and in PgBouncer's.

use tokio::signal::unix::SignalKind;

use crate::admin::Shutdown;
use crate::net::{BOUNCER, OWN};

/// Says that clients are served; `resolver` looks names up.
pub(super) fn say_up(resolver: &str) {
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(target: OWN, version, pid = std::process::id(), "pgpool is ready");
    tracing::info!(target: BOUNCER, "process up: pgpool {version}, libevent none (tokio), adns: {resolver}, tls: rustls");
}

/// Says that the process ends now.
pub(super) fn say_ended(how: Option<Shutdown>) {
    tracing::info!(target: OWN, "pgpool has ended");
    match how {
        Some(Shutdown::WaitForServers) => tracing::info!(target: BOUNCER, "server connections dropped, exiting"),
        Some(Shutdown::WaitForClients | Shutdown::Drain | Shutdown::TakenOver) => {
            tracing::info!(target: BOUNCER, "client connections dropped, exiting");
        }
        Some(Shutdown::Now) | None => {}
    }
}

/// Says in PgBouncer's words that a signal has come.
pub(super) fn say_signal(kind: SignalKind, ending: bool, paused: bool) {
    let words = if kind == SignalKind::hangup() {
        "got SIGHUP, re-reading config"
    } else if kind == SignalKind::terminate() && ending {
        "got SIGTERM while shutting down, fast exit"
    } else if kind == SignalKind::terminate() {
        "got SIGTERM, shutting down, waiting for all clients disconnect"
    } else if kind == SignalKind::interrupt() && ending {
        "got SIGINT while shutting down, fast exit"
    } else if kind == SignalKind::interrupt() {
        "got SIGINT, shutting down, waiting for all servers connections to be released"
    } else if kind == SignalKind::quit() {
        "got SIGQUIT, fast exit"
    } else if kind == SignalKind::user_defined1() {
        if paused { "got SIGUSR1, but already paused" } else { "got SIGUSR1, pausing all activity" }
    } else if ending {
        "got SIGUSR2 while shutting down, ignoring"
    } else if paused {
        "got SIGUSR2, continuing from PAUSE"
    } else {
        "got SIGUSR2, but not paused"
    };
    tracing::info!(target: BOUNCER, "{words}");
}
