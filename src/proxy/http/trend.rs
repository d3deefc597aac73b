//! The last minutes, for the page: what was counted and what there was, looked at every few seconds.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::json::Json;
use crate::metrics::Totals;
use crate::net::Micros;
use crate::pool::Pools;

/// Time between two looks.
pub(super) const STEP: Duration = Duration::from_secs(2);
/// Looks that are kept: five minutes.
const KEPT: usize = 151;

/// The looks, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Trend(Mutex<VecDeque<Look>>);

#[derive(Clone, Copy, Debug, Default)]
struct Look {
    at: Micros,
    totals: Totals,
    waiting: u32,
    active: u32,
    open: u32,
}

impl Trend {
    /// Looks at the pools.
    pub(super) fn look(&self, pools: &Pools) {
        let at = pools.shared.clock.now();
        let mut look = Look { at, ..Look::default() };
        for pool in pools.all() {
            let seen = pool.glance(at);
            look.totals = look.totals.plus(pool.counters.totals());
            look.waiting = look.waiting.saturating_add(seen.waiting);
            look.active = look.active.saturating_add(seen.active);
            look.open = look.open.saturating_add(seen.open);
        }
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        looks.push_back(look);
        if looks.len() > KEPT {
            looks.pop_front();
        }
    }

    /// Writes what was seen, as arrays of equal length, the latest last; rates are those between two looks.
    pub(super) fn write(&self, json: &mut Json) {
        let looks: Vec<Look> = self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        let steps: Vec<(Totals, f64, Look)> = looks
            .windows(2)
            .filter_map(|pair| match pair {
                [before, after] => {
                    let seconds = after.at.saturating_sub(before.at) as f64 / 1e6;
                    Some((after.totals.since(before.totals), seconds.max(0.001), *after))
                }
                _ => None,
            })
            .collect();
        json.object(|json| {
            json.field("step").whole(STEP.as_secs());
            let mut series = |name: &str, value: &dyn Fn(&(Totals, f64, Look)) -> f64| {
                json.field(name).array(&steps, |json, step| json.real(value(step)));
            };
            let each = |time: u64, count: u64| if count == 0 { 0.0 } else { time as f64 / count as f64 / 1000.0 };
            series("transactions", &|(delta, seconds, _)| delta.xact_count as f64 / seconds);
            series("queries", &|(delta, seconds, _)| delta.query_count as f64 / seconds);
            series("received", &|(delta, seconds, _)| delta.received as f64 / seconds);
            series("sent", &|(delta, seconds, _)| delta.sent as f64 / seconds);
            series("query_ms", &|(delta, ..)| each(delta.query_time, delta.query_count));
            series("wait_ms", &|(delta, ..)| each(delta.wait_time, delta.server_assignment_count));
            series("waiting", &|(.., look)| look.waiting.into());
            series("active", &|(.., look)| look.active.into());
            series("open", &|(.., look)| look.open.into());
        });
    }
}
