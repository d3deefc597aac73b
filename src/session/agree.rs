//! Whether a backend's statement still takes and gives what the client was told of it.
//!
//! A driver asks once what a statement takes and gives, and then only binds and executes it. Where a table was changed
//! meanwhile, PostgreSQL refuses to run such a statement in the session that has prepared it; a backend that prepares it
//! afresh would run it, and the client would misread its rows. So a Bind whose client will not be told anew waits until it
//! is known that nothing has changed, once per backend and statement. Invariant: no such Bind is passed on to a backend
//! whose statement is known to take or give something else.
//!
//! Source: `RevalidateCachedQuery` in PostgreSQL's `plancache.c`.

use std::collections::VecDeque;
use std::sync::Arc;

use super::errors::stale_plan;
use super::names::Step;
use super::requests::{Requests, Verdict, wrong_number};
use super::scripts::names_statement;
use super::turn::About;
use crate::backend::{Known, Shape, Statement};
use crate::metrics::add;
use crate::wire::tag::front;
use crate::wire::view::{Status, cstr};
use crate::wire::write::message;

/// Most portals of a turn that are remembered for what running them does.
const MOST_PORTALS: usize = 64;

/// What is about no name of the client's, so that the client is told nothing.
const NO_NAME: u32 = u32::MAX;

/// The last Bind of a turn.
#[derive(Debug, Default)]
pub(super) struct Bound {
    portal: Vec<u8>,
    about: About,
    /// Portals of statements that change the book of names when they run, the oldest first.
    runs: VecDeque<(Box<[u8]>, Arc<Statement>)>,
    /// The statement that was prepared anew for the Bind that waits; 0 for none.
    checked: u64,
}

impl Bound {
    /// A Bind is passed on.
    #[inline]
    pub(super) fn note(&mut self, portal: &[u8], about: About) {
        self.portal.clear();
        self.portal.extend_from_slice(portal);
        self.about = about;
        self.runs.retain(|(bound, _)| **bound != *portal);
        self.checked = 0;
    }

    /// Running the statement of that Bind changes the book of names. One that is not noted any more when it runs costs the
    /// backend, whose books are wrong then.
    pub(super) fn note_runs(&mut self, statement: Arc<Statement>) {
        if self.runs.len() >= MOST_PORTALS {
            self.runs.pop_front();
        }
        self.runs.push_back((self.portal.clone().into(), statement));
    }

    /// Whether an Execute may change the book of names.
    #[inline]
    pub(super) fn runs_any(&self) -> bool {
        !self.runs.is_empty()
    }

    /// Whether this Execute runs a statement that changes the book of names and has not run yet.
    pub(super) fn runs(&self, execute: &[u8]) -> bool {
        self.find_runs(execute).is_some()
    }

    /// The statement that it is.
    pub(super) fn take_runs(&mut self, execute: &[u8]) -> Option<Arc<Statement>> {
        let at = self.find_runs(execute)?;
        self.runs.remove(at).map(|(_, statement)| statement)
    }

    fn find_runs(&self, execute: &[u8]) -> Option<usize> {
        let (portal, _) = cstr(execute.get(5..)?)?;
        self.runs.iter().position(|(bound, _)| **bound == *portal)
    }

    /// The statement of a portal, if it is the last that was bound.
    pub(super) fn about(&self, portal: &[u8]) -> Option<About> {
        (self.about.statement > 0 && *self.portal == *portal).then_some(self.about)
    }
}

impl Requests<'_> {
    /// What becomes of a Bind of this statement, whose name has this number, for the sake of what the client was told;
    /// `tail` follows the names in it. Nothing, if it may be passed on.
    #[inline]
    pub(super) fn disagrees(&mut self, statement: &Arc<Statement>, number: u32, tail: &[u8]) -> Option<Verdict> {
        let told = self.names.told(number).filter(|told| !told.is_unknown())?;
        self.compare(statement, number, told, tail)
    }

    fn compare(&mut self, statement: &Arc<Statement>, number: u32, told: Shape, tail: &[u8]) -> Option<Verdict> {
        // It is told the columns again before it gets any rows.
        let told = if is_describe_of_portal(self.next) { told.without_rows() } else { told };
        if !told.is_unknown() && self.turn.may_leave_failure() {
            return Some(Verdict::Wait);
        }
        // PostgreSQL refuses these for other reasons. What runs another statement has no result of its own.
        if told.is_unknown()
            || self.turn.status() == Status::Failed
            || statement.script.acts.iter().any(names_statement)
            || wrong_number(statement, tail).is_some()
        {
            return None;
        }
        // Where it has no name the backend may have it without one, too, or as the one that is kept for its text.
        let unnamed = number == 0 && (self.prepared.unnamed == Some(statement.id) || !self.prepared.has(statement.id));
        match self.prepared.known(statement.id, unnamed) {
            Some(Known::Asked) => return Some(Verdict::Wait),
            Some(Known::Shape(shape)) if shape.covers(told) && shape.agrees(told) => return None,
            Some(Known::Shape(shape)) if self.bound.checked == statement.id => {
                self.bound.checked = 0;
                if shape.agrees(told) {
                    return None;
                }
                add(&self.pool.counters.stale_plans, 1);
                return Some(self.refuse_bind_with(stale_plan()));
            }
            _ => {}
        }
        // What the backend has may be as old as what the client knows, or made for another search path.
        let since = if unnamed {
            self.prepare_unnamed(statement);
            0
        } else {
            self.close(statement);
            self.ensure(statement);
            self.prepared.used_since(statement.id)
        };
        message(self.out, front::DESCRIBE, |out| {
            out.push(b'S');
            out.extend_from_slice(if unnamed { b"" } else { &statement.name });
            out.push(0);
        });
        let about = About { statement: statement.id, since, name: NO_NAME };
        self.turn.ask(about, Some(Box::new(Step::Asked(statement.id))));
        self.prepared.ask(statement.id, since);
        self.bound.checked = statement.id;
        Some(Verdict::Wait)
    }
}

/// Whether the bytes begin with a Describe of a portal, as far as they are there.
fn is_describe_of_portal(bytes: &[u8]) -> bool {
    bytes.first() == Some(&front::DESCRIBE) && bytes.get(5) == Some(&b'P')
}

/// The name of the portal in a Describe.
pub(super) fn portal_name(bytes: &[u8]) -> Option<&[u8]> {
    cstr(bytes.get(5..)?.strip_prefix(b"P")?).filter(|(_, rest)| rest.is_empty()).map(|(name, _)| name)
}
