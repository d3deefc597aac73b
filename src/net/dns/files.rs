//! The system's files: /etc/hosts, and /etc/resolv.conf for who asks about zones. They are read anew when they have
//! changed, as the system's resolver does.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hickory_resolver::Hosts;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};

use super::super::names::Answer;
use super::super::zones::{Soa, Zoning};
use super::Dns;
use crate::config::ResolvConf;

/// Tells one state of a file from another: device, inode, length, and when it was changed.
type Stamp = (u64, u64, u64, i64, i64);

/// What a file says, as long as it stays the same.
#[derive(Debug)]
struct Kept<T> {
    path: PathBuf,
    read: Mutex<Option<(Stamp, Arc<T>)>>,
}

impl<T> Kept<T> {
    fn new(path: PathBuf) -> Kept<T> {
        Kept { path, read: Mutex::new(None) }
    }

    /// What `make` makes of the file's bytes.
    async fn current(&self, make: impl FnOnce(&[u8]) -> T) -> io::Result<Arc<T>> {
        let file = tokio::fs::metadata(&self.path).await?;
        let stamp = (file.dev(), file.ino(), file.len(), file.ctime(), file.ctime_nsec());
        if let Some((before, kept)) = &*self.read()
            && *before == stamp
        {
            return Ok(Arc::clone(kept));
        }
        let made = Arc::new(make(&tokio::fs::read(&self.path).await?));
        *self.read() = Some((stamp, Arc::clone(&made)));
        Ok(made)
    }

    fn read(&self) -> MutexGuard<'_, Option<(Stamp, Arc<T>)>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file like /etc/hosts.
#[derive(Debug)]
pub(super) struct HostsFile(Kept<Hosts>);

impl HostsFile {
    pub(super) fn system() -> HostsFile {
        HostsFile::at("/etc/hosts".into())
    }

    pub(super) fn at(path: PathBuf) -> HostsFile {
        HostsFile(Kept::new(path))
    }

    /// The addresses that it has for a name, those of IPv6 first.
    pub(super) async fn addresses(&self, name: &Name) -> Vec<IpAddr> {
        let hosts = self.0.current(|bytes| {
            let mut hosts = Hosts::default();
            // Bytes in memory can be read.
            let _ = hosts.read_hosts_conf(String::from_utf8_lossy(bytes).as_bytes());
            hosts
        });
        // A system may well have none.
        let Ok(hosts) = hosts.await else { return Vec::new() };
        let of = |kind| hosts.lookup_static_host(&Query::query(name.clone(), kind));
        let found = [of(RecordType::AAAA), of(RecordType::A)];
        found.iter().flatten().flat_map(|lookup| lookup.answers()).filter_map(|record| record.data.ip_addr()).collect()
    }
}

/// The nameservers of the system, to be asked about zones.
#[derive(Debug)]
pub(super) struct SystemZones(Kept<Dns>);

impl SystemZones {
    /// Those of /etc/resolv.conf.
    pub(super) fn system() -> SystemZones {
        SystemZones::at("/etc/resolv.conf".into())
    }

    fn at(path: PathBuf) -> SystemZones {
        SystemZones(Kept::new(path))
    }

    async fn dns(&self) -> io::Result<Arc<Dns>> {
        let dns = self.0.current(|bytes| {
            // What is wrong with it is the system's own affair.
            let (mut conf, _) = ResolvConf::parse(bytes);
            if conf.servers.is_empty() {
                conf.servers.push(SocketAddr::from((Ipv4Addr::LOCALHOST, 53)));
            }
            Dns::new(&conf)
        });
        let named = |error| io::Error::other(format!("cannot read {}: {error}", self.0.path.display()));
        dns.await.map_err(named)
    }
}

impl Zoning for SystemZones {
    fn zone_of<'a>(&'a self, host: &'a str) -> Answer<'a, Option<Soa>> {
        Box::pin(async move { self.dns().await?.zone_of(host).await })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn hosts_are_read_again_when_they_have_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        let hosts = HostsFile::at(path.clone());
        let of = async |name: &str| {
            let found = hosts.addresses(&Name::from_str_relaxed(name).unwrap()).await;
            found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of("db").await, "", "there is no such file");
        fs::write(&path, "10.0.0.1 DB db.test # \u{fc}\n10.0.0.2\tdb\nfd00::1 db\n").unwrap();
        assert_eq!(of("db").await, "fd00::1 10.0.0.1 10.0.0.2");
        assert_eq!(of("Db.Test.").await, "10.0.0.1");
        fs::write(&path, b"\xff\n10.0.0.3 db\n").unwrap();
        assert_eq!((of("db").await, of("db.test").await), (String::from("10.0.0.3"), String::new()));
        fs::remove_file(&path).unwrap();
        assert_eq!(of("db").await, "");
    }

    #[tokio::test]
    async fn the_systems_nameservers_are_those_that_its_file_names_now() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        let zones = SystemZones::at(path.clone());
        let error = zones.zone_of("db.test").await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot read {}: No such file", path.display())), "{error}");
        let servers = async || {
            let dns = zones.dns().await.unwrap();
            dns.conf.servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        fs::write(&path, "search x.test\n").unwrap();
        assert_eq!(servers().await, "127.0.0.1:53", "resolv.conf(5)'s default");
        fs::write(&path, "nameserver 10.0.0.1\nnameserver x\nnameserver 10.0.0.2:54\n").unwrap();
        assert_eq!(servers().await, "10.0.0.1:53 10.0.0.2:54");
        assert!(Arc::ptr_eq(&zones.dns().await.unwrap(), &zones.dns().await.unwrap()), "it is the same");
    }
}
