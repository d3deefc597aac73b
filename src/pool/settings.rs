//! What the configuration says of one pool, resolved once per (re)load.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::budget::Slots;
use super::look::FRESH;
use crate::auth::{BackendSecret, Credential, StoredSecret};
use crate::backend::{Route, Spec};
use crate::config::{Config, Database, General, Host, PoolMode, PrepareUnnamed, SessionAttrs, SessionFeatures};
use crate::net::tls::Connector;
use crate::net::{Lifetimes, Micros, SocketOptions, Target, socket_path};
use crate::wire::startup::Replication;

/// Everything that a pool and its sessions go by. Counts of 0 mean no limit, times of 0 mean off, unless said otherwise.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// When a backend may go to another client.
    pub mode: PoolMode,
    /// `pool_size`.
    pub size: u32,
    /// `min_pool_size`.
    pub min: u32,
    /// `reserve_pool_size`; 0 means none.
    pub reserve: u32,
    /// `reserve_pool_timeout`; 0 means that the reserve is never used.
    pub reserve_timeout: Duration,
    /// `max_db_connections`.
    pub max_db: u32,
    /// `max_user_connections`.
    pub max_user: u32,
    /// `server_round_robin`.
    pub round_robin: bool,
    /// `server_lifetime`, in the clock's microseconds; 0 means that a backend is used once.
    pub lifetime_micros: Micros,
    /// `server_idle_timeout`.
    pub idle_timeout: Duration,
    /// `server_reset_query`, where it runs in this pool; empty: none.
    pub reset_query: String,
    /// `server_check_query`; `None`: no check.
    pub check_query: Option<String>,
    /// `server_check_delay`, in the clock's microseconds; 0 means always.
    pub check_delay_micros: Micros,
    /// How long a backend may be idle and is lent unchecked.
    pub trusted_micros: Micros,
    /// `server_login_retry`.
    pub login_retry: Duration,
    /// `query_timeout`.
    pub query_timeout: Duration,
    /// `idle_transaction_timeout`.
    pub idle_transaction_timeout: Duration,
    /// `transaction_timeout`.
    pub transaction_timeout: Duration,
    /// `query_wait_notify`.
    pub query_wait_notify: Duration,
    /// `log_connections`.
    pub log_connections: bool,
    /// `log_disconnections`.
    pub log_disconnections: bool,
    /// `disable_pqexec`.
    pub no_simple_queries: bool,
    /// `max_packet_size`, bytes.
    pub max_packet: u32,
    /// `max_prepared_statements`; 0, as always in session mode, means that statements are not followed.
    pub max_prepared: u32,
    /// `prepare_unnamed`.
    pub prepare_unnamed: bool,
    /// `max_client_statement_bytes`.
    pub max_client_statement_bytes: usize,
    /// `max_statement_bytes`.
    pub max_statement_bytes: usize,
    /// `session_features`.
    pub features: SessionFeatures,
    /// `max_pinned` as it counts for the pool's size: never 0, `u32::MAX` means no limit.
    pub max_pinned: u32,
    /// `client_death_grace`; 0 means that the backend is closed at once.
    pub death_grace: Duration,
    /// How backends are opened.
    pub spec: Spec,
    /// The budgets of the servers that it leads to, in the order of its hosts.
    pub(super) slots: Vec<Arc<Slots>>,
    /// The database entry that all this comes from.
    pub database: Arc<Database>,
}

