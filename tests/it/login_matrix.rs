//! Who is let in: each way to connect, each method, each stored secret and each proof, with libpq and by raw bytes, once
//! to pgpool and once to PostgreSQL with the same rules and certificates.
//!
//! A method has a database of its own, so that one file of rules serves all of them. What pgpool lets in is served as
//! `postgres`, whom PostgreSQL trusts: its other side is not what is tested. Everything that differs is in `KNOWN`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use rustls::version;

use crate::support::{Cluster, Pki, Pooler, Raw, Wanted, eventually};

const SOON: Duration = Duration::from_secs(10);
const AT_ONCE: usize = 4;

/// Each has a database of its name.
const METHODS: [&str; 6] = ["trust", "password", "md5", "scram", "cert", "rejected"];
/// Users by what is stored of them: pgpool's word for it. PostgreSQL cannot store `plain`, it makes a verifier of it.
const USERS: [&str; 5] = ["plain", "md5er", "scrammer", "secretless", "ghost"];
const PROOFS: [Proof; 3] = [Proof::Right, Proof::Wrong, Proof::Empty];
const SSLMODES: [&str; 4] = ["disable", "prefer", "require", "verify-full"];

/// What lets the test itself in, and a method for each database. `cert` may stand on a `hostssl` line only.
const RULES: &str = "\
local all      postgres     trust
host  all      postgres all trust
host  trust    all      all trust
host  password all      all password
host  md5      all      all md5
host  scram    all      all scram-sha-256
hostssl cert   all      all cert
host  cert     all      all reject
host  rejected all      all reject
";

/// What is different, where, and why it has to be: TLS of the server, what is known of the cell, and what both say.
const KNOWN: [Known; 4] = [
    Known {
        stage: "any",
        cell: "trust ghost",
        ours: "FATAL:  \"trust\" authentication failed for user \"ghost\"",
        theirs: "FATAL:  role \"ghost\" does not exist",
        reason: "pgpool trusts known users only, and has no roles to miss (docs/differences.md, Logins)",
    },
    Known {
        stage: "TLS",
        cell: "cert Right",
        ours: "FATAL:  connection requires a valid client certificate",
        theirs: "let in by TLS",
        reason: "certificates are asked for with client_tls_sslmode = verify-full or verify-ca only (docs/hba.md)",
    },
    Known {
        stage: "certificates",
        cell: "disable cert",
        ours: "FATAL:  SSL required",
        theirs: "FATAL:  pg_hba.conf rejects connection for host \"127.0.0.1\"",
        reason: "where certificates are asked for TLS is wanted of everybody (docs/hba.md)",
    },
    Known {
        stage: "certificates",
        cell: "cert ghost Right",
        ours: "FATAL:  certificate authentication failed for user \"ghost\"",
        theirs: "FATAL:  role \"ghost\" does not exist",
        reason: "the same as with trust",
    },
];

struct Known {
    stage: &'static str,
    /// The words of it are all in the cell's name.
    cell: &'static str,
    ours: &'static str,
    theirs: &'static str,
    reason: &'static str,
}

/// A password; for `cert` a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Proof {
    Right,
    /// For `cert` somebody else's.
    Wrong,
    /// For `cert` none.
    Empty,
}

/// One login. Its name is what it shows.
#[derive(Clone, Copy, Debug)]
struct Cell {
    sslmode: &'static str,
    method: &'static str,
    user: &'static str,
    proof: Proof,
}

impl fmt::Display for Cell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} {} {:?}", self.sslmode, self.method, self.user, self.proof)
    }
}

impl Known {
    fn is_about(&self, stage: &str, cell: &Cell) -> bool {
        let name = cell.to_string();
        let words: Vec<&str> = name.split(' ').collect();
        (self.stage == "any" || self.stage == stage) && self.cell.split(' ').all(|word| words.contains(&word))
    }
}

struct Scene {
    cluster: Cluster,
    pooler: Pooler,
    pki: Pki,
    /// Which of `KNOWN` occurred.
    occurred: Mutex<BTreeSet<usize>>,
    /// How often each verdict was given, by both.
    verdicts: Mutex<BTreeMap<String, usize>>,
}

