//! What is said about the lines of an `auth_hba_file` that cannot work with the other settings, or in this build.

use std::fs;

use crate::config::{Config, Loaded, Problem, Problems};

/// What is told about `rules` with `settings`, a line each, without the directory.
fn told(settings: &str, rules: &str) -> Result<String, String> {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("hba"), rules).unwrap();
    let text = format!("[pgpool]\nauth_hba_file = \"hba\"\n{settings}\n[databases.a]\n");
    let loaded = Config::parse(&text, &directory.path().join("pgpool.toml"));
    let prefix = format!("{}/", directory.path().display());
    let joined = |problems: &[Problem]| {
        problems.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect::<Vec<_>>().join("\n")
    };
    match loaded {
        Ok(Loaded { warnings, .. }) => Ok(joined(&warnings)),
        Err(Problems(problems)) => Err(joined(&problems)),
    }
}

#[test]
fn lines_that_the_sslmode_of_clients_makes_useless() {
    let rules = "hostssl all all all cert\nhostssl all all all md5 clientcert=verify-ca\nhostssl all all all md5\n\
                 hostnossl all all all md5\nhost all all all md5\nlocal all all peer\n";
    let off = |line| format!("hba:{line}: hostssl line fits no client: TLS is off with client_tls_sslmode = disable");
    let unasked = |line, asks, mode| {
        format!(
            "hba:{line}: line with {asks} lets nobody in: no client is asked for a certificate with \
             client_tls_sslmode = {mode}; verify-ca and verify-full ask for one"
        )
    };
    let always = |mode| {
        format!("hba:4: hostnossl line fits no client: nobody comes without TLS with client_tls_sslmode = {mode}")
    };
    let weak = |mode| vec![unasked(1, "method cert", mode), unasked(2, "clientcert", mode)];
    for (mode, expected) in [
        ("disable", vec![off(1), off(2), off(3)]),
        ("allow", weak("allow")),
        ("prefer", weak("prefer")),
        ("require", [weak("require"), vec![always("require")]].concat()),
        ("verify-ca", vec![always("verify-ca")]),
        ("verify-full", vec![always("verify-full")]),
    ] {
        let settings = format!(
            "client_tls_sslmode = \"{mode}\"\nclient_tls_key_file = \"k\"\nclient_tls_cert_file = \"c\"\n\
             client_tls_ca_file = \"a\"\n"
        );
        assert_eq!(told(&settings, rules), Ok(expected.join("\n")), "{mode}");
    }
}

#[test]
fn memberships_need_somebody_to_ask_as() {
    let lacking = |line: u32, name: &str, database: &str| {
        let instead = match name {
            _ if database == "the console" => "name databases, without the console, which is one of all",
            "samerole" => "write the names, or sameuser where each user has a database of his name",
            _ => "write the names of the members, or @file for a file of them",
        };
        let setting = if database == "the console" { "auth_user and auth_dbname in [pgpool]" } else { "auth_user" };
        Err(format!(
            "hba:{line}: \"{name}\" needs to know who is a member of which role, and {database} has no auth_user to \
             ask PostgreSQL as: set {setting}, or {instead}"
        ))
    };
    let fine = || Ok(String::new());
    let (entry, fallback) = ("[databases.b]\nauth_user = \"x\"\n", "[databases.\"*\"]\nauth_user = \"x\"\n");
    let cases = [
        ("", "local a +staff md5", lacking(1, "+staff", "[databases.a]")),
        ("", "local all all md5\nlocal all bob,+\"a b\" md5", lacking(2, "+a b", "[databases.a]")),
        ("", "local samerole all md5", lacking(1, "samerole", "[databases.a]")),
        ("", "local samegroup,/x +y md5", lacking(1, "samerole", "[databases.a]")),
        ("", "local /^a +staff md5", lacking(1, "+staff", "[databases.a]")),
        ("", "local /^b +staff md5", fine()),
        ("auth_user = \"x\"", "local a,sameuser,samerole,nosuch +staff md5", fine()),
        ("auth_user = \"x\"", "local all +staff md5", lacking(1, "+staff", "the console")),
        ("auth_user = \"x\"", "local /^pgb +staff md5", lacking(1, "+staff", "the console")),
        ("auth_user = \"x\"\nauth_dbname = \"a\"", "local all,pgbouncer +staff md5", fine()),
        (entry, "local b +staff md5", fine()),
        (entry, "local sameuser +staff md5", lacking(1, "+staff", "[databases.a]")),
        (fallback, "local b,samerole +staff md5", lacking(1, "samerole", "[databases.a]")),
        (fallback, "local b +staff md5", fine()),
        ("[databases.\"*\"]\n", "local b +staff md5", lacking(1, "+staff", "[databases.*]")),
        ("[databases.\"*\"]\n", "local replication +staff md5", fine()),
    ];
    for (settings, rules, expected) in cases {
        assert_eq!(told(settings, rules), expected, "{settings} {rules}");
    }
}

#[test]
fn what_this_build_cannot_check_is_a_problem_at_each_place() {
    let refused = |built: bool, feature: &str, settings: &str, rules: &str, place: &str| {
        let expected = match built {
            true => Ok(String::new()),
            false => Err(format!("{place}: this pgpool was built without {feature} (cargo's feature `{feature}`)")),
        };
        assert_eq!(told(settings, rules), expected, "{settings} {rules}");
    };
    let (ldap, pam) = (cfg!(feature = "ldap"), cfg!(feature = "pam"));
    let usual = "host all all all md5\n";
    refused(ldap, "ldap", "", &format!("{usual}host all all all ldap ldapserver=d ldapprefix=x\n"), "hba:2");
    refused(pam, "pam", "", &format!("{usual}{usual}host all all all pam\n"), "hba:3");
    refused(pam, "pam", "auth_type = \"pam\"", usual, "pgpool.toml:3");
    let by_directory = "auth_type = \"ldap\"\nauth_ldap_options = \"ldapserver=d ldapprefix=x\"";
    refused(ldap, "ldap", by_directory, usual, "pgpool.toml:3");
}
