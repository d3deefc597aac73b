//! The files that both are given.

/// What PgBouncer 1.18 understands.
pub(super) const FILE: &str = "\
;; everything that a file may have
[databases]
app = host=127.0.0.1 port=SERVER dbname=app pool_size=3
forced = host=127.0.0.1 port=SERVER dbname=app user=bob password='bobpw' pool_mode=session
# behind the socket in unix_socket_dir
socket = port=SERVER dbname='app'
rejected = host=127.0.0.1 port=SERVER dbname=app
greeted = host=127.0.0.1 port=SERVER dbname=app connect_query='set lock_timeout = ''7s''' application_name=shop
* = host=127.0.0.1 port=SERVER

[users]
carol = pool_mode=session max_user_connections=2
%include more.ini
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = LISTEN
unix_socket_dir = SOCKETS
pool_mode = transaction
max_client_conn = 0100
default_pool_size = 0x7
auth_type = hba
auth_hba_file = hba.conf
auth_file = userlist.txt
admin_users = postgres, boss
stats_users = alice
ignore_startup_parameters = extra_float_digits
server_idle_timeout = 600.5
server_check_query = select 1
server_check_delay = 1e1
log_stats = 0
pkt_buf = 8192
pkt_buf = 4096
";

/// What has come with 1.19 to 1.24; goes on in `[pgbouncer]`, which another one would begin anew.
///
/// Without a general client_idle_timeout that of one user has PgBouncer 1.24 send every idle client away.
pub(super) const NEWER: &str = "\
peer_id = 1
max_db_client_connections = 60
max_user_client_connections = 50
max_prepared_statements = 150
track_extra_parameters = IntervalStyle, search_path
reserve_pool_timeout = 0.3
client_idle_timeout = 600
[databases]
balanced = host=127.0.0.1,SOCKETS port=SERVER dbname=app
sticky = host=127.0.0.1,SOCKETS port=SERVER dbname=app load_balance_hosts=disable
lasting = host=127.0.0.1 port=SERVER dbname=app server_lifetime=60 reserve_pool_size=2
few = host=127.0.0.1 port=SERVER dbname=app max_db_client_connections=1
looked = host=127.0.0.1 port=SERVER auth_user=postgres auth_dbname=app dbname=app
named = host=127.0.0.1 port=SERVER dbname=app pool_size=2
[users]
hasty = query_timeout=1
idler = client_idle_timeout=1
sleeper = idle_transaction_timeout=1
single = max_user_client_connections=1
narrow = pool_size=1 reserve_pool_size=1
[peers]
1 = host=127.0.0.1 port=LISTEN
2 = host=/nowhere port=6433 pool_size=3
";

/// What has come with 1.25 and 1.26, in the same way before [`NEWER`].
pub(super) const NEWEST: &str = "\
transaction_timeout = 600
query_wait_notify = 0
scram_iterations = 5000
pool_idle_timeout = 3600
login_notify_message = welcome
";

/// The same of databases and users, behind it.
pub(super) const NEWEST_ENTRIES: &str = "\
[databases]
brief = host=127.0.0.1 port=SERVER dbname=app pool_size=1 query_wait_timeout=1
nulls = host=127.0.0.1 port=SERVER dbname=app auth_user=postgres auth_query='select null::text, null::text where $1::text is not null' auth_dbname=app
[users]
patient = query_wait_timeout=1 pool_size=1
hurried = transaction_timeout=1
";

pub(super) const MORE: &str =
    "trusty = pool_mode=statement\n[databases]\nincluded = host=127.0.0.1 port=SERVER dbname=app min_pool_size=0\n";

pub(super) const USERS: &str = "\
; what both sides know
\"alice\" \"alicepw\"
\"bob\" \"bobpw\" \"\"
\"carol\" \"carolpw\"
\"trusty\" \"trustypw\"
\"postgres\" \"postgrespw\"
\"hasty\" \"hastypw\"
\"idler\" \"idlerpw\"
\"sleeper\" \"sleeperpw\"
\"single\" \"singlepw\"
\"narrow\" \"narrowpw\"
\"patient\" \"patientpw\"
\"hurried\" \"hurriedpw\"
";

/// Roles that only tests of this file have; PostgreSQL alone knows the last.
pub(super) const ROLES: [&str; 8] = ["hasty", "idler", "sleeper", "single", "narrow", "patient", "hurried", "looker"];

pub(super) const RULES: &str = "\
# type  database  user      address        method
local   all       postgres                 trust
host    rejected  all       127.0.0.1/32   reject
host    all       trusty    127.0.0.1/32   trust
host    all       postgres  127.0.0.1/32   trust
host    replication postgres 127.0.0.1/32  trust
host    app,forced all      127.0.0.1 255.255.255.255 md5
host    all       all       127.0.0.1/32   scram-sha-256
";
