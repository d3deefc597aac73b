//! What a turn has done to the session, asked of the backend itself when the turn is over.
//!
//! The text of a request tells what it may have changed, never what has come of it: a transaction was rolled back, a
//! lock was not to be had. So the backend is asked, in one round trip after the client has had its answer: for the
//! values of the settings that were named, and whether what pins is there. Invariant: a backend that goes back to its
//! shelf carries what its `State` says, as far as any text or report has told, and nothing that pins.

use super::pin::{Holds, Pinned};
use super::scripts::policy;
use super::watch::Watch;
use super::{End, Session};
use crate::backend::{ExchangeError, quote_value};
use crate::config::Policy;
use crate::pool::{Lease, PoolSettings};
use crate::sql::{Feature, Features};
use crate::wire::{sqlstate, write};

/// What can be asked for.
const ASKED: [Feature; 4] = [Feature::AdvisoryLock, Feature::TempTable, Feature::HoldCursor, Feature::Listen];

/// How often a question is asked that a cancel request has hit.
const TRIES: u32 = 8;

/// Puts a backend back as a new one, except for its prepared statements.
const SCRUB: &[u8] = b"RESET SESSION AUTHORIZATION;RESET ROLE;RESET ALL";

impl Session {
    /// Asks what the turn has done, takes it over, and answers whether the client keeps the backend.
    pub(super) async fn inspect(
        &mut self,
        lease: &mut Lease,
        mut watch: Box<Watch>,
        settings: &PoolSettings,
    ) -> Result<(), End> {
        let before = self.pinned.take();
        if watch.discarded {
            self.discarded(lease, &watch);
        }
        let before = before.filter(|_| !watch.discarded);
        let held = before.as_ref().map(|pinned| pinned.holds).unwrap_or_default();
        let names = self.names_to_ask(lease, &watch);
        let mut features = watch.uses.union(held.features);
        if watch.opaque {
            features = Features::ALL;
        }
        let asked: Vec<_> = ASKED.into_iter().filter(|feature| features.contains(*feature)).collect();
        let own = watch.reset_all || !watch.reset.is_empty();
        let hub = settings.features.listen == Policy::Pin && !features.contains(Feature::Listen);
        let channels = if hub { std::mem::take(&mut watch.listens) } else { Vec::new() };
        if !names.is_empty() || !asked.is_empty() || !channels.is_empty() {
            let sql = question(&names, &asked, &channels, own);
            let row = ask(lease, &sql, settings).await.map_err(failed)?;
            self.take_over_settings(lease, &names, &row, &watch);
            let yes = |value: &&Option<Box<[u8]>>| value.as_deref() == Some(b"t");
            let answers = row.iter().skip(names.len());
            let found = asked.iter().zip(answers.clone()).filter(|(_, value)| yes(value));
            features = found.map(|(feature, _)| *feature).collect();
            features = features.union(loaded(watch.uses.union(held.features)));
            let heard = channels.iter().zip(answers.skip(asked.len()));
            let heard: Vec<_> = heard.map(|(channel, value)| (channel.clone(), yes(&value))).collect();
            self.unlisten((&watch.unlistens, watch.undone), &heard);
            self.listen(heard);
        } else {
            self.unlisten((&watch.unlistens, watch.undone), &[]);
        }
        self.take_over_reports(&watch);
        let opaque = watch.opaque || held.opaque;
        // What a policy lets pass stays where it is.
        let pinning =
            |feature: &Feature| *feature == Feature::Listen || policy(&settings.features, *feature) == Policy::Pin;
        let features = features.iter().filter(pinning).collect();
        let holds = Holds { features, lasting: watch.lasting.or(held.lasting), opaque };
        if holds.is_empty() {
            if opaque {
                ask(lease, SCRUB, settings).await.map_err(failed)?;
                lease.forget_settings(true);
            }
            return Ok(());
        }
        let before_why = before.as_ref().map(|pinned| pinned.why);
        let permit = before.and_then(|pinned| pinned.permit).or(watch.permit.take());
        let permit = permit.or_else(|| self.pool.try_pin(settings));
        let why = before_why.unwrap_or(if watch.opaque { "a procedure, DO block or function" } else { "a statement" });
        self.pinned = Some(Box::new(Pinned { holds, why, permit }));
        Ok(())
    }

