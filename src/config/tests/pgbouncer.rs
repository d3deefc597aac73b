//! Every setting of PgBouncer 1.25 but `service_name`, which is for Windows: with its default where a pgbouncer.ini says
//! nothing, and as changeable as PgBouncer's.

use crate::config::{General, Table, When, ini};

use When::{Boot, Reload};

/// Name, default in the spelling of SHOW CONFIG, and when a change takes effect.
const SETTINGS: &[(&str, &str, When)] = &[
    ("admin_users", "", Reload),
    ("application_name_add_host", "0", Reload),
    ("auth_dbname", "", Reload),
    ("auth_file", "", Reload),
    ("auth_hba_file", "", Reload),
    ("auth_ident_file", "", Reload),
    ("auth_ldap_options", "", Reload),
    ("auth_type", "md5", Reload),
    ("auth_user", "", Reload),
    ("autodb_idle_timeout", "3600", Reload),
    ("cancel_wait_timeout", "10", Reload),
    ("client_idle_timeout", "0", Reload),
    ("client_login_timeout", "60", Reload),
    ("client_tls13_ciphers", "", Reload),
    ("client_tls_ca_file", "", Reload),
    ("client_tls_cert_file", "", Reload),
    ("client_tls_ciphers", "default", Reload),
    ("client_tls_dheparams", "auto", Reload),
    ("client_tls_ecdhcurve", "auto", Reload),
    ("client_tls_key_file", "", Reload),
    ("client_tls_protocols", "secure", Reload),
    ("client_tls_sslmode", "disable", Reload),
    ("conffile", "", Reload),
    ("default_pool_size", "20", Reload),
    ("disable_pqexec", "0", Boot),
    ("dns_max_ttl", "15", Reload),
    ("dns_nxdomain_ttl", "15", Reload),
    ("dns_zone_check_period", "0", Reload),
    ("idle_transaction_timeout", "0", Reload),
    ("ignore_startup_parameters", "", Reload),
    ("job_name", "pgbouncer", Boot),
    ("listen_addr", "", Boot),
    ("listen_backlog", "128", Boot),
    ("listen_port", "6432", Boot),
    ("log_connections", "1", Reload),
    ("log_disconnections", "1", Reload),
    ("log_pooler_errors", "1", Reload),
    ("log_stats", "1", Reload),
    ("logfile", "", Reload),
    ("login_notify_message", "", Reload),
    ("max_client_conn", "100", Reload),
    ("max_db_client_connections", "0", Reload),
    ("max_db_connections", "0", Reload),
    ("max_packet_size", "2147483647", Reload),
    ("max_prepared_statements", "200", Reload),
    ("max_user_client_connections", "0", Reload),
    ("max_user_connections", "0", Reload),
    ("min_pool_size", "0", Reload),
    ("peer_id", "0", Reload),
    ("pidfile", "", Boot),
    ("pkt_buf", "4096", Boot),
    ("pool_idle_timeout", "0", Reload),
    ("pool_mode", "session", Reload),
    ("query_timeout", "0", Reload),
    ("query_wait_notify", "5", Reload),
    ("query_wait_timeout", "120", Reload),
    ("reserve_pool_size", "0", Reload),
    ("reserve_pool_timeout", "5", Reload),
    ("resolv_conf", "", Boot),
    ("sbuf_loopcnt", "5", Reload),
    ("scram_iterations", "4096", Reload),
    ("server_check_delay", "30", Reload),
    ("server_check_query", "<empty>", Reload),
    ("server_connect_timeout", "15", Reload),
    ("server_fast_close", "0", Reload),
    ("server_idle_timeout", "600", Reload),
    ("server_lifetime", "3600", Reload),
    ("server_login_retry", "15", Reload),
    ("server_reset_query", "DISCARD ALL", Reload),
    ("server_reset_query_always", "0", Reload),
    ("server_round_robin", "0", Reload),
    ("server_tls13_ciphers", "", Reload),
    ("server_tls_ca_file", "", Reload),
    ("server_tls_cert_file", "", Reload),
    ("server_tls_ciphers", "default", Reload),
    ("server_tls_key_file", "", Reload),
    ("server_tls_protocols", "secure", Reload),
    ("server_tls_sslmode", "prefer", Reload),
    ("so_reuseport", "0", Boot),
    ("stats_period", "60", Reload),
    ("stats_users", "", Reload),
    ("suspend_timeout", "10", Reload),
    ("syslog", "0", Reload),
    ("syslog_facility", "daemon", Reload),
    ("syslog_ident", "pgbouncer", Reload),
    ("tcp_defer_accept", "1", Reload),
    ("tcp_keepalive", "1", Reload),
    ("tcp_keepcnt", "0", Reload),
    ("tcp_keepidle", "0", Reload),
    ("tcp_keepintvl", "0", Reload),
    ("tcp_socket_buffer", "0", Reload),
    ("tcp_user_timeout", "0", Reload),
    ("track_extra_parameters", "IntervalStyle", Boot),
    ("transaction_timeout", "0", Reload),
    ("unix_socket_dir", "/tmp", Boot),
    ("unix_socket_group", "", Boot),
    ("unix_socket_mode", "0777", Boot),
    ("user", "", Boot),
    ("verbose", "0", Reload),
];

/// Where a change takes effect at another time; docs/pgbouncer.md has them.
const OTHERWISE: &[&str] = &["disable_pqexec"];

#[test]
fn each_setting_of_pgbouncer_is_there() {
    assert!(SETTINGS.is_sorted_by_key(|(name, ..)| name));
    let defaults = ini::defaults();
    let mut otherwise = Vec::new();
    for (name, default, when) in SETTINGS {
        let row = General::row(name).unwrap_or_else(|| panic!("{name} is not there"));
        assert_eq!((row.show)(&defaults), *default, "{name}");
        if row.when != *when {
            otherwise.push(*name);
        }
    }
    assert_eq!(otherwise, OTHERWISE);
}
