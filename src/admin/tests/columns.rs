//! Each SHOW has PgBouncer's columns: names, order, types. Those of our own have what the documentation says.

use std::sync::atomic::Ordering::Relaxed;

use super::commands::{busy, lent};
use super::*;
use crate::admin::columns::{Cell, Kind, Show};
use crate::admin::show::show;
use crate::backend::{Key, Origin, Prepared, Statement};
use crate::pool::Pin;
use crate::sql;

const SOCKETS: &str = "type user database replication state addr port:i local_addr local_port:i connect_time \
                       request_time wait:i wait_us:i close_needed:i ptr link remote_pid:i tls application_name \
                       prepared_statements:i id:i";

const DEBUGGED: &str = "type user database replication state addr port:i local_addr local_port:i connect_time \
                        request_time wait:i wait_us:i close_needed:i ptr link remote_pid:i tls application_name \
                        prepared_statements:i id:i recv_pos:i pkt_pos:i pkt_remain:i send_pos:i send_remain:i \
                        pkt_avail:i send_avail:i";

/// PgBouncer's columns; `:i` is int4, `:q` int8, `:n` numeric, `:b` bytea, else text.
const REFERENCE: &[(&str, &str)] = &[
    ("help", ""),
    ("version", "version"),
    ("state", "key value"),
    ("config", "key value default changeable"),
    (
        "databases",
        "name host port:i database force_user pool_size:i min_pool_size:i reserve_pool_size:i server_lifetime:i \
         pool_mode load_balance_hosts max_connections:i current_connections:i max_client_connections:i \
         current_client_connections:i paused:i disabled:i",
    ),
    (
        "users",
        "name pool_size reserve_pool_size pool_mode max_user_connections:i current_connections:i \
         max_user_client_connections:i current_client_connections:i secret_source",
    ),
    (
        "pools",
        "database user cl_active:i cl_waiting:i cl_active_cancel_req:i cl_waiting_cancel_req:i sv_active:i \
         sv_active_cancel:i sv_being_canceled:i sv_idle:i sv_used:i sv_tested:i sv_login:i maxwait:i maxwait_us:i \
         pool_mode load_balance_hosts",
    ),
    ("clients", SOCKETS),
    ("servers", SOCKETS),
    ("sockets", DEBUGGED),
    ("active_sockets", DEBUGGED),
    (
        "fds",
        "fd:i task user database addr port:i cancel:q link:i client_encoding std_strings datestyle timezone password \
         scram_client_key:b scram_server_key:b",
    ),
    ("mem", "name size:i used:i free:i memtotal:i"),
    ("lists", "list items:i"),
    (
        "stats",
        "database total_server_assignment_count:n total_xact_count:n total_query_count:n total_received:n \
         total_sent:n total_xact_time:n total_query_time:n total_wait_time:n total_client_parse_count:n \
         total_server_parse_count:n total_bind_count:n total_client_login_count:n avg_server_assignment_count:n \
         avg_xact_count:n avg_query_count:n avg_recv:n avg_sent:n avg_xact_time:n avg_query_time:n avg_wait_time:n \
         avg_client_parse_count:n avg_server_parse_count:n avg_bind_count:n avg_client_login_count:n",
    ),
    (
        "stats_totals",
        "database server_assignment_count:n xact_count:n query_count:n bytes_received:n bytes_sent:n xact_time:n \
         query_time:n wait_time:n client_parse_count:n server_parse_count:n bind_count:n client_login_count:n",
    ),
    (
        "stats_averages",
        "database server_assignment_count:n xact_count:n query_count:n bytes_received:n bytes_sent:n xact_time:n \
         query_time:n wait_time:n avg_client_parse_count:n avg_server_parse_count:n avg_bind_count:n \
         avg_client_login_count:n",
    ),
    ("totals", "name value:n"),
    ("peers", "peer_id:i host port:i pool_size:i"),
    ("peer_pools", "peer_id:i cl_active_cancel_req:i cl_waiting_cancel_req:i sv_active_cancel:i sv_login:i"),
    ("dns_hosts", "hostname ttl:q addrs"),
    ("dns_zones", "zonename serial:q count:i"),
    // Not PgBouncer's.
    ("pins", "id:i user database addr port:i application_name server:i remote_pid:i features since age:i why"),
    ("listeners", "database host port:i state channels:i clients:i remote_pid:i delivered:q dropped:q losses:q"),
    ("prepared_statements", "id:q name bytes:i clients:i servers:i parses:q hits:q query"),
    (
        "budget",
        "server database user slot_budget max_connections:i superuser_reserved:i reserved:i rds_reserved:i headroom:i \
         others:i peers:i peers_hold:i ours:i share:i idle:i waiting:i percent:i shrunk:i refused:q last_refused \
         last_refusal max_wal_senders:i pending_restart asked trouble",
    ),
    (
        "holders",
        "client_id:i user database addr port:i application_name server_id:i server_pid:i server since held:q state \
         pinned fingerprint query",
    ),
];

