//! What the fuzz targets in `fuzz/` call, with mutations of right bytes, for a bounded time and without a nightly
//! compiler.
//!
//! Each target takes a second; `PGPOOL_FUZZ_SECONDS` is another time for each, `PGPOOL_TEST_SEED` repeats a run. The
//! bytes that fail are printed as a literal of Rust's.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use pgpool::{auth, config, hba, net, session, sql, wire};

use crate::support::random::Random;

/// Length words that are wrong in nearly every place.
const LENGTHS: [u32; 6] = [0, 3, 4, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];
/// The longest input, bytes.
const LONGEST: usize = 4096;

/// Runs `target` with mutations of the seeds until the time is over. `words` are put into them here and there.
fn fuzz(name: &str, target: fn(&[u8]), seeds: &[Vec<u8>], words: &[&str]) {
    let seconds = env::var("PGPOOL_FUZZ_SECONDS").map_or(1.0, |text| text.parse().expect("PGPOOL_FUZZ_SECONDS"));
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut random = Random::announced();
    let mut executions = 0_u64;
    for seed in seeds.iter().map(Vec::as_slice).chain([&b""[..], b"\0", b"\0\0\0\x03", b"Q\0\0\0\x03"]) {
        execute(name, target, seed);
        for length in 0..seed.len() {
            execute(name, target, &seed[..length]);
        }
        executions += seed.len() as u64 + 1;
    }
    while Instant::now() < end {
        for _ in 0..64 {
            let mut bytes = match random.below(8) {
                0 => (0..random.below(200)).map(|_| byte(&mut random)).collect(),
                _ => seeds[random.below(seeds.len())].clone(),
            };
            for _ in 0..=random.below(6) {
                mutate(&mut bytes, seeds, words, &mut random);
            }
            bytes.truncate(LONGEST);
            execute(name, target, &bytes);
            executions += 1;
        }
    }
    eprintln!("{name}: {executions} executions in {seconds} s");
}

fn execute(name: &str, target: fn(&[u8]), bytes: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(bytes))) {
        eprintln!("{name} fails with b\"{}\"", bytes.escape_ascii());
        resume_unwind(panic);
    }
}

fn byte(random: &mut Random) -> u8 {
    u8::try_from(random.below(256)).unwrap()
}

