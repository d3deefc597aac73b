//! The settings of `[databases.NAME]`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::choice::{LoadBalance, PoolMode, SessionAttrs};
use crate::config::features::{Features, SessionFeatures};
use crate::config::kinds::{Count, File, Hidden, Hosts, Maybe, OneOf, Ports, Text};
use crate::config::secret::Secret;
use crate::config::span::Seconds;
use crate::config::table::settings;

/// Where a PostgreSQL server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// The directory of its Unix socket.
    Socket(PathBuf),
    /// A host name or an IP address.
    Name(String),
}

settings! {
    /// One entry of `[databases]`. A field that is `None` falls back to the user's or the general setting; a zero that
    /// was written counts, and means no limit or off.
    pub struct Database in "databases.NAME" {
        /// Name that clients ask for; `*` in the fallback entry as it stands in the file.
        name: String,
    }

    /// Host name, IP address, directory of a Unix socket, or a list of them; unset = PostgreSQL's socket directory.
    host: Vec<Host> as Hosts = Vec::new(), Reload;
    /// Port of the PostgreSQL server; of several hosts one for all, or a list with one for each.
    port: Vec<u16> as Ports = vec![5432], Reload;
    /// Which of several hosts a new connection goes to: round-robin, or disable = the one that the last went to.
    load_balance_hosts: LoadBalance as OneOf<LoadBalance> = LoadBalance::RoundRobin, Reload;
    /// What the host has to be: any, read-write, read-only, primary, standby, or prefer-standby.
    target_session_attrs: SessionAttrs as OneOf<SessionAttrs> = SessionAttrs::Any, Reload;
    /// Name of the database in PostgreSQL; unset = the entry's name, for "*" the name that the client asked for.
    dbname: Option<String> as Maybe<Text> = None, Reload;
    /// Log in to PostgreSQL as this user, whoever the client is; unset = as the client's user.
    user: Option<String> as Maybe<Text> = None, Reload;
    /// Password of that user; unset = the secret of [users.NAME] or auth_file.
    password: Option<Secret> as Maybe<Hidden> = None, Reload;
    /// File with that password, relative to this file, read again when it changes; instead of password.
    password_file: Option<PathBuf> as File = None, Reload;
    /// User who looks up clients that have no secret here; unset = auth_user of [pgpool].
    auth_user: Option<String> as Maybe<Text> = None, Reload;
    /// Query for name and secret of the user $1; unset = auth_query of [pgpool].
    auth_query: Option<String> as Maybe<Text> = None, Reload;
    /// Entry of [databases] in which auth_query runs; unset = auth_dbname of [pgpool], else this one.
    auth_dbname: Option<String> as Maybe<Text> = None, Reload;
    /// Most connections to PostgreSQL per user; 0 = no limit; unset = default_pool_size.
    pool_size: Option<u32> as Maybe<Count> = None, Reload;
    /// Connections that are kept open per pool; unset = min_pool_size of [pgpool].
    min_pool_size: Option<u32> as Maybe<Count> = None, Reload;
    /// Connections beyond the pool's size when a client waits too long; unset = reserve_pool_size of [pgpool].
    reserve_pool_size: Option<u32> as Maybe<Count> = None, Reload;
    /// Most connections to PostgreSQL over all users; 0 = no limit; unset = max_db_connections of [pgpool].
    max_db_connections: Option<u32> as Maybe<Count> = None, Reload;
    /// Most client connections; 0 = no limit; unset = max_db_client_connections of [pgpool].
    max_db_client_connections: Option<u32> as Maybe<Count> = None, Reload;
    /// Pool mode: session, transaction or statement; unset = pool_mode of [pgpool].
    pool_mode: Option<PoolMode> as Maybe<OneOf<PoolMode>> = None, Reload;
    /// Age from which an unused connection is closed; 0 = use once; unset = server_lifetime of [pgpool].
    server_lifetime: Option<Duration> as Maybe<Seconds> = None, Reload;
    /// Most time that a query waits for a connection; 0 = no limit; unset = the user's, else that of [pgpool].
    query_wait_timeout: Option<Duration> as Maybe<Seconds> = None, Reload;
    /// What to do when a client leaves something behind a transaction; replaces all of [pgpool]'s; unset = that.
    session_features: Option<SessionFeatures> as Maybe<Features> = None, Reload;
    /// Most pinned connections per pool; 0 = all but one of the pool's size; unset = max_pinned of [pgpool].
    max_pinned: Option<u32> as Maybe<Count> = None, Reload;
    /// Query that a new connection to PostgreSQL runs first; an error is logged, nothing more; unset = none.
    connect_query: Option<String> as Maybe<Text> = None, Reload;
    /// client_encoding for new connections to PostgreSQL; unset = the server's.
    client_encoding: Option<String> as Maybe<Text> = None, Reload;
    /// DateStyle for new connections to PostgreSQL; unset = the server's.
    datestyle: Option<String> as Maybe<Text> = None, Reload;
    /// TimeZone for new connections to PostgreSQL; unset = the server's.
    timezone: Option<String> as Maybe<Text> = None, Reload;
    /// application_name for new connections to PostgreSQL; unset = none.
    application_name: Option<String> as Maybe<Text> = None, Reload;
}

