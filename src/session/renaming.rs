//! The names of prepared statements in a client's texts, and those that stand in their places on backends.
//!
//! A Parse may bring a PREPARE, EXECUTE or DEALLOCATE. PostgreSQL looks for what they name when they run, long after they
//! were parsed, so the text is renamed afresh when it is bound and the names mean something else by then.

use std::ops::Range;
use std::sync::Arc;

use super::refuse::full;
use super::requests::Requests;
use super::scripts::names_statement;
use super::turn::Shifts;
use crate::backend::{Full, Key, Origin, PREFIX, Prepares, Statement};
use crate::sql::{Act, Name, Script};
use crate::wire::write::Report;

/// Names in a text, and what stands in their places.
pub(super) type Renamed = Vec<(Range<usize>, Box<[u8]>)>;

impl Requests<'_> {
    /// The statement that stands on backends for one that names others, as the client has them now; nothing where that is
    /// the same.
    pub(super) fn renamed_statement(
        &mut self,
        original: &Arc<Statement>,
    ) -> Result<Option<(Arc<Statement>, Shifts)>, Report> {
        if !original.script.acts.iter().any(names_statement) {
            return Ok(None);
        }
        let text = original.text();
        let (prepares, renamed) = self.rename(text, &original.script)?;
        if renamed.is_empty() {
            return Ok(None);
        }
        let (renamed, shifts) = replaced(text, renamed);
        let body = [&renamed[..], original.body.get(text.len()..).unwrap_or_default()].concat();
        let setting = original.setting_of_renamed();
        let key = Key { origin: Origin::Protocol, setting, body: &body };
        let statement = self.intern(key, &renamed).map_err(|Full| full())?;
        statement.renamed_from.get_or_init(|| Arc::clone(original));
        if let Some(prepares) = prepares {
            statement.prepares.get_or_init(|| prepares);
        }
        Ok(Some((statement, shifts)))
    }

    /// The statement to bind in the place of this one: names in its text may have got other meanings.
    pub(super) fn follow_names(&mut self, statement: Arc<Statement>) -> Result<Arc<Statement>, Report> {
        if !statement.script.acts.iter().any(names_statement) {
            return Ok(statement);
        }
        let original = Arc::clone(statement.renamed_from.get().unwrap_or(&statement));
        let current = self.renamed_statement(&original)?.map_or(original, |(current, _)| current);
        self.ensure_named(&current.script);
        Ok(current)
    }

    /// What a PREPARE in a text prepares, and what stands for the names in it.
    fn rename(&self, text: &[u8], script: &Script) -> Result<(Option<Prepares>, Renamed), Report> {
        let (mut prepares, mut renamed) = (None, Renamed::new());
        for act in &script.acts {
            match act {
                Act::Execute(name) | Act::Deallocate(name) => renamed.extend(self.renamed(text, name)),
                Act::Prepare { name, types, statement } => {
                    let statement = self.intern_prepared(&prepared_body(text, types, statement))?;
                    renamed.push((name.range.clone(), statement.name.clone()));
                    prepares = Some(Prepares { name: name.text.clone(), statement });
                }
                _ => {}
            }
        }
        Ok((prepares, renamed))
    }

    /// What stands for a name on backends, where that is another one. A name that looks like one of ours, but that the
    /// client does not have, must not find what others have.
    pub(super) fn renamed(&self, text: &[u8], name: &Name) -> Option<(Range<usize>, Box<[u8]>)> {
        // What is written as U&"..." was not decoded.
        let coded = text.get(name.range.clone()).is_some_and(|written| written.get(1) == Some(&b'&'));
        let to = match self.names.find(&name.text) {
            Some(statement) => statement.name.clone(),
            None if coded || name.text.starts_with(PREFIX) => hidden(&name.text),
            None => return None,
        };
        Some((name.range.clone(), to))
    }

    /// A statement of the extended protocol that names other statements is looked at: they have to be on the backend.
    pub(super) fn ensure_named(&mut self, script: &Script) {
        for act in &script.acts {
            if let Act::Execute(name) | Act::Deallocate(name) = act
                && let Some(statement) = self.named_on_backends(name)
            {
                self.ensure(&statement);
            }
        }
    }
}

/// See [`Origin::Sql`].
pub(super) fn prepared_body(text: &[u8], types: &Range<usize>, statement: &Range<usize>) -> Vec<u8> {
    let part = |range: &Range<usize>| text.get(range.clone()).unwrap_or_default();
    [part(types), b"\0", part(statement)].concat()
}

/// A name with a mark behind it, as an identifier. It keeps the mark where PostgreSQL cuts long ones.
fn hidden(name: &[u8]) -> Box<[u8]> {
    let mut out = vec![b'"'];
    for &byte in name.get(..MOST_NAME).unwrap_or(name) {
        out.extend_from_slice(if byte == b'"' { b"\"\"" } else { std::slice::from_ref(&byte) });
    }
    out.extend_from_slice(b"?\"");
    out.into()
}

/// Bytes of a name behind which PostgreSQL cuts it, less one.
const MOST_NAME: usize = 62;

/// The text with other names, and where it was made longer.
pub(super) fn replaced(text: &[u8], mut renamed: Renamed) -> (Vec<u8>, Shifts) {
    let characters = |text: &[u8]| text.iter().filter(|&&byte| byte & 0xc0 != 0x80).count();
    let length = |text: &[u8]| i64::try_from(characters(text)).unwrap_or(i64::MAX);
    let mut shifts = Vec::new();
    renamed.sort_by_key(|(range, _)| range.start);
    let mut out = Vec::with_capacity(text.len() + 32);
    let mut at = 0;
    for (range, to) in renamed {
        out.extend_from_slice(text.get(at..range.start).unwrap_or_default());
        let by = length(&to) - length(text.get(range.clone()).unwrap_or_default());
        out.extend_from_slice(&to);
        shifts.push((length(&out), by));
        at = range.end;
    }
    out.extend_from_slice(text.get(at..).unwrap_or_default());
    (out, Some(shifts.into()))
}