#[test]
fn names_and_types_are_pgbouncers() {
    let ours: Vec<(String, String)> = Show::ALL
        .iter()
        .map(|show| {
            let column = |column: &crate::admin::columns::Column| match column.kind {
                Kind::Text => column.name.to_owned(),
                Kind::Int4 => format!("{}:i", column.name),
                Kind::Int8 => format!("{}:q", column.name),
                Kind::Numeric => format!("{}:n", column.name),
                Kind::Bytea => format!("{}:b", column.name),
            };
            (show.name().to_owned(), show.columns().iter().map(column).collect::<Vec<_>>().join(" "))
        })
        .collect();
    let reference: Vec<(String, String)> =
        REFERENCE.iter().map(|(name, columns)| ((*name).to_owned(), (*columns).to_owned())).collect();
    assert_eq!(ours, reference);
}

#[tokio::test]
async fn rows_fit_their_columns() {
    let pooler = Pooler::new();
    let database = pooler.pools.config.load().database("two").unwrap();
    pooler.pools.pool(&database, "alice");
    let client = pooler.client("alice", "two");
    client.record().admit(1);
    client.record().set_pin(Some(Pin { features: vec!["listen"], since: 1, why: "".into() }));
    let _statement = prepared(&pooler, b"select 1\0\0\0");
    let context = pooler.context();
    for shown in Show::ALL {
        for row in show(*shown, &context).rows {
            assert_eq!(row.len(), shown.columns().len(), "{shown:?}");
            for (cell, column) in row.iter().zip(shown.columns()) {
                let fits = match cell {
                    Cell::Null => true,
                    Cell::Text(_) => column.kind == Kind::Text,
                    Cell::Count(_) => column.kind != Kind::Text,
                };
                assert!(fits, "{shown:?} {} {cell:?}", column.name);
            }
        }
    }
}

