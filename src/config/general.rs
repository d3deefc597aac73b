//! The settings of `[pgpool]`, with their defaults.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::Duration;

use crate::config::choice::{
    AuthType, ChannelBinding, DheParams, Facility, ListenerLost, LogFormat, PoolMode, PrepareUnnamed, SslMode,
    SslNegotiation,
};
use crate::config::features::{Features, SessionFeatures};
use crate::config::kinds::{
    Count, File, FileMode, Flag, Hidden, HostPort, INT_MAX, Maybe, Mode, OneOf, Text, Within, Words,
};
use crate::config::secret::Secret;
use crate::config::slot_budget::{Budget, SlotBudget};
use crate::config::span::{KeepaliveSeconds, Millis, Period, Seconds};
use crate::config::suggest::nearest;
use crate::config::table::{Row, Table, When, settings};
use crate::config::tls::{Chosen, GROUPS, Groups, Protocols, SUITES_12, SUITES_13, Suites12, Suites13, TlsProtocols};
use crate::config::value::{Raw, ValueError};

/// Below that a single long statement would not fit.
const LEAST_STATEMENT_BYTES: u64 = 64 << 10;
/// One TiB, so that sums cannot overflow.
const MOST_STATEMENT_BYTES: u64 = 1 << 40;

/// PgBouncer's: expired passwords and roles that may not log in are nobody's secret.
pub(super) const AUTH_QUERY: &str = "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END \
                                     FROM pg_authid WHERE rolname=$1 AND rolcanlogin";

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

