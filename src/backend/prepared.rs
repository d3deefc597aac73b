//! The prepared statements that one backend has.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;

use super::shape::Shape;
use super::statements::Statement;

/// The statements that one backend has, least recently used first out.
#[derive(Debug, Default)]
pub struct Prepared {
    has: HashMap<u64, Has, RandomState>,
    /// The unnamed statement, as far as it is one of the table's.
    pub unnamed: Option<u64>,
    /// What is known of it.
    unnamed_known: Known,
    /// Those whose plans are of no use any more; to be closed before anything else is prepared. None of them twice, and
    /// none that it has.
    doomed: Vec<Arc<Statement>>,
    bytes: usize,
    uses: u64,
    /// How many it has got, for [`Has::since`].
    given: u32,
}

/// One that it has.
#[derive(Debug)]
struct Has {
    statement: Arc<Statement>,
    /// When it was used last, as [`Prepared::uses`] counts.
    used: u64,
    /// Which of all that the backend has got it is.
    since: u32,
    known: Known,
}

/// What is known of a statement on one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// So much.
    Shape(Shape),
    /// PostgreSQL has been asked, and has not answered yet.
    Asked,
}

impl Default for Known {
    fn default() -> Self {
        Known::Shape(Shape::default())
    }
}

/// Most bytes of texts that one backend's statements may have.
const MOST_BYTES: usize = 4 * 1024 * 1024;

impl Prepared {
    /// Whether the backend has it; notes that it was used.
    #[inline]
    pub fn uses(&mut self, id: u64) -> bool {
        self.used_since(id) > 0
    }

    /// Whether the backend has it.
    #[must_use]
    pub fn has(&self, id: u64) -> bool {
        self.has.contains_key(&id)
    }

    /// The backend gets it.
    pub fn insert(&mut self, statement: Arc<Statement>) {
        self.uses += 1;
        self.bytes += statement.bytes();
        statement.add_server();
        self.given = self.given.wrapping_add(1).max(1);
        self.take_doomed(statement.id);
        let known = Known::default();
        let (id, has) = (statement.id, Has { statement, used: self.uses, since: self.given, known });
        if let Some(old) = self.has.insert(id, has) {
            self.forget(&old.statement);
        }
    }

    /// The backend does not have it any more.
    pub fn remove(&mut self, id: u64) -> Option<Arc<Statement>> {
        let Has { statement, .. } = self.has.remove(&id)?;
        self.forget(&statement);
        Some(statement)
    }

    /// The backend gets it without a name.
    #[inline]
    pub fn insert_unnamed(&mut self, id: u64) {
        (self.unnamed, self.unnamed_known) = (Some(id), Known::default());
    }

    /// What is known of a statement that it has, under its name or (`unnamed`) without one.
    #[must_use]
    pub fn known(&self, id: u64, unnamed: bool) -> Option<Known> {
        if unnamed {
            return (self.unnamed == Some(id)).then_some(self.unnamed_known);
        }
        self.has.get(&id).map(|has| has.known)
    }

    /// Since when it has the statement under its name, for [`Prepared::learn`]; 0 if it has not. Notes that it was used.
    #[inline]
    #[must_use]
    pub fn used_since(&mut self, id: u64) -> u32 {
        self.uses += 1;
        let now = self.uses;
        self.has.get_mut(&id).map_or(0, |has| {
            has.used = now;
            has.since
        })
    }

    /// PostgreSQL is asked what a statement takes and gives, that the backend has `since` then.
    pub fn ask(&mut self, id: u64, since: u32) {
        if let Some(known) = self.known_mut(id, since) {
            *known = Known::Asked;
        }
    }

    /// Nothing is known of a statement any more, nor was PostgreSQL asked.
    pub fn unlearn(&mut self, id: u64) {
        if let Some(has) = self.has.get_mut(&id) {
            has.known = Known::default();
        }
        if self.unnamed == Some(id) {
            self.unnamed_known = Known::default();
        }
    }

    /// What is known of a statement that the backend has `since` then, under its name; 0 for without one.
    fn known_mut(&mut self, id: u64, since: u32) -> Option<&mut Known> {
        if since == 0 {
            return (self.unnamed == Some(id)).then_some(&mut self.unnamed_known);
        }
        self.has.get_mut(&id).filter(|has| has.since == since).map(|has| &mut has.known)
    }

    /// What the rows of a statement are known to be, that the backend has under its name `since` then. They stay so, since PostgreSQL
    /// refuses to run it where they would be others.
    #[inline]
    #[must_use]
    pub fn known_rows(&self, id: u64, since: u32) -> Option<Shape> {
        match self.has.get(&id).filter(|has| has.since == since)?.known {
            Known::Shape(shape) if shape.knows_rows() => Some(shape),
            Known::Shape(_) | Known::Asked => None,
        }
    }

