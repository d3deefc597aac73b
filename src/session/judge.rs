//! What becomes of PostgreSQL's messages on their way to the client, and what they tell.

use super::end::End;
use super::errors::{
    UNKNOWN_STATEMENT, is_stale_plan, move_position, named_in, names_statements, refuses_to_write, rename,
};
use super::names::{Names, take_back};
use super::tally::Tally;
use super::turn::{About, Back, Turn};
use super::watch::Watch;
use crate::backend::{Backend, Interner, id_of};
use crate::config::{PoolMode, SessionAttrs};
use crate::metrics::add;
use crate::pool::ClientRecord;
use crate::sql::Act;
use crate::wire::scan::{Part, Piece};
use crate::wire::tag::back;
use crate::wire::view::{Diagnostic, Status, parameter_status};

/// What to do with the rest of a message whose start was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    Forward,
    Discard,
}

/// The end of a session whose backend cannot be followed any further.
#[cold]
pub(super) fn unexplained(tag: u8) -> End {
    End::BackendViolation(format!("message 0x{tag:02x} is not the answer to anything that is owed"))
}

/// Decides on one message of PostgreSQL and draws the consequences.
pub(super) struct Judge<'a> {
    pub(super) turn: &'a mut Turn,
    pub(super) backend: &'a mut Backend,
    pub(super) names: &'a mut Names,
    pub(super) watch: &'a mut Option<Box<Watch>>,
    pub(super) interner: &'a Interner,
    pub(super) tally: &'a mut Tally,
    pub(super) record: &'a ClientRecord,
    pub(super) mode: PoolMode,
    pub(super) watching: bool,
    pub(super) pinned: bool,
    pub(super) hears: bool,
    /// What the client gets in the place of a message that is thrown away.
    pub(super) instead: &'a mut Option<Vec<u8>>,
}

