//! One connection of a tool's to PostgreSQL or to a console, opened the way the pooler opens its own: the same TLS, the
//! same logins, the same errors.

use std::future::poll_fn;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pgpool::auth::{BackendSecret, Credential, Password, StoredSecret};
use pgpool::backend::{Backend, ConnectError, ExchangeError, Identity, Interner, Route, Spec, TextTable, connect};
use pgpool::config::{ChannelBinding, Config, Host, LoadBalance, SecretKind, SessionAttrs};
use pgpool::net::tls::{Connector, Tls};
use pgpool::net::{Clock, Lifetimes, Names, SocketOptions, Target, names_and_zones, socket_path};
use pgpool::wire::startup::Replication;
use pgpool::wire::write::TERMINATE;
use serde::de::DeserializeOwned;

use super::dsn::Dsn;

/// The name in `pg_stat_activity`.
pub(crate) const APPLICATION: &str = "pgpool doctor";
const TIMEOUT: Duration = Duration::from_secs(10);
const GOODBYE: Duration = Duration::from_secs(1);

/// Where to connect to, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) target: Target,
    pub(crate) user: String,
    pub(crate) dbname: String,
    secret: BackendSecret,
    names: Arc<Names>,
    tls: Arc<Connector>,
    channel_binding: ChannelBinding,
    options: Option<String>,
    timeout: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// No connection.
    #[error("cannot connect to {way}: {}", said(.error))]
    Connect {
        /// Where to and as whom.
        way: String,
        /// Why not.
        error: ConnectError,
    },
    /// A query failed.
    #[error("{}", failed(.0))]
    Query(ExchangeError),
    /// An answer that is not what was asked for.
    #[error("an answer cannot be read: {0}")]
    Answer(String),
    /// Something that has to be right before one can connect.
    #[error("{0}")]
    Said(String),
}

fn said(error: &ConnectError) -> String {
    match error {
        ConnectError::Refused(said) => format!("{}: {} ({})", said.severity, said.message, said.code),
        other => other.to_string(),
    }
}

fn failed(error: &ExchangeError) -> String {
    match error {
        ExchangeError::Refused(said) => format!("{} ({})", said.message, said.code),
        other => other.to_string(),
    }
}

impl LinkError {
    /// The SQLSTATE, if PostgreSQL said one.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            LinkError::Connect { error: ConnectError::Refused(said), .. }
            | LinkError::Query(ExchangeError::Refused(said)) => Some(&said.code),
            _ => None,
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        let text = match (self.code(), self) {
            (Some("53300"), _) => {
                "all slots for this role are taken; connect as a superuser, or as a role that has been granted \
                 pg_use_reserved_connections (PostgreSQL 16 and newer), for whom slots are kept"
            }
            (Some("28P01"), _) => "the password is wrong, or the role has none: see PGPASSWORD and ~/.pgpass",
            (Some("28000"), _) => "the role does not exist, may not log in, or pg_hba.conf has no line for it",
            (Some("3D000"), _) => "name a database that exists: dbname=postgres",
            (Some("57P03"), _) => "PostgreSQL is starting or stopping; try again",
            (Some("42501"), _) => "a superuser can run: GRANT pg_monitor TO the role",
            (_, LinkError::Connect { error, .. }) => match error {
                ConnectError::Connect(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    "nothing listens there: is PostgreSQL running, and is this its port (listen_addresses, port)?"
                }
                ConnectError::Connect(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    "there is no such socket: check host and port"
                }
                ConnectError::Lookup(_) => "there is no such host, or no name server that knows it: check host",
                ConnectError::Timeout => "nothing answers: check the address and the firewall",
                ConnectError::NoTls => "the server has no TLS: sslmode=prefer or sslmode=disable",
                ConnectError::Tls(_) => "check sslmode, sslrootcert and the host's name in its certificate",
                ConnectError::Authentication(_) => {
                    "the server wants a password that is not known here: put it into the connection string, PGPASSWORD \
                     or ~/.pgpass; of a SCRAM verifier alone none can be made"
                }
                ConnectError::Protocol(_) | ConnectError::TlsAnswer => "is this a PostgreSQL server?",
                _ => return None,
            },
            _ => return None,
        };
        Some(text.to_owned())
    }

    /// In one line, with the hint.
    pub(crate) fn line(&self) -> String {
        let hint = self.hint().map(|hint| format!(" HINT: {hint}")).unwrap_or_default();
        format!("{self}{hint}").replace('\n', " ")
    }
}

