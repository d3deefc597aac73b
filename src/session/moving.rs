//! A session that goes on in another pool, between two transactions: its database's entry forces another user now.
//!
//! It takes along what is the client's: what it has asked for in its startup packet, set since, prepared, and listens to.
//! What the user's connections begin with it takes from the new pool, as a client does that logs in now, and is told;
//! except for what decides how its bytes are read and its answers look. Invariant: it holds no backend of the pool that
//! it leaves.

use std::mem;
use std::sync::Arc;

use super::{End, Session};
use crate::backend::{Interner, Settings};
use crate::pool::Reason;
use crate::wire::write;

/// What stays as the client was told, whoever the user is.
const STAYS: [&str; 6] =
    ["application_name", "client_encoding", "DateStyle", "IntervalStyle", "standard_conforming_strings", "TimeZone"];

/// What PostgreSQL reports of a connection that nobody has used yet.
#[derive(Debug)]
pub(super) enum Plain {
    /// Of one of the session's pool.
    Own(Settings),
    /// Of one of the pool that it has left, until it has a backend of the new one.
    Former(Settings),
}

impl Plain {
    fn settings(self) -> Settings {
        match self {
            Plain::Own(settings) | Plain::Former(settings) => settings,
        }
    }
}

impl Session {
    /// Leaves a pool that retires. Its settings are taken over with the first backend (`move_in`).
    #[cold]
    pub(super) fn move_on(&mut self) -> Result<(), End> {
        let removed = || End::Interrupted(Reason::DatabaseRemoved);
        let record = self.client.record();
        let pool = self.pools.successor(record).ok_or_else(removed)?;
        if Arc::ptr_eq(&pool, &self.pool) {
            // The user is forced again.
            return Ok(());
        }
        self.tally.go_on_in(Arc::clone(&pool.times), &self.pool.counters);
        record.join(&pool);
        if record.mailbox().is_some() {
            // It may be another server as well.
            self.pools.listeners.follow(&pool, self.pools.config.load().general.listener_lost);
        }
        tracing::debug!(client = record.id, from = %self.pool.key.user, to = %pool.key.user, "client goes to another pool");
        self.pool = pool;
        let none = self.pool.shared.interner.collect([]);
        self.plain = Plain::Former(mem::replace(&mut self.plain, Plain::Own(none)).settings());
        if self.pool.is_closed() { Err(removed()) } else { Ok(()) }
    }

    /// Takes over what connections of this pool begin with, and tells the client.
    #[cold]
    pub(super) async fn move_in(&mut self) -> Result<(), End> {
        let Plain::Former(former) = &self.plain else { return Ok(()) };
        // There is one as soon as there is a backend, unless a RECONNECT comes in this very moment.
        let welcome = self.pool.welcome().ok_or(End::Interrupted(Reason::ServerReplaced))?.reported;
        let before = Before { former, first: &self.first.reported, now: &self.state.reported };
        let (first, now) = before.taken_over(&self.pool.shared.interner, &welcome);
        let mut told = Vec::new();
        for (name, value) in now.iter().filter(|(name, value)| self.state.reported.value(name) != Some(*value)) {
            write::parameter_status(&mut told, name, value);
        }
        (self.first.reported, self.state.reported, self.plain) = (first, now, Plain::Own(welcome));
        self.client.record().publish(&self.state.reported);
        self.stream.write_all(&told).await.map_err(End::ClientBroke)
    }
}

/// The settings of a session in the pool that it leaves.
struct Before<'a> {
    /// Those that connections begin with there.
    former: &'a Settings,
    /// Those that the session has begun with.
    first: &'a Settings,
    /// Those that it has at present.
    now: &'a Settings,
}

impl Before<'_> {
    /// Those that it would have begun with in the new pool, whose connections begin with `welcome`, and those that it has
    /// there: its own where it has asked for them or set them.
    fn taken_over(&self, interner: &Interner, welcome: &Settings) -> (Settings, Settings) {
        let (mut first, mut now) = (self.first.clone(), self.now.clone());
        for (name, value) in welcome.iter().filter(|(name, _)| !STAYS.contains(name)) {
            if self.first.value(name) != self.former.value(name) {
                continue;
            }
            if self.now.value(name) == self.first.value(name) {
                now = interner.with(&now, name, value);
            }
            first = interner.with(&first, name, value);
        }
        (first, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_clients_comes_along_and_the_rest_is_the_new_users() {
        let interner = Interner::default();
        let set = |path: &str, user: &str, read_only: &str, zone: &str| {
            let pairs = [
                ("search_path", path),
                ("session_authorization", user),
                ("default_transaction_read_only", read_only),
                ("TimeZone", zone),
            ];
            interner.collect(pairs.iter().map(|(name, value)| (*name, value.as_bytes())))
        };
        let (former, welcome) = (set("app", "app", "off", "UTC"), set("boss", "boss", "on", "Asia/Tokyo"));
        let moved =
            |first: &Settings, now: &Settings| Before { former: &former, first, now }.taken_over(&interner, &welcome);
        // It has asked for nothing and set nothing.
        let plain = set("boss", "boss", "on", "UTC");
        assert_eq!(moved(&former, &former), (plain.clone(), plain));
        // It has asked for a path, and became another user.
        let (asked, now) = (set("mine", "app", "off", "UTC"), set("mine", "other", "off", "UTC"));
        assert_eq!(moved(&asked, &now), (set("mine", "boss", "on", "UTC"), set("mine", "other", "on", "UTC")));
        // What it has set is its own, and a RESET goes to what the new user begins with.
        let set_since = set("later", "app", "on", "UTC");
        assert_eq!(moved(&former, &set_since), (set("boss", "boss", "on", "UTC"), set("later", "boss", "on", "UTC")));
    }
}
