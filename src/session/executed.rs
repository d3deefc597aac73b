//! What a text does by EXECUTE of statements that were prepared before: it is noted like what the text does by itself.
//!
//! Such a statement may be a PREPARE, DEALLOCATE or EXECUTE itself, if it came by Parse.

use std::collections::VecDeque;
use std::sync::Arc;

use super::names::Step;
use super::requests::Requests;
use super::scripts::names_statement;
use crate::backend::{Prepares, Statement};
use crate::sql::{Act, Name, Script};
use crate::wire::write::Report;

/// How a statement comes to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By an Execute.
    Message,
    /// By a Query.
    Query,
}

/// Most statements that one text is followed through; with more, everything is suspected.
const MOST: usize = 64;

impl Requests<'_> {
    /// Notes what the statements may do that a Query executes by their names; answers why it may not run, if so.
    pub(super) fn admit_executed(&mut self, script: &Script) -> Option<Report> {
        let mut all = Vec::new();
        for act in &script.acts {
            let Act::Execute(name) = act else { continue };
            let Some(found) = self.names.find(&name.text).map(|found| self.current(found)) else { continue };
            match found {
                Ok(found) => all.push(found),
                Err(report) => return Some(report),
            }
        }
        self.admit_all(all)
    }

    /// The same of a statement that is about to be bound.
    pub(super) fn admit_executed_by(&mut self, statement: &Statement) -> Option<Report> {
        let mut all = Vec::new();
        find_executed(statement, &mut all);
        self.admit_all(all)
    }

    fn admit_all(&mut self, mut all: Vec<Arc<Statement>>) -> Option<Report> {
        let mut next = 0;
        while let Some(statement) = all.get(next).cloned() {
            if all.len() > MOST {
                self.watch.get_or_insert_default().opaque = true;
                return None;
            }
            // Its parameters are expressions.
            if let Some(report) = self.admit(&statement.script, |_| None) {
                return Some(report);
            }
            find_executed(&statement, &mut all);
            next += 1;
        }
        None
    }

    /// Notes what running a statement does to the book of names, as steps, and sees to it that the backend has what it
    /// names; answers a name that it gives although it is taken, or why it may not run.
    pub(super) fn note_executed(
        &mut self,
        statement: &Statement,
        steps: &mut VecDeque<Step>,
        way: Way,
    ) -> Result<Option<Box<[u8]>>, Report> {
        let mut taken = None;
        let mut next: Option<Arc<Statement>> = None;
        for _ in 0..MOST {
            let statement = next.as_deref().unwrap_or(statement);
            let mut executes = None;
            for act in &statement.script.acts {
                match act {
                    Act::Deallocate(name) => self.note_deallocated(name, steps, way),
                    Act::DeallocateAll | Act::DiscardAll => steps.push_back(self.clear_names()),
                    Act::Prepare { .. } => {
                        let Some(Prepares { name, statement }) = statement.prepares.get() else { continue };
                        if self.names.find(name).is_some() {
                            // PostgreSQL is to say so.
                            self.ensure_something_by(statement, way);
                            steps.push_back(Step::Sent(0));
                            taken = Some(name.clone());
                        } else {
                            steps.push_back(self.name_prepared(name, statement)?);
                        }
                    }
                    Act::Execute(name) => executes = statement.find_named(&name.text).cloned(),
                    _ => {}
                }
            }
            match executes.filter(|found| found.script.acts.iter().any(names_statement)) {
                Some(found) => next = Some(found),
                None => return Ok(taken),
            }
        }
        Ok(taken)
    }

    fn note_deallocated(&mut self, name: &Name, steps: &mut VecDeque<Step>, way: Way) {
        let Some(statement) = self.named_on_backends(name) else { return };
        self.ensure_something_by(&statement, way);
        let had = self.prepared.remove(statement.id).is_some();
        self.prepared.take_doomed(statement.id);
        self.names.note_move(statement.id);
        let known = self.names.name_of(statement.id).map(Box::<[u8]>::from);
        if let Some((known, statement)) = known.and_then(|known| self.names.remove(&known)) {
            self.names.note_change(&known);
            steps.push_back(Step::Deallocated(known, statement, had));
        }
    }

    fn ensure_something_by(&mut self, statement: &Arc<Statement>, way: Way) {
        match way {
            Way::Message => self.ensure_something(statement, 0),
            Way::Query => self.ensure_something_for_query(statement),
        }
    }

    pub(super) fn ensure_by(&mut self, statement: &Arc<Statement>, way: Way) {
        match way {
            Way::Message => self.ensure(statement),
            Way::Query => self.ensure_for_query(statement),
        }
    }
}

/// The statements that one executes, but for those that are there already.
fn find_executed(statement: &Statement, all: &mut Vec<Arc<Statement>>) {
    for act in &statement.script.acts {
        if let Act::Execute(name) = act
            && let Some(found) = statement.find_named(&name.text)
            && !all.iter().any(|known| known.id == found.id)
        {
            all.push(Arc::clone(found));
        }
    }
}
