//! What a prepared statement takes and gives, as far as a client goes by it that was told once.
//!
//! A client may keep what Describe has told it and never ask again, so a backend that prepares the statement afresh must
//! not give it rows of another shape: PostgreSQL refuses that, since a plan is bound to what was described.
//!
//! Source: `protocol-message-formats.html` (ParameterDescription, RowDescription); `equalTupleDescs` in PostgreSQL's
//! `tupdesc.c`: names, types and their modifiers count, the table that a column comes from does not.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::wire::tag::back;
use crate::wire::view::cstr;

/// Hashes of the parameters' types and of the columns; 0 is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    parameters: u64,
    rows: u64,
}

impl Shape {
    /// Takes in a ParameterDescription, RowDescription or NoData; `body` is nothing where it is too long to be
    /// there as a whole.
    pub fn learn(&mut self, tag: u8, body: Option<&[u8]>) {
        match tag {
            back::PARAMETER_DESCRIPTION => self.parameters = body.map_or(TOO_LONG, hashed),
            back::ROW_DESCRIPTION => self.rows = body.and_then(columns).unwrap_or(TOO_LONG),
            _ => self.rows = NO_ROWS,
        }
    }

    /// What is known here, and where nothing is, what was known before.
    #[must_use]
    pub fn or(self, before: Shape) -> Shape {
        let or = |one, other| if one == 0 { other } else { one };
        Shape { parameters: or(self.parameters, before.parameters), rows: or(self.rows, before.rows) }
    }

    /// The same without what is known of the rows.
    #[must_use]
    pub fn without_rows(self) -> Shape {
        Shape { rows: 0, ..self }
    }

    /// Whether the rows are known.
    #[inline]
    #[must_use]
    pub fn knows_rows(self) -> bool {
        self.rows != 0
    }

    /// What is known of the rows, and nothing else.
    #[must_use]
    pub fn rows_only(self) -> Shape {
        Shape { parameters: 0, ..self }
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_unknown(self) -> bool {
        self == Shape::default()
    }

    /// Whether all is known that `told` is about.
    #[must_use]
    pub fn covers(self, told: Shape) -> bool {
        (told.parameters == 0 || self.parameters != 0) && (told.rows == 0 || self.rows != 0)
    }

    /// Whether nothing that is known of both differs.
    #[must_use]
    pub fn agrees(self, told: Shape) -> bool {
        let agree = |one, other| one == 0 || other == 0 || one == other;
        agree(self.parameters, told.parameters) && agree(self.rows, told.rows)
    }
}

/// Of what returns no rows.
const NO_ROWS: u64 = 1;
/// Of what is not looked at.
const TOO_LONG: u64 = 2;

/// The body of a RowDescription: per column its name, table and number there, type, size, modifier and format.
fn columns(body: &[u8]) -> Option<u64> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut hasher = DefaultHasher::new();
    count.hash(&mut hasher);
    while !rest.is_empty() {
        let (name, tail) = cstr(rest)?;
        let (fixed, tail) = tail.split_first_chunk::<18>()?;
        let (_origin, typed) = fixed.split_first_chunk::<6>()?;
        let (typed, _format) = typed.split_first_chunk::<10>()?;
        (name, typed).hash(&mut hasher);
        rest = tail;
    }
    Some(hasher.finish().max(TOO_LONG + 1))
}

fn hashed(body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    hasher.finish().max(TOO_LONG + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(columns: &[(&str, u32, u32, i32, u16)]) -> Vec<u8> {
        let mut body = u16::try_from(columns.len()).unwrap().to_be_bytes().to_vec();
        for (name, table, oid, modifier, format) in columns {
            body.extend_from_slice(name.as_bytes());
            body.push(0);
            body.extend_from_slice(&table.to_be_bytes());
            body.extend_from_slice(&1_u16.to_be_bytes());
            body.extend_from_slice(&oid.to_be_bytes());
            body.extend_from_slice(&4_u16.to_be_bytes());
            body.extend_from_slice(&modifier.to_be_bytes());
            body.extend_from_slice(&format.to_be_bytes());
        }
        body
    }

    fn shape(parameters: Option<&[u8]>, rows: &[u8]) -> Shape {
        let mut shape = Shape::default();
        if parameters.is_some() {
            shape.learn(back::PARAMETER_DESCRIPTION, parameters);
        }
        shape.learn(back::ROW_DESCRIPTION, Some(rows));
        shape
    }

    #[test]
    fn names_types_and_modifiers_count_tables_and_formats_do_not() {
        let told = shape(None, &rows(&[("x", 16_384, 23, -1, 0)]));
        assert!(shape(None, &rows(&[("x", 16_999, 23, -1, 1)])).agrees(told));
        for other in [("y", 16_384, 23, -1, 0), ("x", 16_384, 25, -1, 0), ("x", 16_384, 23, 8, 0)] {
            assert!(!shape(None, &rows(&[other])).agrees(told), "{other:?}");
        }
        assert!(!shape(None, &rows(&[("x", 16_384, 23, -1, 0), ("z", 16_384, 25, -1, 0)])).agrees(told));
        let mut none = Shape::default();
        none.learn(back::NO_DATA, Some(b""));
        assert!(!none.agrees(told) && none.covers(told) && none.agrees(none));
    }

    #[test]
    fn what_is_not_known_agrees_and_does_not_cover() {
        let told = shape(Some(b"\0\x01\0\0\0\x17"), &rows(&[("x", 0, 23, -1, 0)]));
        let without = shape(None, &rows(&[("x", 0, 23, -1, 0)]));
        assert!(without.agrees(told) && !without.covers(told) && told.covers(without));
        assert!(!shape(Some(b"\0\x01\0\0\0\x19"), &rows(&[("x", 0, 23, -1, 0)])).agrees(told));
        assert!(Shape::default().is_unknown() && !told.is_unknown());
        let cut = rows(&[("x", 0, 23, -1, 0)]);
        for length in 1..cut.len() {
            let cut = shape(None, &cut[..length]);
            assert!(!cut.agrees(told), "{length}");
        }
        let mut long = told;
        long.learn(back::ROW_DESCRIPTION, None);
        assert!(long.covers(told) && !long.agrees(told) && long.agrees(long) && !long.without_rows().is_unknown());
    }
}
