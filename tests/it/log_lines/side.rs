//! A pooler with the file of these tests, whichever of the two it is.

use std::{fs, process::Command, time::Duration};

use tempfile::TempDir;

use super::bye;
use crate::support::{
    Cluster, Pki, Raw, cluster::free_port, janitor::Janitor, process::LoggingChild, programs::give_to_postgres,
};

pub(super) const STARTS: Duration = Duration::from_secs(20);
const ATTEMPTS: usize = 20;

const FILE: &str = "\
[databases]
app = host=127.0.0.1 port=SERVER dbname=app
sessions = host=127.0.0.1 port=SERVER dbname=app pool_mode=session
tiny = host=127.0.0.1 port=SERVER dbname=app pool_size=1
disabled = host=127.0.0.1 port=SERVER dbname=app
rejected = host=127.0.0.1 port=SERVER dbname=app
socket = host=SOCKETS port=SERVER dbname=app
missing = host=127.0.0.1 port=SERVER dbname=nosuchdb
away = host=127.0.0.1 port=1 dbname=app
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = LISTEN
unix_socket_dir = DIR
pool_mode = transaction
auth_type = hba
auth_hba_file = hba.conf
auth_file = userlist.txt
admin_users = postgres
client_tls_sslmode = allow
client_tls_cert_file = server.crt
client_tls_key_file = server.key
";

/// Settings of pgpool alone: a client's connection is closed with it, as in PgBouncer, and nobody counts slots.
pub(super) const OURS: &str = "log_stats = 0\nclient_death_grace = 0\nslot_budget = off\n";

const USERS: &str = "\"alice\" \"alicepw\"\n\"bob\" \"bobpw\"\n\"trusty\" \"trustypw\"\n\"postgres\" \"postgrespw\"\n";

const RULES: &str = "\
host rejected all 127.0.0.1/32 reject
host all trusty 127.0.0.1/32 password
host all bob 127.0.0.1/32 md5
local all all trust
host all all 127.0.0.1/32 scram-sha-256
";

/// One of the two.
pub(super) struct Side {
    pub(super) process: LoggingChild,
    pub(super) port: u16,
    pub(super) dir: TempDir,
    _janitor: Janitor,
}

impl Side {
    pub(super) fn start(cluster: &Cluster, pki: &Pki, more: &str, command: impl Fn() -> Command) -> Side {
        let mut log = String::new();
        for _ in 0..ATTEMPTS {
            let dir = tempfile::Builder::new().prefix("pgpool-lines-").tempdir().unwrap();
            let janitor = Janitor::watch(dir.path());
            give_to_postgres(dir.path());
            let port = free_port();
            let filled = |text: &str| {
                text.replace("SERVER", &cluster.port().to_string())
                    .replace("LISTEN", &port.to_string())
                    .replace("SOCKETS", cluster.socket_dir().to_str().unwrap())
                    .replace("DIR", dir.path().to_str().unwrap())
            };
            let files = [("pgbouncer.ini", &*format!("{FILE}{more}")), ("userlist.txt", USERS), ("hba.conf", RULES)];
            for (file, text) in files {
                fs::write(dir.path().join(file), filled(text)).unwrap();
            }
            for file in ["server.crt", "server.key"] {
                fs::copy(pki.file(file), dir.path().join(file)).unwrap();
                give_to_postgres(&dir.path().join(file));
            }
            let mut command = command();
            command.current_dir(dir.path()).env("TZ", "UTC").arg("pgbouncer.ini");
            let process = LoggingChild::spawn("pooler", command);
            if process.try_wait_for_log(0, "process up", STARTS).is_ok() && process.log().contains("listening on 127") {
                return Side { process, port, dir, _janitor: janitor };
            }
            log = process.log();
        }
        panic!("a pooler did not start: {log}");
    }

    pub(super) fn login(&self, user: &str, database: &str) -> Raw {
        Raw::login(self.port, user, &format!("{user}pw"), database)
    }

    /// A login that is refused.
    pub(super) fn refused(&self, user: &str, password: &str, database: &str) {
        assert!(Raw::try_login(self.port, user, password, database).is_err(), "{user} {database}");
    }

    /// Has the console do something, whatever it answers.
    pub(super) fn command(&self, command: &str) {
        let mut console = self.login("postgres", "pgbouncer");
        let _ = console.query(command);
        bye(console);
    }
}