fn mutate(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&str], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let to = at + random.below((bytes.len() - at).min(24) + 1);
    match random.below(9) {
        0 | 1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        2 if at < bytes.len() => bytes[at] = byte(random),
        3 => bytes.truncate(at),
        4 => {
            let chunk = bytes[at..to].to_vec();
            let place = random.below(bytes.len() + 1);
            bytes.splice(place..place, chunk);
        }
        5 => drop(bytes.splice(at..bytes.len().min(at + 4), LENGTHS[random.below(LENGTHS.len())].to_be_bytes())),
        6 => drop(bytes.drain(at..to)),
        7 if !words.is_empty() => drop(bytes.splice(at..at, random.pick(words).bytes())),
        _ => {
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len() + 1);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

#[test]
fn fuzz_scan() {
    let front =
        [message(b'P', b"s\0select $1\0\0\0"), message(b'B', b"\0s\0\0\0\0\0\0\0"), message(b'S', b"")].concat();
    let back = [message(b'1', b""), message(b'D', b"\0\x01\0\0\0\x01a"), message(b'Z', b"I")].concat();
    let seeds =
        [[&[0, 3, 9][..], &front].concat(), [&[1, 4, 7][..], &back].concat(), [&[63, 6, 2][..], &back].concat()];
    fuzz("scan", wire::fuzz_scan, &seeds, &["Z\0\0\0\x05I", "X\0\0\0\x04"]);
}

#[test]
fn fuzz_startup() {
    let start =
        b"\0\x03\0\0user\0ann\0database\0db\0options\0-c a=b --c-d=e\0_pq_.x\x001\0replication\0off\0\0".to_vec();
    let cancel = b"\x04\xd2\x16\x2e\0\0\0\x09secret".to_vec();
    let seeds = [start, cancel, b"\x04\xd2\x16\x2f".to_vec(), b"\x04\xd2\x16\x30".to_vec()];
    fuzz("startup", wire::fuzz_startup, &seeds, &["user\0", "options\0", "-c", "\\", "\0", "database\0\0"]);
}

#[test]
fn fuzz_view() {
    let seeds = [
        b"I".to_vec(),
        b"\0\x02\0\0\0\x01a\xff\xff\xff\xff".to_vec(),
        b"TimeZone\0UTC\0".to_vec(),
        b"SERROR\0VERROR\0C42P01\0Mno table\0Dx\0Hy\0\0".to_vec(),
    ];
    fuzz("view", wire::fuzz_view, &seeds, &["\0", "M", "\u{e4}"]);
}

/// Instructions for a login: which one it is, and what is done to each message.
fn logins() -> Vec<Vec<u8>> {
    let choices = (0..=255).step_by(3);
    choices
        .flat_map(|choice| [vec![choice], vec![choice, 0, 0, 0, 0, 0, 0], vec![choice, 0x80, 9, 1, 0, 0x82]])
        .collect()
}

#[test]
fn fuzz_login() {
    let mut seeds = logins();
    let first = b"SCRAM-SHA-256\0\0\0\0\x20n,,n=,r=rOprNGfwEbeRWgbNEkqOaaaa";
    seeds.push([&[0, 0x87, 0, 64][..], first, &[0x87, 0, 40], b"c=biws,r=x,p=AAAA"].concat());
    seeds.push([&[2, 0x87, 0, 7][..], b"secret\0"].concat());
    // What makes the wrong password the right one.
    seeds.push(vec![0x1e, 0x80, 0, 5]);
    fuzz("login", auth::fuzz_login, &seeds, &["n,,", "y,,", "p=tls-server-end-point,,", ",m=1", "r=", "\0"]);
}

#[test]
fn fuzz_answer() {
    let mut seeds = logins();
    seeds.push([&[0, 0, 0x87, 0, 15][..], b"SCRAM-SHA-256\0\0", &[0, 0x87, 0, 12], b"r=,s=AA==,i=1"].concat());
    seeds.push([&[0, 0, 0, 0, 0, 0, 0x87, 0, 4][..], b"v=AA"].concat());
    fuzz("answer", auth::fuzz_answer, &seeds, &["SCRAM-SHA-256\0", "SCRAM-SHA-256-PLUS\0", "r=", ",i=1", "e=x", "\0"]);
}

#[test]
fn fuzz_hba() {
    let seeds = [
        "local all all peer map=m\nhost db,\"x y\" /^a(.*)$ 10.0.0.0/8 md5\nhostssl all all ::1/128 cert clientname=DN\n",
        "host all ann,bob 10.0.0.1 255.255.255.0 reject # no\nhostnossl sameuser all .example.com trust\n",
        "host all all samenet scram-sha-256 clientcert=verify-ca\nhost @x.conf all all pam pamservice=x\n\u{1}a,b \"c\"",
        "m /^(.*)@example$ \\1\nm ann \"bob\"\nm \"x y\" all\ninclude_dir /d\n\u{1}m a b\n",
        "host all all all ldap ldapserver=a ldapprefix=\"cn=\" ldapsuffix=\",dc=x\" ldaptls=1\ninclude x.conf\n",
        "host all all all ldap ldapurl=\"ldap://a:1/dc=x?uid?sub?(a=b)\" ldapbinddn=x ldapbindpasswd=y\n",
    ];
    let words =
        ["\"", "\\\n", "@x.conf", "include file\n", "include_if_exists y\n", "/(", "+g", ",", "#", "\\1", "all", "="];
    fuzz("hba", hba::fuzz, &seeds.map(Vec::from), &words);
}

#[test]
fn fuzz_config() {
    let example = include_bytes!("../../pgpool.toml.example").to_vec();
    let small = b"[pgpool]\nlisten_port = 6432\nauth_type = \"scram-sha-256\"\nserver_idle_timeout = \"10min\"\n\
        [databases.db]\nhost = \"a,b\"\nport = 5432\npool_mode = \"session\"\n[databases.\"*\"]\nhost = \"x\"\n\
        [users.ann]\npassword = \"secret\"\nmax_user_connections = 3\n"
        .to_vec();
    let words =
        ["\"", "= 1\n", "[users.\"", "[[x]]\n", "\n", "-1", "99999999999999999999", "\"1h\"", "true", "\u{feff}", "{}"];
    fuzz("config", config::fuzz, &[small, example[..LONGEST.min(example.len())].to_vec()], &words);
}

#[test]
fn fuzz_ini() {
    let seeds = [
        "[databases]\nshop = host=db1 port=6543 dbname='the ''shop''' pool_size=5 reserve_pool=2\n* = user=x password=y\n\
         \"a \"\"b\" = pool_mode=session\n[users]\nann = query_timeout=3\n[pgbouncer]\nlisten_port = 0x1920\n; x\n",
        "[pgbouncer] listen_addr = *\nauth_file = userlist\nserver_lifetime = 1e3\n%include other.ini\n[peers]\n1 = host=z\n\
         [pgbouncer]\nunix_socket_mode = 0777\npkt_buf = 4096\nconnect_query = x\n",
        "[databases]\na = connect_query='x\\'' y' password='\"\\t' host=/x min_pool_size=-1 server_lifetime=0\n[pgbouncer]\n\
         login_notify_message = \"\\ \u{1b}\nauth_query = select '$1'\nserver_check_delay = 1e-3\nadmin_users = a,b\n\
         client_tls_ciphers = HIGH:!aNULL\nlogfile = ~/x\nsession_features = pin, listen=allow\nsyslog_facility = local3\n",
    ];
    let words = [
        "\n[pgbouncer]\n",
        "[users]",
        " = ",
        "'",
        "''",
        "\"",
        "%include x\n",
        "\n%include /nonexistent\n",
        "-1",
        "0x",
        "08",
        "~/",
        "\u{feff}",
    ];
    fuzz("ini", config::fuzz_ini, &seeds.map(Vec::from), &words);
}

#[test]
fn fuzz_resolv_conf() {
    let seeds = [
        "# x\nnameserver 10.0.0.1\nnameserver [2001:db8::1]:5353, 127.0.0.1:54\nsearch a.test,b.test c.test\n\
         options ndots:2 timeout:3 attempts:4 rotate edns0 use-vc\n",
        "domain a.test ; y\n  nameserver ::1\r\nnameserver fe80::1%eth0\noptions single-request no-aaaa trust-ad\n\
         sortlist 10.0.0.0/255.0.0.0\nlookup file bind\nfamily inet6 inet4\n",
    ];
    let words = ["nameserver ", "[", "]:", ":", "%", "\n", "options ", "ndots:", "search ", "0", "65536", "."];
    fuzz("resolv_conf", config::fuzz_resolv_conf, &seeds.map(Vec::from), &words);
}

#[test]
fn fuzz_userlist() {
    let seeds =
        ["\"ann\" \"secret\"\n; x\n\"b\"\"c\" \"md5aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\" x\r\n", "\u{feff}\"a\" \"\"\n"];
    fuzz("userlist", config::fuzz_userlist, &seeds.map(Vec::from), &["\"", "\"\"", "\r", "\n", "#", "\0", "\u{e4}"]);
}

#[test]
fn fuzz_x509() {
    let mut seeds = Vec::new();
    for name in ["ann", "b, c+d=\u{e4}"] {
        let mut parameters =
            rcgen::CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        parameters.distinguished_name.push(rcgen::DnType::OrganizationName, "x");
        let key = rcgen::KeyPair::generate().unwrap();
        seeds.push(parameters.self_signed(&key).unwrap().der().to_vec());
    }
    assert!(seeds.iter().all(|der| net::tls::Certificate::parse(der).is_some()));
    fuzz("x509", net::tls::fuzz, &seeds, &["\x30", "\x1e", "\x1c", "\x14"]);
}

#[test]
fn fuzz_sql() {
    let seeds = [
        "\0\x05select 1; prepare a (int) as select $1; set x = 'y'; begin; copy t from stdin; listen c",
        "\x01\x02declare c cursor with hold for select E'\\'' || $a$ x $a$; create temp table t (a int) -- x\n/* /* */ */",
    ];
    fuzz(
        "sql",
        sql::fuzz,
        &seeds.map(Vec::from),
        &["'", "\"", "$$", "$a$", "/*", "*/", "--", ";", "\\", "E'", "U&'", "\n"],
    );
}

#[test]
fn fuzz_turn() {
    let steps = |steps: &[(u8, u8)]| steps.iter().flat_map(|(what, detail)| [*what, *detail]).collect::<Vec<u8>>();
    let seeds = [
        // Query; Parse, Bind, Execute, Sync; each with the answers that it should have.
        steps(&[(0, 0), (4, 12), (6, 1), (6, 1)]),
        steps(&[(0, 1), (0, 2), (0, 4), (0, 6), (6, 1), (6, 1), (6, 1), (6, 1)]),
        // An error, skipped requests and their Sync.
        steps(&[(2, 0), (2, 2), (2, 1), (0, 6), (6, 0), (6, 1), (0, 0), (6, 1)]),
        // The pooler's own among them, and what it answers and refuses.
        steps(&[(3, 0), (3, 5), (2, 7), (2, 4), (2, 5), (2, 6), (0, 6), (6, 1), (6, 1), (6, 1), (6, 1), (6, 1)]),
        steps(&[(3, 0x80), (6, 1), (2, 2), (2, 1), (0, 6), (3, 0x40), (6, 1), (6, 1), (6, 1), (6, 1), (6, 1), (6, 1)]),
        // A COPY with Syncs in it that fails.
        steps(&[(0, 0), (0, 9), (0, 6), (0, 9), (0, 10), (4, 6), (4, 5), (4, 15), (7, 0), (4, 15), (4, 2), (4, 15)]),
    ];
    fuzz("turn", session::fuzz_turn, &seeds, &["\x06\x01", "\x06\x01\x06\x01", "\0\x06", "\x06\0", "\x03\x05"]);
}

/// One run of [`session::fuzz`], in stopped time.
fn sessions(bytes: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    runtime.block_on(session::fuzz(bytes, dir.path()));
}

#[test]
fn fuzz_session() {
    let seeds: [&[u8]; 10] = [
        // Which pool it is; then pairs: a Query, what PostgreSQL answers, another client's, a transaction.
        &[0, 0, 23, 20, 0, 1, 23, 20, 0, 0, 0, 20, 0, 0, 1, 20, 7],
        // Two connections, extended queries, prepared statements with and without names.
        &[0x10, 12, 3, 13, 3, 20, 7, 21, 7, 4, 3, 8, 0, 10, 5, 20, 7],
        &[4, 12, 2, 20, 7, 12, 3, 20, 7, 13, 3, 20, 7, 12, 5, 20, 4],
        // COPY with a Sync inside, settings, locks, PREPARE and EXECUTE.
        &[0, 0, 3, 20, 0, 10, 2, 10, 5, 10, 3, 20, 7, 1, 23, 20, 7],
        &[0, 0, 5, 20, 7, 1, 23, 20, 7, 20, 7, 0, 8, 20, 7, 0, 9],
        &[0, 0, 10, 20, 7, 0, 11, 20, 7, 1, 11, 20, 7, 0, 12, 20, 7],
        // A client that leaves, a PostgreSQL that lies, one that sends rubbish, session mode, interrupts.
        &[0, 0, 23, 18, 1, 28, 2, 1, 23, 20, 7, 28, 4, 20, 7, 20, 7],
        &[0, 0, 23, 24, 0, 1, 23, 20, 7, 0, 23, 24, 14, 26, 17, 0, 0],
        &[3, 0, 23, 20, 0, 0, 0, 20, 0, 18, 0, 1, 23, 20, 7, 20, 7],
        &[0, 14, 7, 0, 23, 16, 4, 1, 2, 3, 4, 26, 1, 30, 3, 28, 6],
    ];
    let words = ["\x14\x07", "\x15\x07", "\0\x17", "\x01\x17", "\x0c\x03", "\x1c\x02"];
    fuzz("session", sessions, &seeds.map(<[u8]>::to_vec), &words);
}
