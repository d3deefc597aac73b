//! The tables of the console: one list of names, columns and types feeds the grammar, Describe, and the rows.
//!
//! Order and types are those of PgBouncer's source: counts are int4, counters of statistics numeric, all else text.
//! Tables that PgBouncer does not have come last.

/// Type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// text
    Text,
    /// int4
    Int4,
    /// int8
    Int8,
    /// numeric
    Numeric,
    /// bytea
    Bytea,
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Column {
    /// Its name.
    pub(super) name: &'static str,
    /// Its type.
    pub(super) kind: Kind,
}

/// A value in a column of whatever type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    /// NULL
    Null,
    /// Text.
    Text(String),
    /// A number.
    Count(u64),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell::Text(text)
    }
}

impl From<u64> for Cell {
    fn from(count: u64) -> Cell {
        Cell::Count(count)
    }
}

impl From<u32> for Cell {
    fn from(count: u32) -> Cell {
        Cell::Count(count.into())
    }
}

impl From<u16> for Cell {
    fn from(count: u16) -> Cell {
        Cell::Count(count.into())
    }
}

impl From<usize> for Cell {
    fn from(count: usize) -> Cell {
        Cell::Count(u64::try_from(count).unwrap_or(u64::MAX))
    }
}

impl From<bool> for Cell {
    fn from(flag: bool) -> Cell {
        Cell::Count(flag.into())
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Cell {
        value.map_or(Cell::Null, Into::into)
    }
}

/// The values of one row.
pub(super) type Row = Vec<Cell>;

/// A [`Row`] of values of several types.
macro_rules! row {
    ($($value:expr),* $(,)?) => { vec![$(crate::admin::columns::Cell::from($value)),*] };
}
pub(super) use row;

macro_rules! shows {
    ($($(#[$doc:meta])* $show:ident $name:literal { $($kind:ident: $($column:ident)*;)* })*) => {
        /// What SHOW shows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Show { $($(#[$doc])* $show,)* }

        impl Show {
            /// All of them.
            pub(super) const ALL: &'static [Show] = &[$(Show::$show),*];

            /// Its name, in lower case.
            pub(super) fn name(self) -> &'static str {
                match self { $(Show::$show => $name,)* }
            }

            /// Its columns; HELP has none.
            pub(super) fn columns(self) -> &'static [Column] {
                match self {
                    $(Show::$show => &[$($(Column { name: stringify!($column), kind: Kind::$kind },)*)*],)*
                }
            }
        }
    };
}

shows! {
    /// How to use the console, as a notice.
    Help "help" {}
    /// The version.
    Version "version" { Text: version; }
    /// Whether everything is paused.
    State "state" { Text: key value; }
    /// The settings.
    Config "config" { Text: key value default changeable; }
    /// The database entries.
    Databases "databases" {
        Text: name host;
        Int4: port;
        Text: database force_user;
        Int4: pool_size min_pool_size reserve_pool_size server_lifetime;
        Text: pool_mode load_balance_hosts;
        Int4: max_connections current_connections max_client_connections current_client_connections paused disabled;
    }
    /// The users.
    Users "users" {
        Text: name pool_size reserve_pool_size pool_mode;
        Int4: max_user_connections current_connections max_user_client_connections current_client_connections;
        Text: secret_source;
    }
    /// The pools.
    Pools "pools" {
        Text: database user;
        Int4: cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req;
        Int4: sv_active sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login;
        Int4: maxwait maxwait_us;
        Text: pool_mode load_balance_hosts;
    }
    /// The clients.
    Clients "clients" {
        Text: type user database replication state addr;
        Int4: port;
        Text: local_addr;
        Int4: local_port;
        Text: connect_time request_time;
        Int4: wait wait_us close_needed;
        Text: ptr link;
        Int4: remote_pid;
        Text: tls application_name;
        Int4: prepared_statements id;
    }
    /// The backends.
    Servers "servers" {
        Text: type user database replication state addr;
        Int4: port;
        Text: local_addr;
        Int4: local_port;
        Text: connect_time request_time;
        Int4: wait wait_us close_needed;
        Text: ptr link;
        Int4: remote_pid;
        Text: tls application_name;
        Int4: prepared_statements id;
    }
    /// Clients and backends, and what their buffers hold.
    Sockets "sockets" {
        Text: type user database replication state addr;
        Int4: port;
        Text: local_addr;
        Int4: local_port;
        Text: connect_time request_time;
        Int4: wait wait_us close_needed;
        Text: ptr link;
        Int4: remote_pid;
        Text: tls application_name;
        Int4: prepared_statements id;
        Int4: recv_pos pkt_pos pkt_remain send_pos send_remain pkt_avail send_avail;
    }
    /// Those of them that are at work.
    ActiveSockets "active_sockets" {
        Text: type user database replication state addr;
        Int4: port;
        Text: local_addr;
        Int4: local_port;
        Text: connect_time request_time;
        Int4: wait wait_us close_needed;
        Text: ptr link;
        Int4: remote_pid;
        Text: tls application_name;
        Int4: prepared_statements id;
        Int4: recv_pos pkt_pos pkt_remain send_pos send_remain pkt_avail send_avail;
    }
    /// The file descriptors.
    Fds "fds" {
        Int4: fd;
        Text: task user database addr;
        Int4: port;
        Int8: cancel;
        Int4: link;
        Text: client_encoding std_strings datestyle timezone password;
        Bytea: scram_client_key scram_server_key;
    }
    /// What takes how much memory.
    Mem "mem" { Text: name; Int4: size used free memtotal; }
    /// How many there are of what.
    Lists "lists" { Text: list; Int4: items; }
    /// Totals and averages per database.
    Stats "stats" {
        Text: database;
        Numeric: total_server_assignment_count total_xact_count total_query_count total_received total_sent;
        Numeric: total_xact_time total_query_time total_wait_time;
        Numeric: total_client_parse_count total_server_parse_count total_bind_count total_client_login_count;
        Numeric: avg_server_assignment_count avg_xact_count avg_query_count avg_recv avg_sent;
        Numeric: avg_xact_time avg_query_time avg_wait_time;
        Numeric: avg_client_parse_count avg_server_parse_count avg_bind_count avg_client_login_count;
    }
    /// Totals per database.
    StatsTotals "stats_totals" {
        Text: database;
        Numeric: server_assignment_count xact_count query_count bytes_received bytes_sent;
        Numeric: xact_time query_time wait_time;
        Numeric: client_parse_count server_parse_count bind_count client_login_count;
    }
    /// Averages per database.
    StatsAverages "stats_averages" {
        Text: database;
        Numeric: server_assignment_count xact_count query_count bytes_received bytes_sent;
        Numeric: xact_time query_time wait_time;
        Numeric: avg_client_parse_count avg_server_parse_count avg_bind_count avg_client_login_count;
    }
    /// Totals and averages over all databases.
    Totals "totals" { Text: name; Numeric: value; }
    /// Other poolers; there are none.
    Peers "peers" { Int4: peer_id; Text: host; Int4: port pool_size; }
    /// Pools of other poolers; there are none.
    PeerPools "peer_pools" {
        Int4: peer_id cl_active_cancel_req cl_waiting_cancel_req sv_active_cancel sv_login;
    }
    /// The host names that were looked up.
    DnsHosts "dns_hosts" { Text: hostname; Int8: ttl; Text: addrs; }
    /// The zones that they are in, where these are followed.
    DnsZones "dns_zones" { Text: zonename; Int8: serial; Int4: count; }
    /// The clients that keep their backend between transactions.
    Pins "pins" {
        Int4: id;
        Text: user database addr;
        Int4: port;
        Text: application_name;
        Int4: server remote_pid;
        Text: features since;
        Int4: age;
        Text: why;
    }
    /// The backends that listen for all clients of a database.
    Listeners "listeners" {
        Text: database host;
        Int4: port;
        Text: state;
        Int4: channels clients remote_pid;
        Int8: delivered dropped losses;
    }
    /// The prepared statements of all clients.
    PreparedStatements "prepared_statements" {
        Int8: id;
        Text: name;
        Int4: bytes clients servers;
        Int8: parses hits;
        Text: query;
    }
    /// The connection slots of each PostgreSQL server, and the pools' parts of them.
    Budget "budget" {
        Text: server database user slot_budget;
        Int4: max_connections superuser_reserved reserved rds_reserved headroom others peers peers_hold;
        Int4: ours share idle waiting percent shrunk;
        Int8: refused;
        Text: last_refused last_refusal;
        Int4: max_wal_senders;
        Text: pending_restart asked trouble;
    }
    /// Who holds backends.
    Holders "holders" {
        Int4: client_id;
        Text: user database addr;
        Int4: port;
        Text: application_name;
        Int4: server_id server_pid;
        Text: server since;
        Int8: held;
        Text: state pinned fingerprint query;
    }
}