    /// The settings that may differ from what is known.
    fn names_to_ask(&self, lease: &Lease, watch: &Watch) -> Vec<Box<str>> {
        let state = &lease.backend().state;
        let mut names = watch.settings.clone();
        if watch.reset_all {
            let known = self.state.extra.names().chain(state.extra.names());
            for name in known.filter(|name| !is_identity(name)) {
                if !names.iter().any(|listed| **listed == *name) {
                    names.push(name.into());
                }
            }
        }
        names.retain(|name| state.reported.value(name).is_none());
        names
    }

    fn take_over_settings(&mut self, lease: &mut Lease, names: &[Box<str>], row: &[Option<Box<[u8]>>], watch: &Watch) {
        let interner = &self.pool.shared.interner;
        let mut extra = lease.backend().state.extra.clone();
        let defaults = row.last().and_then(Option::as_deref).unwrap_or_default();
        for (name, value) in names.iter().zip(row) {
            let reset = watch.resets(name);
            let default =
                reset && defaults.split(|&byte| byte == b',').any(|set| set.eq_ignore_ascii_case(name.as_bytes()));
            extra = match value.as_deref() {
                // A custom one that was set once is empty for ever after.
                None | Some(b"") if name.contains('.') || value.is_none() => interner.without(&extra, name),
                Some(b"none") if **name == *"role" => interner.without(&extra, name),
                Some(_) if default && !name.contains('.') => interner.without(&extra, name),
                Some(value) => interner.with(&extra, name, value),
                None => extra,
            };
        }
        let mut client = extra.clone();
        for (name, value) in names.iter().filter_map(|name| Some((name, self.first.extra.value(name)?))) {
            // What the startup packet asked for is the client's default.
            if extra.value(name).is_none() {
                client = interner.with(&client, name, value);
            }
        }
        lease.backend_mut().state.extra = extra;
        self.state.extra = client;
    }

    /// Tells the client what its settings are where PostgreSQL has told it what they are on the backend: a RESET goes back
    /// to what the client has begun with.
    pub(super) async fn tell_settings(&mut self, lease: &Lease) -> Result<(), End> {
        let told = &lease.backend().state.reported;
        if *told == self.state.reported {
            return Ok(());
        }
        let mut out = Vec::new();
        for (name, value) in self.state.reported.iter().filter(|(name, value)| told.value(name) != Some(*value)) {
            write::parameter_status(&mut out, name, value);
        }
        self.client.record().publish(&self.state.reported);
        self.stream.write_all(&out).await.map_err(End::ClientBroke)
    }

    /// Channels of LISTEN, and whether it has taken effect; the listening backend listens to all of them.
    fn listen(&mut self, heard: Vec<(Box<[u8]>, bool)>) {
        for (channel, listens) in heard {
            let known = self.channels.contains(&channel);
            if listens && !known {
                self.channels.push(channel);
            } else if !listens && !known {
                self.pools.listeners.unsubscribe(self.client.record(), Some(&channel));
            }
        }
    }

    /// UNLISTEN, where nothing may have undone it; not of what was listened to again.
    fn unlisten(&mut self, (unlistens, undone): (&[Option<Box<[u8]>>], bool), heard: &[(Box<[u8]>, bool)]) {
        if undone || unlistens.is_empty() {
            return;
        }
        let (listeners, record) = (&self.pools.listeners, self.client.record());
        self.channels.retain(|known| {
            let named = unlistens.iter().any(|channel| channel.as_ref().is_none_or(|channel| channel == known));
            let gone = named && !heard.iter().any(|(channel, listens)| *listens && channel == known);
            if gone {
                listeners.unsubscribe(record, Some(known));
            }
            !gone
        });
    }

    /// A RESET of what PostgreSQL reports goes back to what the client's startup packet asked for, if all that was noted
    /// has come about.
    fn take_over_reports(&mut self, watch: &Watch) {
        if watch.undone || watch.expected > 0 || (!watch.reset_all && watch.reset.is_empty()) {
            return;
        }
        let interner = &self.pool.shared.interner;
        for (name, value) in self.first.reported.iter() {
            let all = watch.reset_all
                && is_identity(name)
                && !watch.reset.iter().any(|reset| reset.eq_ignore_ascii_case(name));
            if watch.resets(name) && !all {
                self.state.reported = interner.with(&self.state.reported, name, value);
            }
        }
    }

    /// DISCARD ALL: the session is as it was at its start, but for what the same turn has set.
    fn discarded(&mut self, lease: &mut Lease, watch: &Watch) {
        lease.forget_settings(true);
        let interner = &self.pool.shared.interner;
        for (name, value) in self.first.reported.iter() {
            if !watch.set_last.iter().any(|set| set.eq_ignore_ascii_case(name)) {
                self.state.reported = interner.with(&self.state.reported, name, value);
            }
        }
        self.state.extra = self.first.extra.clone();
        self.pinned = None;
        self.channels.clear();
        self.pools.listeners.unsubscribe(self.client.record(), None);
    }

