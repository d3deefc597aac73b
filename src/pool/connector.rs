//! The connector: one loop per pool that opens backends when they are asked for.
//!
//! Opening is never owned by a client: one that leaves wastes nothing, and a waiting client takes whichever comes first,
//! a backend given back or a new one. Several are opened at a time, but one failing login is not repeated once per
//! waiter. Trouble that may pass (nobody listens, starting, stopping, full) is retried with a growing pause while the
//! clients stay queued; a login that PostgreSQL refuses fails all who wait, where the pool has no other backend.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep, timeout};

use super::budget::SlotPermit;
use super::cap::Starving;
use super::plan::{Plan, View, plan};
use super::pools::Pools;
use super::shelf::Held;
use super::{Listing, Permit, Phase, Pool, Reason};
use crate::auth::AnswerError;
use crate::backend::{Backend, BackendState, Closing, ConnectError, ExchangeError, Identity, connect};
use crate::config::SessionAttrs;
use crate::metrics::add;
use crate::net::{Clock, Micros, OWN};

/// Most backends that one pool opens at the same time.
const PARALLEL: u32 = 8;
/// First pause after trouble that may pass; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest such pause, if `server_login_retry` is not shorter: the clients that are queued should not wait much longer
/// than PostgreSQL is away.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often the connector looks by itself: for `min_pool_size` and `reserve_pool_timeout`.
const LOOK: Duration = Duration::from_millis(250);
/// Longest pause after PostgreSQL had no connection left.
const FULL_PAUSE: Duration = Duration::from_millis(500);

/// Why opening backends fails at present.
#[derive(Clone, Debug)]
pub struct Failure {
    /// First of the failures in a row.
    pub since: Micros,
    /// Last of them.
    pub last: Micros,
    /// How many.
    pub count: u32,
    /// No new attempt before.
    pub retry_at: Micros,
    /// PostgreSQL refused the login as such.
    pub refused: bool,
    /// Only for want of a key that a client's login reveals.
    pub awaits_login: bool,
    /// PostgreSQL, the role or the database has no connection left.
    pub full: bool,
    /// It happened before this client came.
    pub cached: bool,
    /// SQLSTATE of PostgreSQL's refusal, else 08006.
    pub code: String,
    /// What went wrong, in PostgreSQL's words where it had some.
    pub message: String,
    /// PostgreSQL's DETAIL.
    pub detail: String,
    /// PostgreSQL's HINT.
    pub hint: String,
}

type Opening = Pin<Box<dyn Future<Output = Result<Box<Held>, ConnectError>> + Send>>;

/// What the loop holds between two looks.
#[derive(Default)]
struct Work {
    openings: Vec<Opening>,
    starving: Vec<Starving>,
    /// When to look without being asked; `None`: not at all.
    pause: Option<Pin<Box<Sleep>>>,
}