    /// PostgreSQL has told what the statement takes and gives that the backend has `since` then.
    pub fn learn(&mut self, id: u64, since: u32, shape: Shape) {
        if let Some(known) = self.known_mut(id, since) {
            let before = if let Known::Shape(before) = *known { before } else { Shape::default() };
            *known = Known::Shape(shape.or(before));
        }
    }

    /// The plan of a statement is of no use any more.
    pub fn doom(&mut self, id: u64) {
        if let Some(statement) = self.remove(id) {
            // It was struck out of them when the backend got it.
            self.doomed.push(statement);
        }
    }

    /// Takes this one out of those whose plans are of no use; the backend still has it.
    pub fn take_doomed(&mut self, id: u64) -> Option<Arc<Statement>> {
        let at = self.doomed.iter().position(|statement| statement.id == id)?;
        Some(self.doomed.swap_remove(at))
    }

    /// The statement of this id, if the backend has it.
    #[must_use]
    pub fn find(&self, id: u64) -> Option<&Arc<Statement>> {
        self.has.get(&id).map(|has| &has.statement)
    }

    /// Takes these over, but for those that it has.
    pub fn restore(&mut self, mut before: Prepared) {
        for doomed in std::mem::take(&mut before.doomed) {
            if !self.has(doomed.id) && !self.doomed.iter().any(|known| known.id == doomed.id) {
                self.doomed.push(doomed);
            }
        }
        let all: Vec<_> = before.has.drain().map(|(_, has)| has.statement).collect();
        for statement in all {
            statement.remove_server();
            if !self.has(statement.id) {
                self.insert(statement);
            }
        }
    }

    /// Takes one out of those whose plans are of no use; the backend still has it.
    pub fn pop_doomed(&mut self) -> Option<Arc<Statement>> {
        self.doomed.pop()
    }

    /// Takes out what has not been used for longest, as long as there are more than `most`.
    pub fn evict(&mut self, most: usize) -> Option<Arc<Statement>> {
        if self.has.len() <= most && self.bytes <= MOST_BYTES {
            return None;
        }
        let oldest = self.has.iter().min_by_key(|(_, has)| has.used).map(|(&id, _)| id)?;
        self.remove(oldest)
    }

    /// The backend has none any more.
    pub fn clear(&mut self) {
        for (_, has) in self.has.drain() {
            has.statement.remove_server();
        }
        self.bytes = 0;
        self.unnamed = None;
        self.doomed.clear();
    }

    /// How many it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.has.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.has.is_empty()
    }

    fn forget(&mut self, statement: &Statement) {
        self.bytes = self.bytes.saturating_sub(statement.bytes());
        statement.remove_server();
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::statements::{Key, Origin, Statements};
    use super::*;
    use crate::sql;

    fn intern(table: &Statements, body: &[u8]) -> Arc<Statement> {
        let key = Key { origin: Origin::Protocol, setting: 0, body };
        table.intern(key, usize::MAX, || sql::read(body, sql::Dialect::default())).unwrap()
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let table = Statements::default();
        let all: Vec<_> = [b"a", b"b", b"c"].map(|body| intern(&table, body)).into();
        let mut prepared = Prepared::default();
        for statement in &all {
            prepared.insert(Arc::clone(statement));
        }
        assert!(prepared.uses(all[0].id) && prepared.evict(3).is_none());
        assert_eq!(prepared.evict(2).unwrap().id, all[1].id);
        assert_eq!(all[1].servers(), 0);
        assert_eq!(prepared.len(), 2);
        assert!(!prepared.has(all[1].id) && !prepared.uses(all[1].id));
        drop(prepared);
        assert_eq!(all[0].servers(), 0);
    }

    #[test]
    fn what_is_doomed_is_never_forgotten() {
        let table = Statements::default();
        let all: Vec<_> = [b"a", b"b", b"c"].map(|body| intern(&table, body)).into();
        let mut prepared = Prepared::default();
        for statement in &all {
            prepared.insert(Arc::clone(statement));
        }
        prepared.doom(all[2].id);
        assert!(!prepared.has(all[2].id) && prepared.find(all[1].id).is_some());
        let before = std::mem::take(&mut prepared);
        prepared.restore(before);
        assert_eq!((prepared.len(), prepared.pop_doomed().unwrap().id), (2, all[2].id));
        assert!(prepared.pop_doomed().is_none());
        prepared.doom(all[0].id);
        assert!(prepared.take_doomed(all[1].id).is_none() && prepared.take_doomed(all[0].id).is_some());
        assert!(prepared.pop_doomed().is_none() && prepared.evict(3).is_none());
    }

    #[test]
    fn a_backend_holds_no_more_than_its_bytes() {
        let table = Statements::default();
        let mut prepared = Prepared::default();
        for index in 0..200_u32 {
            let mut body = vec![b' '; 60_000];
            body.extend_from_slice(&index.to_be_bytes());
            prepared.insert(intern(&table, &body));
            while prepared.evict(usize::MAX).is_some() {}
        }
        assert!(prepared.bytes <= MOST_BYTES && prepared.len() > 50);
    }
}