settings! {
    /// The settings of `[pgpool]`. Names and meanings are PgBouncer's. Times are `Duration`s; where 0 has a meaning of
    /// its own (off, no limit), the field says so.
    pub struct General in "pgpool" {}

    /// Addresses to listen on: names, IP addresses or "*" for all; empty = no TCP.
    listen_addr: Vec<String> as Words = vec![String::from("127.0.0.1")], Boot;
    /// TCP port, also part of the Unix socket's name; 0 = any free port.
    listen_port: u16 as Within<u16, 0, 65535> = 6432, Boot;
    /// Directory of the Unix socket; empty = no Unix socket.
    unix_socket_dir: Option<PathBuf> as File = Some(PathBuf::from("/tmp")), Boot;
    /// File mode of the Unix socket, in octal.
    unix_socket_mode: FileMode as Mode = FileMode(0o777), Boot;
    /// System group of the Unix socket, by name or number; empty = that of the process.
    unix_socket_group: String as Text = String::new(), Boot;
    /// Connections that the kernel keeps waiting to be accepted, per listening socket.
    listen_backlog: u32 as Within<u32, 1, 65535> = 1024, Boot;
    /// Let other processes listen on the same port; each has pools of its own, and may know the others as [peers].
    so_reuseport: bool as Flag = false, Boot;
    /// This process's number in [peers] of the others, to which cancel requests of its clients may come; 0 = none.
    peer_id: u16 as Within<u16, 0, 16383> = 0, Reload;
    /// Address and port of the HTTP server for metrics, health checks and the status page; empty = none.
    http_addr: Option<String> as Maybe<HostPort> = None, Boot;
    /// Time after SIGTERM over which idle clients are told to connect elsewhere, spread; 0 = they may stay.
    drain_window: Duration as Seconds = secs(10), Reload;
    /// Time after SIGTERM at which the process ends, whatever still runs; 0 = when the last client has left.
    drain_timeout: Duration as Seconds = secs(25), Reload;
    /// The same as drain_window, after another process has taken the listening sockets over; 0 = they may stay.
    takeover_window: Duration as Seconds = Duration::ZERO, Reload;
    /// The same as drain_timeout, after another process has taken over; 0 = when the last client has left.
    takeover_timeout: Duration as Seconds = Duration::ZERO, Reload;
    /// Threads that serve connections; 0 = as many as the process has cores to run on.
    worker_threads: u16 as Within<u16, 0, 1024> = 0, Boot;

    /// System user to become at the start, instead of root; empty = stay who started it, who must not be root.
    user: String as Text = String::new(), Boot;

    /// File to append log lines to, besides standard error, relative to this file; one that is gone is made anew.
    logfile: Option<PathBuf> as File = None, Reload;
    /// File that has the process's id while it runs, relative to this file; empty = none.
    pidfile: Option<PathBuf> as File = None, Boot;
    /// Shape of a log line: text, json or pgbouncer.
    log_format: LogFormat as OneOf<LogFormat> = LogFormat::Text, Boot;
    /// Send log lines to the system's syslog as well.
    syslog: bool as Flag = false, Reload;
    /// Name of the program in syslog.
    syslog_ident: String as Text = String::from("pgpool"), Reload;
    /// Facility in syslog: auth, authpriv, daemon, user or local0 to local7.
    syslog_facility: Facility as OneOf<Facility> = Facility::Daemon, Reload;
    /// How much more to log, 0 to 3; -v on the command line adds to it.
    verbose: u8 as Within<u8, 0, 3> = 0, Reload;
    /// Log each client login and each new connection to PostgreSQL.
    log_connections: bool as Flag = true, Reload;
    /// Log each end of a connection, with its reason.
    log_disconnections: bool as Flag = true, Reload;
    /// Log each error that the pooler itself sends to a client.
    log_pooler_errors: bool as Flag = true, Reload;
    /// Name queries by their text in SHOW HOLDERS and in the log, and not by a fingerprint alone; it may hold secrets.
    log_query_text: bool as Flag = false, Reload;
    /// Log and count, once, a client that holds a connection to PostgreSQL for longer; 0 = never.
    leak_threshold: Duration as Seconds = secs(600), Reload;
    /// Log one line of totals every stats_period.
    log_stats: bool as Flag = true, Reload;
    /// Period of the averages in SHOW STATS and of log_stats.
    stats_period: Duration as Period = secs(60), Reload;

    /// When a connection to PostgreSQL may serve another client: session, transaction or statement.
    pool_mode: PoolMode as OneOf<PoolMode> = PoolMode::Session, Reload;
    /// Most client connections, those of the console included.
    max_client_conn: u32 as Count = 1000, Reload;
    /// Most connections from one IP address, those included that have not logged in yet; 0 = no limit.
    max_client_conn_per_ip: u32 as Count = 0, Reload;
    /// Most logins that one IP address may begin per second, after as many at once; 0 = no limit.
    max_login_rate_per_ip: u32 as Count = 0, Reload;
    /// Most connections to PostgreSQL per database and user; 0 = no limit.
    default_pool_size: u32 as Count = 20, Reload;
    /// Connections to PostgreSQL that are kept open per pool even when idle.
    min_pool_size: u32 as Count = 0, Reload;
    /// Connections that a pool may open beyond its size when a client waits too long; 0 = none.
    reserve_pool_size: u32 as Count = 0, Reload;
    /// How long a client must have waited before the reserve is used; 0 = the reserve is never used.
    reserve_pool_timeout: Duration as Seconds = secs(5), Reload;
    /// Most connections to PostgreSQL per database, over all users; 0 = no limit.
    max_db_connections: u32 as Count = 0, Reload;
    /// Most connections to PostgreSQL per user, over all databases; 0 = no limit.
    max_user_connections: u32 as Count = 0, Reload;
    /// How many of a PostgreSQL server's slots all pools together may hold: auto, a number, a percentage like 75%, or off.
    slot_budget: SlotBudget as Budget = SlotBudget::Auto, Reload;
    /// Slots that slot_budget auto leaves for others: an administrator, a migration, and a connection that is just ending.
    slot_headroom: u32 as Count = 3, Reload;
    /// Most connections to one PostgreSQL server, whatever it has; 0 = what slot_budget finds out.
    max_server_connections: u32 as Count = 0, Reload;
    /// Most client connections per database; 0 = no limit.
    max_db_client_connections: u32 as Count = 0, Reload;
    /// Most client connections per user; 0 = no limit.
    max_user_client_connections: u32 as Count = 0, Reload;
    /// Use idle connections in turn instead of the last used one first.
    server_round_robin: bool as Flag = false, Reload;
    /// Largest single message that is let through, in bytes.
    max_packet_size: u32 as Within<u32, 16, INT_MAX> = 2_147_483_647, Reload;
    /// Refuse simple queries, with which several statements may be sent at once; the client is disconnected.
    disable_pqexec: bool as Flag = false, Reload;
    /// Append the client's address and port to its application_name at the login.
    application_name_add_host: bool as Flag = false, Reload;
    /// Notice that every client is told at its login; empty = none.
    login_notify_message: String as Text = String::new(), Reload;
    /// Startup parameters of clients to ignore instead of refusing the login.
    ignore_startup_parameters: Vec<String> as Words = Vec::new(), Reload;

    /// Notifications that wait for one client at most; more are dropped and said.
    listen_queue_size: u32 as Within<u32, 1, INT_MAX> = 1000, Reload;
    /// What happens to listening clients when the connection that listens for them was lost: continue or disconnect.
    listener_lost: ListenerLost as OneOf<ListenerLost> = ListenerLost::Continue, Reload;

    /// How clients prove who they are: any, trust, plain, md5, scram-sha-256, cert, hba, ldap or pam.
    auth_type: AuthType as OneOf<AuthType> = AuthType::ScramSha256, Reload;
    /// File of users and secrets in PgBouncer's format, relative to this file; empty = none.
    auth_file: Option<PathBuf> as File = None, Reload;
    /// Rules for auth_type hba in the format of PostgreSQL's pg_hba.conf, relative to this file; empty = none.
    auth_hba_file: Option<PathBuf> as File = None, Reload;
    /// Maps of user names for those rules in the format of pg_ident.conf, relative to this file; empty = none.
    auth_ident_file: Option<PathBuf> as File = None, Reload;
    /// User who looks up, by auth_query, clients that have no secret here; empty = such clients are refused.
    auth_user: Option<String> as Maybe<Text> = None, Reload;
    /// Query for name and secret of the user $1.
    auth_query: String as Text = String::from(AUTH_QUERY), Reload;
    /// Entry of [databases] in which auth_query runs, also for logins to the console; empty = the client's database.
    auth_dbname: Option<String> as Maybe<Text> = None, Reload;
    /// The search_path of auth_query; empty = that of auth_user, who is to be the only one to create things in it.
    auth_query_search_path: String as Text = String::from("pg_catalog"), Reload;
    /// How long an answer of auth_query counts; 0 = ask at each login. A refused login has it asked again.
    auth_query_lifetime: Duration as Seconds = secs(30), Reload;
    /// How long it counts that auth_query found no such user or no secret; 0 = ask at each login.
    auth_query_negative_lifetime: Duration as Seconds = secs(5), Reload;
    /// Directory for auth_type ldap, by the options of pg_hba.conf: "ldapserver=... ldapbasedn=..."; empty = none.
    auth_ldap_options: Option<Secret> as Maybe<Hidden> = None, Reload;
    /// Users who may do everything on the console.
    admin_users: Vec<String> as Words = Vec::new(), Reload;
    /// Users who may read statistics on the console.
    stats_users: Vec<String> as Words = Vec::new(), Reload;
    /// Iterations of a SCRAM verifier that is made from a plain password.
    scram_iterations: u32 as Within<u32, 1, INT_MAX> = 4096, Reload;

    /// TLS with clients: disable, allow, prefer, require, or verify-ca and verify-full, which check certificates.
    client_tls_sslmode: SslMode as OneOf<SslMode> = SslMode::Disable, Reload;
    /// Key of the pooler's own certificate, in PEM.
    client_tls_key_file: Option<PathBuf> as File = None, Reload;
    /// Certificate that clients see, with its chain, in PEM.
    client_tls_cert_file: Option<PathBuf> as File = None, Reload;
    /// Certificates of the CAs that client certificates must come from, in PEM.
    client_tls_ca_file: Option<PathBuf> as File = None, Reload;
    /// Lists of client certificates that were revoked, in PEM.
    client_tls_crl_file: Option<PathBuf> as File = None, Reload;
    /// Versions of TLS with clients: tlsv1.2, tlsv1.3, or secure for both.
    client_tls_protocols: TlsProtocols as Protocols = TlsProtocols::SECURE, Reload;
    /// Cipher suites of TLS 1.2 with clients, in OpenSSL's language; default = all that rustls has.
    client_tls_ciphers: Chosen as Suites12 = Chosen::all("default", &SUITES_12), Reload;
    /// Cipher suites of TLS 1.3 with clients; empty = all.
    client_tls13_ciphers: Chosen as Suites13 = Chosen::all("", &SUITES_13), Reload;
    /// Groups of the key exchange with clients: auto, or names like X25519 and prime256v1.
    client_tls_ecdhcurve: Chosen as Groups = Chosen::all("auto", &GROUPS), Reload;
    /// No effect, as rustls has no such key exchange: auto or none.
    client_tls_dheparams: DheParams as OneOf<DheParams> = DheParams::Auto, Reload;

    /// TLS with PostgreSQL: disable, allow, prefer, require, verify-ca (its CA), verify-full (its host name as well).
    server_tls_sslmode: SslMode as OneOf<SslMode> = SslMode::Prefer, Reload;
    /// How TLS with PostgreSQL begins: postgres (it is asked first) or direct (PostgreSQL 17 and newer).
    server_tls_sslnegotiation: SslNegotiation as OneOf<SslNegotiation> = SslNegotiation::Postgres, Reload;
    /// Certificates of the CAs that PostgreSQL's certificate must come from, in PEM; empty = the system's.
    server_tls_ca_file: Option<PathBuf> as File = None, Reload;
    /// Lists of certificates of PostgreSQL servers that were revoked, in PEM.
    server_tls_crl_file: Option<PathBuf> as File = None, Reload;
    /// Key of the certificate that PostgreSQL is shown, in PEM.
    server_tls_key_file: Option<PathBuf> as File = None, Reload;
    /// Certificate that PostgreSQL is shown where it asks, in PEM.
    server_tls_cert_file: Option<PathBuf> as File = None, Reload;
    /// Versions of TLS with PostgreSQL: tlsv1.2, tlsv1.3, or secure for both.
    server_tls_protocols: TlsProtocols as Protocols = TlsProtocols::SECURE, Reload;
    /// Cipher suites of TLS 1.2 with PostgreSQL, in OpenSSL's language; default = all that rustls has.
    server_tls_ciphers: Chosen as Suites12 = Chosen::all("default", &SUITES_12), Reload;
    /// Cipher suites of TLS 1.3 with PostgreSQL; empty = all.
    server_tls13_ciphers: Chosen as Suites13 = Chosen::all("", &SUITES_13), Reload;
    /// Bind SCRAM logins to the TLS connection with PostgreSQL: disable, prefer or require.
    server_channel_binding: ChannelBinding as OneOf<ChannelBinding> = ChannelBinding::Prefer, Reload;

    /// Query that clears a connection before another client gets it, in session mode; empty = none.
    server_reset_query: String as Text = String::from("DISCARD ALL"), Reload;
    /// Run server_reset_query in every pool mode.
    server_reset_query_always: bool as Flag = false, Reload;
    /// Query that checks an idle connection; "<empty>" = send an empty query, empty = no check.
    server_check_query: String as Text = String::from("<empty>"), Reload;
    /// A connection that was idle for less than this is used without a check; 0 = always check.
    server_check_delay: Duration as Seconds = secs(30), Reload;
    /// In session mode, close connections that have to be replaced as soon as they are in no transaction, with their client.
    server_fast_close: bool as Flag = false, Reload;
    /// Age from which an unused connection to PostgreSQL is closed; 0 = use each connection once.
    server_lifetime: Duration as Seconds = secs(3600), Reload;
    /// Close connections that were idle this long, down to min_pool_size; 0 = never.
    server_idle_timeout: Duration as Seconds = secs(600), Reload;
    /// Most time for connecting and logging in to PostgreSQL; 0 = no limit.
    server_connect_timeout: Duration as Seconds = secs(15), Reload;
    /// Pause after PostgreSQL refused a login; also how long it may be away before clients are refused, not queued.
    server_login_retry: Duration as Seconds = secs(15), Reload;
    /// How long the addresses of a host name are kept; then connections to those that are gone are replaced. 0 = not kept.
    dns_max_ttl: Duration as Seconds = secs(15), Reload;
    /// How long it is kept that a host name could not be looked up.
    dns_nxdomain_ttl: Duration as Seconds = secs(15), Reload;
    /// How often it is looked whether a host name's zone has another serial; then it is looked up at once. 0 = never.
    dns_zone_check_period: Duration as Seconds = Duration::ZERO, Reload;
    /// File like /etc/resolv.conf to look host names up by, relative to this file; empty = the system's resolver.
    resolv_conf: Option<PathBuf> as File = None, Boot;

    /// Forget a pool of a database without entry (of "*") that nobody has used for this long; 0 = never.
    autodb_idle_timeout: Duration as Seconds = secs(3600), Reload;
    /// Forget any pool that nobody has used for this long, and what SHOW STATS has of it; 0 = never.
    pool_idle_timeout: Duration as Seconds = Duration::ZERO, Reload;

    /// Prepared statements that a connection keeps for clients in transaction and statement mode; 0 = not followed.
    max_prepared_statements: u32 as Count = 200, Reload;
    /// Keep plans of unnamed statements whose text comes again: auto or off.
    prepare_unnamed: PrepareUnnamed as OneOf<PrepareUnnamed> = PrepareUnnamed::Auto, Reload;
    /// Most memory for the prepared statements of one client, names and texts, in bytes.
    max_client_statement_bytes: usize as Within<usize, LEAST_STATEMENT_BYTES, INT_MAX> = 4 << 20, Reload;
    /// Most memory for the texts of all clients' prepared statements, in bytes.
    max_statement_bytes: usize as Within<usize, LEAST_STATEMENT_BYTES, MOST_STATEMENT_BYTES> = 256 << 20, Reload;
    /// What to do when a client leaves something behind a transaction: pin, warn, reject or allow, also per feature.
    session_features: SessionFeatures as Features = SessionFeatures::default(), Reload;
    /// Most connections per pool that may be pinned to clients; 0 = all but one of the pool's size.
    max_pinned: u32 as Count = 0, Reload;

    /// Most time for a client's login; 0 = no limit.
    client_login_timeout: Duration as Seconds = secs(60), Reload;
    /// Close the connection of a query that runs longer; 0 = no limit. Prefer PostgreSQL's statement_timeout.
    query_timeout: Duration as Seconds = Duration::ZERO, Reload;
    /// Most time that a query waits for a connection to PostgreSQL; 0 = no limit.
    query_wait_timeout: Duration as Seconds = secs(120), Reload;
    /// Tell a client by a notice that it waits, after this time; 0 = never.
    query_wait_notify: Duration as Seconds = secs(5), Reload;
    /// Clients that do not take their answers for so long after SUSPEND are disconnected; 0 = never.
    suspend_timeout: Duration as Seconds = secs(10), Reload;
    /// Drop a cancel request that waited this long; 0 = never.
    cancel_wait_timeout: Duration as Seconds = secs(10), Reload;
    /// Close a client that sent nothing for this long outside a transaction; 0 = never.
    client_idle_timeout: Duration as Seconds = Duration::ZERO, Reload;
    /// Close a client that is idle inside a transaction for this long; 0 = never.
    idle_transaction_timeout: Duration as Seconds = Duration::ZERO, Reload;
    /// Close a client whose transaction takes longer; 0 = never.
    transaction_timeout: Duration as Seconds = Duration::ZERO, Reload;
    /// Most time to clean up behind a client that left amid a query, before its connection is closed; 0 = none.
    client_death_grace: Duration as Seconds = secs(5), Reload;

    /// Let the kernel probe silent TCP connections.
    tcp_keepalive: bool as Flag = true, Reload;
    /// Silence before the first keepalive probe; 0 = the system's default.
    tcp_keepidle: Duration as KeepaliveSeconds = secs(60), Reload;
    /// Time between keepalive probes; 0 = the system's default.
    tcp_keepintvl: Duration as KeepaliveSeconds = secs(15), Reload;
    /// Unanswered keepalive probes before a connection is dead; 0 = the system's default.
    tcp_keepcnt: u32 as Within<u32, 0, 127> = 4, Reload;
    /// Drop a TCP connection whose peer takes nothing of what was sent for this long; 0 = the system's default.
    tcp_user_timeout: Duration as Millis = secs(300), Reload;
    /// Size of the system's buffers per TCP connection and direction, in bytes; 0 = the system's default.
    tcp_socket_buffer: u32 as Within<u32, 0, INT_MAX> = 0, Reload;
    /// Let the kernel keep TCP connections to itself, for up to 45 seconds, whose client has said nothing yet.
    tcp_defer_accept: bool as Flag = false, Reload;

    /// The file that the next reload reads instead of this one, relative to this file; empty = this one.
    conffile: Option<PathBuf> as File = None, Reload;
    /// PgBouncer's, without effect: every setting follows its client.
    track_extra_parameters: Vec<String> as Words = vec![String::from("IntervalStyle")], Boot;
    /// PgBouncer's, without effect: buffers have 64 kB and are lent to those who are served.
    pkt_buf: u32 as Within<u32, 0, INT_MAX> = 4096, Boot;
    /// PgBouncer's, without effect: connections take turns by themselves.
    sbuf_loopcnt: u32 as Count = 5, Reload;
    /// PgBouncer's, without effect: it names a service of Windows.
    job_name: String as Text = String::from("pgbouncer"), Boot;
}

