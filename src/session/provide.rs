//! What the pooler sends by itself, so that a backend has the statements that a client's requests are about.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::names::Step;
use super::requests::{Requests, query_message, wrong_number};
use super::turn::{Own, Undo};
use crate::backend::{Origin, Statement};
use crate::wire::tag::front;
use crate::wire::view::cstr;
use crate::wire::write::message;

/// The OID of a type that is always there.
const TEXT_TYPE: u32 = 25;

impl Requests<'_> {
    /// Sees to it that the backend has a statement when a Bind arrives there. If that gives the wrong number of
    /// parameters, PostgreSQL finds this before anything else, whatever has become of the statement's tables and of the
    /// transaction. Answers since when the backend has it, 0 where it has something else.
    pub(super) fn ensure_for_bind(&mut self, statement: &Arc<Statement>, tail: &[u8]) -> u32 {
        let since = self.prepared.used_since(statement.id);
        if since > 0 {
            statement.hits.fetch_add(1, Relaxed);
            return since;
        }
        match wrong_number(statement, tail) {
            Some(parameters) => self.ensure_something(statement, parameters),
            None => self.bring(statement),
        }
        self.prepared.used_since(statement.id)
    }

    /// Sees to it that the backend has a statement when what is written next arrives there.
    pub(super) fn ensure(&mut self, statement: &Arc<Statement>) {
        if self.prepared.uses(statement.id) {
            statement.hits.fetch_add(1, Relaxed);
            return;
        }
        self.bring(statement);
    }

    /// The backend gets a statement that it does not have.
    fn bring(&mut self, statement: &Arc<Statement>) {
        self.make_room(statement);
        let undo = Some(Box::new(Step::Sent(statement.id)));
        match statement.origin {
            Origin::Protocol => {
                self.write_parse(&statement.name, &statement.body);
                self.turn.own(Own::Parse, undo);
            }
            Origin::Sql => {
                self.counts.server_parses += 1;
                self.run_in_batch(&prepare_text(statement), undo);
            }
        }
    }

    /// Runs a text of our own as a Query.
    pub(super) fn run_query(&mut self, text: &[u8], undo: Undo) {
        self.lose_unnamed();
        query_message(self.out, &[text]);
        self.turn.own(Own::Query, undo);
    }

    fn run_in_batch(&mut self, text: &[u8], undo: Undo) {
        self.lose_unnamed();
        self.write_parse(b"", &[text, b"\0\0\0"].concat());
        self.write_message(front::BIND, &[0; 8]);
        self.write_message(front::EXECUTE, &[0; 5]);
        self.turn.own(Own::Parse, None);
        self.turn.own(Own::Bind, None);
        self.turn.own(Own::Execute, undo);
    }

    /// The backend gets the statement; what it has not used for longest goes for it.
    pub(super) fn make_room(&mut self, statement: &Arc<Statement>) {
        // The statement may be one of them.
        while let Some(doomed) = self.prepared.pop_doomed() {
            self.write_close(&doomed, Step::Doomed(Arc::clone(&doomed)));
        }
        self.prepared.insert(Arc::clone(statement));
        self.names.note_move(statement.id);
        while let Some(old) = self.prepared.evict(self.most_prepared()) {
            self.write_close(&old, Step::Evicted(Arc::clone(&old)));
        }
    }

    /// Takes a statement from the backend that has it.
    pub(super) fn close(&mut self, statement: &Statement) {
        if let Some(old) = self.prepared.remove(statement.id) {
            self.write_close(statement, Step::Evicted(old));
        } else if let Some(doomed) = self.prepared.take_doomed(statement.id) {
            self.write_close(statement, Step::Doomed(doomed));
        }
    }

    fn write_close(&mut self, statement: &Statement, step: Step) {
        self.names.note_move(statement.id);
        message(self.out, front::CLOSE, |out| {
            out.push(b'S');
            out.extend_from_slice(&statement.name);
            out.push(0);
        });
        self.turn.own(Own::Close, Some(Box::new(step)));
    }

    /// The backend has something under the statement's name when what is written next arrives there, which is not run:
    /// an empty text with so many parameters, which PostgreSQL takes in any state of a transaction.
    pub(super) fn ensure_something(&mut self, statement: &Arc<Statement>, parameters: u16) {
        if self.prepared.uses(statement.id) {
            return;
        }
        self.make_room(statement);
        self.prepared.doom(statement.id);
        self.write_empty(&statement.name, parameters);
    }

    pub(super) fn write_empty(&mut self, name: &[u8], parameters: u16) {
        let types = TEXT_TYPE.to_be_bytes().repeat(usize::from(parameters));
        self.write_parse(name, &[b"\0", &parameters.to_be_bytes()[..], &types].concat());
        self.turn.own(Own::Parse, None);
    }

    /// A Parse of our own, which may be the client's by another name.
    pub(super) fn write_parse(&mut self, name: &[u8], rest: &[u8]) {
        self.counts.server_parses += u64::from(!name.is_empty());
        message(self.out, front::PARSE, |out| {
            out.extend_from_slice(name);
            out.push(0);
            out.extend_from_slice(rest);
        });
    }

    /// Something else takes the place of the backend's unnamed statement, and what is taken back does not bring it again.
    pub(super) fn lose_unnamed(&mut self) {
        self.prepared.unnamed = None;
        self.turn.lose_unnamed();
    }

    /// The backend gets the client's unnamed statement again, which it has on another backend or no more.
    pub(super) fn prepare_unnamed(&mut self, statement: &Arc<Statement>) {
        self.names.note_change(b"");
        self.prepared.insert_unnamed(statement.id);
        self.write_parse(b"", &statement.body);
        self.turn.own(Own::Parse, Some(Box::new(Step::Unnamed((Some(Arc::clone(statement)), None)))));
    }

    pub(super) fn most_prepared(&self) -> usize {
        usize::try_from(self.settings.max_prepared).unwrap_or(usize::MAX).max(1)
    }
}

/// PREPARE of a statement under its name on backends.
pub(super) fn prepare_text(statement: &Statement) -> Vec<u8> {
    let (types, text) = cstr(&statement.body).unwrap_or_default();
    let (open, close): (&[u8], &[u8]) = if types.is_empty() { (b"", b"") } else { (b"(", b")") };
    [b"PREPARE ", &statement.name[..], b" ", open, types, close, b" AS ", text].concat()
}
