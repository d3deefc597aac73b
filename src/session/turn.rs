//! The turn: a pure machine over message types that knows what PostgreSQL still has to answer.
//!
//! It is told each message of both directions at its start and says what to do with it. It has no socket and reads at
//! most the body of ReadyForQuery. Invariant: [`Turn::finished`] is true only when nothing is owed, the last
//! ReadyForQuery said idle, no COPY is open and PostgreSQL is not skipping to a Sync. Anything that it cannot explain is
//! [`Back::Broken`], never a guess.
//!
//! Source: `protocol-flow.html` ("Extended Query", "Pipelining", "COPY Operations", "Function Call").

use std::collections::VecDeque;

use crate::wire::tag::{back, front};
use crate::wire::view::Status;

/// Most answers that may be owed before the client is not read from any more.
const MOST_OWED: usize = 64 * 1024;

/// An answer that PostgreSQL owes, named for the request that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    Parse,
    Bind,
    Describe,
    Execute,
    Close,
    Sync,
    Query,
    Function,
    /// Not an answer: the client's CopyDone or CopyFail passed here.
    CopyEnd,
    /// A Query of the pooler's own that brings settings in line; the client must not see its answer.
    Settle,
}

/// What to do with a message of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// Pass it on.
    Forward,
    /// Do not pass it on; PostgreSQL would ignore it.
    Drop,
    /// The client says goodbye.
    Terminate,
}

/// What to do with a message of PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Back {
    /// Pass it on.
    Forward,
    /// Keep it from the client: it answers a question of the pooler's own.
    Swallow,
    /// The pooler's own Query is answered; keep this message from the client too.
    Settled,
    /// The pooler's own Query failed; settings are not in line.
    SettleFailed,
    /// A query is answered: pass it on; the transaction's status is what [`Turn::status`] says.
    Ready,
    /// It is not the answer to anything that is owed. The connection cannot be followed any further.
    Broken,
}

/// How PostgreSQL takes what the client sends, as far as it has told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// As requests.
    Requests,
    /// As the data of a COPY FROM STDIN.
    CopyData,
    /// Not at all, up to a Sync that the client has not sent yet.
    NothingToSync,
}

/// One turn on one backend, from its first request to the moment when the backend may go to somebody else.
#[derive(Debug)]
pub struct Turn {
    owed: VecDeque<Owed>,
    status: Status,
    /// Something was sent since the last ReadyForQuery that ended everything.
    busy: bool,
    reading: Reading,
    /// A request was sent before PostgreSQL told of a COPY that then failed: it was either read over or will be answered.
    doubtful: bool,
}

impl Default for Turn {
    fn default() -> Self {
        Turn {
            owed: VecDeque::with_capacity(16),
            status: Status::Idle,
            busy: false,
            reading: Reading::Requests,
            doubtful: false,
        }
    }
}

impl Turn {
    /// Makes it ready for another lease.
    pub fn reset(&mut self) {
        self.owed.clear();
        self.owed.shrink_to(64);
        self.status = Status::Idle;
        self.busy = false;
        self.reading = Reading::Requests;
        self.doubtful = false;
    }

    /// Whether the backend may go to somebody else.
    #[inline]
    #[must_use]
    pub fn finished(&self) -> bool {
        !self.busy && self.status == Status::Idle && self.owed.is_empty() && self.reading == Reading::Requests
    }

    /// Whether an answer may still come that is not owed, so that the backend must be closed when the turn is over.
    #[must_use]
    pub fn doubtful(&self) -> bool {
        self.doubtful
    }

    /// Whether PostgreSQL is waiting for the client: nothing is owed, and all that was sent is answered.
    #[must_use]
    pub fn waits_for_client(&self) -> bool {
        !self.busy
    }

    /// Whether no ReadyForQuery will come unless the client sends more: nothing is owed, a Sync is missing, or COPY FROM
    /// STDIN has no end yet. A client that has said goodbye will not send it.
    #[must_use]
    pub fn needs_client(&self) -> bool {
        let copying = self.reading == Reading::CopyData && !self.owed.contains(&Owed::CopyEnd);
        copying
            || !self.owed.iter().any(|owed| matches!(owed, Owed::Query | Owed::Sync | Owed::Function | Owed::Settle))
    }

