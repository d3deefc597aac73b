//! What a turn is told and says: requests that are owed an answer, those of the pooler's own, and what to do with a message.

use super::super::names::Step;
use crate::wire::tag::back;

/// An answer that PostgreSQL owes, named for the request that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owed {
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
    /// A request of the pooler's own in the midst of the client's; the client must not see its answer.
    Own(Own),
    /// Not PostgreSQL's to answer: the pooler gives this answer when its turn has come.
    Made(Made),
    /// A Query that is sent to fail; its error is the pooler's to word.
    RefusedQuery,
    /// A Parse that is sent to fail; its error is the pooler's to word.
    RefusedParse,
}

impl Owed {
    /// Whether a request behind it is as sure to begin a transaction of its own as one before it.
    #[inline]
    pub(super) fn rests(self) -> bool {
        matches!(self, Owed::Settle | Owed::Own(Own::Close | Own::Parse | Own::Describe) | Owed::Made(_) | Owed::Parse)
    }

    /// Whether a ReadyForQuery of the client's answers it.
    #[inline]
    pub(super) fn ends_batch(self) -> bool {
        matches!(self, Owed::Query | Owed::Sync | Owed::Function | Owed::RefusedQuery)
    }
}

/// A request of the pooler's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// Parse.
    Parse,
    /// Bind.
    Bind,
    /// Execute.
    Execute,
    /// Close of a statement.
    Close,
    /// Describe of a statement.
    Describe,
    /// Query.
    Query,
    /// Sync.
    Sync,
    /// Close of a portal that is not there, a Sync behind it, that tells how many doubtful Syncs are answered: those
    /// before it.
    Probe,
}

/// An answer that the pooler gives in PostgreSQL's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// ParseComplete.
    ParseComplete,
    /// CloseComplete.
    CloseComplete,
}

impl Made {
    /// The message.
    #[must_use]
    pub fn message(self) -> [u8; 5] {
        match self {
            Made::ParseComplete => [back::PARSE_COMPLETE, 0, 0, 0, 4],
            Made::CloseComplete => [back::CLOSE_COMPLETE, 0, 0, 0, 4],
        }
    }
}

/// What to take back if a request is not carried out.
pub type Undo = Option<Box<Step>>;

/// What a Bind or Describe is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The statement's id, 0 for none that is known.
    pub statement: u64,
    /// Since when the backend has it under its shared name (`Prepared::since`), 0 for what it has without a name.
    pub since: u32,
    /// The number of the client's name for it, 0 where it has none.
    pub name: u32,
}

/// A place in the queue.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) owed: Owed,
    pub(super) undo: Undo,
    pub(super) about: About,
    /// The client's name, if it is taken already.
    pub(super) taken: Option<Box<[u8]>>,
    /// Where its text was made longer: behind this character (from 1) of what was sent, by so many.
    pub(super) shifts: Shifts,
}

/// Where a text was made longer: behind this character of what was sent (from 1), by so many characters.
pub type Shifts = Option<Box<[(i64, i64)]>>;

/// What to do with a message of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// Pass it on.
    Forward,
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
    /// A request of the pooler's own failed, and the client's next one may for that: [`Turn::blame_next`].
    OwnFailed,
    /// Give the client the next of [`Turn::take_report`] instead.
    Replace,
    /// The same if it says that a statement is not there, which the pooler could not prepare.
    Blame,
    /// A query is answered: pass it on; the transaction's status is what [`Turn::status`] says.
    Ready,
    /// It is not the answer to anything that is owed. The connection cannot be followed any further.
    Broken,
}

/// How PostgreSQL takes what the client sends, as far as it has told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// As requests.
    Requests,
    /// As the data of a COPY FROM STDIN.
    CopyData,
    /// Not at all, up to a Sync that the client has not sent yet.
    NothingToSync,
}
