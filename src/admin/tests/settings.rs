//! Every setting on the console, and every command of its help.

use super::*;
use crate::admin::columns::Show;
use crate::admin::command::{Command, parse};
use crate::config::{Config, General, Table, When};

/// A value that no setting has, but for those that take any text.
const NONSENSE: &str = "no,such/value:at all";

#[tokio::test]
async fn every_setting_takes_what_it_shows_and_no_nonsense() {
    let pooler = Pooler::new();
    let mut console = pooler.console(Role::Admin).await;
    let shown = console.rows("SHOW CONFIG").await;
    let names: Vec<_> = shown.iter().map(|row| row[0].as_str()).collect();
    assert!(names.is_sorted());
    let mut rows: Vec<_> = General::ROWS.iter().map(|row| row.name).collect();
    rows.sort_unstable();
    assert_eq!(names, rows);
    let (mut texts, mut warned) = (Vec::new(), 0);
    for (row, shown) in General::ROWS.iter().map(|row| (row, shown.iter().find(|shown| shown[0] == row.name).unwrap()))
    {
        let (name, default) = (row.name, (row.show)(&General::default()));
        // PgBouncer has NULL for a few, which is `-` here.
        assert!(shown[2] == default || (shown[2] == "-" && default.is_empty()), "{name}");
        assert_eq!(shown[3], if row.when == When::Reload { "yes" } else { "no" }, "{name}");
        // SHOW CONFIG and SET have one spelling.
        let own = (row.show)(&pooler.pools.config.load().general);
        let answers = console.ask(&format!("SET {name} = '{}'", own.replace('\'', "''"))).await;
        let boot = row.when == When::Boot;
        let told = boot || Config::why_idle(name).is_some();
        assert_eq!(tags(&answers), if told { "NCZ" } else { "CZ" }, "{name} = {own}: {answers:?}");
        warned += usize::from(boot);
        let wrong = console.tag(&format!("SET {name} = '{NONSENSE}'")).await;
        if !wrong.starts_with("08P01 ") {
            texts.push(name);
        }
    }
    assert_eq!(warned, General::ROWS.iter().filter(|row| row.when == When::Boot).count());
    assert_eq!(texts.join(" "), TEXTS);
}

/// Settings that take whatever text there is, files of TLS as long as none is used.
const TEXTS: &str = "listen_addr unix_socket_dir unix_socket_group user logfile pidfile syslog_ident \
                     login_notify_message ignore_startup_parameters auth_file auth_user auth_query auth_dbname \
                     auth_query_search_path admin_users stats_users client_tls_key_file client_tls_cert_file client_tls_ca_file \
                     client_tls_crl_file client_tls_ciphers server_tls_ca_file server_tls_crl_file server_tls_ciphers server_reset_query server_check_query \
                     resolv_conf conffile track_extra_parameters job_name";

#[test]
fn every_command_of_the_help_is_one() {
    let mut shows = Vec::new();
    let usage = crate::admin::show::USAGE;
    for line in usage.lines().filter(|line| !line.is_empty()) {
        let (verb, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        for word in rest.split('|') {
            let argument = word.replace(['[', ']'], "").replace("<db>", "app").replace("<client_id>", "7");
            let text = format!("{verb} {argument}").replace("key = arg", "query_timeout = 1");
            let commands = parse(&text).unwrap_or_else(|report| panic!("{text}: {}", report.message));
            if let [Command::Show(show)] = &commands[..] {
                shows.push(*show);
            }
        }
        // What stands in brackets may be left out.
        assert!(!rest.contains('[') || parse(verb).is_ok(), "{line}");
    }
    let missing: Vec<_> = Show::ALL.iter().filter(|show| !shows.contains(show)).collect();
    assert!(missing.is_empty(), "the help does not tell of {missing:?}");
}

/// Upper case, a semicolon and comments make no difference.
#[tokio::test]
async fn commands_are_answered_with_their_tags() {
    let pooler = Pooler::new();
    let mut console = pooler.console(Role::Admin).await;
    let commands = [
        ("PAUSE", "PAUSE"),
        ("RESUME", "RESUME"),
        ("SUSPEND", "SUSPEND"),
        ("RESUME", "RESUME"),
        ("DISABLE one", "DISABLE"),
        ("ENABLE one", "ENABLE"),
        ("RECONNECT one", "RECONNECT"),
        ("WAIT_CLOSE one", "WAIT_CLOSE"),
        ("KILL one", "KILL"),
        ("RESUME one", "RESUME"),
        ("RELOAD", "RELOAD"),
        ("SET query_timeout = 0", "SET query_timeout=0"),
        ("SET query_timeout TO '0'", "SET query_timeout=0"),
        ("SHOW PEERS", "SHOW"),
    ];
    for spelled in [
        |text: &str| text.to_owned(),
        |text: &str| text.to_lowercase() + ";",
        |text: &str| format!("/* x */ {text} -- y"),
    ] {
        for (command, tag) in commands {
            let text = spelled(command);
            assert_eq!(console.tag(&text).await, tag, "{text}");
        }
    }
}