impl Database {
    /// Where PostgreSQL listens, with the port, in the order of the configuration. Without `host` that is the directory of
    /// its Unix socket: Debian's if it exists, else PostgreSQL's own default. Looks at the file system.
    pub fn backend_hosts(&self) -> Vec<(Host, u16)> {
        let local = || {
            let debian = Path::new("/var/run/postgresql");
            Host::Socket(if debian.is_dir() { debian } else { Path::new("/tmp") }.to_path_buf())
        };
        let hosts = if self.host.is_empty() { vec![local()] } else { self.host.clone() };
        let last = self.port.last().copied().unwrap_or(5432);
        let ports = self.port.iter().copied().chain(std::iter::repeat(last));
        hosts.into_iter().zip(ports).collect()
    }

    /// The hosts as the console shows them: with the ports, where there are several.
    pub fn shown_hosts(&self) -> String {
        let several = self.port.len() > 1;
        let shown = |(host, port): (&Host, &u16)| if several { format!("{host}:{port}") } else { host.to_string() };
        let ports = self.port.iter().cycle();
        self.host.iter().zip(ports).map(shown).collect::<Vec<_>>().join(",")
    }

    /// `load_balance_hosts` as the console shows it: only where there is something to choose from, as PgBouncer does.
    pub fn shown_balance(&self) -> Option<&'static str> {
        (self.host.len() > 1).then(|| self.load_balance_hosts.as_str())
    }

    /// Whether there is one port for all hosts, or one for each.
    pub(super) fn ports_fit(&self) -> bool {
        self.port.len() == 1 || self.port.len() == self.host.len()
    }

    /// Name of the database in PostgreSQL.
    pub fn backend_dbname(&self) -> &str {
        self.dbname.as_deref().unwrap_or(&self.name)
    }

    /// Startup parameters that the entry asks for, as (name, value).
    pub fn startup_parameters(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("client_encoding", &self.client_encoding),
            ("datestyle", &self.datestyle),
            ("timezone", &self.timezone),
            ("application_name", &self.application_name),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }

    /// Whether connections opened for `self` also serve `other`: same places, database, forced user and connect_query. Other
    /// differences need no new connections.
    pub fn same_target(&self, other: &Self) -> bool {
        self.host == other.host
            && self.port == other.port
            && self.load_balance_hosts == other.load_balance_hosts
            && self.target_session_attrs == other.target_session_attrs
            && self.backend_dbname() == other.backend_dbname()
            && self.user == other.user
            && self.connect_query == other.connect_query
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(directory) => write!(f, "{}", directory.display()),
            Self::Name(name) => f.write_str(name),
        }
    }
}