/// Why the console's `SET` was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// There is no such setting in `[pgpool]`.
    #[error("unknown setting `{name}`{}", nearest.map(|known| format!(", did you mean `{known}`?")).unwrap_or_default())]
    Unknown {
        /// What was asked for.
        name: String,
        /// A known name that is reasonably near.
        nearest: Option<&'static str>,
    },
    /// The setting is read only when the process starts.
    #[error("`{0}` takes effect only when the process starts")]
    Boot(&'static str),
    /// The value does not fit.
    #[error("`{name}`: {source}")]
    Value {
        /// The setting.
        name: &'static str,
        /// What is wrong with the value.
        source: ValueError,
    },
}

/// One row of `SHOW CONFIG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Name of the setting.
    pub key: &'static str,
    /// Its value, in PgBouncer's spelling.
    pub value: String,
    /// Its default, in the same spelling.
    pub default: String,
    /// Whether a reload or `SET` changes it.
    pub changeable: bool,
}

impl General {
    /// Changes one setting from text, as the console's `SET` does. Boot-only settings stay as they are, whatever is
    /// wrong with the value comes first.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), SetError> {
        let Some(row) = Self::row(name) else {
            let nearest = nearest(name, Self::ROWS.iter().map(|row| row.name));
            return Err(SetError::Unknown { name: name.to_owned(), nearest });
        };
        let wrong = |source| SetError::Value { name: row.name, source };
        match row.when {
            When::Boot => {
                (row.set)(&mut self.clone(), &Raw::Text(text)).map_err(wrong)?;
                Err(SetError::Boot(row.name))
            }
            When::Reload => (row.set)(self, &Raw::Text(text)).map_err(wrong),
        }
    }

    /// The rows of `SHOW CONFIG`, by name.
    pub(super) fn shown(&self, defaults: &Self) -> Vec<Shown> {
        let show = |row: &Row<Self>| Shown {
            key: row.name,
            value: (row.show)(self),
            default: (row.show)(defaults),
            changeable: row.when == When::Reload,
        };
        let mut rows: Vec<Shown> = Self::ROWS.iter().map(show).collect();
        rows.sort_by_key(|shown| shown.key);
        rows
    }

    /// Takes the boot-only settings over from the configuration that runs, since a reload cannot apply new ones.
    pub fn keep_boot_settings(&mut self, running: &Self) {
        for row in Self::ROWS.iter().filter(|row| row.when == When::Boot) {
            (row.copy)(self, running);
        }
    }

    /// How many threads serve connections: `worker_threads`, or the cores that the process may run on.
    pub fn workers(&self) -> usize {
        match self.worker_threads {
            0 => available_parallelism().map_or(1, NonZeroUsize::get),
            threads => usize::from(threads),
        }
    }

    /// The text of the check query: `Some("")` stands for an empty query, `None` for no check.
    pub fn check_query(&self) -> Option<&str> {
        match self.server_check_query.as_str() {
            "" => None,
            "<empty>" => Some(""),
            query => Some(query),
        }
    }
}
