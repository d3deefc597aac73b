//! What a text does by EXECUTE of statements that were prepared before: it is noted like what the text does by itself.

use std::sync::Arc;

use super::requests::Requests;
use crate::backend::{Statement, id_of};
use crate::sql::{Act, Name, Script};
use crate::wire::write::Report;

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
