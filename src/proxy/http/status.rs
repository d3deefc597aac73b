//! `/status.json`: what the page shows.

use std::sync::atomic::Ordering::Relaxed;

use super::health::end_described;
use super::json::Json;
use super::scene::{Scene, Shown};
use super::trend::Trend;
use crate::net::{Clock, Micros};
use crate::pool::{Holder, Holding, Pools, holders};
use crate::proxy::Proxy;

/// Most holders that are shown.
const HOLDERS: usize = 20;

pub(super) fn status(proxy: &Proxy, scene: &Scene, trend: &Trend) -> String {
    let mut json = Json::default();
    let events = &proxy.pools.shared.events;
    json.object(|json| {
        json.field("version").string(env!("CARGO_PKG_VERSION"));
        json.field("pid").whole(std::process::id());
        json.field("uptime").whole(scene.at / 1_000_000);
        json.field("state").string(match proxy.ending_now() {
            Some(how) => end_described(how),
            None if scene.suspended => "suspended",
            None if scene.paused => "paused",
            None => "serving",
        });
        json.field("clients").whole(scene.clients);
        json.field("clients_max").whole(scene.most_clients);
        json.field("resident").whole(scene.process.resident.unwrap_or(0));
        json.field("login_failures").whole(events.login_failures.counts().map(|(_, count)| count).sum::<u64>());
        json.field("errors").whole(events.errors.counts().map(|(_, count)| count).sum::<u64>());
        json.field("pools_all").whole(scene.all_pools as u64);
        json.field("pools").array(&scene.pools, pool);
        let all = holders(&proxy.pools, None);
        json.field("holders_all").whole(all.len() as u64);
        json.field("holders")
            .array(all.iter().take(HOLDERS), |json, holder| shown(json, &proxy.pools, holder, scene.at));
        json.field("servers").array(&scene.budget.servers, |json, server| {
            json.object(|json| {
                json.field("name").string(&server.name);
                json.field("ours").whole(server.ours);
                for (name, value) in [
                    ("max", server.max),
                    ("reserved", server.reserved),
                    ("others", server.others),
                    ("budget", server.budget),
                ] {
                    if let Some(value) = value {
                        json.field(name).whole(value);
                    }
                }
                json.field("shrunk").truth(server.shrunk);
            });
        });
        trend.write(json.field("trend"));
    });
    json.finish()
}

fn pool(json: &mut Json, pool: &Shown) {
    let Shown { glance, counted, .. } = pool;
    json.object(|json| {
        json.field("database").string(&pool.database);
        json.field("user").string(&pool.user);
        json.field("mode").string(pool.mode);
        json.field("size").whole(pool.size);
        for (name, value) in [
            ("clients", glance.clients),
            ("waiting", glance.waiting),
            ("active", glance.active),
            ("idle", glance.idle + glance.used),
            ("opening", glance.opening),
            ("open", glance.open),
            ("pinned", glance.pinned),
        ] {
            json.field(name).whole(value);
        }
        json.field("failing").truth(glance.failing);
        json.field("wait_us").whole(pool.longest_wait);
        json.field("transactions").whole(counted.totals.xact_count);
        json.field("transaction_us").whole(counted.totals.xact_time);
    });
}

fn shown(json: &mut Json, pools: &Pools, holder: &Holder, now: Micros) {
    let (client, backend) = (&holder.client, &holder.backend);
    let who = &client.identity;
    json.object(|json| {
        json.field("client").whole(client.id);
        json.field("database").string(&who.database);
        json.field("user").string(&who.user);
        json.field("application").string(&client.application_name());
        json.field("peer").string(&who.peer.to_string());
        json.field("doing").string(holder.state.words());
        json.field("held_s").real(Clock::between(holder.since, now).as_secs_f64());
        json.field("phase_s").real(Clock::between(client.since.load(Relaxed), now).as_secs_f64());
        json.field("pid").whole(backend.process_id);
        json.field("leak").truth(is_leak(pools, holder, now));
    });
}

/// Whether it has lasted for longer than `leak_threshold`.
fn is_leak(pools: &Pools, holder: &Holder, now: Micros) -> bool {
    let limit = pools.config.load().general.leak_threshold;
    !limit.is_zero() && holder.state != Holding::Replicating && Clock::between(holder.since, now) > limit
}
