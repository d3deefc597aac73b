//! What a text does by EXECUTE of statements that were prepared before: it is noted like what the text does by itself.
//!
//! Such a statement may be a PREPARE, DEALLOCATE or EXECUTE itself, if it came by Parse.

use std::collections::VecDeque;
use std::sync::Arc;

use super::names::Step;
use super::requests::Requests;
use super::scripts::names_statement;
use crate::backend::{Prepares, Statement, id_of};
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
    /// Notes what the statements may do that a script executes by their names; answers why it may not run, if so.
    pub(super) fn admit_executed(&mut self, script: &Script) -> Option<Report> {
        if !script.acts.iter().any(|act| matches!(act, Act::Execute(_))) {
            return None;
        }
        let mut all = Vec::new();
        self.find_executed(script, &mut all);
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
            self.find_executed(&statement.script, &mut all);
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
                            match way {
                                Way::Message => self.ensure_something(statement, 0),
                                Way::Query => self.ensure_something_for_query(statement),
                            }
                            steps.push_back(Step::Sent(0));
                            taken = Some(name.clone());
                        } else {
                            steps.push_back(self.name_prepared(name, statement)?);
                        }
                    }
                    Act::Execute(name) => executes = self.find_named(name).cloned(),
                    _ => {}
                }
            }
            match executes.filter(|found| found.script.acts.iter().any(names_statement)) {
                Some(found) => {
                    self.ensure_by(&found, way);
                    next = Some(found);
                }
                None => return Ok(taken),
            }
        }
        Ok(taken)
    }

    fn note_deallocated(&mut self, name: &Name, steps: &mut VecDeque<Step>, way: Way) {
        let Some(statement) = self.named_on_backends(name) else { return };
        self.ensure_by(&statement, way);
        self.prepared.remove(statement.id);
        self.names.note_move(statement.id);
        let known = self.names.name_of(statement.id).map(Box::<[u8]>::from);
        if let Some((known, statement)) = known.and_then(|known| self.names.remove(&known)) {
            self.names.note_change(&known);
            steps.push_back(Step::Deallocated(known, statement, true));
        }
    }

    fn ensure_by(&mut self, statement: &Arc<Statement>, way: Way) {
        match way {
            Way::Message => self.ensure(statement),
            Way::Query => self.ensure_for_query(statement),
        }
    }

    fn find_executed(&self, script: &Script, all: &mut Vec<Arc<Statement>>) {
        for act in &script.acts {
            if let Act::Execute(name) = act
                && let Some(found) = self.find_named(name)
                && !all.iter().any(|known| known.id == found.id)
            {
                all.push(Arc::clone(found));
            }
        }
    }

    /// The client's statement of this name, which may be one that it has on backends.
    fn find_named(&self, name: &Name) -> Option<&Arc<Statement>> {
        let by_id = |id| self.names.name_of(id).and_then(|known| self.names.find(known));
        self.names.find(&name.text).or_else(|| id_of(&name.text).and_then(by_id))
    }
}
