//! One connection to PostgreSQL: connect, log in, settings, check, reset, cancel.
//!
//! A [`Backend`] is a value with one owner: the shelf or the session that leased it. It moves between tasks and workers
//! by being moved. What it must never do is to decide whether it may be lent again; that is the pool's and the turn's.

mod cancel;
mod closing;
mod connect;
mod dial;
mod encrypt;
mod exchange;
mod fit;
mod inquiry;
mod prepared;
mod record;
mod route;
mod said;
mod settings;
mod shape;
mod statements;
mod table;
mod unhurried;

use std::io;
use std::sync::Arc;

use crate::config::SessionAttrs;
use crate::net::{Micros, Peek, Stream};
use crate::wire::scan::{Grammar, Scanner};
use crate::wire::tag::{back, back_limit};
use crate::wire::view::{Diagnostic, parameter_status};
use crate::wire::write::TERMINATE;

pub use cancel::cancel;
pub use closing::Closing;
pub use connect::{ConnectError, Spec};
pub use dial::connect;
pub use exchange::ExchangeError;
pub use inquiry::{Answered, Value, Values};
pub use prepared::{Known, Prepared};
pub use record::{BackendRecord, BackendState, Identity};
pub use route::Route;
pub use settings::{Difference, Interner, Settings, State, assignments, difference, quote_value};
pub use shape::Shape;
pub use statements::{Full, Key, Origin, PREFIX, Prepares, Statement, Statements, id_of};
pub use table::TextTable;
pub use unhurried::unhurried;

/// One logged-in connection to PostgreSQL.
#[derive(Debug)]
pub struct Backend {
    /// The socket.
    pub stream: Stream,
    /// The settings that it carries.
    pub state: State,
    /// The prepared statements that it has.
    pub prepared: Prepared,
    /// What others may see of it.
    pub record: Arc<BackendRecord>,
    /// When it was last given back.
    pub idle_since: Micros,
}

/// Why an idle backend cannot be used any more.
#[derive(Debug, thiserror::Error)]
pub enum Dead {
    /// The connection is closed or broken.
    #[error("connection closed")]
    Closed,
    /// PostgreSQL said why it ends the connection.
    #[error("{} {}: {}", .0.severity, .0.code, .0.message)]
    Said(Box<Diagnostic>),
    /// It sent something that an idle backend does not send.
    #[error("unexpected message 0x{0:02x} while idle")]
    Unexpected(u8),
}

/// What may come from an idle backend.
const IDLE: Grammar = Grammar { limit: back_limit, whole: |_| true, whole_max: usize::MAX, max: 16 * 1024 };

impl Backend {
    /// Reads what an idle backend sent by itself: notices and notifications are dropped, a changed parameter is noted,
    /// anything else ends it. Costs no system call where the runtime has seen nothing arrive.
    ///
    /// # Errors
    /// [`Dead`]: close it.
    #[inline]
    pub fn settle_idle(&mut self, interner: &Interner) -> Result<(), Dead> {
        let mut first = [0];
        match self.stream.try_read(&mut first) {
            Ok(0) => Err(Dead::Closed),
            Ok(_) => self.read_idle(first, interner),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(_) => Err(Dead::Closed),
        }
    }

    /// Reads on after the first byte. Half a message is no state to be lent in.
    #[cold]
    fn read_idle(&mut self, first: [u8; 1], interner: &Interner) -> Result<(), Dead> {
        let mut buf = vec![0; 16 * 1024];
        let mut held = 1;
        buf.splice(..1, first);
        loop {
            let used = self.idle_messages(buf.get(..held).unwrap_or_default(), interner)?;
            buf.copy_within(used..held, 0);
            held -= used;
            match self.stream.try_read(buf.get_mut(held..).unwrap_or_default()) {
                Ok(0) => return Err(Dead::Closed),
                Ok(read) => held += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && held == 0 => return Ok(()),
                Err(_) => return Err(Dead::Closed),
            }
        }
    }

    /// Like [`Backend::settle_idle`], but asks the system whatever the runtime knows: for a backend that comes straight
    /// from another session's hands.
    ///
    /// # Errors
    /// [`Dead`]: close it.
    pub fn settle_handed(&mut self, interner: &Interner) -> Result<(), Dead> {
        match self.stream.peek() {
            Peek::Quiet => Ok(()),
            Peek::Closed => Err(Dead::Closed),
            // The runtime learns of these bytes at its next turn; until then they could not be read.
            Peek::Readable => match self.settle_idle(interner) {
                Ok(()) if self.stream.peek() == Peek::Quiet => Ok(()),
                Ok(()) => Err(Dead::Closed),
                dead => dead,
            },
        }
    }

    fn idle_messages(&mut self, buf: &[u8], interner: &Interner) -> Result<usize, Dead> {
        let mut scanner = Scanner::default();
        let mut used = 0;
        while let Some(piece) =
            scanner.next(buf.get(used..).unwrap_or_default(), &IDLE).map_err(|_| Dead::Unexpected(0))?
        {
            used += piece.bytes.len();
            match piece.tag {
                back::NOTICE | back::NOTIFICATION => {}
                back::PARAMETER_STATUS => self.note_parameter(piece.body(), interner),
                back::ERROR => return Err(Dead::Said(Box::new(Diagnostic::read(piece.body())))),
                other => return Err(Dead::Unexpected(other)),
            }
        }
        Ok(used)
    }

    /// Takes note of a ParameterStatus.
    pub fn note_parameter(&mut self, body: &[u8], interner: &Interner) {
        if let Some((name, value)) = parameter_status(body)
            && !is_of_a_pooler(name)
        {
            self.state.reported = interner.with(&self.state.reported, name, value);
            if name == said::STANDBY {
                self.note_standby(value);
            }
        }
    }

    /// Its server has become, or is no longer, a standby. One that does not fit any more is left, and what it is does not
    /// concern those who come.
    #[cold]
    fn note_standby(&self, value: &[u8]) {
        let route = &self.record.route;
        if fit::displaced(route.wanted, value) {
            self.record.close_because(Closing::Misfit);
            self.record.need_close();
        } else {
            route.said.hear_standby(value);
            self.record.set_spare(route.wanted == SessionAttrs::PreferStandby && value != b"on");
        }
    }

    /// Says goodbye where the socket takes it; the connection closes with the value.
    pub fn terminate(mut self) {
        // PostgreSQL logs an unexpected end of file without it; nothing else depends on it.
        let _ = self.stream.try_write(&TERMINATE);
    }
}

/// Whether a report is no setting of PostgreSQL's, but what a pooler on the way says of itself.
fn is_of_a_pooler(name: &str) -> bool {
    name.starts_with("pgbouncer.")
}
