//! The keeper of one server's budget: the task that asks the server, and acts on what it says.
//!
//! While slots are plenty it asks now and then on a connection that it closes again. Where they are short it keeps that
//! connection, asks every second, and by its name tells other pgpools what we hold and could use.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::facts::{Facts, Peer, Rule, beacon};
use super::inquiry::{INQUIRY, MOST_ROWS, Ours, facts};
use super::slots::SlotPermit;
use super::{FIRST, Slots};
use crate::backend::{Backend, BackendRecord, BackendState, Closing, Identity, connect};
use crate::config::{Config, Demand, SlotBudget};
use crate::net::{Clock, Micros};
use crate::pool::settings::target;
use crate::pool::{Permit, Pool, Pools};

/// How often the server is asked while slots are plenty.
const RELAXED: Micros = 30_000_000;
/// The same while they are short.
const TIGHT: Micros = 1_000_000;
/// The same after it could not be asked.
const FAILED: Micros = 5_000_000;
/// Least time between two questions.
const LEAST: Micros = 200_000;
/// How often shares and limits are looked at while slots are short.
const TICK: Duration = Duration::from_millis(250);
/// How long slots count as short after PostgreSQL was full, microseconds.
const SORE: Micros = 60_000_000;
/// Why it is not asked although there is a connection to it.
const NO_PLACE: &str = "max_db_connections or max_user_connections leaves no connection to ask on";
/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// The connection that the server is asked on. The fields are dropped in this order.
struct Line {
    backend: Backend,
    _permits: [Permit; 2],
    _slot: SlotPermit,
}

/// What the keeper remembers between two looks.
#[derive(Default)]
struct Work {
    line: Option<Line>,
    /// When the server was last asked.
    asked: Micros,
    /// When it is next asked.
    next: Micros,
    tight: bool,
    /// The configuration that was held against the server's slots, and what came of it.
    compared: Option<Arc<Config>>,
    warned: Option<String>,
}

impl Slots {
    /// Keeps the budget until nobody needs it.
    pub async fn keep(self: Arc<Self>, pools: Arc<Pools>) {
        let mut work = Work::default();
        loop {
            let rule = rule(&pools);
            let now = pools.shared.clock.now();
            let (held, wants) = (self.held(), self.wants(&pools, now));
            let own = u32::from(work.line.is_some());
            if rule.budget == SlotBudget::Off || held <= own && wants <= own {
                work.close();
                self.reckon(rule, Peer::default(), now);
                if rule.budget != SlotBudget::Off && !self.was_asked() {
                    self.limit_to(FIRST);
                }
                if pools.shared.budgets.retire(&self) {
                    return;
                }
                tokio::select! {
                    () = self.asked.notified() => {}
                    () = sleep(Duration::from_micros(RELAXED)) => {}
                }
                continue;
            }
            if now >= work.next && now.saturating_sub(work.asked) >= LEAST {
                self.ask(&mut work, &pools, Peer { holds: held.max(1), wants: wants.max(1) }).await;
            }
            self.look(&mut work, &pools, rule);
            let pause = if work.tight || self.is_held_down() {
                TICK
            } else {
                Clock::between(pools.shared.clock.now(), work.next).max(TICK)
            };
            tokio::select! {
                () = self.asked.notified() => work.next = work.next.min(work.asked + LEAST),
                () = sleep(pause) => {}
            }
        }
    }

    /// Asks the server, and notes what it said.
    async fn ask(self: &Arc<Self>, work: &mut Work, pools: &Pools, own: Peer) {
        work.asked = pools.shared.clock.now();
        let learnt = match self.open(work, pools).await {
            Ok(true) => self.inquire(work, pools, own).await,
            // No pool has a connection there yet; the first one that has makes us look.
            Ok(false) => {
                work.next = work.asked + TIGHT;
                return;
            }
            Err(trouble) => Err(trouble),
        };
        let failed = learnt.is_err();
        if let Err(trouble) = &learnt {
            work.close();
            let known = self.shown().trouble.as_ref() == Some(trouble);
            if trouble == NO_PLACE {
                tracing::debug!(server = %self.target, trouble, "slots are not asked for");
            } else if !known {
                tracing::warn!(server = %self.target, trouble, "cannot find out how many connection slots there are; \
                               max_server_connections limits them, and what PostgreSQL refuses");
            }
        }
        self.learn(learnt);
        let now = pools.shared.clock.now();
        work.tight = self.is_tight(pools, now);
        work.next = now
            + if failed {
                FAILED
            } else if work.tight {
                TIGHT
            } else {
                RELAXED
            };
    }

    /// Acts on what is known.
    fn look(self: &Arc<Self>, work: &mut Work, pools: &Pools, rule: Rule) {
        let now = pools.shared.clock.now();
        work.tight = self.is_tight(pools, now);
        self.set_tight(work.tight);
        if !self.was_asked() {
            return;
        }
        let own = Peer { holds: self.held().max(1), wants: self.wants(pools, now).max(1) };
        let over = self.reckon(rule, own, now);
        self.settle(pools, None, now);
        self.publish();
        self.compare(work, pools);
        // A question that is soon over costs nobody his connection.
        let passing = u32::from(work.line.is_some() && !work.tight);
        for _ in passing..over {
            let here = |record: &BackendRecord| record.target == self.target;
            let spares = |pool: &Pool| {
                let settings = pool.settings.load();
                settings.leads_to(self) && self.has_too_much(pool, &settings)
            };
            if !pools.evict_at(Closing::EvictedForSlots, None, &spares, &here) {
                break;
            }
        }
        if work.tight {
            work.next = work.next.min(now + TIGHT);
        } else {
            work.close();
        }
    }