impl PoolSettings {
    /// Resolves them for the pool of `database` and `user` (the pool's user, forced or not).
    #[must_use]
    pub fn resolve(config: &Config, database: &Arc<Database>, user: &str, secret: BackendSecret) -> PoolSettings {
        let general = &config.general;
        let known = config.user(user).map(Arc::as_ref);
        let mode = config.pool_mode(database, known);
        let resets = general.server_reset_query_always || mode == PoolMode::Session;
        PoolSettings {
            mode,
            size: config.pool_size(database, known),
            min: config.min_pool_size(database),
            reserve: config.reserve_pool_size(database, known),
            reserve_timeout: general.reserve_pool_timeout,
            max_db: config.max_db_connections(database),
            max_user: config.max_user_connections(known),
            round_robin: general.server_round_robin,
            lifetime_micros: micros(config.server_lifetime(database)),
            idle_timeout: general.server_idle_timeout,
            reset_query: if resets { general.server_reset_query.clone() } else { String::new() },
            check_query: general.check_query().map(str::to_owned),
            check_delay_micros: micros(general.server_check_delay),
            trusted_micros: trusted(general, database),
            login_retry: general.server_login_retry,
            query_timeout: config.query_timeout(known),
            idle_transaction_timeout: config.idle_transaction_timeout(known),
            transaction_timeout: config.transaction_timeout(known),
            query_wait_notify: general.query_wait_notify,
            log_connections: general.log_connections,
            log_disconnections: general.log_disconnections,
            no_simple_queries: general.disable_pqexec,
            max_packet: general.max_packet_size,
            max_prepared: if mode == PoolMode::Session { 0 } else { general.max_prepared_statements },
            prepare_unnamed: general.prepare_unnamed == PrepareUnnamed::Auto,
            max_client_statement_bytes: general.max_client_statement_bytes,
            max_statement_bytes: general.max_statement_bytes,
            features: config.session_features(database),
            max_pinned: config.max_pinned(database, known),
            death_grace: general.client_death_grace,
            spec: dialled(general, database, user, secret),
            slots: Vec::new(),
            database: Arc::clone(database),
        }
    }
}

/// How long a backend of this entry is trusted without a check. A standby may be promoted and says so with its next
/// answer, which is to be none to a client; a primary does not become a standby with a connection open.
fn trusted(general: &General, database: &Database) -> Micros {
    let asked = match database.target_session_attrs {
        SessionAttrs::Standby | SessionAttrs::ReadOnly | SessionAttrs::PreferStandby => FRESH,
        SessionAttrs::Any | SessionAttrs::ReadWrite | SessionAttrs::Primary => Micros::MAX,
    };
    general.check_query().map_or(asked, |_| micros(general.server_check_delay).min(asked))
}

pub(super) fn micros(time: Duration) -> Micros {
    Micros::try_from(time.as_micros()).unwrap_or(Micros::MAX)
}

/// Where a host of the configuration leads to.
pub(super) fn target(host: &Host, port: u16) -> Target {
    match host {
        Host::Name(host) => Target::Tcp { host: host.clone(), port },
        Host::Socket(dir) => Target::Unix { path: socket_path(dir, port), port },
    }
}

/// How a backend of this entry is opened as this user.
pub(super) fn dialled(general: &General, database: &Database, user: &str, secret: BackendSecret) -> Spec {
    let targets = database.backend_hosts().into_iter().map(|(host, port)| target(&host, port)).collect();
    Spec {
        route: Arc::new(Route::new(targets, database.load_balance_hosts, database.target_session_attrs)),
        names: Arc::default(),
        lifetimes: lifetimes(general),
        dbname: database.backend_dbname().to_owned(),
        user: user.to_owned(),
        secret,
        parameters: database.startup_parameters().map(|(name, value)| (name, value.to_owned())).collect(),
        replication: Replication::None,
        asked: Vec::new(),
        socket: socket_options(general),
        tls: Arc::new(Connector::none()),
        channel_binding: general.server_channel_binding,
        timeout: limited(general.server_connect_timeout),
        retry: general.server_login_retry,
        log_connections: general.log_connections,
        log_disconnections: general.log_disconnections,
    }
}

/// How long the addresses of names are kept.
#[must_use]
pub fn lifetimes(general: &General) -> Lifetimes {
    Lifetimes { found: micros(general.dns_max_ttl), failed: micros(general.dns_nxdomain_ttl) }
}

/// A time of which 0 means no limit, as one to wait for.
pub(super) fn limited(time: Duration) -> Duration {
    if time.is_zero() { Duration::from_secs(365 * 24 * 3600) } else { time }
}

