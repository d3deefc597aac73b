//! What a session counts, kept with the session and added to its pool's counters when a turn is over, or within a long one.
//!
//! PgBouncer's rules: a query is the span from the first request to the ReadyForQuery that leaves nothing owed or ends
//! one of several in flight, a transaction the span from idle to idle.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::metrics::{Counters, Times, add};
use crate::net::{Clock, Micros};
use crate::pool::{ClientRecord, Phase};
use crate::wire::tag::front;
use crate::wire::view::Status;

/// How long numbers may wait for the end of a turn, in microseconds.
const LATE: Micros = 200_000;

/// Counts of one session since they were last added to the pool's.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) received: u64,
    pub(super) sent: u64,
    assignments: u64,
    queries: u64,
    transactions: u64,
    query_time: u64,
    transaction_time: u64,
    /// Statements, of whose Parse the pooler keeps account.
    pub(super) statements: Statements,
    /// Start of the query under way, 0 for none.
    query_since: Micros,
    /// Start of the transaction under way, 0 for none.
    transaction_since: Micros,
    /// How long the query and the transaction under way have waited for their backend before they began.
    waited: (Micros, Micros),
    /// The time when it was last looked at.
    moment: Micros,
    /// When the pool's counters had everything, or the turn began.
    settled: Micros,
    /// Whether that was for the request which comes next.
    fresh: bool,
    clock: Clock,
    /// The pool's.
    times: Arc<Times>,
}

/// Statements that backends have under the pooler's names: those with a name, and unnamed ones whose plans are kept.
#[derive(Debug, Default)]
pub(super) struct Statements {
    /// Parses of clients.
    pub(super) client_parses: u64,
    /// Of these and of the pooler's own, those that PostgreSQL was sent.
    pub(super) server_parses: u64,
    /// Binds.
    pub(super) binds: u64,
}

impl Tally {
    pub(super) fn new(clock: Clock, times: Arc<Times>) -> Tally {
        Tally {
            received: 0,
            sent: 0,
            assignments: 0,
            queries: 0,
            transactions: 0,
            query_time: 0,
            transaction_time: 0,
            statements: Statements::default(),
            query_since: 0,
            transaction_since: 0,
            waited: (0, 0),
            moment: clock.now(),
            settled: 0,
            fresh: false,
            clock,
            times,
        }
    }

    /// What comes is another pool's; what was before goes to the counters of the one that is left.
    pub(super) fn go_on_in(&mut self, times: Arc<Times>, before: &Counters) {
        self.settle(before);
        self.times = times;
    }

    /// Looks at the clock for the request that is about to begin.
    pub(super) fn look(&mut self) -> Micros {
        self.look_at(self.clock.now())
    }

    /// The same by somebody else's clock.
    pub(super) fn look_at(&mut self, now: Micros) -> Micros {
        self.fresh = true;
        self.moment = now;
        now
    }

    /// The time when it was last looked at: the start of the turn, or the last ReadyForQuery.
    pub(super) fn moment(&self) -> Micros {
        self.moment
    }

    /// The request that comes next has waited since `then`; that counts as part of it, as in PgBouncer.
    pub(super) fn waited(&mut self, then: Micros) {
        let time = self.moment.saturating_sub(then);
        self.waited = (time, time);
    }

    /// The client ends: what is under way was begun, and counts.
    pub(super) fn cut_short(&mut self) {
        self.queries += u64::from(std::mem::take(&mut self.query_since) > 0);
        self.transactions += u64::from(std::mem::take(&mut self.transaction_since) > 0);
    }

    /// A backend was lent; answers when.
    pub(super) fn assigned(&mut self) -> Micros {
        self.assignments += 1;
        self.settled = self.moment;
        self.moment
    }

    /// A request begins.
    #[inline]
    pub(super) fn request(&mut self, tag: u8, record: &ClientRecord) {
        if matches!(tag, front::COPY_DATA | front::FLUSH) {
            return;
        }
        if self.query_since == 0 {
            if !std::mem::take(&mut self.fresh) {
                self.moment = self.clock.now();
            }
            let now = self.moment;
            self.query_since = now;
            record.request.store(now, Relaxed);
            if self.transaction_since == 0 {
                self.transaction_since = now;
                record.transaction_since.store(now, Relaxed);
            }
            record.enter(Phase::Running, now);
        }
    }

    /// PostgreSQL is ready for another query; `more` is on its way already.
    #[inline]
    pub(super) fn ready(&mut self, status: Status, more: bool, record: &ClientRecord) {
        let now = self.clock.now();
        self.moment = now;
        self.queries += 1;
        let query = now.saturating_sub(self.query_since);
        self.query_time += query + std::mem::take(&mut self.waited.0);
        self.times.query.record(query);
        self.query_since = if more { now } else { 0 };
        if status == Status::Idle {
            self.transactions += 1;
            let transaction = now.saturating_sub(self.transaction_since);
            self.transaction_time += transaction + std::mem::take(&mut self.waited.1);
            self.times.transaction.record(transaction);
            self.transaction_since = self.query_since;
            record.transaction_since.store(now, Relaxed);
            record.enter(if more { Phase::Running } else { Phase::Idle }, now);
        } else {
            record.enter(if more { Phase::Running } else { Phase::InTransaction }, now);
        }
    }

    /// Whether the turn lasts, so that its numbers should not wait for its end.
    #[inline]
    pub(super) fn is_late(&self) -> bool {
        self.moment.saturating_sub(self.settled) > LATE
    }

    /// Adds everything to the pool's counters.
    pub(super) fn settle(&mut self, counters: &Counters) {
        self.settled = self.moment;
        let take = |value: &mut u64, counter| {
            if *value > 0 {
                add(counter, std::mem::take(value));
            }
        };
        take(&mut self.received, &counters.received);
        take(&mut self.sent, &counters.sent);
        take(&mut self.assignments, &counters.server_assignment_count);
        take(&mut self.queries, &counters.query_count);
        take(&mut self.transactions, &counters.xact_count);
        take(&mut self.query_time, &counters.query_time);
        take(&mut self.transaction_time, &counters.xact_time);
        take(&mut self.statements.client_parses, &counters.client_parse_count);
        take(&mut self.statements.server_parses, &counters.server_parse_count);
        take(&mut self.statements.binds, &counters.bind_count);
    }
}
