//! What operators are told about a file that is wrong or doubtful.

use super::{parsed, problems, warnings};

#[test]
fn each_problem_with_its_line() {
    let cases = [
        ("[pgpool]\n\nmode = \"session\"", "3: unknown setting `mode` in [pgpool], did you mean `pool_mode`?"),
        ("[pgpool]\nlisten_prot = 1", "2: unknown setting `listen_prot` in [pgpool], did you mean `listen_port`?"),
        ("[pgpool]\nfrobnicate = 1", "2: unknown setting `frobnicate` in [pgpool]"),
        ("[pgpool]\nport = 1", "2: `port` belongs into [databases.NAME]"),
        ("pool_mode = 1", "1: `pool_mode` belongs into [pgpool] or [databases.NAME] or [users.NAME]"),
        ("frobnicate = 1", "1: `frobnicate` stands in no section"),
        ("[peers.x]\nhost = \"h\"", "1: `x` in [peers]: a peer's name is its peer_id, from 1 to 16383"),
        ("[peers]\n16384 = \"host=h\"", "2: `16384` in [peers]: a peer's name is its peer_id, from 1 to 16383"),
        ("[peers.7]\nport = 1", "1: [peers.7] has no host"),
        ("[pgpool]\nauth_dbname = \"pgbouncer\"", "2: `auth_dbname` cannot be `pgbouncer`, which is the console"),
        ("[databases.a]\nauth_dbname = \"pgpool\"", "2: `auth_dbname` cannot be `pgpool`, which is the console"),
        (
            "[databases.a]
load_balance_hosts = \"a\"",
            "2: `load_balance_hosts` in [databases.a]: `a` is none of round-robin, disable",
        ),
        (
            "[databases.a]\nhost = \"a,b,c\"\nport = \"1,2\"",
            "3: 2 ports for 3 hosts in [databases.a]: there has to be one for all, or one for each",
        ),
        ("[databases.a]\nmax_client_conn = 1", "2: `max_client_conn` belongs into [pgpool]"),
        ("[databases.a]\nhots = \"h\"", "2: unknown setting `hots` in [databases.a], did you mean `host`?"),
        (
            "[users.a]\ndbnam = \"h\"",
            "2: unknown setting `dbnam` in [users.a], did you mean `dbname` of [databases.NAME]?",
        ),
        ("[pgbouncer]", "1: unknown section [pgbouncer]: its settings belong into [pgpool]"),
        ("[database.a]", "1: unknown section [database], did you mean [databases]?"),
        ("[other]", "1: unknown section [other]"),
        ("pgpool = 1", "1: `pgpool` must be a section: [pgpool]"),
        ("[[users]]", "1: `users` must be a section: [users]"),
        ("[databases.pgpool]", "1: the database name `pgpool` is reserved for the console"),
        ("[databases.pgbouncer]", "1: the database name `pgbouncer` is reserved for the console"),
        ("[databases.\"\"]", "1: a name in [databases] is empty or holds a zero byte"),
        ("[databases]\nport = 5432", "2: `port` belongs into [databases.NAME]"),
        ("[databases]\na = 1", "2: `databases.a`: expected a table or \"keyword=value …\", found an integer"),
        ("[databases]\na = \"secret\"", "2: `databases.a`: expected pairs of keyword=value"),
        ("[databases]\na = \"port=1 port=2\"", "2: `port` in [databases.a] occurs twice"),
        ("[databases]\na = \"prot=1\"", "2: unknown setting `prot` in [databases.a], did you mean `port`?"),
        ("[databases.a]\nport = 0", "2: `port` in [databases.a]: 0 is outside the range 1 to 65535"),
        (
            "[pgpool]\nlisten_addr = \"\"\nunix_socket_dir = \"\"",
            "2: nothing to listen on: listen_addr and unix_socket_dir are both empty",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(problems(text), format!("pgpool.toml:{expected}"), "{text}");
    }
}

#[test]
fn all_problems_at_once_in_the_order_of_the_file() {
    let text = "[users.a]\npool_mode = 1\n[pgpool]\nzzz = 1\nlisten_port = -1\n[databases.b]\nport = \"x\"\nhost = 5\n";
    let expected = "\
        pgpool.toml:2: `pool_mode` in [users.a]: expected a pool mode, found an integer\n\
        pgpool.toml:4: unknown setting `zzz` in [pgpool]\n\
        pgpool.toml:5: `listen_port` in [pgpool]: -1 is outside the range 0 to 65535\n\
        pgpool.toml:7: `port` in [databases.b]: `x` is not a whole number\n\
        pgpool.toml:8: `host` in [databases.b]: expected a host name, an address, a directory, or a list of them, found an integer";
    assert_eq!(problems(text), expected);
}

#[test]
fn syntax_errors_come_with_the_others() {
    let text = "[pgpool]\nlisten_port = \nmode = \"x\"\npool_mode = \"session\nlog_stats = 7\n";
    let found = problems(text);
    let lines: Vec<&str> = found.lines().map(|line| line.split(' ').next().unwrap_or_default()).collect();
    assert_eq!(lines, ["pgpool.toml:2:", "pgpool.toml:3:", "pgpool.toml:4:", "pgpool.toml:5:"], "{found}");
}

#[test]
fn duplicates_are_errors() {
    assert!(problems("[pgpool]\nverbose = 1\nverbose = 2\n").starts_with("pgpool.toml:3: duplicate key"));
    assert!(problems("[databases.a]\n[databases.a]\n").starts_with("pgpool.toml:2: duplicate key"));
}

#[test]
fn a_problem_names_its_key() {
    let failed = crate::config::Config::parse("[databases.a]\nport = 0\n", std::path::Path::new("x.toml")).unwrap_err();
    assert_eq!(failed.0[0].key.as_deref(), Some("databases.a.port"));
    assert_eq!(failed.0[0].line, Some(2));
}

#[test]
fn doubtful_settings_are_warned_about() {
    let md5 = "md5d41d8cd98f00b204e9800998ecf8427e";
    let cases = [
        (String::new(), "pgpool.toml: there are no databases: clients can only reach the console"),
        (
            format!("[databases.a]\n[users.u]\npassword = \"{md5}\"\n"),
            "pgpool.toml:3: user \"u\" can never log in: an md5 secret does not work with auth_type scram-sha-256",
        ),
        (
            String::from("[pgpool]\nadmin_users = [\"u\"]\n[databases.a]\n[users.u]\n"),
            "pgpool.toml:2: user \"u\" of admin_users has no secret and cannot log in",
        ),
        (
            String::from("[pgpool]\nstats_users = \"u\"\n[databases.a]\n"),
            "pgpool.toml:2: user \"u\" of stats_users has no secret and cannot log in",
        ),
        (
            String::from("[pgpool]\nreserve_pool_timeout = 0\n[databases.a]\nreserve_pool_size = 1\n"),
            "pgpool.toml:2: reserve_pool_timeout = 0 means that reserve_pool_size has no effect",
        ),
        (
            String::from("[pgpool]\nmin_pool_size = 21\n[databases.a]\n"),
            "pgpool.toml:2: min_pool_size 21 is larger than default_pool_size 20",
        ),
        (
            String::from("[pgpool]\nmin_pool_size = 5\n[databases.a]\npool_size = 4\n"),
            "pgpool.toml:3: min_pool_size 5 is larger than pool_size 4 in [databases.a]",
        ),
        (
            String::from("[databases.\"*\"]\npassword = \"p\"\n"),
            "pgpool.toml:2: a database's password has no effect without its user",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(warnings(&text), [expected], "{text}");
    }
}

#[test]
fn sound_settings_are_not_warned_about() {
    let cases = [
        "[databases.a]\nuser = \"nobody_knows_the_password_of\"\n",
        "[pgpool]\nauth_type = \"trust\"\nadmin_users = \"u\"\n[databases.\"*\"]\n",
        "[pgpool]\nauth_type = \"md5\"\n[databases.a]\n[users.u]\npassword = \"md5d41d8cd98f00b204e9800998ecf8427e\"\n",
        "[pgpool]\ndefault_pool_size = 0\nmin_pool_size = 5\n[databases.a]\npool_size = 0\n",
    ];
    for text in cases {
        assert_eq!(warnings(text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn secrets_are_never_printed() {
    let secret = "hunter2";
    let fine = format!(
        "[databases.a]\nuser = \"u\"\npassword = \"{secret}\"\n[databases]\nb = \"user=u password={secret}\"\n\
         [users.u]\npassword = \"{secret}\"\n"
    );
    let loaded = parsed(&fine);
    assert_eq!(loaded.config.users["u"].password.as_ref().map(|password| password.expose()), Some(secret));
    assert!(!format!("{loaded:?}").contains(secret));
    let broken = [
        format!("[users]\nu = \"{secret}\"\n"),
        format!("[users]\nu = \"password='{secret}\"\n"),
        format!("[users.u]\npassword = \"{secret}\\u0000\"\n"),
        format!("[users.u]\npassword = [\"{secret}\"]\n"),
        format!("[databases]\na = \"password={secret} prot=1\"\n"),
        format!("[users.u]\npassword = {secret}\n"),
        format!("[users.u]\npassword = \"{secret}\n"),
    ];
    for text in broken {
        assert!(!problems(&text).contains(secret), "{text}");
    }
}

#[test]
fn what_of_tls_cannot_be_had_is_left_out_and_said() {
    let text = "[pgpool]\nclient_tls_protocols = \"tlsv1.0,tlsv1.1,tlsv1.2\"\nclient_tls_dheparams = \"legacy\"\n\
                server_tls_ciphers = \"ECDHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES128-GCM-SHA256:RC4-MD5\"\n[databases.a]\n";
    let loaded = crate::config::Config::parse(text, std::path::Path::new("pgpool.toml")).unwrap();
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "pgpool.toml:2: versions before tlsv1.2 in client_tls_protocols cannot be had with rustls and are left out",
            "pgpool.toml:3: client_tls_dheparams has no effect: there is no such key exchange with rustls",
            "pgpool.toml:4: DHE-RSA-AES128-GCM-SHA256, RC4-MD5 in server_tls_ciphers cannot be had with rustls and is left out",
        ]
    );
    assert_eq!(loaded.config.general.server_tls_ciphers.names, ["ECDHE-RSA-AES256-GCM-SHA384"]);
}