#[tokio::test]
async fn tables_show_what_there_is() {
    let pooler = Pooler::new();
    let two = pooler.pools.config.load().database("two").unwrap();
    let pool = pooler.pools.pool(&two, "alice");
    let clients: Vec<_> = (0..3).map(|_| pooler.client("alice", "two")).collect();
    for client in &clients {
        client.record().join(&pool);
    }
    clients[0].record().admit(1);
    clients[1].record().admit(1);
    clients[1].record().enter(crate::pool::Phase::Waiting, 1);
    let mut console = pooler.console(Role::Stats).await;

    let pools = console.rows("SHOW POOLS").await;
    assert_eq!(pools[1][..4], ["two", "forced", "1", "1"], "the third is still logging in");
    assert_eq!(pools[1][15..], ["transaction", "-"]);
    assert_eq!(pools[0][..4], ["pgbouncer", "pgbouncer", "1", "0"]);
    assert_eq!(pools[0][15], "statement");

    let databases = console.rows("SHOW DATABASES").await;
    let columns = |row: &Vec<String>| row[..5].join(" ");
    assert_eq!(
        databases.iter().map(columns).collect::<Vec<_>>(),
        ["one 10.0.0.1 5432 one -", "pgbouncer - 6500 pgbouncer pgbouncer", "two - 5432 second forced"]
    );
    assert_eq!(databases[0][9], "session");
    assert_eq!(databases[2][11], "7");

    let users = console.rows("SHOW USERS").await;
    assert_eq!(users[0][..4], ["alice", "        3", "", "statement"]);
    assert_eq!(
        users.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(),
        ["alice", "forced", "operator", "pgbouncer"]
    );

    let shown = console.rows("SHOW CLIENTS").await;
    assert_eq!(shown.iter().map(|row| row[4].as_str()).collect::<Vec<_>>(), ["idle", "waiting", "idle"]);
    assert_eq!(shown[0][..4], ["C", "alice", "two", "none"]);
    assert_eq!(shown[0][5..9], ["192.0.2.1", "5000", "192.0.2.2", "6432"]);
    assert!(shown[0][9].ends_with(" UTC") && shown[0][9].len() == 23, "{}", shown[0][9]);
    assert_eq!((shown[0][14].as_str(), shown[0][20].as_str()), ("0x000000000001", "1"));
    assert_eq!(shown[2][2], "pgbouncer");

    let lists = console.rows("SHOW LISTS").await;
    let items: Vec<String> = lists.iter().map(|row| row.join(" ")).collect();
    assert_eq!(items[..4], ["databases 3", "users 4", "peers 0", "pools 2"]);
    assert_eq!(items[6..8], ["used_clients 4", "login_clients 1"]);
    assert_eq!(items.len(), 14);

    let config = console.rows("SHOW CONFIG").await;
    assert!(config.contains(&["listen_port", "6500", "6432", "no"].map(str::to_owned).to_vec()));
    let stats = console.rows("SHOW STATS_TOTALS").await;
    assert_eq!(stats[0][0], "pgbouncer");
    assert_eq!(stats[0][3], "6", "the console counts its own queries");
    assert!(console.rows("SHOW SERVERS").await.is_empty());
    let state: Vec<String> = console.rows("SHOW STATE").await.iter().map(|row| row.join(" ")).collect();
    assert_eq!(state[..3], ["active yes", "paused no", "suspended no"]);
    let statements =
        ["prepared_statements 0", "prepared_statement_bytes 0", "prepared_statement_bytes_limit 268435456"];
    assert_eq!(state[3..6], statements);
    assert_eq!(state[6..8], ["stale_plans 0", "repeated_batches 0"]);
    assert_eq!(state[8..], ["tls_handshakes 0", "tls_handshakes_resumed 0", "tls_handshakes_failed 0"]);
}

fn prepared(pooler: &Pooler, body: &[u8]) -> Arc<Statement> {
    let key = Key { origin: Origin::Protocol, setting: 0, body };
    let script = || sql::read(body, sql::Dialect::default());
    pooler.pools.shared.statements.intern(key, usize::MAX, script).unwrap()
}

#[tokio::test]
async fn sockets_are_shown_from_the_login_on_and_by_what_they_do() {
    let (pooler, listener) = busy().await;
    let (pool, lease) = lent(&pooler, &listener).await;
    let clients: Vec<_> = (0..4).map(|_| pooler.client("alice", "busy")).collect();
    for client in &clients[1..] {
        client.record().join(&pool);
        client.record().admit(1);
    }
    clients[2].record().enter(crate::pool::Phase::Waiting, 1);
    clients[3].record().enter(crate::pool::Phase::Running, 1);
    clients[3].record().set_link(Some(&lease.backend().record));
    clients[3].record().descriptor.store(40, Relaxed);
    lease.link(clients[3].record(), 1);
    let mut console = pooler.console(Role::Admin).await;
    let states = |rows: &[Vec<String>]| rows.iter().map(|row| row[4].clone()).collect::<Vec<_>>();
    let all = console.rows("SHOW SOCKETS").await;
    assert_eq!(states(&all), ["cl_login", "cl_active", "cl_waiting", "cl_active", "cl_active", "sv_active"]);
    assert_eq!((all[0][0].as_str(), all[5][0].as_str(), all[5][21..].concat()), ("C", "S", "0000000".to_owned()));
    let at_work = console.rows("SHOW ACTIVE_SOCKETS").await;
    assert_eq!(states(&at_work), ["cl_waiting", "cl_active", "cl_active", "sv_active"], "one is the console's");

    let fds = console.rows("SHOW FDS").await;
    let backend = lease.backend().record.descriptor.to_string();
    assert_eq!(fds[0][..8], ["7", "pooler", "-", "-", "127.0.0.1", "6432", "-", "0"]);
    assert_eq!(fds[4][..8], ["40", "client", "alice", "busy", "192.0.2.1", "5000", "-", &backend]);
    assert_eq!(fds[5][..4], [&backend, "server", "alice", "busy"]);
    assert_eq!((fds[5][7].as_str(), fds.len()), ("40", 6), "the console is not there");
    assert!(fds.iter().all(|row| row[6] == "-" && row[12..].concat() == "---"), "no key and no secret");
    let mut looker = pooler.console(Role::Stats).await;
    assert_eq!(looker.tag("SHOW FDS").await, "08P01 admin access needed");
    assert_eq!(looker.tag("SHOW SOCKETS").await, "SHOW");

    let mem = console.rows("SHOW MEM").await;
    let of = |name: &str| mem.iter().find(|row| row[0] == name).unwrap()[2].clone();
    assert_eq!([of("db_cache"), of("pool_cache"), of("server_cache"), of("client_cache")], ["1", "1", "1", "6"]);
    for row in &mem[..6] {
        let [size, used, free, total] = [1, 2, 3, 4].map(|at: usize| row[at].parse::<u64>().unwrap());
        assert_eq!(size * (used + free), total, "{row:?}");
    }
}

