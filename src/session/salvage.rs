//! What becomes of a backend whose client has left in the middle of its turn: the query is cancelled, the transaction
//! rolled back, the backend looked over and put back on the shelf. It takes at most `client_death_grace`; where
//! anything is in doubt, or takes longer, the backend is closed.
//!
//! The client is gone from all lists by then. What it had asked for is finished by the protocol's own means (Sync,
//! CopyFail), so that the turn ends like any other. Requests that were judged are sent, since the turn counts on their
//! answers; what was only read is not.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Session;
use super::end::End;
use super::lend;
use super::names::{Names, take_back};
use super::pin::Holds;
use super::refuse::REFUSED;
use super::relay::back_grammar;
use super::turn::Back;
use super::workspace::Workspace;
use crate::backend::{Closing, ExchangeError, cancel};
use crate::config::PoolMode;
use crate::pool::{Lease, Pool, PoolSettings};
use crate::wire::scan::Scanner;
use crate::wire::sqlstate;
use crate::wire::tag::{back, front};
use crate::wire::view::{Diagnostic, Status};
use crate::wire::write::message;

/// How long a query may go on by itself before it is cancelled: most are over sooner, and a cancel request is a
/// connection.
const PATIENCE: Duration = Duration::from_millis(30);

/// How often a query of our own is tried that a late cancel request has hit.
const TRIES: u32 = 4;

/// A backend in the middle of a turn without a client.
#[derive(Debug)]
pub(super) struct Wreck {
    pub(super) lease: Lease,
    pub(super) workspace: Box<Workspace>,
    /// Where PostgreSQL's stream of messages stands.
    pub(super) scanner: Scanner,
    /// What the client was pinned by.
    pub(super) holds: Holds,
    /// Requests have touched the session.
    pub(super) touched: bool,
    /// Why the backend is closed, if it cannot be saved.
    pub(super) closing: Closing,
}

impl End {
    /// Whether the backend may be all right although its turn was not finished.
    pub(super) fn leaves_backend(&self) -> bool {
        match self {
            End::Goodbye
            | End::ClientClosed
            | End::ClientBroke(_)
            | End::ClientViolation(_)
            | End::StatementMode
            | End::SimpleQuery
            | End::Interrupted(_) => true,
            End::BackendDied(_) | End::BackendViolation(_) | End::Settings(_) | End::Unavailable(_) => false,
        }
    }
}

impl Wreck {
    /// Makes it an idle backend again, or closes it.
    pub(super) async fn salvage(mut self, pool: &Arc<Pool>) {
        let settings = pool.settings.load_full();
        let saved = tokio::time::timeout(settings.death_grace, self.finish(&settings)).await;
        let record = Arc::clone(&self.lease.backend().record);
        if !matches!(saved, Ok(Ok(()))) {
            record.close_because(self.closing);
        }
        match saved {
            Ok(Ok(())) if !settings.reset_query.is_empty() => lend::reset(self.lease, &settings).await,
            Ok(Ok(())) => self.lease.release(),
            Ok(Err(why)) => tracing::info!(id = record.id, why, "closing a connection whose client has left"),
            Err(_) => {
                let why = "it took longer than client_death_grace";
                tracing::info!(id = record.id, why, "closing a connection whose client has left");
            }
        }
    }

    async fn finish(&mut self, settings: &PoolSettings) -> Result<(), String> {
        if tokio::time::timeout(PATIENCE, self.drained()).await.map_or(Ok(false), |done| done.map(|()| true))? {
            // It was quick enough.
        } else {
            let record = Arc::clone(&self.lease.backend().record);
            let announced = record.announce_cancel();
            let asked = cancel(&record, &settings.spec.socket, settings.death_grace).await;
            asked.map_err(|error| format!("its query could not be cancelled: {error}"))?;
            drop(announced);
            self.drained().await?;
        }
        if self.workspace.turn.doubtful() || self.workspace.turn.needs_probe() {
            return Err("what it still owes is in doubt".to_owned());
        }
        if self.workspace.turn.status() != Status::Idle {
            steadily(&mut self.lease, b"ROLLBACK", settings).await?;
        } else {
            steadily(&mut self.lease, b"", settings).await?;
        }
        if settings.mode == PoolMode::Session && !settings.reset_query.is_empty() {
            return Ok(());
        }
        let clean = if self.touched || !self.holds.is_empty() {
            Session::clean(&mut self.lease, self.holds, settings).await
        } else {
            Session::is_clean(&mut self.lease, settings).await
        };
        if clean { Ok(()) } else { Err("something of it would be left behind".to_owned()) }
    }