impl Scene {
    fn start() -> Self {
        let pki = Pki::with_server();
        for user in USERS {
            pki.issue(user, user, Wanted::default());
        }
        let mut builder = Cluster::builder().conf(&pki.postgres_tls()).conf("password_encryption = 'scram-sha-256'");
        for line in RULES.lines() {
            builder = builder.hba(line);
        }
        let cluster = builder.start();
        for method in METHODS {
            cluster.sql("postgres", &format!("create database {method}"));
        }
        cluster.sql(
            "postgres",
            "create role plain login password 'right'; create role scrammer login password 'right';
             create role secretless login; set password_encryption = 'md5'; create role md5er login password 'right'",
        );
        let stored = |user: &str| {
            cluster.sql("postgres", &format!("select rolpassword from pg_authid where rolname = '{user}'"))
        };
        let users = format!(
            "[users]\nplain = {{ password = \"right\" }}\nmd5er = {{ password = \"{}\" }}\n\
             scrammer = {{ password = \"{}\" }}\nsecretless = {{}}\n",
            stored("md5er"),
            stored("scrammer")
        );
        let port = cluster.port();
        let entries: String = METHODS
            .iter()
            .map(|name| {
                format!(
                    "[databases.{name}]\nhost = \"127.0.0.1\"\nport = {port}\ndbname = \"app\"\nuser = \"postgres\"\n"
                )
            })
            .collect();
        let rules = pki.file("pg_hba.conf");
        fs::write(&rules, RULES).unwrap();
        let access = format!("auth_type = \"hba\"\nauth_hba_file = \"{}\"\n", rules.display());
        let pooler =
            Pooler::start(&cluster, &format!("[pgpool]\n{}{access}{entries}{users}", pki.client_tls("prefer")));
        Self { cluster, pooler, pki, occurred: Mutex::default(), verdicts: Mutex::default() }
    }

    fn set(&self, assignment: &str) {
        self.pooler.console_unix().query(&format!("SET {assignment}")).unwrap();
    }

    /// What libpq makes of it: connected in which way, or all that was said.
    fn psql(&self, port: u16, cell: &Cell) -> String {
        let Cell { sslmode, method, user, proof } = *cell;
        let mut parameters =
            format!("host=localhost hostaddr=127.0.0.1 port={port} dbname={method} user={user} sslmode={sslmode}");
        if sslmode == "verify-full" {
            parameters.push_str(&format!(" sslrootcert={}", self.pki.file("ca.crt").display()));
        }
        if let Some(shown) = shown(cell) {
            let file = |end: &str| self.pki.file(&format!("{shown}.{end}")).display().to_string();
            parameters.push_str(&format!(" sslcert={} sslkey={}", file("crt"), file("key")));
        }
        let output = Command::new("psql")
            .args(["-XAtqw", "-c", "\\conninfo", &parameters])
            .env("PGCONNECT_TIMEOUT", "20")
            .env("HOME", "/nonexistent")
            .env("PGPASSFILE", "/nonexistent")
            .env("PGPASSWORD", password(proof))
            .output()
            .expect("start psql");
        if output.status.success() {
            let encrypted = String::from_utf8_lossy(&output.stdout).contains("SSL connection");
            return if encrypted { "let in by TLS" } else { "let in" }.to_owned();
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let lines = said.lines().filter(|line| !line.starts_with("HINT:") && !line.starts_with("DETAIL:"));
        let told: Vec<&str> = lines.map(|line| line.rsplit_once(" failed: ").map_or(line, |(_, told)| told)).collect();
        told.join("\n")
    }

    /// The SQLSTATE of the refusal, or `00000`.
    fn sqlstate(&self, port: u16, cell: &Cell) -> String {
        let raw = Raw::connect(port);
        let mut raw = if cell.sslmode == "disable" {
            raw
        } else {
            let config = self.pki.client(&[&version::TLS13], shown(cell));
            raw.ask_tls(&Arc::new(config)).expect("TLS")
        };
        raw.startup(&[("user", cell.user), ("database", cell.method)]);
        let outcome = raw.authenticate(cell.user, password(cell.proof));
        outcome.err().map_or_else(|| "00000".to_owned(), |error| error.code)
    }

    /// Runs each cell with libpq on both, and compares every word.
    fn compare_libpq(&self, stage: &str, cells: &[Cell]) {
        self.each(cells, |cell| {
            let (ours, theirs) = (self.psql(self.pooler.port(), cell), self.psql(self.cluster.port(), cell));
            *self.verdicts.lock().unwrap().entry(first_words(&theirs)).or_default() += 1;
            self.judge(stage, cell, (&ours, &theirs), |said, known| said.starts_with(known))
        });
    }

    /// Runs each cell by raw bytes on both, and compares the SQLSTATEs.
    fn compare_sqlstates(&self, stage: &str, cells: &[Cell]) {
        self.each(cells, |cell| {
            let ours = self.sqlstate(self.pooler.port(), cell);
            let theirs = self.sqlstate(self.cluster.port(), cell);
            (ours != theirs).then(|| format!("{stage}: {cell}: {ours}, and {theirs} by PostgreSQL"))
        });
    }

    fn judge(
        &self,
        stage: &str,
        cell: &Cell,
        (ours, theirs): (&str, &str),
        fits: impl Fn(&str, &str) -> bool,
    ) -> Option<String> {
        if ours == theirs {
            return None;
        }
        let known = KNOWN
            .iter()
            .position(|known| known.is_about(stage, cell) && fits(ours, known.ours) && fits(theirs, known.theirs));
        match known {
            Some(index) => {
                self.occurred.lock().unwrap().insert(index);
                None
            }
            None => Some(format!("{stage}: {cell}:\n  pgpool:     {ours}\n  PostgreSQL: {theirs}")),
        }
    }

    /// A few cells at a time; panics with everything that was wrong.
    fn each(&self, cells: &[Cell], run: impl Fn(&Cell) -> Option<String> + Sync) {
        let next = AtomicUsize::new(0);
        let wrong = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    while let Some(cell) = cells.get(next.fetch_add(1, Relaxed)) {
                        wrong.lock().unwrap().extend(run(cell));
                    }
                });
            }
        });
        let wrong = wrong.into_inner().unwrap();
        assert!(wrong.is_empty(), "{} of {} cells differ:\n{}", wrong.len(), cells.len(), wrong.join("\n"));
    }
}