#[tokio::test]
async fn statements_are_shown_with_their_texts() {
    let pooler = Pooler::new();
    let mut console = pooler.console(Role::Stats).await;
    assert!(console.rows("SHOW PREPARED_STATEMENTS").await.is_empty());
    let all = [b"select 1\0\0\0", b"select 2\0\0\0", b"select 1\0\0\0"].map(|body| prepared(&pooler, body));
    (0..3).for_each(|_| all[0].add_client());
    let mut backend = Prepared::default();
    backend.insert(Arc::clone(&all[0]));
    all[0].hits.store(7, Relaxed);
    let rows = console.rows("SHOW PREPARED_STATEMENTS").await;
    let bytes = all[0].bytes().to_string();
    let name = std::str::from_utf8(&all[0].name).unwrap();
    let one = [all[0].id.to_string().as_str(), name, &bytes, "3", "1", "2", "7", "select 1"].map(str::to_owned);
    assert_eq!(rows[0], one);
    assert_eq!((rows.len(), rows[1][7].as_str()), (2, "select 2"));
    let state = console.rows("SHOW STATE").await;
    assert_eq!(state[3], ["prepared_statements", "2"]);
    assert_eq!(state[4][1], (all[0].bytes() + all[1].bytes()).to_string());
}

#[tokio::test]
async fn pins_are_shown_with_their_reasons() {
    let pooler = Pooler::new();
    let mut console = pooler.console(Role::Stats).await;
    assert!(console.rows("SHOW PINS").await.is_empty());
    let clients: Vec<_> = (0..3).map(|_| pooler.client("alice", "two")).collect();
    let now = pooler.pools.shared.clock.now();
    let pin = |features, since, why: &str| Some(Pin { features, since, why: why.into() });
    clients[0].record().set_pin(pin(vec!["listen"], now, "LISTEN"));
    clients[2].record().set_pin(pin(vec!["temp_tables", "advisory_locks"], 0, "CREATE TEMP TABLE"));
    let pins = console.rows("SHOW PINS").await;
    let ids: Vec<String> = [2, 0].map(|client: usize| clients[client].record().id.to_string()).into();
    assert_eq!(pins.iter().map(|row| row[0].clone()).collect::<Vec<_>>(), ids, "the oldest comes first");
    assert_eq!(pins[0][1..8], ["alice", "two", "192.0.2.1", "5000", "", "-", "-"]);
    assert_eq!(pins[0][8], "temp_tables, advisory_locks");
    assert!(pins[0][9].ends_with(" UTC"), "{}", pins[0][9]);
    assert_eq!(pins[0][10..], ["0", "CREATE TEMP TABLE"]);
    clients[2].record().set_pin(None);
    assert_eq!(console.rows("SHOW PINS").await.len(), 1);
}

#[tokio::test]
async fn a_pin_names_its_backend() {
    let (pooler, listener) = busy().await;
    let (pool, lease) = lent(&pooler, &listener).await;
    let listed = pooler.client("alice", "busy");
    let (client, backend) = (listed.record(), &lease.backend().record);
    client.join(&pool);
    client.set_link(Some(backend));
    client.set_pin(Some(Pin { features: vec!["cursors"], since: 1, why: "".into() }));
    let mut console = pooler.console(Role::Admin).await;
    let pins = console.rows("SHOW PINS").await;
    assert_eq!(pins[0][6..9], [backend.id.to_string().as_str(), "0", "cursors"]);
}