impl Way {
    /// The ways of a connection string, one per host.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn of_dsn(dsn: &Dsn) -> Result<Vec<Way>, LinkError> {
        let bad = |error: String| LinkError::Said(error);
        let config = tls_settings(dsn).map_err(bad)?;
        let tls = Tls::load(&config, None).map_err(|error| bad(error.to_string()))?.connector;
        let seconds = dsn.get("connect_timeout").and_then(|text| text.parse().ok()).filter(|seconds| *seconds > 0);
        let timeout = seconds.map_or(TIMEOUT, Duration::from_secs);
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let way = |(host, port): (String, u16)| {
            let password = dsn.password(&host, port, home.clone());
            Way {
                target: target(&host_of(&host), port),
                user: dsn.user(),
                dbname: dsn.dbname(),
                secret: password.map_or(BackendSecret::None, plain),
                names: Arc::default(),
                tls: Arc::clone(&tls),
                channel_binding: config.general.server_channel_binding,
                options: dsn.get("options").map(str::to_owned),
                timeout,
            }
        };
        Ok(dsn.hosts().map_err(bad)?.into_iter().map(way).collect())
    }

    /// The way to a server of the configuration, as a user whose password it has; as `user`, if that is said.
    ///
    /// # Errors
    /// The files of TLS cannot be read.
    pub(crate) fn of_config(config: &Config, host: &Host, port: u16, user: Option<&str>) -> Result<Way, LinkError> {
        let tls = Tls::load(config, None).map_err(|error| LinkError::Said(error.to_string()))?.connector;
        let here: Vec<_> = config
            .databases
            .values()
            .chain(&config.fallback)
            .filter(|entry| entry.backend_hosts().contains(&(host.clone(), port)))
            .collect();
        let secret_of = |name: &str| {
            let forced = here.iter().filter(|entry| entry.user.as_deref() == Some(name));
            let forced = forced.filter_map(|entry| config.forced_secret(entry)).next();
            let known = || config.user(name)?.password.clone();
            forced.or_else(known).filter(|secret| secret.kind() != SecretKind::ScramSha256)
        };
        let lookups = here.iter().filter_map(|entry| config.auth_source(&entry.name)).map(|source| source.user);
        let forced = here.iter().filter_map(|entry| entry.user.clone());
        let candidates: Vec<String> = lookups.chain(forced).chain(config.users.keys().cloned()).collect();
        let able = candidates.iter().find(|name| secret_of(name).is_some()).or(candidates.first()).cloned();
        let user = user.map(str::to_owned).or(able).unwrap_or_else(|| String::from("postgres"));
        let dbname = here.iter().find(|entry| entry.name != "*" || entry.dbname.is_some());
        let dbname = dbname.map_or("postgres", |entry| entry.backend_dbname()).to_owned();
        let stored = secret_of(&user).map(|secret| StoredSecret::parse(secret.expose()));
        let said =
            std::env::var("PGPASSWORD").ok().map(|password| StoredSecret::Plain(Password::new(password.into_bytes())));
        Ok(Way {
            target: target(host, port),
            secret: stored.or(said).map_or(BackendSecret::None, credential),
            user,
            dbname,
            names: Arc::new(names_and_zones(config.resolver.as_deref()).0),
            tls,
            channel_binding: config.general.server_channel_binding,
            options: None,
            timeout: TIMEOUT,
        })
    }

    /// The ways to the console of a pgpool, or a PgBouncer, that runs with this configuration: as its owner by the Unix socket, and by TCP
    /// as those who may read it and have a password here.
    pub(crate) fn of_console(config: &Config) -> Vec<Way> {
        let general = &config.general;
        let way = |target: Target, user: &str, secret: BackendSecret| Way {
            target,
            user: user.to_owned(),
            dbname: String::from("pgbouncer"),
            secret,
            names: Arc::default(),
            tls: Arc::new(Connector::none()),
            channel_binding: ChannelBinding::Prefer,
            options: None,
            timeout: TIMEOUT,
        };
        let socket = general.unix_socket_dir.as_ref().map(|dir| Target::Unix {
            path: socket_path(&config.beside(dir), general.listen_port),
            port: general.listen_port,
        });
        let mut ways: Vec<Way> =
            socket.iter().map(|target| way(target.clone(), "pgbouncer", BackendSecret::None)).collect();
        let address = general.listen_addr.first().map(|address| match address.as_str() {
            "*" | "0.0.0.0" | "::" => "127.0.0.1",
            other => other,
        });
        let tcp = address.map(|host| Target::Tcp { host: host.to_owned(), port: general.listen_port });
        for name in general.admin_users.iter().chain(&general.stats_users) {
            let secret = config.user(name).and_then(|user| user.password.clone());
            let Some(secret) = secret.filter(|secret| secret.kind() != SecretKind::ScramSha256) else { continue };
            let secret = credential(StoredSecret::parse(secret.expose()));
            ways.extend(socket.iter().chain(&tcp).map(|target| way(target.clone(), name, secret.clone())));
        }
        ways
    }

    /// In words.
    pub(crate) fn shown(&self) -> String {
        format!("{} as \"{}\" (database \"{}\")", self.target, self.user, self.dbname)
    }

    /// The port that is connected to.
    pub(crate) fn port(&self) -> u16 {
        match &self.target {
            Target::Tcp { port, .. } | Target::Unix { port, .. } => *port,
        }
    }

    /// Whether the server is on this machine.
    pub(crate) fn is_local(&self) -> bool {
        match &self.target {
            Target::Unix { .. } => true,
            Target::Tcp { host, .. } => {
                host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        }
    }

    fn spec(&self) -> Spec {
        let none = Duration::ZERO;
        let mut parameters = vec![("application_name", APPLICATION.to_owned()), ("client_encoding", "UTF8".to_owned())];
        parameters.extend(self.options.clone().map(|options| ("options", options)));
        Spec {
            route: Arc::new(Route::new(vec![self.target.clone()], LoadBalance::Disable, SessionAttrs::Any)),
            names: Arc::clone(&self.names),
            lifetimes: Lifetimes::default(),
            dbname: self.dbname.clone(),
            user: self.user.clone(),
            secret: self.secret.clone(),
            parameters,
            replication: Replication::None,
            asked: Vec::new(),
            socket: SocketOptions {
                keepalive: true,
                idle: none,
                interval: none,
                count: 0,
                user_timeout: none,
                buffer: 0,
            },
            tls: Arc::clone(&self.tls),
            channel_binding: self.channel_binding,
            timeout: self.timeout,
            retry: none,
            log_connections: false,
            log_disconnections: false,
        }
    }
}