/// Runs `connect_query` on a new backend. What PostgreSQL says against it is logged and nothing more.
async fn greet(backend: &mut Backend, query: &str, pool: &Pool, limit: Duration) -> Result<(), ConnectError> {
    let answered = timeout(limit, backend.query(query.as_bytes(), &pool.shared.interner)).await;
    match answered.map_err(|_| ConnectError::Timeout)? {
        Ok(()) => Ok(()),
        Err(ExchangeError::Refused(said)) => {
            let (database, user) = (&*pool.key.database, &*pool.key.user);
            tracing::warn!(database, user, error = said.message, code = said.code, "connect_query failed");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

impl Pool {
    /// Whether a client that wants a backend now has none to hope for: no backend is left, and logins are refused or
    /// nothing was reached for longer than `server_login_retry`.
    #[must_use]
    pub(super) fn hopeless(&self) -> Option<Failure> {
        let failure = self.failure()?;
        // Who waits for a slot waits until his time is over.
        if failure.full || self.size.used() > self.opening.load(Relaxed) || self.paused() {
            return None;
        }
        // After the pause somebody has to be queued, or nobody would try again.
        let pausing = self.shared.clock.now() < failure.retry_at;
        let lasting = Clock::between(failure.since, failure.last) > self.settings.load().login_retry;
        (pausing && (failure.refused || lasting)).then_some(failure)
    }

    /// A client of the pool's user has logged in: what had to wait for that is opened now.
    pub fn client_proved(&self) {
        if self.settings.load().spec.secret.awaits_login() {
            return;
        }
        let waited = |failure: &mut Failure| failure.awaits_login;
        let healed = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take_if(waited).is_some();
        if healed || self.size.used() < self.settings.load().min {
            self.nudge();
        }
    }

    /// Opens backends until the pool is closed. `pools` are the siblings whose idle backends may be evicted.
    pub async fn run_connector(self: Arc<Self>, pools: Arc<Pools>) {
        let mut work = Work::default();
        let mut asked = Box::pin(self.asked.notified());
        while !self.closing.load(Relaxed) {
            self.start(&mut work, &pools);
            poll_fn(|cx| {
                let mut awake = false;
                while asked.as_mut().poll(cx).is_ready() {
                    asked.set(self.asked.notified());
                    awake = true;
                }
                awake |= self.poll_openings(&mut work, &pools, cx);
                awake |= work.pause.as_mut().is_some_and(|pause| pause.as_mut().poll(cx).is_ready());
                if awake { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
    }

    /// Starts as many openings as the plan says and the limits allow.
    fn start(self: &Arc<Self>, work: &mut Work, pools: &Pools) {
        let now = self.shared.clock.now();
        let held_back = self.failure().is_some_and(|failure| now < failure.retry_at);
        work.starving.clear();
        if self.paused() {
            // PAUSE is over when nothing is open; what is half open would only be closed.
            work.openings.clear();
        } else if !held_back {
            let todo = plan(&self.view(now));
            for _ in 0..todo.open {
                let Some((permits, slot)) = self.permits(todo, pools, &mut work.starving) else { break };
                work.openings.push(self.open(permits, slot));
            }
        }
        work.pause = self.next_look(now).map(|look| Box::pin(sleep(look)));
    }

    /// When to look again without being asked: for the reserve and for another try. Without need, never: backends that
    /// end and clients that come wake the connector.
    fn next_look(&self, now: Micros) -> Option<Duration> {
        let counts = self.counts();
        let settings = self.settings.load();
        let min = if settings.spec.secret.awaits_login() { 0 } else { settings.min };
        if counts.waiting == 0 && counts.total >= min {
            return None;
        }
        let retry = |failure: Failure| Clock::between(now, failure.retry_at).clamp(Duration::from_millis(1), LOOK);
        Some(self.failure().map_or(LOOK, retry))
    }

    fn view(&self, now: Micros) -> View {
        let counts = self.counts();
        let settings = self.settings.load();
        let patient = |since| Clock::between(since, now) < settings.reserve_timeout;
        let reserve = match counts.oldest {
            Some(since) if !settings.reserve_timeout.is_zero() && !patient(since) => settings.reserve,
            _ => 0,
        };
        let parallel = if self.failure().is_some() { 1 } else { PARALLEL };
        View {
            total: counts.total,
            opening: counts.opening,
            // A free seat belongs to somebody who is just being woken.
            waiting: counts.waiting.saturating_sub(counts.idle),
            size: settings.size,
            // Without a key nothing can be opened ahead of need; a client that waits is told so.
            min: match settings.spec.secret.awaits_login() {
                true => 0,
                false if self.probed.load(Relaxed) => settings.min.max(1),
                false if self.doubted.load(Relaxed) => settings.min.max(counts.total.saturating_add(1)),
                false => settings.min,
            },
            reserve,
            parallel,
        }
    }

    /// Permits for one more backend; where a client waits for it and a sibling pool holds an idle one, that one goes.
    fn permits(&self, todo: Plan, pools: &Pools, starving: &mut Vec<Starving>) -> Option<([Permit; 3], SlotPermit)> {
        let settings = self.settings.load();
        let size = self.size.acquire(todo.limit)?;
        let mut permit = |cap: &Arc<super::Cap>, limit: u32, why: Closing, same: &dyn Fn(&Pool) -> bool| {
            if let Some(permit) = cap.acquire(limit) {
                return Some(permit);
            }
            if !todo.urgent {
                return None;
            }
            // Whoever gives one back from here on wakes this loop.
            starving.push(cap.starve(&self.asked));
            if !pools.evict(why, Some(self), same) {
                pools.lookups.give_up(&self.key);
            }
            cap.acquire(limit)
        };
        let database = permit(&self.database_cap, settings.max_db, Closing::EvictedForDatabase, &|pool| {
            pool.key.database == self.key.database
        })?;
        let user =
            permit(&self.user_cap, settings.max_user, Closing::EvictedForUser, &|pool| pool.key.user == self.key.user)?;
        let slot = self.slot(pools, &settings, todo.urgent.then_some(starving))?;
        Some(([size, database, user], slot))
    }

    fn open(self: &Arc<Self>, permits: [Permit; 3], slot: SlotPermit) -> Opening {
        let pool = Arc::clone(self);
        self.opening.fetch_add(1, Relaxed);
        let underway = Underway(Arc::clone(self));
        Box::pin(async move {
            let _underway = underway;
            let settings = pool.settings.load_full();
            let epoch = pool.shelf.lock().epoch;
            let id = pool.shared.next_id();
            let who = Identity { id, database: Arc::clone(&pool.key.database), user: Arc::clone(&pool.key.user) };
            let begun = pool.shared.clock.now();
            let connected = connect(&settings.spec, who, &pool.shared.interner, &pool.shared.clock).await;
            pool.note_connect(begun, connected.is_ok());
            let mut backend = connected?;
            let slot = slot.opened(&pool, &settings, &backend.record).ok_or(ConnectError::NoSlot)?;
            if let Some(query) = settings.database.connect_query.as_deref() {
                greet(&mut backend, query, &pool, settings.spec.timeout).await?;
            }
            if pool.shelf.lock().epoch != epoch {
                backend.record.need_close();
            }
            pool.listed().insert(id, Arc::clone(&backend.record));
            let listing = Listing { pool: Arc::downgrade(&pool), id };
            Ok(Box::new(Held { backend, permits, slot, listing }))
        })
    }

    /// Counts an attempt to open a backend that began at `begun`.
    pub(super) fn note_connect(&self, begun: Micros, succeeded: bool) {
        let now = self.shared.clock.now();
        let taken = now.saturating_sub(begun);
        add(&self.counters.connect_time, taken);
        self.times.connect.record(taken);
        if succeeded {
            self.connected_at.store(now, Relaxed);
        } else {
            self.failed_at.store(now, Relaxed);
            add(&self.counters.connect_failures, 1);
        }
    }

    /// Takes in what the openings brought; says whether there was anything.
    fn poll_openings(&self, work: &mut Work, pools: &Pools, cx: &mut Context<'_>) -> bool {
        let mut ended = Vec::new();
        work.openings.retain_mut(|opening| match opening.as_mut().poll(cx) {
            Poll::Ready(result) => {
                ended.push(result);
                false
            }
            Poll::Pending => true,
        });
        let any = !ended.is_empty();
        let mut looked = false;
        if any {
            looked = self.doubted.swap(false, Relaxed);
            self.probed.store(false, Relaxed);
            self.drain_misfits();
            self.seek_again(self.shared.clock.now());
        }
        for result in ended {
            match result {
                // It was opened to look for a better server than this, and nobody else wants it.
                Ok(held) if looked && held.backend.record.is_spare() && self.counts().waiting == 0 => {
                    held.backend.record.close_because(Closing::Unneeded);
                    held.terminate();
                }
                Ok(held) => self.opened(held),
                Err(error) => {
                    self.failed(&error);
                    pools.clients.interrupt(Reason::ServerFailed, |client| {
                        let ours = client.pool().is_some_and(|pool| std::ptr::eq(&raw const *pool, self));
                        ours && client.phase() == Phase::Waiting
                    });
                }
            }
        }
        if any {
            self.told.notify_waiters();
        }
        any
    }

    fn opened(&self, held: Box<Held>) {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        held.slot.slots().opened(failure.is_some());
        let Backend { record, state, .. } = &held.backend;
        if self.settings.load().log_connections {
            tracing::info!(target: OWN, database = %record.database, user = %record.user, id = record.id,
                           address = %record.endpoint, pid = record.process_id,
                           tls = Some(record.tls).filter(|tls| !tls.is_empty()), "new connection to server");
        }
        record.set_state(BackendState::Idle);
        let prefers = record.route.wanted == SessionAttrs::PreferStandby;
        if prefers && !record.is_spare() {
            self.drain_spares();
        }
        self.welcome.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| state.clone());
        if let Err(held) = self.shelf.add(held) {
            held.backend.record.close_because(self.why_not_kept());
            held.terminate();
        }
        self.offer(&self.settings.load());
    }

    fn failed(&self, error: &ConnectError) {
        let now = self.shared.clock.now();
        let retry = self.settings.load().login_retry;
        let refused = !error.may_pass();
        let mut slot = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        // Failures of one round count once, and long after the last round another story begins.
        let known = slot.as_ref().filter(|known| Clock::between(known.retry_at, now) <= retry.max(LONGEST_PAUSE));
        let (since, count) = match known {
            Some(known) if now < known.retry_at => (known.since, known.count.saturating_sub(1)),
            Some(known) => (known.since, known.count),
            None => (now, 0),
        };
        let pause = if refused { retry } else { passing_pause(count, retry) };
        let pause = if error.is_full() { pause.min(FULL_PAUSE) } else { pause };
        let mut failure = Failure {
            since,
            last: now,
            count: count.saturating_add(1),
            retry_at: now.saturating_add(u64::try_from(pause.as_micros()).unwrap_or(u64::MAX)),
            refused,
            full: error.is_full(),
            awaits_login: matches!(error, ConnectError::Authentication(AnswerError::NoKeys)),
            cached: false,
            code: "08006".to_owned(),
            message: error.to_string(),
            detail: String::new(),
            hint: String::new(),
        };
        match error {
            ConnectError::Refused(said) => {
                failure.code.clone_from(&said.code);
                failure.message.clone_from(&said.message);
                failure.detail.clone_from(&said.detail);
                failure.hint.clone_from(&said.hint);
            }
            ConnectError::Authentication(error) => error.hint().clone_into(&mut failure.hint),
            ConnectError::Lookup(_)
            | ConnectError::Connect(_)
            | ConnectError::Io(_)
            | ConnectError::Timeout
            | ConnectError::NoTls
            | ConnectError::TlsAnswer
            | ConnectError::Misfit(_)
            | ConnectError::NoSlot
            | ConnectError::Tls(_)
            | ConnectError::Protocol(_) => {}
        }
        if let ConnectError::Refused(said) = error
            && failure.full
        {
            let settings = self.settings.load();
            if let Some(slots) = settings.next_slots(self) {
                slots.refused(said, &settings, now);
            }
            *slot = Some(failure);
            return;
        }
        let hint = Some(failure.hint.as_str()).filter(|hint| !hint.is_empty());
        tracing::warn!(database = %self.key.database, user = %self.key.user, target = %self.settings.load().spec.route,
                       %error, hint, failures = failure.count, ?pause, "cannot connect to server");
        *slot = Some(failure);
    }
}

/// The pause after `count` failures in a row: doubling, and a quarter more or less so that pools do not march in step.
pub(super) fn passing_pause(count: u32, most: Duration) -> Duration {
    let pause = FIRST_PAUSE.saturating_mul(1 << count.min(16)).min(most.min(LONGEST_PAUSE)).max(FIRST_PAUSE);
    let mut random = [0u8];
    // Without entropy there is no jitter, which is no reason to fail.
    let _ = getrandom::fill(&mut random);
    pause.mul_f64(0.75 + f64::from(random[0]) / 512.0)
}

/// Counts a backend that is being opened.
struct Underway(Arc<Pool>);

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.opening.fetch_sub(1, Relaxed);
    }
}