impl Judge<'_> {
    #[inline]
    pub(super) fn message(&mut self, piece: &Piece<'_>) -> Result<Rest, End> {
        let (tag, body) = (piece.tag, piece.body());
        match tag {
            back::PARAMETER_STATUS if self.turned_read_only(body) => return Ok(Rest::Discard),
            back::PARAMETER_STATUS => self.parameter(body),
            // PostgreSQL ends the connection although the client has had all its answers: that concerns whoever comes
            // next, not this client, and nobody comes next.
            back::ERROR if self.turn.finished() && self.watching && !self.pinned => {
                self.backend.record.need_close();
                return Ok(Rest::Discard);
            }
            back::ERROR => {
                self.undo();
                if refuses_to_write(body)
                    && let Some(pool) = self.record.pool()
                {
                    pool.doubt(&self.backend.record);
                }
            }
            back::COMMAND_COMPLETE if self.watching && self.turn.answers_client() => self.command(body),
            // It is for whoever has listened on this backend before; this client's come by way of the listening one.
            back::NOTIFICATION if self.watching && !self.hears => return Ok(Rest::Discard),
            _ => {}
        }
        if tag == back::ERROR && self.turn.is_shifted() && piece.part == Part::Whole {
            *self.instead = move_position(body, |sent| self.turn.position(sent));
        }
        let about = self.turn.about();
        let taken = if tag == back::ERROR { self.turn.taken() } else { None };
        let verdict = self.turn.back(tag, body);
        if self.turn.has_undone() {
            for (step, failed) in self.turn.take_undone() {
                take_back(*step, failed, self.names, &mut self.backend.prepared);
            }
        }
        match verdict {
            Back::Blame if self.takes_blame(body) => Ok(Rest::Discard),
            Back::Forward | Back::Blame if tag == back::ERROR && self.watching => {
                let moved = self.instead.is_some();
                let rest = self.error(piece, about, taken.as_deref());
                Ok(if moved { Rest::Discard } else { rest })
            }
            Back::Forward | Back::Blame => Ok(Rest::Forward),
            Back::Swallow => Ok(Rest::Discard),
            Back::Settled => {
                // From here on the backend runs this client's requests, and a cancel request may hit them.
                self.record.set_link(Some(&self.backend.record));
                Ok(Rest::Discard)
            }
            Back::SettleFailed => Err(End::Settings(Box::new(Diagnostic::read(body)))),
            Back::OwnFailed => {
                self.turn.blame_next(piece.bytes.to_vec());
                Ok(Rest::Discard)
            }
            Back::Replace => {
                // In the place of any other.
                *self.instead = Some(self.turn.take_report());
                Ok(Rest::Discard)
            }
            Back::Ready => self.ready(),
            Back::Broken => Err(unexplained(tag)),
        }
    }

    /// A Query has failed for which a request of the pooler's own failed before: whether for that.
    fn takes_blame(&mut self, body: &[u8]) -> bool {
        let report = self.turn.take_report();
        let takes = Diagnostic::read(body).code == UNKNOWN_STATEMENT;
        if takes {
            *self.instead = Some(report);
        }
        takes
    }

    fn ready(&mut self) -> Result<Rest, End> {
        let status = self.turn.status();
        if let Some(watch) = self.watch.as_mut().filter(|_| status == Status::Idle) {
            watch.settled();
        }
        if self.mode == PoolMode::Statement && status != Status::Idle {
            return Err(End::StatementMode);
        }
        self.tally.ready(status, !self.turn.waits_for_client(), self.record);
        // The lease of a session lasts, and so may a transaction.
        if (self.mode == PoolMode::Session || self.tally.is_late())
            && let Some(pool) = self.record.pool()
        {
            self.tally.settle(&pool.counters);
        }
        Ok(Rest::Forward)
    }

    /// Where a host has to take writes: whether its transactions are read-only by default from now on, and that is not the
    /// client's doing. The client does not take it along to another host; this one is left.
    fn turned_read_only(&mut self, body: &[u8]) -> bool {
        let wanted = self.backend.record.route.wanted;
        if !self.watching || wanted != SessionAttrs::ReadWrite || !self.turn.answers_client() {
            return false;
        }
        let turned = parameter_status(body) == Some(("default_transaction_read_only", &b"on"[..]));
        let own = self.watch.as_ref().is_some_and(|watch| watch.explains_reports());
        if turned && !own {
            self.backend.record.need_close();
        }
        turned && !own
    }

    fn parameter(&mut self, body: &[u8]) {
        self.backend.note_parameter(body, self.interner);
        if !self.watching || !self.turn.answers_client() {
            return;
        }
        // What changes without a request that says so was changed by something whose text does not tell; it may have
        // changed what is not reported, too.
        let explained = self.watch.as_ref().is_some_and(|watch| watch.explains_reports());
        let of_itself = parameter_status(body).is_some_and(|(name, _)| name == "in_hot_standby");
        if !explained && !of_itself {
            self.watch.get_or_insert_default().opaque = true;
        }
    }

    /// A command of the client's is complete: its tag tells what the session has lost, whatever the text was.
    #[inline]
    fn command(&mut self, body: &[u8]) {
        match body {
            b"SET\0" | b"RESET\0" => {
                let watch = self.watch.get_or_insert_default();
                watch.setting_answered();
                watch.answered();
            }
            b"UNLISTEN\0" => self.watch.get_or_insert_default().answered(),
            b"ROLLBACK\0" => self.undo(),
            b"PREPARE\0" | b"DEALLOCATE\0" if !self.turn.confirm() && !self.pinned => self.lost_statements(),
            b"LISTEN\0" if self.watch.as_ref().is_none_or(|watch| watch.listens.is_empty()) => {
                self.watch.get_or_insert_default().opaque = true;
            }
            b"DEALLOCATE ALL\0" => {
                self.turn.confirm();
                self.lost_statements();
            }
            b"DISCARD ALL\0" => {
                self.turn.confirm();
                self.lost_statements();
                self.watch.get_or_insert_default().discarded = true;
            }
            _ => {}
        }
    }

    fn undo(&mut self) {
        if let Some(watch) = self.watch {
            watch.undo();
        }
    }

    /// The backend has no statements any more. Where a request said so they were struck out when it was sent; else the
    /// backend is not to be lent again.
    fn lost_statements(&mut self) {
        if !self.turn.cleared() {
            self.backend.record.need_close();
        }
    }

    /// The plan of this statement is out of date, so that its next use prepares it afresh. With 0 it is one that the
    /// text of a Query named, or what that called: any of the client's.
    fn doom(&mut self, statement: u64, unnamed: bool) {
        let prepared = &mut self.backend.prepared;
        if statement == 0 {
            self.names.ids().for_each(|id| prepared.doom(id));
        } else {
            prepared.doom(statement);
        }
        if unnamed && prepared.unnamed == Some(statement) {
            prepared.unnamed = None;
        }
        if let Some(pool) = self.record.pool() {
            add(&pool.counters.stale_plans, 1);
        }
    }

    /// The client's name for what a statement names in its text, and backends call `named`.
    fn named_by(&self, statement: u64, named: &[u8]) -> Option<Box<[u8]>> {
        let unnamed = self.names.unnamed.as_ref().filter(|unnamed| unnamed.id == statement);
        let statement = self.backend.prepared.find(statement).or(unnamed)?;
        let own = statement.renamed_from.get()?.script.acts.iter();
        let pairs = statement.script.acts.iter().zip(own).filter_map(|(act, own)| match (act, own) {
            (Act::Execute(name), Act::Execute(own)) | (Act::Deallocate(name), Act::Deallocate(own)) => {
                Some((name, own))
            }
            _ => None,
        });
        let mut named = pairs.filter(|(name, _)| *name.text == *named);
        named.next().map(|(_, own)| own.text.clone())
    }

    /// An error that the client gets: in its own words for statements, and with consequences for what the backend has.
    fn error(&mut self, piece: &Piece<'_>, about: About, taken: Option<&[u8]>) -> Rest {
        let About { statement, name: number, .. } = about;
        let body = piece.body();
        let whole = piece.part == Part::Whole;
        if !whole || !names_statements(body) {
            return Rest::Forward;
        }
        let said = Diagnostic::read(body);
        let named = named_in(body);
        if said.code == UNKNOWN_STATEMENT && statement > 0 && named.and_then(id_of) == Some(statement) {
            // Somebody has thrown it away by a way that no text told.
            self.backend.prepared.remove(statement);
        } else if is_stale_plan(body) {
            self.doom(statement, statement > 0 && number == 0);
        }
        // The unnamed one has no number; a Query tells of none.
        let own = match (statement, number) {
            (0, _) => None,
            (_, 0) => Some(&b""[..]),
            (_, number) => self.names.name_numbered(number),
        };
        let inner = named.and_then(|named| self.named_by(statement, named));
        match rename(body, self.names, inner.as_deref().or(taken).or(own)) {
            Some(message) => {
                *self.instead = Some(message);
                Rest::Discard
            }
            None => Rest::Forward,
        }
    }
}
