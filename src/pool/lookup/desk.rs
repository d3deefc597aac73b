//! A desk: one task that asks `auth_query` for those who log in, and for the roles that they are members of, one after the
//! other, on one connection.
//!
//! Like the connector it keeps those who wait in their places while PostgreSQL is away, and refuses them when its login
//! is refused or it has been away for longer than `server_login_retry`. The connection counts for the limits over
//! several pools, and is closed when nobody has asked for a while, by PAUSE, RECONNECT and a reload.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::LookupError;
use super::book::{Book, Lifetimes, Roles, Secret};
use super::verdict::{MOST_ROLES, MOST_ROWS, ROLES, Verdict, roles, verdict};
use crate::auth::{Credential, StoredSecret};
use crate::backend::{
    Answered, Backend, BackendRecord, BackendState, Closing, ConnectError, ExchangeError, Identity, Spec, connect,
};
use crate::config::{AuthSource, Config};
use crate::net::{Clock, Micros, OWN};
use crate::pool::budget::SlotPermit;
use crate::pool::connector::{LONGEST_PAUSE, passing_pause};
use crate::pool::settings::{dialled, limited};
use crate::pool::{Cap, Permit, Pool, Pools, Shared, log_close};
use crate::wire::view::Diagnostic;

/// How long a connection stays that nobody asks on, and a desk that nobody needs.
const IDLE: Duration = Duration::from_secs(60);
/// How often a desk looks whether PAUSE is over or a limit leaves room.
const LOOK: Duration = Duration::from_millis(250);
/// Most time for one question, whatever `server_connect_timeout` says.
const LONGEST: Duration = Duration::from_secs(60);

/// Something that is asked about a user of this name.
enum Question {
    /// For his secret.
    Secret(Box<str>),
    /// For the roles that he is a member of.
    Roles(Box<str>),
}

/// Where one query is asked in one database as one user.
#[derive(Debug)]
pub struct Desk {
    pub(super) source: AuthSource,
    shared: Arc<Shared>,
    secrets: Mutex<Book<Secret>>,
    roles: Mutex<Book<Roles>>,
    /// Somebody waits.
    asked: Notify,
    /// What holds it up may be over, or its connection should be looked at.
    changed: Notify,
    backend: Mutex<Option<Arc<BackendRecord>>>,
}

/// The connection, with its place under the limits.
struct Line {
    backend: Backend,
    _permits: [Permit; 2],
    _slot: Option<SlotPermit>,
}

/// Why there is no connection.
enum Trouble {
    /// PAUSE.
    Held,
    /// A limit is used up.
    Full(&'static str),
    /// It could not be opened.
    Failed(Arc<ConnectError>),
    /// There is no such database any more.
    Gone,
}

/// Attempts that failed in a row.
#[derive(Default)]
struct Failures {
    count: u32,
    since: Option<Micros>,
}

impl Desk {
    pub(super) fn new(source: AuthSource, shared: Arc<Shared>) -> Desk {
        let (asked, changed) = (Notify::new(), Notify::new());
        let (secrets, roles, backend) = (Mutex::default(), Mutex::default(), Mutex::default());
        Desk { source, shared, secrets, roles, asked, changed, backend }
    }

    /// Asks until nobody has needed it for a while.
    pub async fn run(self: Arc<Self>, pools: Arc<Pools>) {
        let mut line = None;
        let mut failures = Failures::default();
        loop {
            if line.as_ref().is_some_and(|line| self.is_displaced(line, &pools)) {
                self.close(&mut line, Closing::Replaced, &pools);
            }
            let Some(question) = self.next() else {
                if line.is_none() && pools.lookups.retire(&self) {
                    return;
                }
                tokio::select! {
                    () = self.asked.notified() => {}
                    () = self.changed.notified() => {}
                    () = sleep(IDLE) => self.close(&mut line, Closing::Unneeded, &pools),
                }
                continue;
            };
            match Box::pin(self.serve(&mut line, &question, &pools)).await {
                Ok(()) => failures = Failures::default(),
                Err(trouble) => {
                    let pause = self.failed(trouble, &mut failures, &pools);
                    tokio::select! {
                        () = self.changed.notified() => failures = Failures::default(),
                        () = sleep(pause) => {}
                    }
                }
            }
        }
    }

