//! A conversation of our own with a backend, outside of any session: whole messages, one after the other.
//!
//! Used for the login, for server_reset_query and for server_check_query. Relayed turns never come here.

use std::io;

use zeroize::Zeroize;

use super::{Backend, Interner};
use crate::net::Stream;
use crate::wire::scan::{Grammar, Scanner, Violation};
use crate::wire::tag::{back, back_limit, front};
use crate::wire::view::{Diagnostic, Status, data_row};
use crate::wire::write;

/// Largest message that such a conversation takes, bytes; PostgreSQL's longest by far are error reports.
const MAX_MESSAGE: u32 = 256 * 1024;

/// Why a conversation failed. The backend is of no use afterwards.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// PostgreSQL broke the protocol.
    #[error("{0}")]
    Violation(#[from] Violation),
    /// PostgreSQL refused.
    #[error("{} {}: {}", .0.severity, .0.code, .0.message)]
    Refused(Box<Diagnostic>),
    /// A message that has no place here.
    #[error("unexpected message 0x{0:02x}")]
    Unexpected(u8),
    /// The conversation ended, but not in the idle state.
    #[error("not idle afterwards")]
    NotIdle,
}

/// Reads whole messages from a stream.
pub(super) struct Messages {
    buf: Vec<u8>,
    at: usize,
    grammar: Grammar,
}

/// What was read may be a secret that auth_query gave.
impl Drop for Messages {
    fn drop(&mut self) {
        self.buf.zeroize();
    }
}

impl Messages {
    /// A reader for messages after the login.
    pub(super) fn new() -> Messages {
        Messages::with(back_limit)
    }

    /// A reader with other limits per type.
    pub(super) fn with(limit: fn(u8) -> Option<u32>) -> Messages {
        Messages {
            buf: Vec::new(),
            at: 0,
            grammar: Grammar { limit, whole: |_| true, whole_max: usize::MAX, max: MAX_MESSAGE },
        }
    }

    /// The next message: its type and body.
    pub(super) async fn next(&mut self, stream: &mut Stream) -> Result<(u8, &[u8]), ExchangeError> {
        let length = loop {
            let rest = self.buf.get(self.at..).unwrap_or_default();
            if let Some(piece) = Scanner::default().next(rest, &self.grammar)? {
                break piece.bytes.len();
            }
            self.fill(stream).await?;
        };
        let message = self.buf.get(self.at..self.at + length).unwrap_or_default();
        self.at += length;
        let (tag, body) = (message.first().copied().unwrap_or(0), message.get(5..).unwrap_or_default());
        Ok((tag, body))
    }

    /// Whether bytes were read that no message has been made of.
    pub(super) fn left_over(&self) -> bool {
        self.at < self.buf.len()
    }

    async fn fill(&mut self, stream: &mut Stream) -> Result<(), ExchangeError> {
        self.buf.drain(..self.at);
        self.at = 0;
        let held = self.buf.len();
        self.buf.resize(held + 4096, 0);
        let free = self.buf.get_mut(held..).unwrap_or_default();
        let read = std::future::poll_fn(|cx| stream.poll_read(cx, free)).await?;
        self.buf.truncate(held + read);
        if read == 0 { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) } else { Ok(()) }
    }
}

impl Backend {
    /// Runs a query of our own and reads its answer to the end. Parameters that change are noted.
    ///
    /// Cancel safety: none; a backend whose future was dropped must be closed.
    ///
    /// # Errors
    /// [`ExchangeError`]; `Refused` also means that the backend stands at an idle ReadyForQuery again.
    pub async fn query(&mut self, sql: &[u8], interner: &Interner) -> Result<(), ExchangeError> {
        self.query_row(sql, interner).await.map(drop)
    }

    /// Like [`Backend::query`]; answers the values of the first row, as text.
    ///
    /// Cancel safety: none; a backend whose future was dropped must be closed.
    ///
    /// # Errors
    /// [`ExchangeError`]; `Refused` also means that the backend stands at an idle ReadyForQuery again.
    pub async fn query_row(
        &mut self,
        sql: &[u8],
        interner: &Interner,
    ) -> Result<Vec<Option<Box<[u8]>>>, ExchangeError> {
        let mut row = None;
        // A simple query ends it.
        self.prepared.unnamed = None;
        let mut out = Vec::with_capacity(sql.len() + 6);
        write::query(&mut out, sql);
        self.stream.write_all(&out).await?;
        let mut messages = Messages::new();
        let mut refused = None;
        let mut ready = false;
        // What stands behind ReadyForQuery already is read as well: a parameter that a reload has changed, or a last word.
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
                back::DATA_ROW if row.is_none() => {
                    let values = data_row(body).ok_or(ExchangeError::Unexpected(tag))?;
                    row = Some(values.into_iter().map(|value| value.map(Into::into)).collect());
                }
                // Nobody has data for it.
                // The query is one of the configuration's, and nobody has data for it.
                back::COPY_IN => {
                    let mut out = Vec::new();
                    write::message(&mut out, front::COPY_FAIL, |out| write::put_cstr(out, b"the pooler has no data"));
                    self.stream.write_all(&out).await?;
                }
                back::COPY_BOTH => return Err(ExchangeError::Unexpected(tag)),
                _ => {}
            }
        }
        refused.map_or(Ok(row.unwrap_or_default()), |diagnostic| Err(ExchangeError::Refused(diagnostic)))
    }
}