/// The TCP options of the configuration.
#[must_use]
pub fn socket_options(general: &General) -> SocketOptions {
    SocketOptions {
        keepalive: general.tcp_keepalive,
        idle: general.tcp_keepidle,
        interval: general.tcp_keepintvl,
        count: general.tcp_keepcnt,
        user_timeout: general.tcp_user_timeout,
        buffer: general.tcp_socket_buffer,
    }
}

/// What the credential of a client is to a backend of the same user.
pub(super) fn of_login(credential: Arc<Credential>) -> BackendSecret {
    match credential.secret() {
        StoredSecret::Scram(_) => BackendSecret::Keys(credential),
        StoredSecret::Plain(_) | StoredSecret::Md5(_) => BackendSecret::Credential(credential),
    }
}

/// The credentials in use, one per owner of a secret, so that what is derived from a secret is derived once and outlives
/// a reload that did not change it.
#[derive(Debug, Default)]
pub struct Credentials(Mutex<HashMap<String, Arc<Credential>>>);

impl Credentials {
    /// The credential of a user that logs in, or to PostgreSQL as himself.
    pub fn of_user(&self, config: &Config, user: &str) -> Option<Arc<Credential>> {
        let secret = config.user(user)?.password.as_ref()?;
        Some(self.of(user.to_owned(), secret.expose(), config.general.scram_iterations))
    }

    /// What a backend proves itself with that logs in as a user of the configuration.
    pub fn of_login(&self, config: &Config, user: &str) -> BackendSecret {
        self.of_user(config, user).map_or(BackendSecret::None, of_login)
    }

    /// What the pool of `database` and `user` proves itself to PostgreSQL with: the forced user's own secret, else the
    /// one that the configuration has of the user. Only without a forced user is it the clients' own credential, with
    /// what their logins reveal.
    pub fn of_pool(&self, config: &Config, database: &Database, user: &str) -> BackendSecret {
        let credential = match config.forced_secret(database) {
            // A name that no user can have, since it holds a NUL.
            Some(secret) => {
                Some(self.of(format!("{}\0{user}", database.name), secret.expose(), config.general.scram_iterations))
            }
            None if database.user.is_some() => None,
            None => return self.of_login(config, user),
        };
        credential.map_or(BackendSecret::None, BackendSecret::Credential)
    }

    /// Forgets those whose owners the configuration does not have any more.
    pub(super) fn follow(&self, config: &Config) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|owner, _| match owner.split_once('\0') {
            Some((database, user)) => {
                config.database(database).is_some_and(|database| database.user.as_deref() == Some(user))
            }
            None => config.user(owner).is_some_and(|user| user.password.is_some()),
        });
    }

    fn of(&self, owner: String, secret: &str, iterations: u32) -> Arc<Credential> {
        let stored = StoredSecret::parse(secret);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(credential) = known.get(&owner).filter(|credential| credential.holds(&stored, iterations)) {
            return Arc::clone(credential);
        }
        let credential = Arc::new(Credential::new(stored, iterations));
        known.insert(owner, Arc::clone(&credential));
        credential
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn resolved(general: &str) -> PoolSettings {
        let text = format!("[pgpool]\n{general}\n[databases.a]\n");
        let config = Config::parse(&text, Path::new("x.toml")).unwrap().config;
        PoolSettings::resolve(&config, &config.databases["a"], "u", BackendSecret::None)
    }

    #[test]
    fn statements_are_followed_outside_of_session_mode() {
        for (mode, expected) in [("session", 0), ("transaction", 200), ("statement", 200)] {
            assert_eq!(resolved(&format!("pool_mode = \"{mode}\"")).max_prepared, expected, "{mode}");
        }
        let none = resolved("pool_mode = \"transaction\"\nmax_prepared_statements = 0\nprepare_unnamed = \"off\"");
        assert_eq!((none.max_prepared, none.prepare_unnamed), (0, false));
        assert!(resolved("").prepare_unnamed);
        assert_eq!((resolved("").max_pinned, resolved("default_pool_size = 0").max_pinned), (19, u32::MAX));
    }
}