    /// What is asked next. Roles go first, since their logins go on with a secret.
    fn next(&self) -> Option<Question> {
        let roles = self.roles().next().map(Question::Roles);
        roles.or_else(|| self.secrets().next().map(Question::Secret))
    }

    /// Asks one question and notes the answer. A connection that has been waiting may have died unseen: then it is
    /// asked once more on a new one.
    async fn serve(&self, line: &mut Option<Line>, question: &Question, pools: &Pools) -> Result<(), Trouble> {
        let (sql, user, most) = match question {
            Question::Secret(user) => (self.source.query.as_str(), user, MOST_ROWS),
            Question::Roles(user) => (ROLES, user, MOST_ROLES),
        };
        loop {
            let waited = line.is_some();
            if line.as_mut().is_some_and(|line| line.backend.settle_idle(&self.shared.interner).is_err()) {
                self.close(line, Closing::Crashed, pools);
                continue;
            }
            let mut open = match line.take() {
                Some(open) => open,
                None => self.open(pools).await?,
            };
            let config = pools.config.load_full();
            let limit = limited(config.general.server_connect_timeout).min(LONGEST);
            let ask = open.backend.ask(sql, user, most, &self.shared.interner);
            let answered = timeout(limit, ask).await;
            if matches!(answered, Ok(Ok(_) | Err(ExchangeError::Refused(_)))) {
                *line = Some(open);
            } else {
                let mut broken = Some(open);
                self.close(&mut broken, Closing::Crashed, pools);
            }
            match answered {
                Ok(Ok(answered)) => self.answered(question, answered, &config),
                Ok(Err(ExchangeError::Refused(said))) => self.refused(question, said, &config),
                Ok(Err(_)) if waited => continue,
                Ok(Err(error)) => self.gave_none(question, LookupError::Broken(Arc::new(error))),
                Err(_) => self.gave_none(question, LookupError::Timeout),
            }
            return Ok(());
        }
    }

    fn answered(&self, question: &Question, answered: Answered, config: &Config) {
        let user = match question {
            Question::Secret(user) => user,
            Question::Roles(user) => {
                return match roles(answered) {
                    Ok(roles) => self.roles().member_of(user, roles, self.shared.clock.now(), lifetimes(config)),
                    Err(misfit) => self.gave_none(question, misfit.into()),
                };
            }
        };
        let secret = match verdict(answered, user) {
            Ok(Verdict::Unknown) => None,
            Ok(Verdict::NoSecret) => {
                tracing::info!(user, database = %self.source.database,
                               "auth_query gave no secret: the user has none, or it has expired");
                Some(StoredSecret::parse(""))
            }
            Ok(Verdict::Secret(secret)) => Some(secret),
            Err(misfit) => return self.gave_none(question, misfit.into()),
        };
        self.note(user, secret, config);
    }

    fn note(&self, user: &str, secret: Option<StoredSecret>, config: &Config) {
        let credential = secret.map(|secret| Credential::new(secret, config.general.scram_iterations));
        self.secrets().answer(user, credential, self.shared.clock.now(), lifetimes(config));
    }

    fn refused(&self, question: &Question, said: Box<Diagnostic>, config: &Config) {
        match said.code.as_str() {
            // A name that the database's encoding cannot hold is nobody's.
            "22021" | "22P05" => match question {
                Question::Secret(user) => self.note(user, None, config),
                Question::Roles(user) => {
                    self.roles().member_of(user, BTreeSet::new(), self.shared.clock.now(), lifetimes(config));
                }
            },
            code if passes(code) => {
                self.gave_none(question, LookupError::Broken(Arc::new(ExchangeError::Refused(said))));
            }
            _ => self.gave_none(question, LookupError::Refused(Arc::new(*said))),
        }
    }

