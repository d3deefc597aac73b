//! What the process listens on: its own sockets, those that it took over from another process, or those that whoever
//! started it has opened.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::StartError;
use crate::config::Config;
use crate::net::{Listener, Rights, bind_tcp, bind_unix, socket_path};

/// Listens on everything that the configuration names, by a socket of `inherited` where one has the address; the others
/// of them are closed. Each address that cannot be bound is logged. The process does not start without its Unix socket,
/// nor when none of its TCP addresses can be had and there is no such socket (PgBouncer does the same).
pub(super) async fn listen(config: &Config, inherited: &mut Vec<Listener>) -> Result<Vec<Listener>, StartError> {
    let general = &config.general;
    let mut listeners = Vec::new();
    let mut failure = None;
    let mut note = |address: String, result: std::io::Result<Listener>, setting: &'static str| match result {
        Ok(listener) => listeners.push(listener),
        Err(source) => {
            let error = StartError::listen(address, source, setting, config);
            tracing::error!("{error}");
            failure = Some(error);
        }
    };
    for name in &general.listen_addr {
        for addr in addresses(name, general.listen_port).await? {
            let result = match take(inherited, |listener| listener.is_at(addr)) {
                Some(listener) => Ok(listener),
                None => bind_tcp(addr, general.listen_backlog, general.so_reuseport),
            };
            note(addr.to_string(), result, "listen_addr");
        }
    }
    if let Some(dir) = &general.unix_socket_dir {
        let path = socket_path(dir, general.listen_port);
        let result = match take(inherited, |listener| listener.is_file(&path)) {
            Some(listener) => Ok(listener),
            None => {
                let rights = Rights { mode: general.unix_socket_mode.0, group: general.unix_socket_group.clone() };
                bind_unix(&path, general.listen_port, &rights, general.listen_backlog)
            }
        };
        if let Err(source) = result {
            // Who may not own it, or nobody may use it, is another setting's affair.
            let setting = match source.kind() {
                ErrorKind::InvalidInput if !general.unix_socket_group.is_empty() => "unix_socket_group",
                _ => "unix_socket_dir",
            };
            return Err(StartError::listen(path.display().to_string(), source, setting, config));
        }
        note(path.display().to_string(), result, "unix_socket_dir");
    }
    match failure {
        Some(failure) if listeners.is_empty() => Err(failure),
        _ => {
            listeners.iter().for_each(say);
            Ok(listeners)
        }
    }
}

/// Listens on sockets that were opened by whoever started the process; files are not this process's to remove.
pub(super) fn adopt(sockets: Vec<OwnedFd>) -> Result<Vec<Listener>, StartError> {
    let listeners: std::io::Result<Vec<_>> = sockets.into_iter().map(Listener::adopt).collect();
    let listeners = listeners.map_err(StartError::Passed)?;
    listeners.iter().for_each(say);
    Ok(listeners)
}

/// The socket at which another process may ask for the others; without one there is no takeover.
pub(super) fn control(path: Option<&Path>, inherited: &mut Vec<Listener>) -> Option<Listener> {
    let path = path?;
    if let Some(listener) = take(inherited, |listener| listener.is_file(path)) {
        return Some(listener);
    }
    match bind_unix(path, 0, &Rights::own(), 8) {
        Ok(listener) => Some(listener),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "no other process can take over from this one (-R)");
            None
        }
    }
}

fn take(inherited: &mut Vec<Listener>, which: impl Fn(&Listener) -> bool) -> Option<Listener> {
    let at = inherited.iter().position(which)?;
    Some(inherited.swap_remove(at))
}

fn say(listener: &Listener) {
    if let Some(endpoint) = listener.endpoint() {
        tracing::info!("listening on {endpoint}");
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
