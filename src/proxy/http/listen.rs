//! Where the HTTP server listens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::{Config, split_host_port};
use crate::net::{Listener, bind_tcp};

/// Connections that the kernel keeps waiting.
const BACKLOG: u32 = 128;

/// Listens on what `http_addr` names, by a socket of `inherited` where one has the address. What cannot be bound is
/// logged, and nothing more: clients are served without it.
pub(in crate::proxy) async fn listen(config: &Config, inherited: &mut Vec<Listener>) -> Vec<Listener> {
    let Some((host, port)) = config.general.http_addr.as_deref().and_then(split_host_port) else { return Vec::new() };
    let addresses = match addresses(host, port).await {
        Ok(addresses) => addresses,
        Err(error) => {
            tracing::error!(%host, %error, "cannot resolve http_addr: there is no HTTP server");
            return Vec::new();
        }
    };
    let mut listeners = Vec::new();
    for address in addresses {
        let there = inherited.iter().position(|listener| listener.is_at(address));
        let bound = match there {
            Some(at) => Ok(inherited.swap_remove(at)),
            None => bind_tcp(address, BACKLOG, false),
        };
        match bound {
            Ok(listener) => {
                if let Some(endpoint) = listener.endpoint() {
                    tracing::info!("HTTP server at {endpoint}");
                }
                listeners.push(listener);
            }
            Err(error) => {
                tracing::error!(%address, %error, place = config.place_of("http_addr"), "cannot listen on http_addr");
            }
        }
    }
    listeners
}

async fn addresses(host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    if host == "*" {
        let (four, six) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        return Ok(vec![SocketAddr::new(four, port), SocketAddr::new(six, port)]);
    }
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}
