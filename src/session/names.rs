//! The prepared statements that a client has, under its own names, and how what was noted too early is taken back.
//!
//! A name is noted when its Parse, Close or PREPARE is sent, long before PostgreSQL has answered. If the request fails
//! or is skipped after an error, [`take_back`] undoes what was noted, the last one first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use ahash::RandomState;

use super::unanswered::{Progress, Unanswered};
use crate::backend::{Prepared, Shape, Statement};

/// What an entry costs beside its name and text, bytes.
const OVERHEAD: usize = 96;

/// What was noted for one request, and is taken back if the request is not carried out.
#[derive(Debug)]
pub enum Step {
    /// The client's name was given to a statement; the backend gets the statement of this id by it, 0 for none.
    Named(Box<[u8]>, u64),
    /// The client has a new unnamed statement, in the place of the first one; so has the backend, in that of the second.
    Unnamed((Option<Arc<Statement>>, Option<u64>)),
    /// The client closed a name of this statement.
    Closed(Box<[u8]>, Arc<Statement>),
    /// The client closed a name of this statement by SQL; the backend loses what it has under the statement's name, which
    /// is the statement or, if not, anything.
    Deallocated(Box<[u8]>, Arc<Statement>, bool),
    /// The backend gets the statement of this id.
    Sent(u64),
    /// PostgreSQL is asked what the statement of this id takes and gives.
    Asked(u64),
    /// The backend loses this statement.
    Evicted(Arc<Statement>),
    /// The backend loses what it has under the name of this statement, which is of no use.
    Doomed(Arc<Statement>),
    /// The client closed all its names, and the backend loses all statements.
    Cleared(Box<(Names, Prepared)>),
    /// The statements of one Query, in order; those that were carried out are struck off.
    Several(VecDeque<Step>),
}

impl Step {
    /// What the unnamed statements were before, where this is about them.
    pub(super) fn unnamed_mut(&mut self) -> Option<&mut (Option<Arc<Statement>>, Option<u64>)> {
        match self {
            Step::Unnamed(before) => Some(before),
            Step::Several(steps) => steps.iter_mut().find_map(Step::unnamed_mut),
            _ => None,
        }
    }

    /// The backend did not get the statement of this id before, as had been noted: not to be had back either.
    pub(super) fn correct(&mut self, id: u64) {
        match self {
            Step::Deallocated(_, statement, had) if statement.id == id => *had = false,
            Step::Evicted(statement) if statement.id == id => *self = Step::Doomed(Arc::clone(statement)),
            Step::Cleared(before) => before.1.doom(id),
            Step::Several(steps) => steps.iter_mut().for_each(|step| step.correct(id)),
            _ => {}
        }
    }
}

/// Takes back what was noted for a request that was not carried out; `failed`: by itself, not for an earlier one.
pub(super) fn take_back(step: Step, failed: bool, names: &mut Names, prepared: &mut Prepared) {
    match step {
        Step::Named(name, sent) => {
            names.remove(&name);
            prepared.remove(sent);
        }
        // PostgreSQL drops the unnamed statement before it reads the new one.
        Step::Unnamed(..) if failed => {
            if let Some(statement) = names.unnamed.take() {
                statement.refused.store(true, Relaxed);
            }
            prepared.unnamed = None;
        }
        Step::Unnamed((client, backend)) => {
            names.unnamed = client;
            prepared.unnamed = backend;
        }
        Step::Closed(name, statement) => names.insert(name, statement),
        Step::Deallocated(name, statement, had) => {
            prepared.insert(Arc::clone(&statement));
            if !had {
                prepared.doom(statement.id);
            }
            names.insert(name, statement);
        }
        Step::Sent(id) => {
            if let Some(statement) = prepared.remove(id).filter(|_| failed) {
                statement.refused.store(true, Relaxed);
            }
        }
        Step::Asked(id) => prepared.unlearn(id),
        Step::Evicted(statement) => prepared.insert(statement),
        Step::Doomed(statement) => {
            let id = statement.id;
            prepared.insert(statement);
            prepared.doom(id);
        }
        Step::Cleared(before) => {
            let (client, backend) = *before;
            names.restore(client);
            prepared.restore(backend);
        }
        Step::Several(steps) => {
            for step in steps.into_iter().rev() {
                take_back(step, failed, names, prepared);
            }
        }
    }
}

/// A name that was freed, with its number and the id of its statement.
#[derive(Debug)]
struct Freed {
    name: Box<[u8]>,
    number: u32,
    id: u64,
}

