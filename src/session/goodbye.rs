//! The last thing that a client hears, and what the log says of it.

use std::sync::Arc;
use std::time::Duration;

use super::Session;
use super::end::{Blame, End};
use crate::config::General;
use crate::net::{BOUNCER, Clock, Micros, OWN};
use crate::pool::{ClientRecord, Reason, advice, facts};

/// How long a client may take to accept its last words.
const PATIENCE: Duration = Duration::from_secs(2);

impl Session {
    /// Sends what is left of PostgreSQL's words and an error of our own, if the client is still there to hear it, and
    /// logs the end.
    pub(super) async fn say_goodbye(&mut self, end: &End) {
        let record = Arc::clone(self.client.record());
        let span = record.span();
        let config = self.pools.config.load();
        say(end, &record, &config.general, self.pool.shared.clock.now());
        let mut last_words = None;
        if let Some(mut report) = end.report() {
            self.pools.shared.events.error(&report.code);
            if matches!(end, End::Interrupted(_) | End::Unavailable(_) | End::BackendDied(_)) {
                if !report.detail.is_empty() {
                    report.detail.push(' ');
                }
                report.detail.push_str(&facts(&self.pools, &self.pool, &record));
            }
            if matches!(end, End::Interrupted(Reason::QueryWaitTimeout)) {
                report.hint = advice(&self.pools, &self.pool);
            }
            if config.general.log_pooler_errors {
                span.in_scope(
                    || tracing::warn!(target: OWN, code = %report.code, detail = %report.detail, "pooler error: {}", report.message),
                );
            }
            let mut out = Vec::new();
            if let Some(workspace) = &self.workspace {
                out.extend_from_slice(workspace.down.approved());
            }
            report.write(&mut out);
            last_words = Some(out).filter(|_| !self.mute);
        }
        // Nothing of it waits until the client has heard this; whether it does is up to the client.
        self.client.depart();
        log(end, &record, &config.general, self.pool.shared.clock.now());
        if let Some(words) = last_words {
            let _ = tokio::time::timeout(PATIENCE, async {
                self.stream.write_all(&words).await?;
                self.stream.finish().await
            })
            .await;
        }
    }
}

/// Logs the end of a client in PgBouncer's words, and what it is told.
pub(super) fn say(end: &End, record: &ClientRecord, general: &General, now: Micros) {
    let party = record.party();
    if general.log_disconnections {
        let age = Clock::between(record.identity.connected, now).as_secs();
        tracing::info!(target: BOUNCER, "{party} closing because: {} (age={age}s)", end.words());
    }
    if let Some(report) = end.report().filter(|_| general.log_pooler_errors) {
        tracing::warn!(target: BOUNCER, "{party} pooler error: {}", report.message);
    }
}

/// Logs the end of a client.
pub(super) fn log(end: &End, record: &ClientRecord, general: &General, now: Micros) {
    if !general.log_disconnections {
        return;
    }
    let (reason, age) = (end.reason(), Clock::between(record.identity.connected, now).as_secs());
    record.span().in_scope(|| match end.blame() {
        Blame::Nobody => tracing::info!(target: OWN, "closing because: {reason} (age={age}s)"),
        Blame::Client | Blame::Pooler => {
            tracing::info!(target: OWN, blame = ?end.blame(), "closing because: {reason} (age={age}s)");
        }
        Blame::Server => tracing::warn!(target: OWN, blame = "Server", "closing because: {reason} (age={age}s)"),
    });
}
