//! Somebody at the door: what is known of a connection whose client is not admitted yet, and what the log says of him in
//! PgBouncer's words.

use std::sync::Arc;

use super::{CONSOLE, CONSOLE_SHOWN, NO_DATABASE, Rejected, is_console};
use crate::config::{AuthType, Config, General};
use crate::net::{BOUNCER, Clock, Endpoint, Micros, Party, Side, Stream};
use crate::wire::startup::{Replication, Startup};

/// A connection that was accepted.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// The id of the client that it may become.
    pub id: u64,
    /// Its other end.
    pub peer: Endpoint,
    /// The process there, by a Unix socket; 0 where the system does not tell.
    pub process: u32,
    /// When it was accepted.
    pub connected: Micros,
    /// Whom it says to be, once that is told.
    pub(super) user: Option<Arc<str>>,
    /// The database that it asks for, once it is known that there is one, and such a user.
    database: Option<Arc<str>>,
}

impl Visitor {
    /// Of whom nothing is known but where he comes from.
    #[must_use]
    pub fn new(id: u64, peer: Endpoint, process: u32, connected: Micros) -> Visitor {
        Visitor { id, peer, process, connected, user: None, database: None }
    }

    /// What PgBouncer calls it in the log.
    #[must_use]
    pub fn party(&self) -> Party<'_> {
        let (database, user) = (self.database.as_deref(), self.user.as_deref());
        Party { side: Side::Frontend, id: self.id, database, user, endpoint: Some(&self.peer), process: self.process }
    }

    /// Says who wants to log in, before he has to prove it.
    pub(super) fn announce(&mut self, config: &Config, startup: &Startup, stream: &Stream) {
        if !tracing::enabled!(target: BOUNCER, tracing::Level::INFO) {
            return;
        }
        let Startup { user, database, .. } = startup;
        let known = is_known(config, startup);
        if !known {
            tracing::info!(target: BOUNCER, "{} no such user: {user}", Party { user: None, ..self.party() });
        }
        if known && is_console(startup) {
            self.database = Some(CONSOLE_SHOWN.into());
        } else if known && config.database(database).is_some() {
            self.database = Some(database.as_str().into());
        }
        if config.general.log_connections {
            let tls = stream.session().map_or("no", |session| session.description);
            let replication = match startup.replication {
                Replication::None => "no",
                Replication::Physical => "yes",
                Replication::Logical => "database",
            };
            let party = self.party();
            tracing::info!(target: BOUNCER, "{party} login attempt: db={database} user={user} tls={tls} \
                                             replication={replication}");
        }
    }

    /// Says why he is not let in.
    pub fn say_rejected(&self, rejected: &Rejected, general: &General, now: Micros) {
        let Some(words) = rejected.words() else { return };
        let party = self.party();
        match rejected {
            Rejected::Login { by_sasl: true, refusal, .. } if refusal.may_be_outdated() => {
                tracing::error!(target: BOUNCER, "{party} password authentication failed");
            }
            Rejected::Told(report) if general.log_connections => {
                if let (Some(name), Some(user)) = (report.message.strip_prefix(NO_DATABASE), &self.user) {
                    tracing::info!(target: BOUNCER, "{party} login failed: db={name} user={user}");
                }
            }
            _ => {}
        }
        if general.log_disconnections {
            let age = Clock::between(self.connected, now).as_secs();
            tracing::info!(target: BOUNCER, "{party} closing because: {words} (age={age}s)");
        }
        if general.log_pooler_errors {
            tracing::warn!(target: BOUNCER, "{party} pooler error: {words}");
        }
    }

    /// Says that a connection which came to cancel a query is closed.
    pub fn say_cancelled(&self, words: &str, general: &General, now: Micros) {
        if general.log_disconnections {
            let age = Clock::between(self.connected, now).as_secs();
            tracing::info!(target: BOUNCER, "{} closing because: {words} (age={age}s)", self.party());
        }
    }
}

/// Whether there is such a user, as far as the configuration knows.
fn is_known(config: &Config, startup: &Startup) -> bool {
    let anybody = matches!(config.general.auth_type, AuthType::Any | AuthType::Pam | AuthType::Ldap);
    let user = startup.user.as_str();
    anybody
        || config.user(user).is_some()
        || config.auth_source(&startup.database).is_some()
        || (is_console(startup) && CONSOLE.contains(&user))
}
