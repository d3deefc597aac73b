//! Sending a batch again whose plan was out of date.
//!
//! A backend keeps shared statements for longer than any client, and PostgreSQL refuses to run one whose result has
//! another type since a change of its table. Where nothing has come of the batch yet, the statement is prepared afresh
//! and the rest of the batch is sent again, so that no client sees that. Invariant: no request is sent again behind
//! which another was sent, before which something of the same transaction ran, or whose rows the client would read by
//! what it was told of them before the change.
//!
//! Source: `protocol-flow.html` ("Extended Query"); `RevalidateCachedQuery` in PostgreSQL's `plancache.c`.

use super::errors::is_stale_plan;
use super::names::{Names, Step};
use super::relay::front_grammar;
use super::turn::{About, Turn};
use crate::backend::{Origin, Prepared, Statement};
use crate::metrics::add;
use crate::pool::Pool;
use crate::wire::scan::{Part, Piece, Scanner};
use crate::wire::tag::front;
use crate::wire::view::cstr;
use crate::wire::write::message;

/// What it takes.
pub(super) struct Repeat<'a> {
    pub(super) turn: &'a mut Turn,
    pub(super) names: &'a Names,
    pub(super) prepared: &'a mut Prepared,
    /// What was sent; see `Workspace`.
    pub(super) out: &'a mut Vec<u8>,
    pub(super) out_sent: &'a mut usize,
    pub(super) whole: &'a mut bool,
    pub(super) parameters: &'a mut Vec<u8>,
    pub(super) pool: &'a Pool,
}

impl Repeat<'_> {
    /// An ErrorResponse has come, all else that was approved is sent. Answers whether the batch is sent again, and the
    /// error is not for the client.
    pub(super) fn error(&mut self, piece: &Piece<'_>) -> bool {
        let About { statement: id, name: number, .. } = self.turn.about();
        if id == 0 || piece.part != Part::Whole || !*self.whole || *self.out_sent != self.out.len() {
            return false;
        }
        if !is_stale_plan(piece.body()) {
            return false;
        }
        let Some(statement) = self.prepared.find(id).cloned() else { return false };
        let fresh = self.names.is_given_in(self.turn.batches().0, id, number == 0);
        let Some(rest) = self.rest(&statement, fresh) else { return false };
        self.out.clear();
        *self.out_sent = 0;
        // Not another time.
        *self.whole = false;
        message(self.out, front::CLOSE, |out| out.extend_from_slice(&[b"S", &statement.name[..], b"\0"].concat()));
        message(self.out, front::PARSE, |out| {
            out.extend_from_slice(&[&statement.name[..], b"\0", &statement.body[..]].concat());
        });
        self.out.extend_from_slice(&rest);
        self.parameters.clear();
        self.prepared.unlearn(id);
        self.turn.repeat(Some(Box::new(Step::Sent(id))));
        add(&self.pool.counters.repeated_batches, 1);
        tracing::debug!(statement = id, "a plan was out of date; sending the batch again");
        true
    }

    /// The messages of the batch from the one on that failed, if they may be sent again. `fresh`: the client has prepared
    /// the statement in this very batch.
    fn rest(&self, statement: &Statement, fresh: bool) -> Option<Vec<u8>> {
        if statement.origin != Origin::Protocol || (self.turn.describes() && self.parameters.is_empty()) {
            return None;
        }
        let owed = self.turn.rest_of_batch()?;
        let sent = messages(self.out)?;
        let answered = |tag| tag != front::FLUSH;
        let (first, _) = sent.iter().enumerate().rev().filter(|(_, (tag, _))| answered(*tag)).nth(owed - 1)?;
        let (before, rest) = sent.split_at_checked(first)?;
        let ends = |tag| matches!(tag, front::SYNC | front::QUERY | front::FUNCTION_CALL);
        let mut before = before.iter().rev().take_while(|(tag, _)| !ends(*tag));
        let harmless = before.all(|(tag, bytes)| match *tag {
            front::PARSE | front::CLOSE | front::FLUSH => true,
            front::DESCRIBE => bytes.get(5) == Some(&b'S'),
            _ => false,
        });
        let right = rest.first().and_then(|(tag, bytes)| name(*tag, bytes)) == Some(&statement.name);
        let known = fresh || (is_told(rest) && rest.iter().all(|(tag, bytes)| is_typed(*tag, bytes, statement)));
        (harmless && right && known).then(|| rest.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect())
    }
}

type Sent<'a> = (u8, &'a [u8]);

/// The messages in these bytes, if they are whole.
fn messages(bytes: &[u8]) -> Option<Vec<Sent<'_>>> {
    let (mut rest, mut all) = (bytes, Vec::new());
    let grammar = front_grammar(u32::MAX);
    while !rest.is_empty() {
        let piece = Scanner::default().next(rest, &grammar).ok()??;
        if piece.part != Part::Whole {
            return None;
        }
        all.push((piece.tag, piece.bytes));
        rest = rest.get(piece.bytes.len()..)?;
    }
    Some(all)
}

/// The statement's name in a Bind or in a Describe of a statement.
fn name(tag: u8, bytes: &[u8]) -> Option<&[u8]> {
    let body = bytes.get(5..)?;
    let rest = match tag {
        front::BIND => cstr(body)?.1,
        front::DESCRIBE => body.strip_prefix(b"S")?,
        _ => return None,
    };
    cstr(rest).map(|(name, _)| name)
}

/// Whether the client is told what the rows look like before any come. One that goes by what it was told before the
/// change would misread them; the error is its sign to prepare anew.
fn is_told(rest: &[Sent<'_>]) -> bool {
    let first = rest.iter().find(|(tag, _)| matches!(*tag, front::DESCRIBE | front::EXECUTE));
    first.is_none_or(|(tag, _)| *tag == front::DESCRIBE)
}

/// Whether the parameters in this message, if it is a Bind of this statement, cannot be misread should their types have
/// changed too: they are text, or the client has named the types.
fn is_typed(tag: u8, bytes: &[u8], statement: &Statement) -> bool {
    if tag != front::BIND || name(tag, bytes) != Some(&statement.name) {
        return true;
    }
    let body = bytes.get(5..).unwrap_or_default();
    let tail = cstr(body).and_then(|(_, rest)| cstr(rest)).map(|(_, tail)| tail).unwrap_or_default();
    let Some((formats, tail)) = counted::<2>(tail) else { return false };
    let Some((count, _)) = tail.split_first_chunk::<2>() else { return false };
    let types = cstr(&statement.body).and_then(|(_, types)| counted::<4>(types)).map_or(&[][..], |(types, _)| types);
    let named = types.chunks_exact(4).take_while(|oid| **oid != [0; 4]).count();
    formats.iter().all(|&byte| byte == 0) || named >= usize::from(u16::from_be_bytes(*count))
}

/// A list of integers of so many bytes behind their number, and the rest.
fn counted<const SIZE: usize>(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (count, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*count)) * SIZE)
}
