//! PostgreSQL's messages, which strike off what is owed.

use super::super::names::Step;
use super::{Back, Entry, Made, Owed, Own, Reading, Turn};
use crate::wire::tag::back;
use crate::wire::view::Status;

impl Turn {
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
            | (Own::Execute, back::COMMAND_COMPLETE)
            | (Own::Describe, back::ROW_DESCRIPTION | back::NO_DATA) => self.answered(),
            (Own::Describe, back::PARAMETER_DESCRIPTION) => {}
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
    pub(super) fn answered(&mut self) {
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
            if self.status == Status::Failed {
                // Nothing else is carried out there but what leaves it. Where to, the next ReadyForQuery says.
                self.status = Status::InBlock;
            }
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
    pub(super) fn strike(&mut self, range: std::ops::Range<usize>) {
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
    pub(super) fn take_back(&mut self, index: usize, failed: bool) {
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
                Step::Sent(id) => {
                    // What is still under way may come to be taken back behind it.
                    self.owed
                        .iter_mut()
                        .filter_map(|entry| entry.undo.as_deref_mut())
                        .for_each(|step| step.correct(id));
                    self.undone.push((Box::new(Step::Sent(id)), failed));
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
                if self.copy_is_over() {
                    self.forget_copy_syncs(1);
                }
                let next = self.owed.iter().position(|entry| matches!(entry.owed, Owed::Sync | Owed::Own(Own::Sync)));
                let skipped = next.unwrap_or(self.owed.len());
                // It is not skipped if a Sync before it counts.
                self.doubtful |= self.doubts > 0 && skipped > 1;
                if let Some(parse) = self.parse_behind_own().filter(|parse| *parse < skipped) {
                    // It was in the place of the client's, or for the sake of it. The last is taken back first.
                    self.strike(parse + 1..skipped);
                    self.take_back(parse, true);
                    self.strike(1..parse + 1);
                } else {
                    self.strike(1..skipped.max(1));
                }
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

    /// Where the client's Parse is, if what comes next answers a request of the pooler's own that was sent for it.
    fn parse_behind_own(&self) -> Option<usize> {
        let at = self.owed.iter().position(|entry| !matches!(entry.owed, Owed::Own(_)))?;
        let parses = matches!(self.owed.get(at)?.owed, Owed::Parse | Owed::Made(Made::ParseComplete));
        (at > 0 && parses).then_some(at)
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