    /// Whether so much is owed that the client should not be read from.
    #[inline]
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.owed.len() >= MOST_OWED
    }

    /// What the last ReadyForQuery said.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// Whether rows and copy data may come.
    #[inline]
    #[must_use]
    pub fn expects_rows(&self) -> bool {
        matches!(self.owed.front(), Some(Owed::Query | Owed::Execute))
    }

    /// A Query of the pooler's own was put before everything else.
    pub fn settle(&mut self) {
        self.owed.push_back(Owed::Settle);
        self.busy = true;
    }

    /// A message of the client begins; its type is one that `front_limit` allows.
    #[inline]
    pub fn front(&mut self, tag: u8) -> Front {
        if tag == front::TERMINATE {
            return Front::Terminate;
        }
        if self.reading == Reading::NothingToSync {
            if tag == front::SYNC {
                self.reading = Reading::Requests;
                self.owed.push_back(Owed::Sync);
            }
            return Front::Forward;
        }
        let owed = match tag {
            front::QUERY => Owed::Query,
            front::FUNCTION_CALL => Owed::Function,
            front::PARSE => Owed::Parse,
            front::BIND => Owed::Bind,
            front::DESCRIBE => Owed::Describe,
            front::EXECUTE => Owed::Execute,
            front::CLOSE => Owed::Close,
            // In the middle of COPY FROM STDIN PostgreSQL ignores them. Once it has failed it does not, and it may have
            // failed without our having heard of it; so they never leave.
            front::SYNC | front::FLUSH if self.reading == Reading::CopyData && !self.owed.contains(&Owed::CopyEnd) => {
                return Front::Drop;
            }
            front::SYNC => Owed::Sync,
            // With nothing owed there is no COPY that it could end; PostgreSQL ignores it then.
            front::COPY_DONE | front::COPY_FAIL if !self.owed.is_empty() => Owed::CopyEnd,
            // Flush and CopyData are answered by nothing.
            _ => return Front::Forward,
        };
        self.busy = true;
        self.owed.push_back(owed);
        Front::Forward
    }

    /// A message of PostgreSQL begins; `body` is its first piece without the header (for ReadyForQuery the whole).
    #[inline]
    pub fn back(&mut self, tag: u8, body: &[u8]) -> Back {
        let head = self.owed.front().copied();
        if head == Some(Owed::Settle) {
            return self.settling(tag, body);
        }
        match (tag, head) {
            (back::READY, Some(Owed::Query | Owed::Sync | Owed::Function)) => return self.ready(body),
            (back::NOTICE | back::NOTIFICATION | back::PARAMETER_STATUS, _) => {}
            (back::DATA_ROW | back::COPY_DATA | back::COPY_DONE, Some(Owed::Query | Owed::Execute)) => {}
            (back::PARSE_COMPLETE, Some(Owed::Parse))
            | (back::BIND_COMPLETE, Some(Owed::Bind))
            | (back::CLOSE_COMPLETE, Some(Owed::Close))
            | (back::NO_DATA | back::ROW_DESCRIPTION, Some(Owed::Describe)) => self.answered(),
            (back::PARAMETER_DESCRIPTION, Some(Owed::Describe)) => {}
            (back::ROW_DESCRIPTION | back::EMPTY_QUERY, Some(Owed::Query)) => {}
            (back::COPY_IN, Some(Owed::Query | Owed::Execute)) => self.reading = Reading::CopyData,
            (back::COPY_OUT, Some(Owed::Query | Owed::Execute)) => {}
            (back::COMMAND_COMPLETE, Some(Owed::Query | Owed::Execute)) => self.command_complete(head),
            (back::EMPTY_QUERY | back::PORTAL_SUSPENDED, Some(Owed::Execute)) => self.answered(),
            (back::FUNCTION_RESULT, Some(Owed::Function)) => {}
            (back::ERROR, _) => self.error(head),
            _ => return Back::Broken,
        }
        Back::Forward
    }

    fn settling(&mut self, tag: u8, body: &[u8]) -> Back {
        match tag {
            back::READY if body == b"I" => {
                self.owed.pop_front();
                self.busy = !self.owed.is_empty();
                Back::Settled
            }
            back::ERROR => Back::SettleFailed,
            back::NOTIFICATION => Back::Forward,
            back::READY | back::COPY_IN | back::COPY_OUT | back::COPY_BOTH => Back::Broken,
            _ => Back::Swallow,
        }
    }

    fn ready(&mut self, body: &[u8]) -> Back {
        let Some(status) = Status::from_ready(body) else { return Back::Broken };
        self.status = status;
        self.reading = Reading::Requests;
        self.answered();
        self.busy = !self.owed.is_empty();
        Back::Ready
    }

    /// The first answer is complete; marks of copies that are over go with it.
    fn answered(&mut self) {
        self.owed.pop_front();
        while self.owed.front() == Some(&Owed::CopyEnd) {
            self.owed.pop_front();
        }
    }

    fn command_complete(&mut self, head: Option<Owed>) {
        if self.copy_is_over() {
            self.forget_copy(1);
        }
        if head == Some(Owed::Execute) {
            self.answered();
        }
    }

    /// Ends a COPY FROM STDIN; answers whether there was one.
    fn copy_is_over(&mut self) -> bool {
        let copied = self.reading == Reading::CopyData;
        if copied {
            self.reading = Reading::Requests;
        }
        copied
    }

    /// Forgets what was sent within a COPY, from `index` up to its end: PostgreSQL has read over it.
    fn forget_copy(&mut self, index: usize) {
        if let Some(end) = self.owed.iter().position(|&owed| owed == Owed::CopyEnd) {
            self.owed.drain(index.min(end)..=end);
        }
    }

    fn error(&mut self, head: Option<Owed>) {
        match head {
            // These answer the error with a ReadyForQuery of their own.
            Some(Owed::Query) => {
                if self.copy_is_over() {
                    self.forget_copy_syncs(1);
                }
            }
            Some(Owed::Function | Owed::Sync) | None => {}
            // After an error in an extended query everything up to the next Sync is skipped.
            Some(_) => {
                if self.copy_is_over() {
                    self.forget_copy_syncs(0);
                }
                while self.owed.front().is_some_and(|&owed| owed != Owed::Sync) {
                    self.owed.pop_front();
                }
                if self.owed.is_empty() {
                    self.reading = Reading::NothingToSync;
                }
            }
        }
    }

    /// A COPY failed: what was sent within it before we knew that it had begun was read over, up to its end or to the
    /// end of what was sent.
    fn forget_copy_syncs(&mut self, index: usize) {
        let end = self.owed.iter().position(|&owed| owed == Owed::CopyEnd);
        let end = end.map_or(self.owed.len(), |end| end + 1);
        self.doubtful |= self.owed.iter().take(end).skip(1).any(|&owed| owed != Owed::CopyEnd);
        self.owed.drain(index.min(end)..end);
    }
}

#[cfg(test)]
mod tests;
