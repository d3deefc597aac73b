//! One question of our own with a parameter: the extended protocol, so that what was put into the parameter is never
//! read as SQL.

use std::io;

use bytes::BufMut;
use zeroize::Zeroizing;

use super::exchange::{ExchangeError, Messages};
use super::{Backend, Interner};
use crate::wire::tag::{back, front};
use crate::wire::view::{Diagnostic, Status, data_row};
use crate::wire::write;

/// A value as text. It may be a secret, and is wiped when it is dropped, whatever the answer turns out to be.
pub type Value = Zeroizing<Box<[u8]>>;

/// The values of one row.
pub type Values = Vec<Option<Value>>;

/// What came of a question.
pub struct Answered {
    /// How many columns it has; 0 for what gives no rows at all.
    pub columns: usize,
    /// Its rows, no more than were asked for.
    pub rows: Vec<Values>,
}

impl Backend {
    /// Runs `sql` with `parameter` as `$1`, text of a type that PostgreSQL infers, and reads at most `most` rows. Nothing
    /// is left on the backend.
    ///
    /// Cancel safety: none; a backend whose future was dropped must be closed.
    ///
    /// # Errors
    /// [`ExchangeError`]; `Refused` also means that the backend stands at an idle ReadyForQuery again.
    pub async fn ask(
        &mut self,
        sql: &str,
        parameter: &str,
        most: u32,
        interner: &Interner,
    ) -> Result<Answered, ExchangeError> {
        self.prepared.unnamed = None;
        self.stream.write_all(&question(sql, parameter, most)).await?;
        let mut messages = Messages::new();
        let mut answered = Answered { columns: 0, rows: Vec::new() };
        let mut refused = None;
        let mut ready = false;
        while !ready || messages.left_over() {
            let (tag, body) = messages.next(&mut self.stream).await?;
            match tag {
                back::PARAMETER_STATUS => self.note_parameter(body, interner),
                back::NOTICE | back::NOTIFICATION => {}
                back::ERROR if ready => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                other if ready => return Err(ExchangeError::Unexpected(other)),
                back::READY if Status::from_ready(body) == Some(Status::Idle) => ready = true,
                back::READY => return Err(ExchangeError::NotIdle),
                back::ERROR => refused = Some(Box::new(Diagnostic::read(body))),
                back::ROW_DESCRIPTION => {
                    let count = body.first_chunk::<2>().ok_or(ExchangeError::Unexpected(tag))?;
                    answered.columns = usize::from(u16::from_be_bytes(*count));
                }
                back::DATA_ROW if answered.rows.len() >= most as usize => return Err(ExchangeError::Unexpected(tag)),
                back::DATA_ROW => {
                    let values = data_row(body).ok_or(ExchangeError::Unexpected(tag))?;
                    answered
                        .rows
                        .push(values.into_iter().map(|value| value.map(|text| Value::new(text.into()))).collect());
                }
                back::COPY_IN | back::COPY_OUT | back::COPY_BOTH => return Err(ExchangeError::Unexpected(tag)),
                _ => {}
            }
        }
        refused.map_or(Ok(answered), |diagnostic| Err(ExchangeError::Refused(diagnostic)))
    }
}

/// Parse, Bind, Describe, Execute, Sync; unnamed, all as text.
fn question(sql: &str, parameter: &str, most: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(sql.len() + parameter.len() + 64);
    write::message(&mut out, front::PARSE, |out| {
        write::put_cstr(out, b"");
        write::put_cstr(out, sql.as_bytes());
        out.put_u16(0);
    });
    write::message(&mut out, front::BIND, |out| {
        write::put_cstr(out, b"");
        write::put_cstr(out, b"");
        out.put_u16(0);
        out.put_u16(1);
        out.put_u32(u32::try_from(parameter.len()).unwrap_or(u32::MAX));
        out.put_slice(parameter.as_bytes());
        out.put_u16(0);
    });
    write::message(&mut out, front::DESCRIBE, |out| {
        out.put_u8(b'P');
        write::put_cstr(out, b"");
    });
    write::message(&mut out, front::EXECUTE, |out| {
        write::put_cstr(out, b"");
        out.put_u32(most);
    });
    write::message(&mut out, front::SYNC, |_| {});
    out
}
