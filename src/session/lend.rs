//! The slow ways to a backend and back: waiting for one, checking it, resetting it.

use std::io;
use std::task::{Context, Poll, ready};

use super::workspace::{BUFFER, Workspace};
use super::{End, Session};
use crate::backend::Closing;
use crate::net::Stream;
use crate::pool::{ClientRecord, Lease, Phase, Pool, PoolSettings, Reason, WaitEnd, Waiting};
use crate::sql::{self, Act};
use crate::wire::scan::Part;
use crate::wire::sqlstate;
use crate::wire::tag::front;
use crate::wire::write::{Report, ready_idle};

use super::relay::front_grammar;

impl Session {
    /// A lease that has to be waited for or checked first; nothing when the client cancelled its wait, or has to wait in
    /// another pool.
    pub(super) async fn wait_for_lease(
        &mut self,
        present: Option<Lease>,
        settings: &PoolSettings,
    ) -> Result<Option<Lease>, End> {
        if let Some(lease) = present {
            let now = self.pool.shared.clock.now();
            if let Some(lease) = lease.checked(settings, now).await {
                return Ok(Some(lease));
            }
        }
        // It reads on from here, and leaves its waker wherever it likes.
        self.armed = false;
        // Many may wait: each keeps its bytes only then, not the room to read more.
        let crowded = self.workspace.as_ref().filter(|held| held.crowded);
        let bytes = crowded.map(|held| held.up.unjudged().to_vec());
        if bytes.is_some() {
            self.return_workspace();
        }
        let workspace = self.workspace.as_deref_mut();
        let mut waiter = Waiter {
            stream: &mut self.stream,
            workspace,
            bytes: bytes.unwrap_or_default(),
            notice: Vec::new(),
            record: self.client.record(),
            pool: &self.pool,
        };
        let result = self.pool.checkout(self.client.record(), &mut waiter).await;
        let Waiter { bytes, notice, .. } = waiter;
        if self.workspace.is_none() {
            self.workspace.insert(self.workspaces.borrow()).up.restore(&bytes);
        }
        drop(bytes);
        // What did not fit while it waited goes out before anything else does.
        self.stream.write_all(&notice).await.map_err(End::ClientBroke)?;
        match result {
            Ok(lease) if self.client.record().interrupt.raised() == Some(Reason::Canceled) => {
                // It came after the queue and before anything was sent.
                lease.release();
                self.refuse_canceled().await
            }
            Ok(lease) => Ok(Some(lease)),
            Err(WaitEnd::Gone) => Err(End::ClientClosed),
            Err(WaitEnd::Failed(_)) if self.pool.is_retiring() => {
                // The user whom it waited for is not the one any more; its request is still there.
                self.client.record().enter(Phase::Idle, self.pool.shared.clock.now());
                Ok(None)
            }
            Err(WaitEnd::Failed(failure)) => Err(End::Unavailable(failure)),
            Err(WaitEnd::Interrupted(Reason::Canceled)) => self.refuse_canceled().await,
            Err(WaitEnd::Interrupted(reason)) => Err(End::Interrupted(reason)),
        }
    }

    async fn refuse_canceled(&mut self) -> Result<Option<Lease>, End> {
        let record = self.client.record();
        record.interrupt.clear();
        record.enter(Phase::Idle, self.pool.shared.clock.now());
        let report = Report::error(sqlstate::QUERY_CANCELED, "canceling statement due to user request")
            .detail("The statement was still waiting for a connection to PostgreSQL.");
        self.refuse(&report).await.map(|()| None)
    }

