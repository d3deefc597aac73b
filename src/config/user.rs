//! The settings of `[users.NAME]`.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::choice::PoolMode;
use crate::config::kinds::{Count, File, Hidden, Maybe, OneOf};
use crate::config::secret::{Secret, SecretSource};
use crate::config::span::Seconds;
use crate::config::table::settings;

settings! {
    /// A user of `[users]` or of the `auth_file`. A field that is `None` falls back to the database's or the general
    /// setting; a zero that was written counts, and means no limit or off.
    pub struct User in "users.NAME" {
        /// Name of the user.
        name: String,
        /// Where `password` comes from.
        secret_source: SecretSource,
    }

    /// Secret of the user: plain, md5... or SCRAM-SHA-256$...; unset = the one of auth_file.
    password: Option<Secret> as Maybe<Hidden> = None, Reload;
    /// File with the secret, relative to this file, read again when it changes; instead of password.
    password_file: Option<PathBuf> as File = None, Reload;
    /// Pool mode: session, transaction or statement; unset = the database's.
    pool_mode: Option<PoolMode> as Maybe<OneOf<PoolMode>> = None, Reload;
    /// Most connections to PostgreSQL per database; 0 = no limit; unset = the database's.
    pool_size: Option<u32> as Maybe<Count> = None, Reload;
    /// Connections beyond the pool's size when a client waits too long; unset = the database's.
    reserve_pool_size: Option<u32> as Maybe<Count> = None, Reload;
    /// Most connections to PostgreSQL over all databases; 0 = no limit; unset = max_user_connections of [pgpool].
    max_user_connections: Option<u32> as Maybe<Count> = None, Reload;
    /// Most client connections; 0 = no limit; unset = max_user_client_connections of [pgpool].
    max_user_client_connections: Option<u32> as Maybe<Count> = None, Reload;
    /// Close the connection of a query that runs longer; 0 = no limit; unset = query_timeout of [pgpool].
    query_timeout: Option<Duration> as Maybe<Seconds> = None, Reload;
    /// Most time that a query waits for a connection; 0 = no limit; the database's goes first.
    query_wait_timeout: Option<Duration> as Maybe<Seconds> = None, Reload;
    /// Close a client that is idle inside a transaction for this long; 0 = never; unset = that of [pgpool].
    idle_transaction_timeout: Option<Duration> as Maybe<Seconds> = None, Reload;
    /// Close a client whose transaction takes longer; 0 = never; unset = transaction_timeout of [pgpool].
    transaction_timeout: Option<Duration> as Maybe<Seconds> = None, Reload;
    /// Close a client that sent nothing for this long; 0 = never; unset = client_idle_timeout of [pgpool].
    client_idle_timeout: Option<Duration> as Maybe<Seconds> = None, Reload;
}