    fn gave_none(&self, question: &Question, error: LookupError) {
        let AuthSource { database, user: auth_user, .. } = &self.source;
        let user = match question {
            Question::Secret(user) => user,
            Question::Roles(user) => {
                tracing::error!(user, %database, %auth_user, %error, "cannot find out the roles of a user");
                return self.roles().fail(user, &error);
            }
        };
        let hint = match &error {
            LookupError::Refused(said) if matches!(said.code.as_str(), "42883" | "42P01") => {
                Some("auth_query runs with auth_query_search_path: name the schema of anything that is not in it")
            }
            LookupError::Refused(said) if said.code == "42501" => {
                Some("auth_user may not read the secrets: grant it a SECURITY DEFINER function that does")
            }
            _ => None,
        };
        tracing::error!(user, %database, %auth_user, %error, hint, "auth_query gave no answer");
        self.secrets().fail(user, &error);
    }

    async fn open(&self, pools: &Pools) -> Result<Line, Trouble> {
        let AuthSource { database: name, user, .. } = &self.source;
        if pools.is_paused(name) {
            return Err(Trouble::Held);
        }
        let config = pools.config.load_full();
        let database = config.database(name).ok_or(Trouble::Gone)?;
        let permits = self.permits(pools, &config).map_err(Trouble::Full)?;
        let secret = pools.credentials.of_login(&config, user);
        let mut spec: Spec = dialled(&config.general, &database, user, secret);
        spec.parameters =
            vec![("client_encoding", "UTF8".to_owned()), ("application_name", "pgpool auth_query".to_owned())];
        match config.general.auth_query_search_path.as_str() {
            "" => {}
            path => spec.parameters.push(("search_path", path.to_owned())),
        }
        spec.tls = Arc::clone(&pools.tls.load().connector);
        spec.names = Arc::clone(&self.shared.names);
        let target = spec.route.targets().first().cloned();
        let slot = target.map(|target| {
            pools.own_slot(&self.shared.budgets.of(&target), user, &spec.dbname).ok_or(Trouble::Full("slot_budget"))
        });
        let slot = slot.transpose()?;
        let id = self.shared.next_id();
        let who = Identity { id, database: name.as_str().into(), user: user.as_str().into() };
        let backend = connect(&spec, who, &self.shared.interner, &self.shared.clock).await;
        let backend = backend.map_err(|error| Trouble::Failed(Arc::new(error)))?;
        backend.record.set_state(BackendState::Active);
        if config.general.log_connections {
            tracing::info!(target: OWN, database = %name, %user, id, address = %backend.record.endpoint,
                           pid = backend.record.process_id, "new connection to server, for auth_query");
        }
        *self.record() = Some(Arc::clone(&backend.record));
        Ok(Line { backend, _permits: permits, _slot: slot })
    }

    /// A place under the limits over several pools; where an idle backend can be had for it, that goes.
    fn permits(&self, pools: &Pools, config: &Config) -> Result<[Permit; 2], &'static str> {
        let AuthSource { database, user, .. } = &self.source;
        let entry = config.database(database);
        let max_db = entry.map_or(0, |entry| config.max_db_connections(&entry));
        let max_user = config.max_user_connections(config.user(user).map(AsRef::as_ref));
        let permit = |cap: &Arc<Cap>, limit: u32, why: Closing, same: &dyn Fn(&Pool) -> bool| {
            cap.acquire(limit).or_else(|| {
                pools.evict(why, None, same);
                cap.acquire(limit)
            })
        };
        let in_database = |pool: &Pool| *pool.key.database == **database;
        let of_user = |pool: &Pool| *pool.key.user == **user;
        let one = permit(&pools.database_backends.of(database), max_db, Closing::EvictedForDatabase, &in_database)
            .ok_or("max_db_connections")?;
        let two = permit(&pools.user_backends.of(user), max_user, Closing::EvictedForUser, &of_user)
            .ok_or("max_user_connections")?;
        Ok([one, two])
    }

