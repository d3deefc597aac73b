//! SHOW: which rows each table has, and the small tables.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;

use super::columns::{Row, Show, row};
use super::{
    Context, budget, databases, descriptors, fakes, holders, listeners, memory, peers, pins, sockets, statements, users,
};
use crate::config::{Config, Shown};
use crate::pool::{Pools, lifetimes};
use crate::wire::write::Report;

/// What a command answers.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Its rows.
    pub(super) rows: Vec<Row>,
    /// Notices before them.
    pub(super) notices: Vec<Report>,
    /// Its command tag.
    pub(super) tag: String,
}

impl Answer {
    /// No rows, just the tag.
    pub(super) fn tag(tag: impl Into<String>) -> Answer {
        Answer { tag: tag.into(), ..Answer::default() }
    }

    /// Rows of a SHOW.
    pub(super) fn rows(rows: Vec<Row>) -> Answer {
        Answer { rows, ..Answer::tag("SHOW") }
    }

    /// A notice and the tag.
    pub(super) fn notice(report: Report, tag: &str) -> Answer {
        Answer { notices: vec![report], ..Answer::tag(tag) }
    }
}

/// What SHOW HELP tells.
pub(super) const USAGE: &str = "
\tSHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|USERS|VERSION
\tSHOW PEERS|PEER_POOLS
\tSHOW FDS|SOCKETS|ACTIVE_SOCKETS|LISTS|MEM|STATE
\tSHOW BUDGET|HOLDERS
\tSHOW PINS|LISTENERS|PREPARED_STATEMENTS
\tSHOW DNS_HOSTS|DNS_ZONES
\tSHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS
\tSET key = arg
\tRELOAD
\tPAUSE [<db>]
\tRESUME [<db>]
\tDISABLE <db>
\tENABLE <db>
\tRECONNECT [<db>]
\tKILL [<db>]
\tKILL_CLIENT <client_id>
\tSUSPEND
\tSHUTDOWN
\tSHUTDOWN WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS|DRAIN
\tWAIT_CLOSE [<db>]";

/// The answer to a SHOW.
pub(super) fn show(show: Show, context: &Context) -> Answer {
    let pools = &context.pools;
    let rows = match show {
        Show::Help => {
            return Answer::notice(Report::new("NOTICE", "00000", "Console usage").detail(USAGE), "SHOW");
        }
        Show::Version => vec![row![fakes::VERSION]],
        Show::State => state(context),
        Show::Config => config(context),
        Show::Databases => databases::rows(pools),
        Show::Users => users::rows(pools),
        Show::Pools => sockets::pools(pools),
        Show::Clients => sockets::clients(pools),
        Show::Servers => sockets::servers(pools),
        Show::Sockets => sockets::sockets(pools, false),
        Show::ActiveSockets => sockets::sockets(pools, true),
        Show::Fds => descriptors::rows(context),
        Show::Mem => memory::rows(context),
        Show::Lists => lists(context),
        Show::Stats => context.stats.rows(pools),
        Show::StatsTotals => context.stats.total_rows(pools),
        Show::StatsAverages => context.stats.average_rows(pools),
        Show::Totals => context.stats.sum_rows(pools),
        Show::Pins => pins::rows(pools),
        Show::Budget => budget::rows(pools),
        Show::Holders => holders::rows(pools),
        Show::Listeners => listeners::rows(pools),
        Show::PreparedStatements => statements::rows(pools),
        Show::Peers => peers::peers(pools),
        Show::PeerPools => peers::pools(context),
        Show::DnsHosts => names(pools),
        Show::DnsZones => zones(pools),
    };
    Answer::rows(rows)
}

fn yes_no(flag: bool) -> &'static str {
    if flag { "yes" } else { "no" }
}

fn state(context: &Context) -> Vec<Row> {
    let (paused, suspended) = (context.pools.all_paused(), context.pools.is_suspended());
    let mut rows = vec![
        row!["active", yes_no(!paused && !suspended)],
        row!["paused", yes_no(paused)],
        row!["suspended", yes_no(suspended)],
    ];
    rows.extend(statements::totals(&context.pools));
    let tls = &context.pools.tls_counts;
    for (name, count) in [
        ("tls_handshakes", &tls.handshakes),
        ("tls_handshakes_resumed", &tls.resumed),
        ("tls_handshakes_failed", &tls.failed),
    ] {
        rows.push(row![name, count.load(Relaxed).to_string()]);
    }
    rows
}

fn config(context: &Context) -> Vec<Row> {
    let shown = context.pools.config.load().shown();
    // PgBouncer has no value where nothing is set and there is no default.
    let cell = |key: &str, text: String| Some(text).filter(|text| !(text.is_empty() && Config::has_no_default(key)));
    let row = |row: Shown| row![row.key, cell(row.key, row.value), cell(row.key, row.default), yes_no(row.changeable)];
    shown.into_iter().map(row).collect()
}

/// The host names that were looked up, with their addresses, whose port PgBouncer shows as 0.
fn names(pools: &Pools) -> Vec<Row> {
    let shown = pools.shared.names.shown(lifetimes(&pools.config.load().general), pools.shared.clock.now());
    let text = |addresses: Vec<SocketAddr>| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    shown.into_iter().map(|(host, ttl, addresses)| row![host, ttl, text(addresses)]).collect()
}

/// The zones of those names, while dns_zone_check_period has them followed.
fn zones(pools: &Pools) -> Vec<Row> {
    pools.shared.zones.shown().into_iter().map(|zone| row![zone.zone, zone.serial, zone.hosts]).collect()
}

fn lists(context: &Context) -> Vec<Row> {
    let pools = &context.pools;
    let all = pools.all();
    let backends: u32 = all.iter().map(|pool| pool.counts().total).sum();
    let lookups = pools.lookups.backends().len();
    // Those that have not said who they are, or not proved it, are not listed yet.
    let (listed, login) = (pools.clients.all(), context.control.arriving());
    let unlisted = login.saturating_sub(listed.iter().filter(|client| !client.admitted()).count());
    vec![
        row!["databases", databases::names(pools).len() + 1],
        row!["users", users::names(pools).len()],
        row!["peers", pools.config.load().peers.len()],
        // The console's own is one of them.
        row!["pools", sockets::pool_count(pools)],
        row!["peer_pools", pools.config.load().peers.len()],
        row!["free_clients", 0u32],
        row!["used_clients", listed.len() + unlisted],
        row!["login_clients", login],
        row!["free_servers", 0u32],
        row!["used_servers", backends as usize + lookups],
        row!["dns_names", names(pools).len()],
        row!["dns_zones", zones(pools).len()],
        row!["dns_queries", 0u32],
        row!["dns_pending", 0u32],
    ]
}