fn plain(password: String) -> BackendSecret {
    credential(StoredSecret::Plain(Password::new(password.into_bytes())))
}

fn credential(stored: StoredSecret) -> BackendSecret {
    BackendSecret::Credential(Arc::new(Credential::new(stored, 4096)))
}

fn host_of(text: &str) -> Host {
    match text {
        "" => {
            let debian = PathBuf::from("/var/run/postgresql");
            Host::Socket(if debian.is_dir() { debian } else { PathBuf::from("/tmp") })
        }
        path if path.starts_with(['/', '@']) => Host::Socket(PathBuf::from(path)),
        name => Host::Name(name.to_owned()),
    }
}

fn target(host: &Host, port: u16) -> Target {
    match host {
        Host::Name(host) => Target::Tcp { host: host.clone(), port },
        Host::Socket(dir) => Target::Unix { path: socket_path(dir, port), port },
    }
}

/// libpq's TLS settings as ours.
fn tls_settings(dsn: &Dsn) -> Result<Config, String> {
    let mut config = Config::default();
    let pairs = [
        ("sslmode", "server_tls_sslmode"),
        ("sslnegotiation", "server_tls_sslnegotiation"),
        ("sslrootcert", "server_tls_ca_file"),
        ("sslcrl", "server_tls_crl_file"),
        ("sslcert", "server_tls_cert_file"),
        ("sslkey", "server_tls_key_file"),
        ("channel_binding", "server_channel_binding"),
    ];
    for (key, setting) in pairs {
        if let Some(value) = dsn.get(key) {
            config.general.set(setting, value).map_err(|error| format!("{key}: {error}"))?;
        }
    }
    Ok(config)
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Link {
    backend: Backend,
    interner: Interner,
}

impl Link {
    /// Opens it.
    ///
    /// # Errors
    /// [`LinkError::Connect`].
    pub(crate) async fn open(way: &Way) -> Result<Link, LinkError> {
        let (interner, clock) = (Interner::default(), Clock::start());
        let who = Identity { id: 0, database: way.dbname.as_str().into(), user: way.user.as_str().into() };
        let spec = way.spec();
        let opened = Box::pin(connect(&spec, who, &interner, &clock)).await;
        let backend = opened.map_err(|error| LinkError::Connect { way: way.shown(), error })?;
        Ok(Link { backend, interner })
    }

    /// The process id that the login told of. A pooler's is not that of PostgreSQL's process.
    pub(crate) fn process_id(&self) -> u32 {
        self.backend.record.process_id
    }

    /// Runs a query.
    ///
    /// # Errors
    /// [`LinkError::Query`].
    pub(crate) async fn table(&mut self, sql: &str) -> Result<TextTable, LinkError> {
        self.backend.table(sql, &self.interner).await.map_err(LinkError::Query)
    }

    /// Runs a query whose rows are one JSON document each.
    ///
    /// # Errors
    /// [`LinkError`].
    pub(crate) async fn documents<T: DeserializeOwned>(&mut self, sql: &str) -> Result<Vec<T>, LinkError> {
        let table = self.table(sql).await?;
        let texts = table.rows.iter().filter_map(|row| row.first()?.as_deref());
        texts.map(|text| serde_json::from_str(text).map_err(|error| LinkError::Answer(error.to_string()))).collect()
    }

    /// Runs a query whose first value is a text.
    ///
    /// # Errors
    /// [`LinkError`].
    pub(crate) async fn value(&mut self, sql: &str) -> Result<Option<String>, LinkError> {
        let table = self.table(sql).await?;
        Ok(table.rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten())
    }

    /// Says goodbye, and waits until PostgreSQL has freed the slot, which is when it closes the connection.
    pub(crate) async fn close(mut self) {
        let gone = async {
            self.backend.stream.write_all(&TERMINATE).await?;
            let mut rest = [0; 256];
            while poll_fn(|cx| self.backend.stream.poll_read(cx, &mut rest)).await? > 0 {}
            Ok::<(), std::io::Error>(())
        };
        // One that does not close it is left alone.
        let _ = tokio::time::timeout(GOODBYE, gone).await;
    }
}

/// `text` as an SQL literal; standard_conforming_strings or not.
pub(crate) fn literal(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "''");
    format!("E'{escaped}'")
}

/// `text` as an identifier.
pub(crate) fn identifier(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}
