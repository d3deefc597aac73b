//! The turn: a pure machine over message types that knows what PostgreSQL still has to answer.
//!
//! It is told each message of both directions at its start and says what to do with it. It has no socket and reads at
//! most the body of ReadyForQuery. Invariant: [`Turn::finished`] is true only when nothing is owed, the last
//! ReadyForQuery said idle, no COPY is open and PostgreSQL is not skipping to a Sync. Anything that it cannot explain is
//! [`Back::Broken`], never a guess.
//!
//! Source: `protocol-flow.html` ("Extended Query", "Pipelining", "COPY Operations", "Function Call").

mod fuzz;

use std::collections::VecDeque;

use super::names::Step;
use crate::wire::tag::{back, front};
use crate::wire::view::Status;

#[doc(hidden)]
pub use fuzz::fuzz;

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
    fn rests(self) -> bool {
        matches!(self, Owed::Settle | Owed::Own(Own::Close | Own::Parse) | Owed::Made(_) | Owed::Parse)
    }

    /// Whether a ReadyForQuery of the client's answers it.
    #[inline]
    fn ends_batch(self) -> bool {
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

/// A place in the queue.
#[derive(Debug)]
struct Entry {
    owed: Owed,
    undo: Undo,
    /// The statement that a Bind or Describe is about, 0 for none that is known, and the number of the client's name
    /// for it, 0 where it has none.
    statement: (u64, u32),
    /// The client's name, if it is taken already.
    taken: Option<Box<[u8]>>,
    /// Where its text was made longer: behind this character (from 1) of what was sent, by so many.
    shifts: Shifts,
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
    owed: VecDeque<Entry>,
    status: Status,
    /// Something was sent since the last ReadyForQuery that ended everything.
    busy: bool,
    reading: Reading,
    /// A request was sent before PostgreSQL told of a COPY that then failed: it was either read over or will be answered.
    doubtful: bool,
    /// So many Syncs were sent within a COPY that failed, and nothing has been answered since that was sent behind them.
    doubts: u32,
    /// A Sync was sent that may stand within a COPY.
    syncs_in_copy: bool,
    /// What was not carried out since [`Turn::take_undone`], the last request first; whether it failed by itself.
    undone: Vec<(Box<Step>, bool)>,
    /// The errors for what was sent to fail, in order.
    reports: VecDeque<Vec<u8>>,
    /// The first of the reports is about the first of the client's requests, a Query.
    blamed: bool,
    /// An error came since the turn began.
    failed: bool,
    /// Something but a Parse was answered since the last ReadyForQuery.
    acted: bool,
    /// How many requests were sent that a ReadyForQuery answers, and how many of them are over.
    batches: (u64, u64),
    /// Requests under way that throw away all prepared statements.
    clears: u32,
}

impl Default for Turn {
    fn default() -> Self {
        Turn {
            owed: VecDeque::with_capacity(16),
            status: Status::Idle,
            busy: false,
            reading: Reading::Requests,
            doubtful: false,
            doubts: 0,
            syncs_in_copy: false,
            undone: Vec::new(),
            reports: VecDeque::new(),
            blamed: false,
            failed: false,
            acted: false,
            clears: 0,
            batches: (0, 0),
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
        self.doubts = 0;
        self.syncs_in_copy = false;
        self.undone.clear();
        self.reports.clear();
        self.blamed = false;
        self.failed = false;
        self.acted = false;
        self.clears = 0;
        self.batches = (0, 0);
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

    /// Whether Syncs may still be answered that were sent within a COPY that failed, so that a [`Own::Probe`] has to be
    /// sent when all else is answered.
    #[must_use]
    pub fn needs_probe(&self) -> bool {
        self.doubts > 0 && !self.busy && self.owed.is_empty() && self.reading == Reading::Requests
    }

    /// Whether a Sync within a COPY may come to be answered, or not, so that nothing should be asked that PostgreSQL does
    /// not answer by itself, or that has to be done before another request.
    #[inline]
    #[must_use]
    pub fn is_ambiguous(&mut self) -> bool {
        self.syncs_in_copy &= !self.owed.is_empty();
        self.doubts > 0 || (self.syncs_in_copy && !self.is_copying())
    }

    /// Whether an error has come in this turn.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed
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
        let copying = self.is_copying();
        let ready = |owed| {
            matches!(
                owed,
                Owed::Query
                    | Owed::Sync
                    | Owed::Function
                    | Owed::Settle
                    | Owed::RefusedQuery
                    | Owed::Own(Own::Query | Own::Sync)
            )
        };
        copying || !self.owed.iter().any(|entry| ready(entry.owed))
    }

    /// Whether PostgreSQL reads over everything up to a Sync that was not sent yet.
    #[inline]
    #[must_use]
    pub fn skips(&self) -> bool {
        self.reading == Reading::NothingToSync
    }

    /// Whether PostgreSQL waits for the data of a COPY, no end of which was sent.
    #[must_use]
    pub fn is_copying(&self) -> bool {
        self.reading == Reading::CopyData && !self.owes(Owed::CopyEnd)
    }

    /// Whether so much is owed that the client should not be read from.
    #[inline]
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.owed.len() >= MOST_OWED
    }

    /// Whether PostgreSQL takes what comes next as requests, as far as it has told.
    #[inline]
    #[must_use]
    pub fn takes_requests(&self) -> bool {
        self.reading == Reading::Requests
    }

    /// Whether it is not known yet if the backend has lost all prepared statements.
    #[inline]
    #[must_use]
    pub fn is_clearing(&self) -> bool {
        let clears = |step: &Step| match step {
            Step::Cleared(_) => true,
            Step::Several(steps) => steps.iter().any(|step| matches!(step, Step::Cleared(_))),
            _ => false,
        };
        self.clears > 0 && self.owed.iter().any(|entry| entry.undo.as_deref().is_some_and(clears))
    }

    /// Whether PostgreSQL answers without being sent anything more: the last that was sent ends a batch.
    #[inline]
    #[must_use]
    pub fn answers_follow(&self) -> bool {
        self.owed.back().is_some_and(|entry| entry.owed.ends_batch())
    }

    /// Whether an answer is owed.
    #[must_use]
    pub fn owes_anything(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Whether an extended query is under way whose Sync is still to be sent.
    #[must_use]
    pub fn is_within_batch(&self) -> bool {
        self.busy
            && self.owed.back().is_none_or(|last| {
                !matches!(
                    last.owed,
                    Owed::Query
                        | Owed::Sync
                        | Owed::Function
                        | Owed::RefusedQuery
                        | Owed::Settle
                        | Owed::Own(Own::Query | Own::Sync)
                )
            })
    }

    /// Whether PostgreSQL may come to read over what is sent next, since a request of an extended query may fail that it
    /// has not answered yet.
    #[must_use]
    pub fn may_skip(&self) -> bool {
        let fails = |owed| match owed {
            Owed::Sync | Owed::Own(Own::Sync) => Some(false),
            Owed::Query | Owed::Function | Owed::RefusedQuery => None,
            Owed::CopyEnd | Owed::Settle | Owed::Made(_) | Owed::Own(Own::Query | Own::Probe) => None,
            Owed::Parse | Owed::Bind | Owed::Describe | Owed::Execute | Owed::Close | Owed::RefusedParse => Some(true),
            Owed::Own(Own::Parse | Own::Bind | Own::Execute | Own::Close) => Some(true),
        };
        self.owed.iter().rev().find_map(|entry| fails(entry.owed)).unwrap_or(false)
    }

    /// Whether nothing was asked of PostgreSQL since it was last idle outside of a transaction block. Only then is a
    /// request sure to begin a transaction of its own.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.status == Status::Idle && !self.acted && self.owed.iter().all(|entry| entry.owed.rests())
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
        matches!(self.head(), Some(Owed::Query | Owed::Execute))
    }

    /// The statement that the next answer is about, 0 for none, and the number of the client's name for it.
    #[must_use]
    pub fn statement(&self) -> (u64, u32) {
        self.owed.front().map_or((0, 0), |entry| entry.statement)
    }

    /// A Query of the pooler's own was put before everything else.
    pub fn settle(&mut self) {
        self.push(Owed::Settle, None, (0, 0));
    }

    /// A Query of the client's is passed on whose statements do this to the book of names, one after the other.
    pub fn query(&mut self, steps: VecDeque<Step>, shifts: Shifts) {
        self.push(Owed::Query, Some(Box::new(Step::Several(steps))), (0, 0));
        self.shift_last(shifts);
    }

    /// The last request is about this name of the client's: it gives it to a statement although it is taken, which
    /// PostgreSQL will say, or executes it by SQL.
    pub fn take_last(&mut self, name: &[u8]) {
        if let Some(last) = self.owed.back_mut() {
            last.taken = Some(name.into());
        }
    }

    /// The name that [`Turn::take_last`] was told of the next answer's request.
    #[must_use]
    pub fn taken(&self) -> Option<Box<[u8]>> {
        self.owed.front()?.taken.clone()
    }

    /// The text of the last request was made longer.
    pub fn shift_last(&mut self, shifts: Shifts) {
        if let Some(last) = self.owed.back_mut() {
            last.shifts = shifts;
        }
    }

    /// What the position in an error about the next answer's request is in the client's text.
    #[must_use]
    pub fn position(&self, sent: i64) -> i64 {
        let shifts = self.owed.front().and_then(|entry| entry.shifts.as_deref()).unwrap_or_default();
        sent - shifts.iter().filter(|(behind, _)| sent > *behind).map(|(_, by)| by).sum::<i64>()
    }

    /// Whether the next answer's request was made longer.
    #[must_use]
    pub fn is_shifted(&self) -> bool {
        self.owed.front().is_some_and(|entry| entry.shifts.is_some())
    }

    /// How many requests were sent in this turn that end a batch, and how many of them are answered or skipped.
    #[must_use]
    pub fn batches(&self) -> (u64, u64) {
        self.batches
    }

    /// A request throws away all prepared statements of the backend.
    pub fn expect_clear(&mut self) {
        self.clears += 1;
    }

    /// All prepared statements of the backend were thrown away; answers whether a request has said so.
    pub fn cleared(&mut self) -> bool {
        let expected = self.clears > 0;
        self.clears = self.clears.saturating_sub(1);
        expected
    }

    /// The first of the steps of the request that is being answered is carried out; answers whether there was one.
    pub fn confirm(&mut self) -> bool {
        if let Some(Entry { owed: Owed::Query | Owed::Execute, undo: Some(undo), .. }) = self.owed.front_mut()
            && let Step::Several(steps) = &mut **undo
            && steps.front().is_some_and(|step| !matches!(step, Step::Unnamed(_)))
        {
            return steps.pop_front().is_some();
        }
        false
    }

    /// Whether the next answer is to a request of the client's and not to one of the pooler's own.
    #[inline]
    #[must_use]
    pub fn answers_client(&self) -> bool {
        !matches!(self.head(), Some(Owed::Settle | Owed::Own(_)))
    }

    /// An Execute of the client's is passed on.
    pub fn execute(&mut self, undo: Undo) {
        self.push(Owed::Execute, undo, (0, 0));
    }

    /// A Parse of the client's is passed on in any form.
    pub fn parse(&mut self, undo: Undo) {
        self.push(Owed::Parse, undo, (0, 0));
    }

    /// A Bind of the client's is passed on, whose statement is this one, 0 for none that is known, and the number
    /// of the client's name for it.
    #[inline]
    pub fn bind(&mut self, statement: u64, serial: u32) {
        self.push(Owed::Bind, None, (statement, serial));
    }

    /// The same of a Describe.
    pub fn describe(&mut self, statement: u64, serial: u32) {
        self.push(Owed::Describe, None, (statement, serial));
    }

    /// How many messages PostgreSQL owes answers to, if the next is of a Bind or Describe and they are the rest of a
    /// batch, with its Sync and nothing behind it, outside of a transaction block.
    #[must_use]
    pub fn rest_of_batch(&self) -> Option<usize> {
        let calm = self.status == Status::Idle && self.reading == Reading::Requests && !self.doubtful;
        let (last, rest) = self.owed.iter().next_back().zip(self.owed.len().checked_sub(1))?;
        let known = |owed: Owed| match owed {
            Owed::Parse | Owed::Bind | Owed::Describe | Owed::Execute | Owed::Close | Owed::Made(_) => true,
            Owed::Own(own) => matches!(own, Own::Parse | Own::Close),
            Owed::Sync
            | Owed::Query
            | Owed::Function
            | Owed::CopyEnd
            | Owed::Settle
            | Owed::RefusedQuery
            | Owed::RefusedParse => false,
        };
        let fits = calm
            && self.doubts == 0
            && matches!(self.head(), Some(Owed::Bind | Owed::Describe))
            && last.owed == Owed::Sync
            && self.owed.iter().take(rest).all(|entry| known(entry.owed));
        fits.then(|| self.owed.iter().filter(|entry| !matches!(entry.owed, Owed::Made(_))).count())
    }

    /// Whether the next answer is a Describe's.
    #[must_use]
    pub fn describes(&self) -> bool {
        self.head() == Some(Owed::Describe)
    }

    /// The next request has failed, and all of [`Turn::rest_of_batch`] is sent again behind a Close and a Parse of the
    /// pooler's own; `undo`: if that Parse fails.
    pub fn repeat(&mut self, undo: Undo) {
        for (own, undo) in [(Own::Parse, undo), (Own::Close, None), (Own::Sync, None)] {
            self.owed.push_front(Entry { owed: Owed::Own(own), undo, statement: (0, 0), shifts: None, taken: None });
        }
    }

    /// A request of the pooler's own is put behind what was sent.
    pub fn own(&mut self, own: Own, undo: Undo) {
        self.push(Owed::Own(own), undo, (0, 0));
    }

    /// A request of the client's is answered here, in its turn.
    pub fn make(&mut self, made: Made, undo: Undo) {
        self.push(Owed::Made(made), undo, (0, 0));
    }

    /// A Query is sent to fail; the client gets `report` for it, an ErrorResponse.
    pub fn refuse_query(&mut self, report: Vec<u8>) {
        self.reports.push_back(report);
        self.push(Owed::RefusedQuery, None, (0, 0));
    }

    /// A Parse is sent to fail; the client gets `report` for it, an ErrorResponse.
    pub fn refuse_parse(&mut self, report: Vec<u8>) {
        self.reports.push_back(report);
        self.push(Owed::RefusedParse, None, (0, 0));
    }

    /// The answer that the pooler has to give now, if one is due. To be asked after each message of either side.
    #[inline]
    pub fn next_made(&mut self) -> Option<Made> {
        let Some(Owed::Made(made)) = self.head() else { return None };
        self.answered();
        Some(made)
    }

    /// Whether [`Turn::next_made`] has an answer.
    #[inline]
    #[must_use]
    pub fn makes_next(&self) -> bool {
        matches!(self.head(), Some(Owed::Made(_)))
    }

    /// Whether settings are being brought in line, so that nothing but the first request may follow.
    #[must_use]
    pub fn is_settling(&self) -> bool {
        self.head() == Some(Owed::Settle)
    }

    /// The error for what [`Back::Replace`] was about.
    pub fn take_report(&mut self) -> Vec<u8> {
        self.reports.pop_front().unwrap_or_default()
    }

    /// A request of the pooler's own failed that the client's Query behind it needs: this is what the client is told where
    /// that finds nothing.
    pub fn blame_next(&mut self, report: Vec<u8>) {
        let next = self.owed.iter().find(|next| !matches!(next.owed, Owed::Own(_)));
        if !self.blamed && next.is_some_and(|next| next.owed == Owed::Query) {
            self.blamed = true;
            self.reports.push_front(report);
        }
    }

    /// What was not carried out, the last request first, and whether it failed by itself.
    #[inline]
    pub fn take_undone(&mut self) -> Vec<(Box<Step>, bool)> {
        std::mem::take(&mut self.undone)
    }

    /// Whether [`Turn::take_undone`] has anything.
    #[inline]
    #[must_use]
    pub fn has_undone(&self) -> bool {
        !self.undone.is_empty()
    }

    /// A message of the client begins; its type is one that `front_limit` allows.
    #[inline]
    pub fn front(&mut self, tag: u8) -> Front {
        if tag == front::TERMINATE {
            return Front::Terminate;
        }
        if self.reading == Reading::NothingToSync {
            let ignored = matches!(tag, front::FLUSH | front::COPY_DATA | front::COPY_DONE | front::COPY_FAIL);
            self.doubtful |= self.doubts > 0 && tag != front::SYNC && !ignored;
            if tag == front::SYNC {
                self.reading = Reading::Requests;
                self.batches.0 += 1;
                self.owed.push_back(Entry {
                    owed: Owed::Sync,
                    undo: None,
                    statement: (0, 0),
                    shifts: None,
                    taken: None,
                });
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
            // In the middle of COPY FROM STDIN PostgreSQL ignores it. Once that has failed it does not, and it may have
            // failed without our having heard of it.
            front::SYNC => {
                self.syncs_in_copy |= self.is_copying();
                Owed::Sync
            }
            // With nothing owed there is no COPY that it could end; PostgreSQL ignores it then.
            front::COPY_DONE | front::COPY_FAIL if !self.owed.is_empty() => {
                self.syncs_in_copy |= self.owes(Owed::Sync);
                Owed::CopyEnd
            }
            // Flush and CopyData are answered by nothing.
            _ => return Front::Forward,
        };
        self.push(owed, None, (0, 0));
        Front::Forward
    }

    /// A message of PostgreSQL begins; `body` is its first piece without the header (for ReadyForQuery the whole).
    #[inline]
    pub fn back(&mut self, tag: u8, body: &[u8]) -> Back {
        let head = self.head();
        let asynchronous = matches!(tag, back::NOTICE | back::NOTIFICATION | back::PARAMETER_STATUS);
        if self.doubts > 0 && tag != back::READY && !asynchronous {
            // What was sent behind them is being answered.
            self.doubts = 0;
        }
        if self.reading == Reading::CopyData && !asynchronous && !matches!(tag, back::COMMAND_COMPLETE | back::ERROR) {
            // Until its end nothing is an answer.
            return Back::Broken;
        }
        match head {
            Some(Owed::Settle) => return self.settling(tag, body),
            Some(Owed::Own(own)) => return self.own_answer(own, tag, body),
            _ => {}
        }
        match (tag, head) {
            (back::READY, Some(Owed::Sync)) => return self.ready(body),
            // Something else comes before theirs.
            (back::READY, Some(Owed::Query | Owed::Function)) if self.doubts == 0 => return self.ready(body),
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
            (back::ERROR, _) => return self.error(head),
            // It answers a Sync that was sent within a COPY that failed.
            (back::READY, _) if self.doubts > 0 => return self.doubt_is_answered(body),
            _ => return Back::Broken,
        }
        Back::Forward
    }

    fn doubt_is_answered(&mut self, body: &[u8]) -> Back {
        let Some(status) = Status::from_ready(body) else { return Back::Broken };
        self.doubts -= 1;
        self.status = status;
        if self.reading == Reading::NothingToSync {
            self.reading = Reading::Requests;
            self.busy = !self.owed.is_empty();
        }
        Back::Ready
    }

    #[inline]
    fn head(&self) -> Option<Owed> {
        self.owed.front().map(|entry| entry.owed)
    }

    fn owes(&self, owed: Owed) -> bool {
        self.owed.iter().any(|entry| entry.owed == owed)
    }

    #[inline]
    fn push(&mut self, owed: Owed, undo: Undo, statement: (u64, u32)) {
        self.busy = true;
        self.batches.0 += u64::from(owed.ends_batch());
        self.owed.push_back(Entry { owed, undo, statement, shifts: None, taken: None });
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

    /// An answer to a request of the pooler's own. A failed one of the extended protocol makes PostgreSQL skip the
    /// client's request behind it, for which its error then is.
    fn own_answer(&mut self, own: Own, tag: u8, body: &[u8]) -> Back {
        match (own, tag) {
            (_, back::NOTICE | back::PARAMETER_STATUS | back::NOTIFICATION) => return Back::Forward,
            (Own::Parse, back::PARSE_COMPLETE)
            | (Own::Bind, back::BIND_COMPLETE)
            | (Own::Close, back::CLOSE_COMPLETE)
            | (Own::Execute, back::COMMAND_COMPLETE) => self.answered(),
            (Own::Query, back::COMMAND_COMPLETE) => {}
            (_, back::READY) if self.doubts > 0 => return self.doubt_is_answered(body),
            (Own::Probe, back::CLOSE_COMPLETE) => self.answered(),
            (Own::Query | Own::Sync, back::READY) => {
                let Some(status) = Status::from_ready(body) else { return Back::Broken };
                self.status = status;
                self.answered();
                self.acted = false;
                self.busy = !self.owed.is_empty();
            }
            // Either has a ReadyForQuery of its own still to come.
            (Own::Query | Own::Sync, back::ERROR) => {
                self.failed = true;
                self.take_back(0, true);
                return Back::OwnFailed;
            }
            (_, back::ERROR) => {
                let synced = self.owed.get(1).is_some_and(|next| next.owed == Owed::Own(Own::Sync));
                return match self.error(self.head()) {
                    // It is the pooler's own whole conversation, for the sake of the Query behind it.
                    Back::Forward if synced => Back::OwnFailed,
                    other => other,
                };
            }
            _ => return Back::Broken,
        }
        Back::Swallow
    }

    fn ready(&mut self, body: &[u8]) -> Back {
        let Some(status) = Status::from_ready(body) else { return Back::Broken };
        self.status = status;
        self.reading = Reading::Requests;
        self.batches.1 += 1;
        if std::mem::take(&mut self.blamed) {
            self.reports.pop_front();
        }
        self.answered();
        self.acted = false;
        self.busy = !self.owed.is_empty();
        Back::Ready
    }

    /// The first answer is complete; marks of copies that are over go with it.
    #[inline]
    fn answered(&mut self) {
        self.acted |= self.owed.pop_front().is_some_and(|entry| !entry.owed.rests());
        while self.head() == Some(Owed::CopyEnd) {
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
        if let Some(end) = self.owed.iter().position(|entry| entry.owed == Owed::CopyEnd) {
            self.strike(index.min(end)..end + 1);
        }
    }

    /// Takes these out of the queue: they are not carried out.
    fn strike(&mut self, range: std::ops::Range<usize>) {
        self.forget_reports(&range);
        let mut undone = Vec::new();
        for entry in self.owed.drain(range) {
            self.batches.1 += u64::from(entry.owed.ends_batch());
            undone.extend(entry.undo.map(|undo| (undo, false)));
        }
        self.undo(undone);
    }

    /// What was to be refused among these is skipped, and so are the errors for it.
    fn forget_reports(&mut self, range: &std::ops::Range<usize>) {
        if self.reports.is_empty() {
            return;
        }
        let blamed = self.owed.iter().position(|entry| !matches!(entry.owed, Owed::Own(_)));
        if self.blamed && blamed.is_some_and(|blamed| range.contains(&blamed)) {
            self.blamed = false;
            self.reports.pop_front();
        }
        let refused = |entry: &&Entry| matches!(entry.owed, Owed::RefusedQuery | Owed::RefusedParse);
        let first = usize::from(self.blamed) + self.owed.iter().take(range.start).filter(refused).count();
        let count = self.owed.range(range.clone()).filter(refused).count();
        self.reports.drain(first.min(self.reports.len())..(first + count).min(self.reports.len()));
    }

    /// This one is not carried out; it stays in the queue.
    fn take_back(&mut self, index: usize, failed: bool) {
        if let Some(undo) = self.owed.get_mut(index).and_then(|entry| entry.undo.take()) {
            self.undo(vec![(undo, failed)]);
        }
    }

    /// Notes what is to be taken back. The unnamed statement of a request that is still under way stays; it is only
    /// another one that stood there before.
    fn undo(&mut self, undone: Vec<(Box<Step>, bool)>) {
        for (step, failed) in undone.into_iter().rev() {
            match *step {
                Step::Several(steps) => {
                    let steps = steps.into_iter().map(|step| (Box::new(step), failed));
                    self.undo(steps.collect());
                }
                Step::Unnamed(before) => {
                    let before = if failed { (None, None) } else { before };
                    let later = self.owed.iter_mut().skip(usize::from(failed));
                    match later.filter_map(|entry| entry.undo.as_deref_mut()).find_map(Step::unnamed_mut) {
                        Some(later) => *later = before,
                        None => self.undone.push((Box::new(Step::Unnamed(before)), failed)),
                    }
                }
                other => self.undone.push((Box::new(other), failed)),
            }
        }
    }

    fn error(&mut self, head: Option<Owed>) -> Back {
        self.failed = true;
        match head {
            // These answer the error with a ReadyForQuery of their own.
            Some(Owed::Query) => {
                if self.copy_is_over() {
                    self.forget_copy_syncs(1);
                }
                self.take_back(0, true);
                if let (1.., Some(entry)) = (self.doubts, self.owed.front_mut()) {
                    // No more than ReadyForQuery is to come of it.
                    entry.owed = Owed::Sync;
                }
                if std::mem::take(&mut self.blamed) {
                    return Back::Blame;
                }
            }
            Some(Owed::RefusedQuery) => {
                if let Some(entry) = self.owed.front_mut() {
                    entry.owed = Owed::Query;
                }
                return Back::Replace;
            }
            Some(Owed::Function | Owed::Sync) | None => {}
            // After an error in an extended query everything up to the next Sync is skipped.
            Some(owed) => {
                if owed == Owed::Own(Own::Parse)
                    && self.owed.get(1).is_some_and(|next| next.owed == Owed::Made(Made::ParseComplete))
                {
                    // It was in the place of the client's.
                    self.take_back(1, true);
                }
                if self.copy_is_over() {
                    self.forget_copy_syncs(1);
                }
                let next = self.owed.iter().position(|entry| matches!(entry.owed, Owed::Sync | Owed::Own(Own::Sync)));
                let skipped = next.unwrap_or(self.owed.len());
                // It is not skipped if a Sync before it counts.
                self.doubtful |= self.doubts > 0 && skipped > 1;
                self.strike(1..skipped.max(1));
                self.take_back(0, true);
                self.owed.pop_front();
                if self.owed.is_empty() {
                    self.reading = Reading::NothingToSync;
                }
                if owed == Owed::RefusedParse {
                    return Back::Replace;
                }
            }
        }
        Back::Forward
    }

    /// A COPY failed: what was sent within it before we knew that it had begun was read over, up to its end or to the
    /// end of what was sent.
    fn forget_copy_syncs(&mut self, index: usize) {
        let end = self.owed.iter().position(|entry| entry.owed == Owed::CopyEnd);
        let end = end.map_or(self.owed.len(), |end| end + 1);
        for entry in self.owed.iter().take(end).skip(1) {
            match entry.owed {
                Owed::CopyEnd => {}
                Owed::Sync => self.doubts += 1,
                // Nothing tells its answer from those of others.
                _ => self.doubtful = true,
            }
        }
        self.strike(index.min(end)..end);
    }
}

#[cfg(test)]
mod tests;
