//! `/status.json`: what the page shows.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::health::end_described;
use super::json::Json;
use super::scene::{Scene, Shown};
use super::trend::Trend;
use crate::net::{Clock, Micros};
use crate::pool::{ClientRecord, Phase, Pools};
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
        json.field("holders").array(holders(&proxy.pools), |json, client| holder(json, &client, scene.at));
        // Without the size of the whole there is nothing to draw.
        let servers = scene.budget.servers.iter().filter_map(|server| Some((server, server.max?)));
        json.field("servers").array(servers, |json, (server, max)| {
            json.object(|json| {
                json.field("name").string(&server.name);
                for (name, value) in [
                    ("max", max),
                    ("reserved", server.reserved.unwrap_or(0)),
                    ("others", server.others.unwrap_or(0)),
                    ("ours", server.ours),
                    ("budget", server.budget.unwrap_or(max)),
                ] {
                    json.field(name).whole(value);
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

/// Clients that hold a backend, the oldest lease first.
fn holders(pools: &Pools) -> Vec<Arc<ClientRecord>> {
    let mut holders = pools.clients.those(|client| client.link() != 0);
    holders.sort_by_cached_key(|client| client.transaction_since.load(Relaxed));
    holders.truncate(HOLDERS);
    holders
}

fn holder(json: &mut Json, client: &ClientRecord, now: Micros) {
    let who = &client.identity;
    let doing = match client.phase() {
        Phase::Running => "running a query",
        Phase::InTransaction => "idle in transaction",
        Phase::Idle if client.pin().is_some() => "pinned",
        Phase::Login | Phase::Idle | Phase::Waiting => "idle in its session",
    };
    let backend = client.pool().and_then(|pool| pool.backend(client.link()));
    json.object(|json| {
        json.field("client").whole(client.id);
        json.field("database").string(&who.database);
        json.field("user").string(&who.user);
        json.field("application").string(&client.application_name());
        json.field("peer").string(&who.peer.to_string());
        json.field("doing").string(doing);
        json.field("held_s").real(Clock::between(client.transaction_since.load(Relaxed), now).as_secs_f64());
        json.field("phase_s").real(Clock::between(client.since.load(Relaxed), now).as_secs_f64());
        json.field("pid").whole(backend.map_or(0, |backend| backend.process_id));
    });
}