/// The statements of one client.
#[derive(Debug, Default)]
pub struct Names {
    /// With the number of the name.
    named: HashMap<Box<[u8]>, (Arc<Statement>, u32), RandomState>,
    /// The number that was given to a name last.
    last: u32,
    /// What the client was told of each name's statement, by the names' numbers.
    told: HashMap<u32, Shape, RandomState>,
    /// The unnamed one.
    pub(super) unnamed: Option<Arc<Statement>>,
    /// What the client was told of the unnamed one since its Parse.
    told_unnamed: Shape,
    bytes: usize,
    at: Progress,
    /// Names that were changed by requests which are not answered yet.
    changed: Unanswered<Box<[u8]>>,
    /// The same of statements that the backend gets or loses, by their ids.
    moved: Unanswered<u64>,
    /// The same of names that were freed, with their batches: what was sent before may still fail.
    freed: VecDeque<(Freed, u64)>,
}

impl Names {
    /// The statement of a name.
    #[inline]
    pub(super) fn find(&self, name: &[u8]) -> Option<&Arc<Statement>> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.named.get(name).map(|(statement, _)| statement) }
    }

    /// So many batches were sent to their ends in this turn, and so many are over.
    #[inline]
    pub(super) fn follow(&mut self, (sent, over): (u64, u64)) {
        // Numbers begin with the one behind the last that was answered.
        self.at = Progress { now: sent + 1, answered: over };
    }

    /// Nothing is under way.
    #[inline]
    pub(super) fn all_answered(&mut self) {
        self.changed.clear();
        self.moved.clear();
        self.freed.clear();
    }

    /// A name is changed by the batch that is being sent. Whatever came before: what follows in this batch is skipped if
    /// this change is.
    pub(super) fn note_change(&mut self, name: &[u8]) {
        self.changed.note(name.into(), self.at);
    }

    /// The backend gets or loses a statement by the batch that is being sent.
    pub(super) fn note_move(&mut self, id: u64) {
        self.moved.note(id, self.at);
    }

    /// Whether it is not known if the backend has a statement, before a batch is answered that went before.
    #[inline]
    pub(super) fn is_moving(&self, id: u64) -> bool {
        self.moved.is_changed_before(&id, self.at)
    }

    /// Whether that is so of any statement.
    #[inline]
    pub(super) fn any_moving(&self) -> bool {
        self.moved.any_before(self.at)
    }

    /// Whether it is not known what the name stands for, before a batch is answered that went before.
    #[inline]
    pub(super) fn is_uncertain(&self, name: &[u8]) -> bool {
        self.changed.is_changed_before(name, self.at)
    }

    /// Whether that is so of any name, or of any statement that the backend has.
    pub(super) fn any_uncertain(&self) -> bool {
        self.any_moving() || self.changed.any_before(self.at)
    }

    /// Whether a change of the name may still be taken back.
    #[inline]
    pub(super) fn is_changing(&self, name: &[u8]) -> bool {
        self.changed.batch_of(name, self.at).is_some()
    }

    /// How many names there are.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.named.len()
    }

    /// Whether another name for this many bytes of text fits under `limit`.
    pub(super) fn fits(&self, name: &[u8], statement: &Statement, limit: usize) -> bool {
        self.bytes + cost(name, statement) <= limit
    }

    /// Gives a statement a name.
    pub(super) fn insert(&mut self, name: Box<[u8]>, statement: Arc<Statement>) {
        self.bytes += cost(&name, &statement);
        statement.add_client();
        self.last = self.last.wrapping_add(1).max(1);
        self.told.insert(self.last, Shape::default());
        if let Some((old, number)) = self.named.insert(name.clone(), (statement, self.last)) {
            self.bytes -= cost(&name, &old).min(self.bytes);
            self.told.remove(&number);
            old.remove_client();
        }
    }

    /// What the client was told of the statement whose name has this number; 0 for the unnamed one.
    #[inline]
    pub(super) fn told(&self, number: u32) -> Option<Shape> {
        if number == 0 { Some(self.told_unnamed) } else { self.told.get(&number).copied() }
    }

    /// The client is told what this statement takes and gives, whose name has this number.
    #[inline]
    pub(super) fn tell(&mut self, number: u32, id: u64, shape: Shape) {
        if number == 0 {
            // Another one may stand there by now.
            if self.unnamed.as_ref().is_some_and(|unnamed| unnamed.id == id) {
                self.told_unnamed = shape.or(self.told_unnamed);
            }
        } else if let Some(told) = self.told.get_mut(&number) {
            *told = shape.or(*told);
        }
    }

    /// The client's Parse gives it this unnamed statement, of which it was told nothing; answers the one before.
    pub(super) fn replace_unnamed(&mut self, statement: Arc<Statement>) -> Option<Arc<Statement>> {
        self.told_unnamed = Shape::default();
        self.unnamed.replace(statement)
    }

    /// Frees a name.
    pub(super) fn remove(&mut self, name: &[u8]) -> Option<(Box<[u8]>, Arc<Statement>)> {
        let (name, (statement, number)) = self.named.remove_entry(name)?;
        self.bytes -= cost(&name, &statement).min(self.bytes);
        self.told.remove(&number);
        statement.remove_client();
        while self.freed.front().is_some_and(|(_, batch)| *batch <= self.at.answered) {
            self.freed.pop_front();
        }
        self.freed.push_back((Freed { name: name.clone(), number, id: statement.id }, self.at.now));
        Some((name, statement))
    }

    /// Frees all names, and answers them. The unnamed statement is not among them, as on PostgreSQL.
    pub(super) fn take_all(&mut self) -> Names {
        let named = std::mem::take(&mut self.named);
        for (name, (statement, number)) in &named {
            self.note_change(name);
            let freed = Freed { name: name.clone(), number: *number, id: statement.id };
            self.freed.push_back((freed, self.at.now));
        }
        let mut taken = Names::default();
        (taken.named, taken.bytes) = (named, std::mem::take(&mut self.bytes));
        taken.told = std::mem::take(&mut self.told);
        taken
    }

    /// Takes these back, but for those that were given anew.
    fn restore(&mut self, mut before: Names) {
        let told = std::mem::take(&mut before.told);
        for (name, (statement, number)) in before.named.drain() {
            statement.remove_client();
            if !self.named.contains_key(&name) {
                let id = statement.id;
                self.insert(name, statement);
                self.tell(self.last, id, told.get(&number).copied().unwrap_or_default());
            }
        }
    }

    /// Frees all names.
    pub(super) fn clear(&mut self) {
        for (statement, _) in self.named.values() {
            statement.remove_client();
        }
        self.named = HashMap::default();
        self.told = HashMap::default();
        self.bytes = 0;
        self.unnamed = None;
    }

    /// The ids of all statements that have names.
    pub(super) fn ids(&self) -> impl Iterator<Item = u64> {
        self.named.values().map(|(statement, _)| statement.id)
    }

    /// Whether a name of this statement was given by the batch of this number, which is not answered yet; `unnamed`: it
    /// was given none.
    pub(super) fn is_given_in(&self, batch: u64, id: u64, unnamed: bool) -> bool {
        let is = |name: &[u8]| name.is_empty() == unnamed && self.find(name).is_some_and(|found| found.id == id);
        self.changed.of_batch(batch).any(|name| is(name))
    }

    /// The statement of a name, and the name's number; 0 for the unnamed one.
    #[inline]
    pub(super) fn numbered(&self, name: &[u8]) -> Option<(&Arc<Statement>, u32)> {
        if name.is_empty() {
            return self.unnamed.as_ref().map(|statement| (statement, 0));
        }
        self.named.get(name).map(|(statement, number)| (statement, *number))
    }

    /// A name that the client has for a statement, if it has one.
    pub(super) fn name_of(&self, id: u64) -> Option<&[u8]> {
        self.named.iter().find(|(_, (statement, _))| statement.id == id).map(|(name, _)| name.as_ref())
    }

    /// A name that the client has or had for a statement, for an error about it.
    pub(super) fn name_for_error(&self, id: u64) -> Option<&[u8]> {
        self.name_of(id).or_else(|| self.find_freed(|freed| freed.id == id))
    }

    /// The name of this number, which may have been freed meanwhile.
    pub(super) fn name_numbered(&self, number: u32) -> Option<&[u8]> {
        let named = self.named.iter().find(|(_, (_, known))| *known == number).map(|(name, _)| name.as_ref());
        named.or_else(|| self.find_freed(|freed| freed.number == number))
    }

    fn find_freed(&self, is: impl Fn(&Freed) -> bool) -> Option<&[u8]> {
        self.freed.iter().find(|(freed, _)| is(freed)).map(|(freed, _)| &*freed.name)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.clear();
    }
}

fn cost(name: &[u8], statement: &Statement) -> usize {
    name.len() + statement.body.len() + OVERHEAD
}
