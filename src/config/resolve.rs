//! Which setting counts where several places may say it. The order of precedence is PgBouncer's.
//!
//! "Pool user" is the user of the connection to PostgreSQL (the database's forced user, if any), "login user" the one
//! that the client gave. Counts of 0 mean no limit and times of 0 mean off, except where a setting says otherwise.

use std::time::Duration;

use crate::config::Config;
use crate::config::choice::PoolMode;
use crate::config::database::Database;
use crate::config::features::SessionFeatures;
use crate::config::secret::Secret;
use crate::config::user::User;

/// Where a secret is looked up that the configuration does not have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AuthSource {
    /// Entry of `[databases]`, or a name that only the fallback entry serves.
    pub database: String,
    /// Who asks.
    pub user: String,
    /// What is asked.
    pub query: String,
}

impl Config {
    /// Where users of the database `name` are looked up: the entry's settings, else the general ones. Nowhere without
    /// an `auth_user`; for a name without an entry, as the console's, only in a database that the general settings name.
    pub fn auth_source(&self, name: &str) -> Option<AuthSource> {
        let entry = self.database(name);
        let entry = entry.as_deref();
        let general = &self.general;
        let user = entry.and_then(|entry| entry.auth_user.as_ref()).or(general.auth_user.as_ref())?;
        let query = entry.and_then(|entry| entry.auth_query.as_ref()).unwrap_or(&general.auth_query);
        let said = entry.and_then(|entry| entry.auth_dbname.as_ref()).or(general.auth_dbname.as_ref());
        let database = said.or(entry.map(|entry| &entry.name))?;
        Some(AuthSource { database: database.clone(), user: user.clone(), query: query.clone() })
    }

    /// The pool user's mode, else the database's, else the general one.
    pub fn pool_mode(&self, database: &Database, pool_user: Option<&User>) -> PoolMode {
        let user = pool_user.and_then(|user| user.pool_mode);
        user.or(database.pool_mode).unwrap_or(self.general.pool_mode)
    }

    /// Most backends of one pool: the pool user's, else the database's, else `default_pool_size`.
    pub fn pool_size(&self, database: &Database, pool_user: Option<&User>) -> u32 {
        let user = pool_user.and_then(|user| user.pool_size);
        user.or(database.pool_size).unwrap_or(self.general.default_pool_size)
    }

    /// Backends kept open per pool: the database's, else the general one.
    pub fn min_pool_size(&self, database: &Database) -> u32 {
        database.min_pool_size.unwrap_or(self.general.min_pool_size)
    }

    /// Backends beyond the pool's size: the pool user's, else the database's, else the general one. 0 means none.
    pub fn reserve_pool_size(&self, database: &Database, pool_user: Option<&User>) -> u32 {
        let user = pool_user.and_then(|user| user.reserve_pool_size);
        user.or(database.reserve_pool_size).unwrap_or(self.general.reserve_pool_size)
    }

    /// Most backends of a database, over all users.
    pub fn max_db_connections(&self, database: &Database) -> u32 {
        database.max_db_connections.unwrap_or(self.general.max_db_connections)
    }

    /// Most clients of a database.
    pub fn max_db_client_connections(&self, database: &Database) -> u32 {
        database.max_db_client_connections.unwrap_or(self.general.max_db_client_connections)
    }

    /// Most backends of a pool user, over all databases.
    pub fn max_user_connections(&self, pool_user: Option<&User>) -> u32 {
        pool_user.and_then(|user| user.max_user_connections).unwrap_or(self.general.max_user_connections)
    }

    /// Most clients of a login user.
    pub fn max_user_client_connections(&self, login_user: Option<&User>) -> u32 {
        let user = login_user.and_then(|user| user.max_user_client_connections);
        user.unwrap_or(self.general.max_user_client_connections)
    }

    /// Age from which an unused backend is closed. 0 means that a backend is used once.
    pub fn server_lifetime(&self, database: &Database) -> Duration {
        database.server_lifetime.unwrap_or(self.general.server_lifetime)
    }

    /// What clients may leave on their backends: the database's policies as a whole, else the general ones.
    pub fn session_features(&self, database: &Database) -> SessionFeatures {
        database.session_features.unwrap_or(self.general.session_features)
    }

    /// Most pinned backends of one pool: the database's, else the general setting. 0 means all but one of its size,
    /// but one at least.
    pub fn max_pinned(&self, database: &Database, pool_user: Option<&User>) -> u32 {
        match (database.max_pinned.unwrap_or(self.general.max_pinned), self.pool_size(database, pool_user)) {
            (0, 0) => u32::MAX,
            (0, size) => (size - 1).max(1),
            (limit, _) => limit,
        }
    }

    /// Most time that a client waits for a backend: the login user's, else the database's, else the general one.
    pub fn query_wait_timeout(&self, database: &Database, login_user: Option<&User>) -> Duration {
        let user = login_user.and_then(|user| user.query_wait_timeout);
        user.or(database.query_wait_timeout).unwrap_or(self.general.query_wait_timeout)
    }

    /// Most time of a query, by the pool user.
    pub fn query_timeout(&self, pool_user: Option<&User>) -> Duration {
        pool_user.and_then(|user| user.query_timeout).unwrap_or(self.general.query_timeout)
    }

    /// Most time idle inside a transaction, by the pool user.
    pub fn idle_transaction_timeout(&self, pool_user: Option<&User>) -> Duration {
        let user = pool_user.and_then(|user| user.idle_transaction_timeout);
        user.unwrap_or(self.general.idle_transaction_timeout)
    }

    /// Most time of a transaction, by the pool user.
    pub fn transaction_timeout(&self, pool_user: Option<&User>) -> Duration {
        pool_user.and_then(|user| user.transaction_timeout).unwrap_or(self.general.transaction_timeout)
    }

    /// Most time that a client may be silent outside a transaction, by the login user.
    pub fn client_idle_timeout(&self, login_user: Option<&User>) -> Duration {
        login_user.and_then(|user| user.client_idle_timeout).unwrap_or(self.general.client_idle_timeout)
    }

    /// The secret for a database's forced user: the entry's own, else the one that the user has here. `None` when the
    /// entry forces no user, or no secret is known.
    pub fn forced_secret(&self, database: &Database) -> Option<Secret> {
        let user = database.user.as_ref()?;
        let known = || self.users.get(user).and_then(|user| user.password.clone());
        database.password.clone().or_else(known)
    }
}