    /// Answers the first request with an error instead of sending it on: a Query or FunctionCall by itself, an extended
    /// query up to its Sync, as PostgreSQL would after an error (`protocol-flow.html`, "Extended Query").
    async fn refuse(&mut self, report: &Report) -> Result<(), End> {
        // It does not wait any more, and the limits of a wait must not end it.
        self.client.record().enter(Phase::Idle, self.pool.shared.clock.now());
        self.pool.shared.events.error(&report.code);
        let mut out = Vec::new();
        report.write(&mut out);
        self.stream.write_all(&out).await.map_err(End::ClientBroke)?;
        let grammar = front_grammar(u32::MAX);
        let mut alone = None;
        loop {
            let Some(workspace) = self.workspace.as_mut() else { return Ok(()) };
            let Some(piece) = self.scanner.next(workspace.up.unjudged(), &grammar).map_err(End::ClientViolation)?
            else {
                let room = workspace.up.room();
                let read = std::future::poll_fn(|cx| self.stream.poll_read(cx, room)).await;
                match read.map_err(End::ClientBroke)? {
                    0 => return Err(End::ClientClosed),
                    read => workspace.up.filled(read),
                }
                continue;
            };
            let (tag, part, length) = (piece.tag, piece.part, piece.bytes.len());
            workspace.up.discard(length);
            let alone = *alone.get_or_insert(matches!(tag, front::QUERY | front::FUNCTION_CALL));
            match tag {
                front::TERMINATE => return Err(End::Goodbye),
                _ if matches!(part, Part::First | Part::Middle) => {}
                _ if alone || tag == front::SYNC => break,
                _ => {}
            }
        }
        out.clear();
        ready_idle(&mut out);
        self.stream.write_all(&out).await.map_err(End::ClientBroke)
    }
}

/// Runs server_reset_query and gives the backend back; one on which it fails is closed.
pub(super) async fn reset(mut lease: Lease, settings: &PoolSettings) {
    match lease.query(&settings.reset_query, settings.spec.timeout).await {
        Ok(()) => {
            let query = settings.reset_query.trim().trim_end_matches(';').trim_end();
            lease.forget_settings(query.eq_ignore_ascii_case("DISCARD ALL"));
            let acts = sql::read(query.as_bytes(), sql::Dialect::default()).acts;
            if acts.iter().any(|act| matches!(act, Act::DeallocateAll | Act::DiscardAll)) {
                lease.backend_mut().prepared.clear();
            }
            lease.release();
        }
        Err(error) => {
            let record = &lease.backend().record;
            record.close_because(Closing::ResetFailed);
            tracing::warn!(database = %record.database, user = %record.user, %error, "server_reset_query failed");
        }
    }
}

/// The client's side of a wait for a backend.
struct Waiter<'a> {
    stream: &'a mut Stream,
    /// Where what it sends is put.
    workspace: Option<&'a mut Workspace>,
    /// The same without a workspace; at most what a buffer holds.
    bytes: Vec<u8>,
    /// What could not be sent of a notice.
    notice: Vec<u8>,
    record: &'a ClientRecord,
    pool: &'a Pool,
}

impl Waiting for &mut Waiter<'_> {
    /// Reads on, within bounds: only behind what a client still sends can be seen that it has left.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.record.stands_still(&self.pool.shared.suspension) {
            return Poll::Pending;
        }
        if let Some(workspace) = &mut self.workspace {
            loop {
                let room = workspace.up.room();
                if room.is_empty() {
                    return Poll::Pending;
                }
                match ready!(self.stream.poll_read(cx, room)) {
                    Ok(0) | Err(_) => return Poll::Ready(()),
                    Ok(read) => workspace.up.filled(read),
                }
            }
        }
        let mut chunk = [0; 1024];
        loop {
            let room = chunk.len().min(BUFFER.saturating_sub(self.bytes.len()));
            let Some(free) = chunk.get_mut(..room).filter(|free| !free.is_empty()) else { return Poll::Pending };
            match ready!(self.stream.poll_read(cx, free)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(read) => self.bytes.extend_from_slice(chunk.get(..read).unwrap_or_default()),
            }
        }
    }

    fn notify(&mut self) {
        let report =
            Report::new("NOTICE", "00000", "No server connection available in postgres backend, client being queued");
        let mut out = Vec::new();
        report.write_notice(&mut out);
        match self.stream.try_write(&out) {
            Ok(sent) => self.notice = out.split_off(sent.min(out.len())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // A broken connection shows at the next read.
            Err(_) => {}
        }
    }
}
