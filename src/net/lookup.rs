//! What only the system knows of a client: the name of its address, the name of its user, the addresses of this machine.
//!
//! Each of these may ask a server somewhere (DNS, LDAP behind the name service) and blocks its thread meanwhile: none of
//! them is for a task.

use std::io;
use std::net::{IpAddr, SocketAddr};

use dns_lookup::{LookupError, LookupErrorKind, getnameinfo, lookup_host};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;
use nix::unistd::{Uid, User};

/// The name of an address, if that name has this address; anybody can give his own address somebody else's name.
///
/// # Errors
/// The resolver's, where it could not tell.
pub fn host_name(address: IpAddr) -> io::Result<Option<String>> {
    let Some((name, _)) = known(getnameinfo(&SocketAddr::new(address, 0), nix::libc::NI_NAMEREQD))? else {
        return Ok(None);
    };
    let Some(addresses) = known(lookup_host(&name))? else { return Ok(None) };
    let mut addresses = addresses.into_iter();
    Ok(addresses.any(|found| found.to_canonical() == address.to_canonical()).then_some(name))
}

/// Without what is known not to be there.
fn known<T>(found: Result<T, LookupError>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), LookupErrorKind::NoName | LookupErrorKind::NoData) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The addresses of this machine, with their masks.
///
/// # Errors
/// The system's.
pub fn interfaces() -> io::Result<Vec<(IpAddr, IpAddr)>> {
    let found = getifaddrs()?;
    Ok(found.filter_map(|interface| Some((ip(&interface.address?)?, ip(&interface.netmask?)?))).collect())
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let four = address.as_sockaddr_in().map(|four| IpAddr::V4(four.ip()));
    four.or_else(|| address.as_sockaddr_in6().map(|six| IpAddr::V6(six.ip())))
}

/// The name of a user of the system.
///
/// # Errors
/// The system's.
pub fn user_name(uid: u32) -> io::Result<Option<String>> {
    Ok(User::from_uid(Uid::from_raw(uid))?.map(|user| user.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_knows_itself() {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        assert!(interfaces().unwrap().contains(&(loopback, IpAddr::from([255, 0, 0, 0]))));
        assert_eq!(user_name(0).unwrap().as_deref(), Some("root"));
        assert_eq!(user_name(4_000_000_001).unwrap(), None);
        // /etc/hosts has it, without any server.
        assert_eq!(host_name(loopback).unwrap().as_deref(), Some("localhost"));
    }
}
