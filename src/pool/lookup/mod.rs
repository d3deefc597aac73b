//! `auth_query`: secrets of users whom the configuration does not know are asked for in PostgreSQL; and so are the roles
//! that a user is a member of, where a rule needs them.
//!
//! [`Lookups`] has a [`Desk`] per database entry, `auth_user` and text of the query. A desk asks on a connection of its
//! own, which no client's parameters ever reach and whose `search_path` is `auth_query_search_path`; the name goes as a parameter.
//! What it is told is kept for a while ([`book`]), and what an answer has to look like is in [`verdict`].

mod book;
mod desk;
mod verdict;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::{PoolKey, Pools, Shared};
use crate::auth::Credential;
use crate::backend::{BackendRecord, ConnectError, ExchangeError};
use crate::config::{AuthSource, Config};
use crate::net::Micros;
use crate::wire::view::Diagnostic;

pub use desk::Desk;
pub use verdict::Misfit;

/// Longest name of a role, bytes (`NAMEDATALEN - 1`). PostgreSQL would cut a longer one, to somebody else's name.
const LONGEST_NAME: usize = 63;

/// Why nobody knows whether there is such a user. `Display` is for the log.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LookupError {
    /// There is no entry of that name for it to run in.
    #[error("authentication database \"{0}\" is not configured")]
    NoDatabase(String),
    /// Somebody has disabled the database.
    #[error("authentication database \"{0}\" is disabled")]
    Disabled(String),
    /// The query is not what it has to be.
    #[error("{0}")]
    Misfit(#[from] Misfit),
    /// PostgreSQL refused the query.
    #[error("auth_query was refused: {} {}: {}", .0.severity, .0.code, .0.message)]
    Refused(Arc<Diagnostic>),
    /// PostgreSQL could not answer it for now, or the connection broke.
    #[error("auth_query failed: {0}")]
    Broken(Arc<ExchangeError>),
    /// It took too long.
    #[error("auth_query failed: timeout")]
    Timeout,
    /// No connection to ask on.
    #[error("auth_query failed: {0}")]
    Unreachable(Arc<ConnectError>),
    /// A limit leaves no connection to ask on.
    #[error("auth_query failed: {0} is used up")]
    Limit(&'static str),
    /// The process is ending.
    #[error("auth_query failed: the pooler is ending")]
    Ending,
}

/// What a login has learnt of its user.
#[derive(Debug)]
pub struct Found {
    /// His secret; `None`: there is no such user.
    pub credential: Option<Arc<Credential>>,
    user: Box<str>,
    /// `None` where nobody had to be asked.
    desk: Option<Arc<Desk>>,
}

impl Found {
    /// The login was refused: the answer may be out of date.
    pub fn doubt(&self) {
        if let Some(desk) = &self.desk {
            desk.secrets().doubt(&self.user);
        }
    }

    /// Whether it is what PostgreSQL has said last.
    #[must_use]
    pub fn is_latest(&self) -> bool {
        let Some(desk) = &self.desk else { return true };
        let book = desk.secrets();
        match (book.credential(&self.user), &self.credential) {
            (Some(latest), Some(found)) => Arc::ptr_eq(latest, found),
            (None, _) | (_, None) => true,
        }
    }
}

/// The roles that a user is a member of.
#[derive(Debug)]
pub struct FoundRoles {
    /// Their names, the user's own among them; none where there is no such user.
    pub roles: Arc<BTreeSet<Box<str>>>,
    user: Box<str>,
    desk: Option<Arc<Desk>>,
}

impl FoundRoles {
    /// The login was refused: the answer may be out of date.
    pub fn doubt(&self) {
        if let Some(desk) = &self.desk {
            desk.roles().doubt(&self.user);
        }
    }
}

/// All desks.
#[derive(Debug)]
pub struct Lookups {
    shared: Arc<Shared>,
    desks: Mutex<HashMap<AuthSource, Arc<Desk>>>,
    born: mpsc::UnboundedSender<Arc<Desk>>,
    births: Mutex<Option<mpsc::UnboundedReceiver<Arc<Desk>>>>,
}

impl Lookups {
    pub(super) fn new(shared: Arc<Shared>) -> Lookups {
        let (born, births) = mpsc::unbounded_channel();
        Lookups { shared, desks: Mutex::default(), born, births: Mutex::new(Some(births)) }
    }

    /// The new desks, whose owner runs them; once.
    pub fn births(&self) -> Option<mpsc::UnboundedReceiver<Arc<Desk>>> {
        self.births.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What PostgreSQL knows of the user, by an answer that still counts or by asking.
    ///
    /// Cancel safety: safe; others may wait for the same answer.
    ///
    /// # Errors
    /// [`LookupError`]
    pub async fn find(&self, pools: &Pools, source: &AuthSource, user: &str) -> Result<Found, LookupError> {
        if user.len() > LONGEST_NAME {
            return Ok(Found { credential: None, user: user.into(), desk: None });
        }
        let (desk, credential) = self.ask(pools, source, |desk, now| desk.secrets().look(user, now)).await?;
        Ok(Found { credential, user: user.into(), desk: Some(desk) })
    }

    /// The roles that the user is a member of, by an answer that still counts or by asking.
    ///
    /// Cancel safety: safe; others may wait for the same answer.
    ///
    /// # Errors
    /// [`LookupError`]
    pub async fn roles(&self, pools: &Pools, source: &AuthSource, user: &str) -> Result<FoundRoles, LookupError> {
        if user.len() > LONGEST_NAME {
            return Ok(FoundRoles { roles: Arc::default(), user: user.into(), desk: None });
        }
        let (desk, roles) = self.ask(pools, source, |desk, now| desk.roles().look(user, now)).await?;
        Ok(FoundRoles { roles, user: user.into(), desk: Some(desk) })
    }

    async fn ask<T>(
        &self,
        pools: &Pools,
        source: &AuthSource,
        look: impl FnOnce(&Desk, Micros) -> book::Look<T>,
    ) -> Result<(Arc<Desk>, T), LookupError> {
        if pools.config.load().database(&source.database).is_none() {
            return Err(LookupError::NoDatabase(source.database.clone()));
        }
        if pools.is_disabled(&source.database) {
            return Err(LookupError::Disabled(source.database.clone()));
        }
        let (desk, look) = {
            // Under the lock of the desks, so that none retires on which somebody is about to wait.
            let mut desks = self.lock();
            let desk = self.desk(&mut desks, source);
            let look = look(&desk, self.shared.clock.now());
            (desk, look)
        };
        let found = match look {
            book::Look::Known(found) => found,
            book::Look::Hopeless(error) => return Err(error),
            book::Look::Asked(answer) => {
                desk.ask();
                answer.await.unwrap_or(Err(LookupError::Ending))?
            }
        };
        Ok((desk, found))
    }

    /// Whether some desk has found a secret of this user.
    #[must_use]
    pub fn knows(&self, user: &str) -> bool {
        let desks: Vec<Arc<Desk>> = self.lock().values().cloned().collect();
        desks.iter().any(|desk| desk.secrets().credential(user).is_some_and(|credential| !credential.is_empty()))
    }

    /// The connections of the desks.
    #[must_use]
    pub fn backends(&self) -> Vec<Arc<BackendRecord>> {
        let desks: Vec<Arc<Desk>> = self.lock().values().cloned().collect();
        desks.iter().filter_map(|desk| desk.backend()).collect()
    }

    /// RECONNECT of a database, or of all.
    pub fn reconnect(&self, database: Option<&str>) {
        for record in self.backends() {
            if database.is_none_or(|name| *record.database == *name) {
                record.need_close();
            }
        }
        self.look();
    }

    /// Somebody needs the place of a connection in this database or of this user: desks close theirs as soon as they
    /// have nothing to ask.
    pub(super) fn give_up(&self, key: &PoolKey) {
        for record in self.backends() {
            if record.database == key.database || record.user == key.user {
                record.need_close();
            }
        }
        self.look();
    }

    /// After a reload: each answer is asked for again, and connections are made anew.
    pub(super) fn follow(&self, config: &Config) {
        let desks: Vec<Arc<Desk>> = self.lock().values().cloned().collect();
        for desk in desks {
            desk.follow(config);
        }
    }

    /// Makes the desks look whether their connection should stay (PAUSE, RECONNECT).
    pub(super) fn look(&self) {
        let desks: Vec<Arc<Desk>> = self.lock().values().cloned().collect();
        for desk in desks {
            desk.look();
        }
    }

    /// Takes a desk out that nobody needs; `false` while somebody does.
    fn retire(&self, desk: &Arc<Desk>) -> bool {
        let mut desks = self.lock();
        let unused = desk.is_unused(self.shared.clock.now());
        if unused {
            desks.remove(&desk.source);
        }
        unused
    }

    fn desk(&self, desks: &mut HashMap<AuthSource, Arc<Desk>>, source: &AuthSource) -> Arc<Desk> {
        if let Some(desk) = desks.get(source) {
            return Arc::clone(desk);
        }
        let desk = Arc::new(Desk::new(source.clone(), Arc::clone(&self.shared)));
        desks.insert(source.clone(), Arc::clone(&desk));
        // Without a receiver the process is ending.
        let _ = self.born.send(Arc::clone(&desk));
        desk
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AuthSource, Arc<Desk>>> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