    /// Says, once per configuration, that it could ask for more than there is.
    fn compare(&self, work: &mut Work, pools: &Pools) {
        let config = pools.config.load_full();
        let Some(usable) = self.shown().facts.and_then(|facts| facts.usable()) else { return };
        if work.compared.as_ref().is_some_and(|compared| Arc::ptr_eq(compared, &config)) {
            return;
        }
        let here = |demand: &Demand| target(&demand.host, demand.port) == self.target;
        let demand = config.demands().into_iter().find(here);
        let over = demand.filter(|demand| demand.known.is_none_or(|known| known > u64::from(usable)));
        let text = over.map(|demand| demand.to_string().replace('\n', "; "));
        if let Some(arithmetic) = text.as_ref().filter(|_| work.warned != text) {
            tracing::warn!(server = %self.target, slots = usable, arithmetic,
                           "the configuration could ask for more connections than PostgreSQL has slots; clients wait then");
        }
        work.warned = text;
        work.compared = Some(config);
    }

    /// Whether slots are short, or may be soon.
    fn is_tight(&self, pools: &Pools, now: Micros) -> bool {
        let shown = self.shown();
        let sore = shown.refusal.is_some_and(|refusal| refusal.server && now.saturating_sub(refusal.at) < SORE);
        let Some(facts) = shown.facts else { return sore };
        let Some(usable) = facts.usable() else { return sore };
        let used = facts.others.saturating_add(self.held());
        let wanted = facts.others.saturating_add(self.wants(pools, now)).saturating_add(shown.rule.headroom);
        sore || used >= usable / 2 || wanted > usable || !facts.peers.is_empty()
    }

    /// Has a connection to ask on; says whether there is one.
    async fn open(self: &Arc<Self>, work: &mut Work, pools: &Pools) -> Result<bool, String> {
        let interner = &pools.shared.interner;
        if let Some(line) = &mut work.line {
            let record = &line.backend.record;
            let displaced = record.close_needed() || pools.is_paused(&record.database);
            if displaced || line.backend.settle_idle(interner).is_err() {
                work.close();
            }
        }
        if work.line.is_some() {
            return Ok(true);
        }
        let Some(pool) = self.lender(pools) else { return Ok(false) };
        let settings = pool.settings.load_full();
        let Some(permits) = permits(&pool) else {
            return Err(NO_PLACE.to_owned());
        };
        let slot = self.force(&settings.spec.user, &settings.spec.dbname);
        let mut spec = settings.spec.clone();
        spec.route = Arc::new(spec.route.only(&self.target));
        spec.parameters = vec![
            ("search_path", "pg_catalog".to_owned()),
            ("client_encoding", "UTF8".to_owned()),
            ("application_name", beacon(self.id, Peer { holds: 1, wants: 1 })),
        ];
        (spec.log_connections, spec.log_disconnections) = (false, false);
        let id = pools.shared.next_id();
        let who = Identity { id, database: Arc::clone(&pool.key.database), user: Arc::clone(&pool.key.user) };
        let opening = connect(&spec, who, interner, &pools.shared.clock);
        let backend = match timeout(ANSWER, Box::pin(opening)).await {
            Ok(Ok(backend)) => backend,
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("timeout".to_owned()),
        };
        backend.record.set_state(BackendState::Active);
        work.line = Some(Line { backend, _permits: permits, _slot: slot });
        Ok(true)
    }

    /// A pool whose login works.
    fn lender(&self, pools: &Pools) -> Option<Arc<Pool>> {
        let works = |pool: &Arc<Pool>| {
            let counts = pool.counts();
            let works = counts.total > counts.opening && !pool.paused() && !pool.is_closed();
            works && pool.backends().iter().any(|record| record.target == self.target)
        };
        // Where a role or a database has a limit, one more is felt.
        pools.all().into_iter().filter(works).min_by_key(|pool| self.is_bounded(&pool.settings.load()))
    }

    async fn inquire(&self, work: &mut Work, pools: &Pools, own: Peer) -> Result<Facts, String> {
        let Some(line) = &mut work.line else { return Err("no connection".to_owned()) };
        let name = beacon(self.id, own);
        let asked = line.backend.ask(INQUIRY, &name, MOST_ROWS, &pools.shared.interner);
        let answered = match timeout(ANSWER, asked).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("no answer".to_owned()),
        };
        facts(&answered.rows, &self.ours(pools), pools.shared.clock.now())
    }

    /// What we know to be ours at this server.
    fn ours(&self, pools: &Pools) -> Ours {
        let mut ours = Ours { id: self.id, ..Ours::default() };
        let here = |record: &BackendRecord| (record.target == self.target).then_some(record.process_id);
        for pool in pools.all() {
            if pool.settings.load().leads_to(self) {
                ours.opening = ours.opening.saturating_add(pool.counts().opening);
                ours.pids.extend(pool.backends().iter().filter_map(|record| here(record)));
            }
        }
        ours.pids.extend(pools.lookups.backends().iter().filter_map(|record| here(record)));
        ours
    }
}

impl Work {
    fn close(&mut self) {
        if let Some(line) = self.line.take() {
            line.backend.terminate();
        }
    }
}

fn rule(pools: &Pools) -> Rule {
    let general = &pools.config.load().general;
    Rule { budget: general.slot_budget, headroom: general.slot_headroom, most: general.max_server_connections }
}

/// Places under the limits over several pools, where there are some: nobody gives one up for a question.
fn permits(pool: &Pool) -> Option<[Permit; 2]> {
    let settings = pool.settings.load();
    Some([pool.database_cap.acquire(settings.max_db)?, pool.user_cap.acquire(settings.max_user)?])
}