    /// Tells those who wait, where waiting would not help, and answers how long to pause.
    fn failed(&self, trouble: Trouble, failures: &mut Failures, pools: &Pools) -> Duration {
        let now = self.shared.clock.now();
        let retry = pools.config.load().general.server_login_retry;
        let since = *failures.since.get_or_insert(now);
        let lasting = Clock::between(since, now) > retry;
        let (error, refused) = match trouble {
            Trouble::Held => {
                *failures = Failures::default();
                return LOOK;
            }
            Trouble::Full(limit) => (LookupError::Limit(limit), false),
            Trouble::Failed(error) => {
                let refused = !error.may_pass();
                (LookupError::Unreachable(error), refused)
            }
            Trouble::Gone => (LookupError::NoDatabase(self.source.database.clone()), true),
        };
        let pause = match &error {
            LookupError::Limit(_) => LOOK,
            _ if refused => retry.max(LOOK),
            _ => passing_pause(failures.count, LONGEST_PAUSE.min(retry)),
        };
        // A limit is given back by somebody soon, or it is said once and not at each look.
        if !matches!(error, LookupError::Limit(_)) || failures.count == 0 {
            let AuthSource { database, user, .. } = &self.source;
            let hint = match &error {
                LookupError::Unreachable(error) => match &**error {
                    ConnectError::Authentication(error) => Some(error.hint()).filter(|hint| !hint.is_empty()),
                    _ => None,
                },
                _ => None,
            };
            tracing::warn!(%database, auth_user = %user, %error, hint, ?pause, "cannot connect to server for auth_query");
        }
        failures.count = failures.count.saturating_add(1);
        if refused || lasting {
            let until = now.saturating_add(u64::try_from(pause.as_micros()).unwrap_or(u64::MAX));
            self.secrets().fail_all(&error, until);
            self.roles().fail_all(&error, until);
        }
        pause
    }

    fn close(&self, line: &mut Option<Line>, why: Closing, pools: &Pools) {
        if let Some(line) = line.take() {
            *self.record() = None;
            let record = Arc::clone(&line.backend.record);
            line.backend.terminate();
            record.close_because(why);
            if pools.config.load().general.log_disconnections {
                log_close(&record, self.shared.clock.now());
            }
        }
    }

    fn is_displaced(&self, line: &Line, pools: &Pools) -> bool {
        line.backend.record.close_needed() || pools.is_paused(&self.source.database)
    }

    /// A reload: what is known is asked again, on a new connection.
    pub(super) fn follow(&self, config: &Config) {
        let gone = config.database(&self.source.database).is_none();
        let gone = gone.then(|| LookupError::NoDatabase(self.source.database.clone()));
        self.secrets().follow(gone.as_ref());
        self.roles().follow(gone.as_ref());
        if let Some(record) = self.backend() {
            record.need_close();
        }
        self.look();
    }

    /// Somebody waits.
    pub(super) fn ask(&self) {
        self.asked.notify_one();
    }

    /// Makes the task look at what may have changed.
    pub(super) fn look(&self) {
        self.changed.notify_one();
    }

    /// Its connection, while it has one.
    pub(super) fn backend(&self) -> Option<Arc<BackendRecord>> {
        self.record().clone()
    }

    /// Whether nobody waits and no answer counts any more.
    pub(super) fn is_unused(&self, now: Micros) -> bool {
        self.secrets().is_unused(now) && self.roles().is_unused(now)
    }

    pub(super) fn secrets(&self) -> MutexGuard<'_, Book<Secret>> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn roles(&self) -> MutexGuard<'_, Book<Roles>> {
        self.roles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self) -> MutexGuard<'_, Option<Arc<BackendRecord>>> {
        self.backend.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lifetimes(config: &Config) -> Lifetimes {
    let general = &config.general;
    Lifetimes { found: general.auth_query_lifetime, nothing: general.auth_query_negative_lifetime }
}

/// Whether PostgreSQL may answer the same question soon: it was interrupted, is short of something or shutting down.
fn passes(code: &str) -> bool {
    ["40", "53", "55", "57", "58"].iter().any(|class| code.starts_with(class))
}
