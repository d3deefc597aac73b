//! What the process listens on.

use std::net::SocketAddr;

use super::StartError;
use crate::config::Config;
use crate::net::{Listener, Rights, bind_tcp, bind_unix};

/// Binds everything that the configuration says to listen on. Each address that cannot be bound is logged; only when
/// none can, the process does not start (PgBouncer does the same).
pub(super) async fn listen(config: &Config) -> Result<Vec<Listener>, StartError> {
    let general = &config.general;
    let mut listeners = Vec::new();
    let mut failure = None;
    let mut note = |address: String, result: std::io::Result<Listener>| match result {
        Ok(listener) => {
            if let Some(endpoint) = listener.endpoint() {
                tracing::info!("listening on {endpoint}");
            }
            listeners.push(listener);
        }
        Err(source) => {
            tracing::error!(%address, error = %source, "cannot listen");
            failure = Some(StartError::Listen { address, source });
        }
    };
    for name in &general.listen_addr {
        for addr in addresses(name, general.listen_port).await? {
            note(addr.to_string(), bind_tcp(addr, general.listen_backlog, general.so_reuseport));
        }
    }
    if let Some(dir) = &general.unix_socket_dir {
        let rights = Rights { mode: general.unix_socket_mode.0, group: general.unix_socket_group.clone() };
        note(dir.display().to_string(), bind_unix(dir, general.listen_port, &rights, general.listen_backlog));
    }
    match failure {
        Some(failure) if listeners.is_empty() => Err(failure),
        _ => Ok(listeners),
    }
}

async fn addresses(name: &str, port: u16) -> Result<Vec<SocketAddr>, StartError> {
    if name == "*" {
        return Ok(vec![SocketAddr::from(([0, 0, 0, 0], port)), SocketAddr::from(([0u16; 8], port))]);
    }
    match tokio::net::lookup_host((name, port)).await {
        Ok(found) => Ok(found.collect()),
        Err(source) => Err(StartError::Resolve { name: name.to_owned(), source }),
    }
}
