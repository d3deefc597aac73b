//! What can be asked of a turn. Nothing here changes it.

use super::super::names::Step;
use super::{About, MOST_OWED, Owed, Own, Reading, Turn};
use crate::wire::view::Status;

impl Turn {
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
            Owed::Own(Own::Parse | Own::Bind | Own::Execute | Own::Close | Own::Describe) => Some(true),
        };
        self.owed.iter().rev().find_map(|entry| fails(entry.owed)).unwrap_or(false)
    }

    /// Whether the transaction block has failed, as far as PostgreSQL has told, and what it has not answered yet may end it.
    #[must_use]
    pub fn may_leave_failure(&self) -> bool {
        self.status == Status::Failed && !self.owed.is_empty()
    }

    /// Whether nothing was asked of PostgreSQL since it was last idle outside of a transaction block. Only then is a
    /// request sure to begin a transaction of its own.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.status == Status::Idle && !self.acted && self.owed.iter().all(|entry| entry.owed.rests())
    }

    /// What the last ReadyForQuery said; in a block if that was one that had failed and was left since.
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

    /// What the next answer is about.
    #[inline]
    #[must_use]
    pub fn about(&self) -> About {
        self.owed.front().map_or(About::default(), |entry| entry.about)
    }

    /// The name that [`Turn::take_last`] was told of the next answer's request.
    #[must_use]
    pub fn taken(&self) -> Option<Box<[u8]>> {
        self.owed.front()?.taken.clone()
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

    /// Whether the next answer is to a request of the client's and not to one of the pooler's own.
    #[inline]
    #[must_use]
    pub fn answers_client(&self) -> bool {
        !matches!(self.head(), Some(Owed::Settle | Owed::Own(_)))
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

    /// Whether the next answer is a Describe's of the client's, about a statement that is known.
    #[must_use]
    pub fn describes_known(&self) -> bool {
        self.describes() && self.about().statement > 0
    }

    /// Whether the next answer is a Describe's.
    #[must_use]
    pub fn describes(&self) -> bool {
        self.head() == Some(Owed::Describe)
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

    /// Whether [`Turn::take_undone`] has anything.
    #[inline]
    #[must_use]
    pub fn has_undone(&self) -> bool {
        !self.undone.is_empty()
    }
}