fn password(proof: Proof) -> &'static str {
    match proof {
        Proof::Right => "right",
        Proof::Wrong => "wrong",
        Proof::Empty => "",
    }
}

/// Whose certificate is shown.
fn shown(cell: &Cell) -> Option<&'static str> {
    match cell.proof {
        _ if cell.method != "cert" => None,
        Proof::Right => Some(cell.user),
        Proof::Wrong => USERS.into_iter().find(|user| *user != cell.user),
        Proof::Empty => None,
    }
}

/// What is counted of a verdict: nothing with names in it.
fn first_words(said: &str) -> String {
    said.split(['"', '\n']).next().unwrap_or_default().trim().to_owned()
}

/// All that can be made of these.
fn cells(sslmodes: &[&'static str], methods: &[&'static str], proofs: &[Proof]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for sslmode in sslmodes {
        for method in methods {
            for user in USERS {
                cells.extend(proofs.iter().map(|proof| Cell { sslmode, method, user, proof: *proof }));
            }
        }
    }
    cells
}

#[test]
fn everybody_is_let_in_or_refused_as_by_postgresql() {
    let scene = Scene::start();
    let (right, not_cert) = ([Proof::Right], ["trust", "password", "md5", "scram", "rejected"]);
    let mut count = 0;
    let mut libpq = |stage: &str, cells: Vec<Cell>| {
        scene.compare_libpq(stage, &cells);
        count += cells.len();
    };

    // Where the connection matters the proof hardly does, and the other way round: all proofs once, else the right one.
    libpq("TLS", cells(&["prefer"], &not_cert, &PROOFS));
    libpq("TLS", cells(&["disable", "require", "verify-full"], &not_cert, &right));
    let known_users: Vec<Cell> =
        cells(&["require"], &["cert"], &right).into_iter().filter(|cell| cell.user != "ghost").collect();
    libpq("TLS", known_users);
    scene.compare_sqlstates("TLS", &cells(&["disable", "require"], &not_cert, &PROOFS));

    scene.set("client_tls_sslmode = 'verify-full'");
    libpq("certificates", cells(&["disable", "require", "verify-full"], &["cert"], &[Proof::Right, Proof::Wrong]));
    scene.compare_sqlstates("certificates", &cells(&["require"], &["cert"], &[Proof::Right, Proof::Wrong]));

    scene.set("client_tls_sslmode = 'disable'");
    scene.cluster.sql("postgres", "alter system set ssl = off");
    scene.cluster.reload();
    eventually(SOON, "PostgreSQL has no TLS", || scene.cluster.sql("postgres", "show ssl") == "off");
    let without: Vec<Cell> = cells(&SSLMODES, &["trust", "password", "scram", "cert"], &right)
        .into_iter()
        .filter(|cell| matches!(cell.user, "scrammer" | "ghost"))
        .collect();
    libpq("no TLS", without);

    eprintln!("{count} cells by libpq: {:#?}", scene.verdicts.lock().unwrap());
    let occurred = scene.occurred.lock().unwrap();
    for (index, known) in KNOWN.iter().enumerate() {
        assert!(occurred.contains(&index), "{} is no difference any more: {}", known.cell, known.reason);
    }
}

/// The methods again as `auth_type`, where no rule stands in between.
#[test]
fn auth_types_let_in_whom_the_methods_of_postgresql_do() {
    let scene = Scene::start();
    for (auth_type, method) in [("trust", "trust"), ("plain", "password"), ("md5", "md5"), ("scram-sha-256", "scram")] {
        // The console's administrator has a password that PostgreSQL does not ask him for.
        scene.set(&format!("auth_type = '{auth_type}'"));
        scene.compare_sqlstates(auth_type, &cells(&["disable"], &[method], &PROOFS));
    }
}
