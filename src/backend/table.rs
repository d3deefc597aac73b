//! The whole result of a simple query of our own, for the tools that look at PostgreSQL or at a console.

use std::io;

use super::exchange::{ExchangeError, Messages};
use super::{Backend, Interner};
use crate::wire::tag::back;
use crate::wire::view::{Diagnostic, Status, cstr, data_row};
use crate::wire::write;

/// Most bytes that a result may have.
const MAX_RESULT: usize = 64 << 20;
/// A column's entry in RowDescription behind its name.
const COLUMN_TAIL: usize = 18;

/// Rows as text, with the names of their columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextTable {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// The rows; what is no UTF-8 is replaced.
    pub rows: Vec<Vec<Option<String>>>,
}

impl TextTable {
    /// The values of a column, by its name, in the order of the rows; none where there is no such column.
    pub fn column<'a>(&'a self, name: &str) -> impl Iterator<Item = Option<&'a str>> {
        let at = self.columns.iter().position(|column| column == name);
        let rows = if at.is_some() { self.rows.as_slice() } else { &[] };
        rows.iter().map(move |row| row.get(at.unwrap_or(0))?.as_deref())
    }
}

impl Backend {
    /// Runs `sql` as a simple query and reads its last result to the end.
    ///
    /// Cancel safety: none; a backend whose future was dropped must be closed.
    ///
    /// # Errors
    /// [`ExchangeError`]; `Refused` also means that the backend stands at a ReadyForQuery again.
    pub async fn table(&mut self, sql: &str, interner: &Interner) -> Result<TextTable, ExchangeError> {
        let mut out = Vec::with_capacity(sql.len() + 6);
        write::query(&mut out, sql.as_bytes());
        self.stream.write_all(&out).await?;
        let (mut messages, mut table, mut refused, mut held) = (Messages::new(), TextTable::default(), None, 0usize);
        loop {
            let (tag, body) = match messages.next(&mut self.stream).await {
                Ok(message) => message,
                // Its last word says more than that the connection has ended.
                Err(error) => return Err(refused.map_or(error, ExchangeError::Refused)),
            };
            match tag {
                back::PARAMETER_STATUS => self.note_parameter(body, interner),
                back::READY if Status::from_ready(body).is_none() => return Err(ExchangeError::Unexpected(tag)),
                back::READY => return refused.map_or(Ok(table), |said| Err(ExchangeError::Refused(said))),
                back::ERROR => refused = Some(Box::new(Diagnostic::read(body))),
                back::ROW_DESCRIPTION => {
                    let columns = column_names(body).ok_or(ExchangeError::Unexpected(tag))?;
                    table = TextTable { columns, rows: Vec::new() };
                }
                back::DATA_ROW => {
                    held = held.saturating_add(body.len());
                    if held > MAX_RESULT {
                        return Err(io::Error::other("the result is too large").into());
                    }
                    let values = data_row(body).ok_or(ExchangeError::Unexpected(tag))?;
                    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
                    table.rows.push(values.into_iter().map(|value| value.map(text)).collect());
                }
                back::COPY_IN | back::COPY_OUT | back::COPY_BOTH => return Err(ExchangeError::Unexpected(tag)),
                _ => {}
            }
        }
    }
}

fn column_names(body: &[u8]) -> Option<Vec<String>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut names = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (name, tail) = cstr(rest)?;
        names.push(String::from_utf8_lossy(name).into_owned());
        rest = tail.get(COLUMN_TAIL..)?;
    }
    rest.is_empty().then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_columns_are_read_or_refused() {
        let mut body = vec![0, 2];
        for name in ["a", "bc"] {
            body.extend_from_slice(name.as_bytes());
            body.push(0);
            body.extend_from_slice(&[0; COLUMN_TAIL]);
        }
        assert_eq!(column_names(&body), Some(vec!["a".to_owned(), "bc".to_owned()]));
        for cut in 0..body.len() {
            assert_eq!(column_names(&body[..cut]), None, "{cut}");
        }
        let table =
            TextTable { columns: vec!["a".into(), "b".into()], rows: vec![vec![None, Some("x".into())], vec![None]] };
        assert_eq!(table.column("b").collect::<Vec<_>>(), [Some("x"), None]);
        assert_eq!(table.column("c").count(), 0);
    }
}
