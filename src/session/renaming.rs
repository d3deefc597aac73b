//! The names of prepared statements in a client's texts, and those that stand in their places on backends.
//!
//! A Parse may bring a PREPARE, EXECUTE or DEALLOCATE. PostgreSQL looks for what they name when they run, long after they
//! were parsed, so the text is renamed afresh when it is bound and the names mean something else by then.

use std::ops::Range;
use std::sync::Arc;

use super::executed::Way;
use super::refuse::full;
use super::requests::Requests;
use super::scripts::names_statement;
use super::turn::Shifts;
use crate::backend::{Full, Key, Origin, PREFIX, Prepares, Statement};
use crate::sql::{Act, Name, Script};
use crate::wire::write::Report;

/// Names in a text, and what stands in their places.
pub(super) type Renamed = Vec<(Range<usize>, Box<[u8]>)>;

/// How deep statements that execute others are followed. One may execute itself.
const MOST_DEPTH: u8 = 4;

impl Requests<'_> {
    /// The statement that stands on backends for one that names others, as the client has them now; nothing where that is
    /// the same.
    pub(super) fn renamed_statement(
        &self,
        original: &Arc<Statement>,
    ) -> Result<Option<(Arc<Statement>, Shifts)>, Report> {
        self.renamed_at(original, MOST_DEPTH)
    }

    fn renamed_at(&self, original: &Arc<Statement>, depth: u8) -> Result<Option<(Arc<Statement>, Shifts)>, Report> {
        if !original.script.acts.iter().any(names_statement) {
            return Ok(None);
        }
        let text = original.text();
        let Names { prepares, named, renamed } = self.rename(text, &original.script, depth)?;
        if renamed.is_empty() {
            return Ok(None);
        }
        let (renamed, shifts) = replaced(text, renamed);
        let body = [&renamed[..], original.body.get(text.len()..).unwrap_or_default()].concat();
        let setting = original.setting_of_renamed();
        let key = Key { origin: Origin::Protocol, setting, body: &body };
        let statement = self.intern(key, &renamed).map_err(|Full| full())?;
        statement.renamed_from.get_or_init(|| Arc::clone(original));
        statement.named.get_or_init(|| named.into());
        if let Some(prepares) = prepares {
            statement.prepares.get_or_init(|| prepares);
        }
        Ok(Some((statement, shifts)))
    }

    /// What stands for a statement now: names in its text may have got other meanings.
    pub(super) fn current(&self, statement: &Arc<Statement>) -> Result<Arc<Statement>, Report> {
        self.current_at(statement, MOST_DEPTH)
    }

    fn current_at(&self, statement: &Arc<Statement>, depth: u8) -> Result<Arc<Statement>, Report> {
        if statement.origin == Origin::Sql || !statement.script.acts.iter().any(names_statement) {
            return Ok(Arc::clone(statement));
        }
        let original = statement.renamed_from.get().unwrap_or(statement);
        Ok(self.renamed_at(original, depth)?.map_or_else(|| Arc::clone(original), |(current, _)| current))
    }

    /// What a text names and prepares, and what stands for the names in it.
    fn rename(&self, text: &[u8], script: &Script, depth: u8) -> Result<Names, Report> {
        let mut names = Names::default();
        for act in &script.acts {
            match act {
                Act::Execute(name) | Act::Deallocate(name) => {
                    let Some(found) = self.names.find(&name.text) else {
                        names.renamed.extend(hidden_where_ours(text, name));
                        continue;
                    };
                    let target = match depth.checked_sub(1) {
                        Some(depth) if matches!(act, Act::Execute(_)) => self.current_at(found, depth)?,
                        _ => Arc::clone(found),
                    };
                    names.renamed.push((name.range.clone(), target.name.clone()));
                    names.named.push(target);
                }
                Act::Prepare { name, types, statement } => {
                    let statement = self.intern_prepared(&prepared_body(text, types, statement))?;
                    names.renamed.push((name.range.clone(), statement.name.clone()));
                    names.prepares = Some(Prepares { name: name.text.clone(), statement });
                }
                _ => {}
            }
        }
        Ok(names)
    }

    /// The backend has to have what is executed by a statement that it is about to get or run. What that deallocates need
    /// not be there before it runs.
    pub(super) fn ensure_named(&mut self, statement: &Statement, way: Way) {
        for act in &statement.script.acts {
            if let Act::Execute(name) = act
                && let Some(named) = statement.find_named(&name.text)
            {
                self.ensure_named(named, way);
                self.ensure_by(named, way);
            }
        }
    }

    /// The statement is about to be described. One that executes what the client has no more is not, on PostgreSQL, so the
    /// backend must not have that either. Answers the client's name for it.
    pub(super) fn close_forgotten<'s>(&mut self, statement: &'s Statement) -> Option<&'s [u8]> {
        let mut forgotten = None;
        for (act, own) in statement.script.acts.iter().zip(&statement.renamed_from.get()?.script.acts) {
            if let (Act::Execute(name), Act::Execute(own)) = (act, own)
                && self.names.find(&own.text).is_none()
                && let Some(named) = statement.find_named(&name.text).cloned()
            {
                self.close(&named);
                forgotten = Some(&*own.text);
            }
        }
        forgotten
    }
}

/// What [`Requests::rename`] finds.
#[derive(Default)]
struct Names {
    prepares: Option<Prepares>,
    named: Vec<Arc<Statement>>,
    renamed: Renamed,
}

/// What stands for a name that the client does not have and that looks like one of ours: it must not find what others have.
pub(super) fn hidden_where_ours(text: &[u8], name: &Name) -> Option<(Range<usize>, Box<[u8]>)> {
    // What is written as U&"..." was not decoded.
    let coded = text.get(name.range.clone()).is_some_and(|written| written.get(1) == Some(&b'&'));
    (coded || name.text.starts_with(PREFIX)).then(|| (name.range.clone(), hidden(&name.text)))
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