    /// Cleans a backend that the client was pinned to, or of which it is not known what it carries; answers whether it
    /// is clean. DISCARD ALL leaves nothing but libraries.
    pub(super) async fn clean(lease: &mut Lease, holds: Holds, settings: &PoolSettings) -> bool {
        if holds.features.contains(Feature::Load) {
            return false;
        }
        lease.backend_mut().prepared.clear();
        if let Err(error) = ask(lease, b"DISCARD ALL", settings).await {
            tracing::info!(%error, "a connection could not be cleaned");
            return false;
        }
        lease.forget_settings(true);
        Session::is_clean(lease, settings).await
    }

    /// Whether nothing is there that would pin a client.
    pub(super) async fn is_clean(lease: &mut Lease, settings: &PoolSettings) -> bool {
        match ask(lease, &question(&[], &ASKED, &[], false), settings).await {
            Ok(row) => row.iter().take(ASKED.len()).all(|value| value.as_deref() == Some(b"f")),
            Err(error) => {
                tracing::info!(%error, "a connection could not be looked at");
                false
            }
        }
    }
}

/// Runs a question of our own, which a cancel request of the client may hit that was meant for its last query.
async fn ask(lease: &mut Lease, sql: &[u8], settings: &PoolSettings) -> Result<Vec<Option<Box<[u8]>>>, ExchangeError> {
    for _ in 0..TRIES {
        match lease.query_row(sql, settings.spec.timeout).await {
            Err(ExchangeError::Refused(said)) if said.code == sqlstate::QUERY_CANCELED => {}
            result => return result,
        }
    }
    lease.query_row(sql, settings.spec.timeout).await
}

/// Whether RESET ALL leaves it alone.
fn is_identity(name: &str) -> bool {
    ["role", "session_authorization"].iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// What cannot be asked for is believed.
fn loaded(features: Features) -> Features {
    let mut loaded = Features::default();
    if features.contains(Feature::Load) {
        loaded.insert(Feature::Load);
    }
    loaded
}

fn failed(error: ExchangeError) -> End {
    End::BackendDied(format!("what the last request left behind could not be asked: {error}"))
}

/// The question for these settings and features: one row, its last value the names of those settings that are known to
/// be at their defaults, if `defaults` asks for them. Those that PostgreSQL does not list are not known to be.
fn question(names: &[Box<str>], features: &[Feature], channels: &[Box<[u8]>], defaults: bool) -> Vec<u8> {
    let mut sql = b"SELECT ".to_vec();
    for name in names {
        sql.extend_from_slice(b"pg_catalog.current_setting(");
        quote_value(&mut sql, name.as_bytes());
        sql.extend_from_slice(b",true),");
    }
    for feature in features {
        sql.extend_from_slice(b"EXISTS(SELECT FROM pg_catalog.");
        sql.extend_from_slice(match feature {
            Feature::AdvisoryLock => {
                b"pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory' AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()"
                    .as_slice()
            }
            Feature::TempTable => {
                b"pg_class WHERE relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()"
            }
            Feature::HoldCursor => b"pg_cursors WHERE is_holdable",
            Feature::Listen | Feature::Load => b"pg_listening_channels()",
        });
        sql.extend_from_slice(b"),");
    }
    for channel in channels {
        sql.extend_from_slice(b"EXISTS(SELECT FROM pg_catalog.pg_listening_channels() AS own(channel) WHERE channel OPERATOR(pg_catalog.=) ");
        quote_value(&mut sql, channel);
        sql.extend_from_slice(b"),");
    }
    if defaults && !names.is_empty() {
        sql.extend_from_slice(b"(SELECT pg_catalog.string_agg(pg_catalog.lower(name),',') FROM pg_catalog.pg_settings WHERE source OPERATOR(pg_catalog.<>) 'session' AND pg_catalog.lower(name) OPERATOR(pg_catalog.=) ANY (ARRAY[");
        for (index, name) in names.iter().enumerate() {
            if index > 0 {
                sql.push(b',');
            }
            quote_value(&mut sql, name.as_bytes());
        }
        sql.extend_from_slice(b"]))");
    } else {
        sql.extend_from_slice(b"NULL");
    }
    if !channels.is_empty() {
        // The listening backend has taken over.
        sql.extend_from_slice(b";UNLISTEN *");
    }
    sql
}
