//! PostgreSQL's errors about prepared statements, in the client's own names.

use super::names::Names;
use crate::backend::{PREFIX, id_of};
use crate::wire::tag::back;
use crate::wire::view::cstr;
use crate::wire::write::message;

/// `invalid_sql_statement_name`: there is no such statement.
pub(super) const UNKNOWN_STATEMENT: &str = "26000";
/// `feature_not_supported`, of a plan whose result has another type by now.
const CACHED_PLAN: &str = "0A000";
/// Where PostgreSQL finds that; other errors have the same code, and texts are translated.
const REVALIDATES: &[u8] = b"RevalidateCachedQuery";
/// `protocol_violation`, of a Bind with the wrong number of parameters.
const WRONG_BIND: &str = "08P01";
/// `duplicate_prepared_statement`.
const TAKEN: &str = "42P05";

/// How PostgreSQL words one of our names.
const QUOTED: &[u8] = b"prepared statement \"pgpool_";

/// A field of an ErrorResponse.
fn field(body: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = body;
    loop {
        let (&field, tail) = rest.split_first()?;
        let (value, tail) = cstr(tail)?;
        if field == wanted {
            return Some(value);
        }
        rest = tail;
    }
}

/// Whether an error says that the transaction is read-only.
pub(super) fn refuses_to_write(body: &[u8]) -> bool {
    field(body, b'C') == Some(b"25006")
}

/// Whether an error says that the result of a prepared statement has another type by now.
pub(super) fn is_stale_plan(body: &[u8]) -> bool {
    field(body, b'C') == Some(CACHED_PLAN.as_bytes()) && field(body, b'R') == Some(REVALIDATES)
}

/// PostgreSQL's error about such a plan. Drivers know it by its code and routine, and prepare anew.
pub(super) fn stale_plan() -> Vec<u8> {
    error(&[
        b"SERROR\0VERROR\0C",
        CACHED_PLAN.as_bytes(),
        b"\0Mcached plan must not change result type\0Fplancache.c\0R",
        REVALIDATES,
        b"\0\0",
    ])
}

/// Whether an error may be about a prepared statement.
pub(super) fn names_statements(body: &[u8]) -> bool {
    let codes = [UNKNOWN_STATEMENT, CACHED_PLAN, TAKEN, WRONG_BIND];
    let known = |code: &[u8]| codes.iter().any(|known| known.as_bytes() == code);
    field(body, b'C').is_some_and(known) || body.windows(QUOTED.len()).any(|window| window == QUOTED)
}

/// What an error has around the name that a statement has on backends.
struct Worded<'a> {
    head: &'a [u8],
    ours: &'a [u8],
    tail: &'a [u8],
}

fn worded(body: &[u8]) -> Option<Worded<'_>> {
    let at = body.windows(PREFIX.len()).position(|window| window == PREFIX)?;
    let (head, rest) = body.split_at_checked(at)?;
    let part = |byte: &&u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || **byte == b'_';
    let (ours, tail) = rest.split_at_checked(rest.iter().take_while(part).count())?;
    Some(Worded { head, ours, tail })
}

/// The name on backends that an error has in its text.
pub(super) fn named_in(body: &[u8]) -> Option<&[u8]> {
    worded(body).map(|worded| worded.ours)
}

/// The error with the client's name in the place of the one that all clients share; nothing where there is none.
pub(super) fn rename(body: &[u8], names: &Names, known: Option<&[u8]>) -> Option<Vec<u8>> {
    let Worded { head, ours, tail } = worded(body)?;
    let name = match tail.iter().position(|&byte| byte == b'"') {
        // A name of the client's own that looks like one of ours was sent with a mark behind it.
        Some(end) if end > 0 && tail.get(end - 1) == Some(&b'?') => {
            let kept = [ours, tail.get(..end - 1)?].concat();
            return Some(error(&[head, &kept, tail.get(end..)?]));
        }
        _ => known.or_else(|| names.name_for_error(id_of(ours)?))?,
    };
    Some(error(&[head, name, tail]))
}

/// The error with its position in the query as `to` has it; nothing where it has none.
pub(super) fn move_position(body: &[u8], to: impl Fn(i64) -> i64) -> Option<Vec<u8>> {
    let mut rest = body;
    loop {
        let (&field, tail) = rest.split_first()?;
        let (value, tail) = cstr(tail)?;
        if field == b'P' {
            let position = to(std::str::from_utf8(value).ok()?.parse().ok()?).to_string();
            let head = body.get(..body.len() - rest.len() + 1)?;
            return Some(error(&[head, position.as_bytes(), b"\0", tail]));
        }
        rest = tail;
    }
}

fn error(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, back::ERROR, |out| parts.iter().for_each(|part| out.extend_from_slice(part)));
    out
}
