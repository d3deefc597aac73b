//! The turn: a pure machine over message types that knows what PostgreSQL still has to answer.
//!
//! It is told each message of both directions at its start and says what to do with it. It has no socket and reads at
//! most the body of ReadyForQuery. Invariant: [`Turn::finished`] is true only when nothing is owed, the last
//! ReadyForQuery said idle, no COPY is open and PostgreSQL is not skipping to a Sync. Anything that it cannot explain is
//! [`Back::Broken`], never a guess.
//!
//! Source: `protocol-flow.html` ("Extended Query", "Pipelining", "COPY Operations", "Function Call").

mod answers;
mod fuzz;
mod owed;
mod state;

use std::collections::VecDeque;

use super::names::Step;
use crate::wire::tag::front;
use crate::wire::view::Status;

#[doc(hidden)]
pub use fuzz::fuzz;
pub use owed::{About, Back, Front, Made, Own, Shifts, Undo};
use owed::{Entry, Owed, Reading};

/// Most answers that may be owed before the client is not read from any more.
const MOST_OWED: usize = 64 * 1024;

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

    /// A Query of the pooler's own was put before everything else.
    pub fn settle(&mut self) {
        self.push(Owed::Settle, None, About::default());
    }

    /// A Query of the client's is passed on whose statements do this to the book of names, one after the other.
    pub fn query(&mut self, steps: VecDeque<Step>, shifts: Shifts) {
        self.push(Owed::Query, Some(Box::new(Step::Several(steps))), About::default());
        self.shift_last(shifts);
    }

    /// The last request is about this name of the client's: it gives it to a statement although it is taken, which
    /// PostgreSQL will say, or executes it by SQL.
    pub fn take_last(&mut self, name: &[u8]) {
        if let Some(last) = self.owed.back_mut() {
            last.taken = Some(name.into());
        }
    }

    /// The text of the last request was made longer.
    pub fn shift_last(&mut self, shifts: Shifts) {
        if let Some(last) = self.owed.back_mut() {
            last.shifts = shifts;
        }
    }

    /// The backend's unnamed statement is lost by what is sent next, whatever is taken back of what was sent before.
    pub fn lose_unnamed(&mut self) {
        let steps = self.owed.iter_mut().filter_map(|entry| entry.undo.as_deref_mut());
        steps.filter_map(Step::unnamed_mut).for_each(|before| before.1 = None);
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

    /// An Execute of the client's is passed on.
    pub fn execute(&mut self, undo: Undo) {
        self.push(Owed::Execute, undo, About::default());
    }

    /// A Parse of the client's is passed on in any form.
    pub fn parse(&mut self, undo: Undo) {
        self.push(Owed::Parse, undo, About::default());
    }

    /// A Bind of the client's is passed on.
    #[inline]
    pub fn bind(&mut self, about: About) {
        self.push(Owed::Bind, None, about);
    }

    /// The same of a Describe.
    pub fn describe(&mut self, about: About) {
        self.push(Owed::Describe, None, about);
    }

    /// A Describe of the pooler's own is put behind what was sent.
    pub fn ask(&mut self, about: About, undo: Undo) {
        self.push(Owed::Own(Own::Describe), undo, about);
    }

    /// The next request has failed, and all of [`Turn::rest_of_batch`] is sent again behind a Close and a Parse of the
    /// pooler's own; `undo`: if that Parse fails.
    pub fn repeat(&mut self, undo: Undo) {
        for (own, undo) in [(Own::Parse, undo), (Own::Close, None), (Own::Sync, None)] {
            self.owed.push_front(Entry {
                owed: Owed::Own(own),
                undo,
                about: About::default(),
                shifts: None,
                taken: None,
            });
        }
    }

    /// A request of the pooler's own is put behind what was sent.
    pub fn own(&mut self, own: Own, undo: Undo) {
        self.push(Owed::Own(own), undo, About::default());
    }

    /// A request of the client's is answered here, in its turn.
    pub fn make(&mut self, made: Made, undo: Undo) {
        self.push(Owed::Made(made), undo, About::default());
    }

    /// A Query is sent to fail; the client gets `report` for it, an ErrorResponse.
    pub fn refuse_query(&mut self, report: Vec<u8>) {
        self.reports.push_back(report);
        self.push(Owed::RefusedQuery, None, About::default());
    }

    /// A Parse is sent to fail; the client gets `report` for it, an ErrorResponse.
    pub fn refuse_parse(&mut self, report: Vec<u8>) {
        self.reports.push_back(report);
        self.push(Owed::RefusedParse, None, About::default());
    }

    /// The answer that the pooler has to give now, if one is due. To be asked after each message of either side.
    #[inline]
    pub fn next_made(&mut self) -> Option<Made> {
        let Some(Owed::Made(made)) = self.head() else { return None };
        self.answered();
        Some(made)
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
                    about: About::default(),
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
        self.push(owed, None, About::default());
        Front::Forward
    }

    #[inline]
    fn head(&self) -> Option<Owed> {
        self.owed.front().map(|entry| entry.owed)
    }

    fn owes(&self, owed: Owed) -> bool {
        self.owed.iter().any(|entry| entry.owed == owed)
    }

    #[inline]
    fn push(&mut self, owed: Owed, undo: Undo, about: About) {
        self.busy = true;
        self.batches.0 += u64::from(owed.ends_batch());
        self.owed.push_back(Entry { owed, undo, about, shifts: None, taken: None });
    }
}

#[cfg(test)]
mod tests;