    /// Waits until PostgreSQL has answered everything.
    async fn drained(&mut self) -> Result<(), String> {
        poll_fn(|cx| self.poll_drained(cx)).await
    }

    fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        loop {
            let workspace = &mut *self.workspace;
            workspace.compose();
            let mut blocked = false;
            while !workspace.out_is_sent() && !blocked {
                match self.lease.backend_mut().stream.poll_write(cx, workspace.out_to_send()) {
                    Poll::Ready(Ok(sent)) => workspace.note_sent(sent),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error.to_string())),
                    Poll::Pending => blocked = true,
                }
            }
            let over = workspace.turn.waits_for_client() && workspace.turn.takes_requests();
            // Half a message is waited for: what follows is read from its start.
            if !blocked && over && self.scanner.at_boundary() && workspace.down.unjudged().is_empty() {
                return Poll::Ready(Ok(()));
            }
            if !blocked && !over && workspace.turn.needs_client() {
                if workspace.turn.is_copying() {
                    message(&mut workspace.out, front::COPY_FAIL, |out| {
                        out.extend_from_slice(b"the client has left\0")
                    });
                    workspace.turn.front(front::COPY_FAIL);
                    continue;
                }
                if workspace.turn.takes_requests() {
                    // A Sync by itself would commit what the client has not.
                    let text = [b"\0", REFUSED, b"\0\0\0"].concat();
                    message(&mut workspace.out, front::PARSE, |out| out.extend_from_slice(&text));
                    workspace.turn.refuse_parse(Vec::new());
                }
                message(&mut workspace.out, front::SYNC, |_| {});
                workspace.turn.front(front::SYNC);
                self.lease.backend_mut().prepared.unnamed = None;
                continue;
            }
            let count = workspace.down.approved().len();
            workspace.down.sent(count);
            let room = workspace.down.room();
            let read = match self.lease.backend_mut().stream.poll_read(cx, room) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err("PostgreSQL closed it".to_owned())),
                Poll::Ready(Ok(read)) => read,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.to_string())),
                Poll::Pending => return Poll::Pending,
            };
            workspace.down.filled(read);
            self.judge()?;
        }
    }

    /// Takes note of PostgreSQL's answers.
    pub(super) fn judge(&mut self) -> Result<(), String> {
        let interner = &Arc::clone(self.lease.pool()).shared;
        let Workspace { turn, down, .. } = &mut *self.workspace;
        let grammar = back_grammar();
        while let Some(piece) =
            self.scanner.next(down.unjudged(), &grammar).map_err(|violation| violation.to_string())?
        {
            if piece.part.starts() {
                let (tag, body) = (piece.tag, piece.body());
                match tag {
                    back::PARAMETER_STATUS => self.lease.backend_mut().note_parameter(body, &interner.interner),
                    back::ERROR if is_fatal(body) => return Err("PostgreSQL ends it".to_owned()),
                    back::COMMAND_COMPLETE => self.touched |= [&b"SET\0"[..], b"RESET\0"].contains(&body),
                    _ => {}
                }
                match turn.back(tag, body) {
                    Back::Broken | Back::SettleFailed => return Err("it could not be followed".to_owned()),
                    Back::OwnFailed => turn.blame_next(Vec::new()),
                    Back::Replace | Back::Blame => drop(turn.take_report()),
                    Back::Forward | Back::Swallow | Back::Settled | Back::Ready => {}
                }
            }
            let length = piece.bytes.len();
            down.discard(length);
            while turn.next_made().is_some() {}
        }
        for (step, failed) in turn.take_undone() {
            take_back(*step, failed, &mut Names::default(), &mut self.lease.backend_mut().prepared);
        }
        Ok(())
    }
}

fn is_fatal(body: &[u8]) -> bool {
    ["FATAL", "PANIC"].contains(&Diagnostic::read(body).severity.as_str())
}

/// Runs a query of our own, which a cancel request may hit that was sent for the query before it.
pub(super) async fn steadily(lease: &mut Lease, sql: &[u8], settings: &PoolSettings) -> Result<(), String> {
    for _ in 0..TRIES {
        match lease.query_bytes(sql, settings.spec.timeout).await {
            Ok(()) => return Ok(()),
            Err(ExchangeError::Refused(said)) if said.code == sqlstate::QUERY_CANCELED => {}
            // A ROLLBACK that was cancelled leaves the transaction as it was.
            Err(ExchangeError::NotIdle) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Err("it was cancelled again and again".to_owned())
}
