//! The file, as text.

use std::fmt::Write as _;

use pgpool::net::Target;

use super::plan::Plan;
use super::{RoleSeen, Seen};
use crate::cli::dsn::Dsn;
use crate::cli::link::{Way, identifier};

/// Names that are the console's, or the entry for all others.
const NOT_FOR_ENTRIES: &[&str] = &["pgpool", "pgbouncer", "*"];
const AUTH_USER: &str = "pgpool_auth";

/// All of it.
pub(crate) fn file(seen: &Seen, plan: &Plan, dsn: &Dsn, way: &Way) -> String {
    let mut out = String::new();
    general(&mut out, seen, plan, dsn);
    databases(&mut out, seen, plan, way);
    users(&mut out, seen);
    out
}

fn general(out: &mut String, seen: &Seen, plan: &Plan, dsn: &Dsn) {
    let facts = &seen.examined.facts;
    let server = comment(&format!("{}, PostgreSQL {}", facts.target, facts.server.version));
    let _ = writeln!(out, "# Made by `pgpool init` for {server}.");
    if seen.secrets {
        let _ = writeln!(out, "# It holds secrets: keep it from others (chmod 600).");
    }
    let _ = writeln!(out, "\n[pgpool]");
    let _ = writeln!(out, "# Only this machine; \"*\" for all addresses, then with client_tls_sslmode.");
    let _ = writeln!(out, "listen_addr = \"127.0.0.1\"\nlisten_port = 6432");
    let _ = writeln!(
        out,
        "\n# Clients share connections between their transactions; prepared statements and settings follow them."
    );
    let _ = writeln!(out, "pool_mode = \"transaction\"");
    let _ = writeln!(out, "\n# {}.", comment(&plan.reason));
    let _ = writeln!(out, "default_pool_size = {}", plan.pool_size);
    let md5 = seen.roles.iter().any(|role| kind(role) == Kind::Md5);
    let (auth_type, why) = if md5 {
        ("md5", "some roles have MD5 secrets; those with SCRAM verifiers log in by SCRAM all the same")
    } else {
        ("scram-sha-256", "what PostgreSQL's own secrets are for")
    };
    let _ = writeln!(out, "\n# {why}.\nauth_type = \"{auth_type}\"");
    if !seen.secrets {
        let user = comment(&facts.server.user);
        let _ = writeln!(
            out,
            "\n# {user} may not read pg_authid, so that pgpool asks PostgreSQL for secrets. Run this as a superuser"
        );
        let _ = writeln!(out, "# in each database, with a password of your own, and put it below:");
        for line in AUTH_FUNCTION.lines() {
            let _ = writeln!(out, "#   {line}");
        }
        let _ = writeln!(out, "auth_user = \"{AUTH_USER}\"\nauth_query = \"SELECT * FROM public.pgpool_get_auth($1)\"");
    }
    if let Some(mode) = dsn.get("sslmode") {
        let _ = writeln!(out, "\n# As in the connection string.\nserver_tls_sslmode = {}", quoted(mode));
    }
    for (key, setting) in
        [("sslrootcert", "server_tls_ca_file"), ("sslcert", "server_tls_cert_file"), ("sslkey", "server_tls_key_file")]
    {
        if let Some(path) = dsn.get(key) {
            let _ = writeln!(out, "{setting} = {}", quoted(path));
        }
    }
    let _ =
        writeln!(out, "\n# A transaction that its client has forgotten holds its connection for no longer than this.");
    let _ = writeln!(out, "idle_transaction_timeout = \"5min\"");
}

const AUTH_FUNCTION: &str = "\
CREATE ROLE pgpool_auth LOGIN PASSWORD '...';
CREATE FUNCTION public.pgpool_get_auth(name text) RETURNS TABLE (rolname name, rolpassword text)
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
    SELECT a.rolname, CASE WHEN a.rolvaliduntil < now() THEN NULL ELSE a.rolpassword END FROM pg_authid a
    WHERE a.rolname = $1 AND a.rolcanlogin AND NOT a.rolsuper AND NOT a.rolreplication $$;
REVOKE ALL ON FUNCTION public.pgpool_get_auth(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.pgpool_get_auth(text) TO pgpool_auth;";

fn databases(out: &mut String, seen: &Seen, plan: &Plan, way: &Way) {
    let Plan { ordinary, budget, .. } = plan;
    let _ = writeln!(
        out,
        "\n# There are {ordinary} slots for ordinary roles. {budget} of them (80 %) are pgpool's, divided evenly; the others are for\n\
         # whoever connects past it. max_db_connections holds over all users of a database."
    );
    for (database, most) in seen.databases.iter().zip(&plan.databases) {
        if NOT_FOR_ENTRIES.contains(&database.name.as_str()) {
            let _ = writeln!(out, "\n# {} has no entry: the name is pgpool's own.", comment(&database.name));
            continue;
        }
        let _ = writeln!(out, "\n[databases.{}]", quoted(&database.name));
        let (host, port) = match &way.target {
            Target::Tcp { host, port } => (host.clone(), *port),
            Target::Unix { path, port } => {
                let dir = path.parent().map(|dir| dir.display().to_string());
                (dir.unwrap_or_default(), *port)
            }
        };
        let _ = writeln!(out, "host = {}\nport = {port}", quoted(&host));
        if u32::try_from(database.limit).is_ok_and(|limit| limit == *most) {
            let _ = writeln!(out, "# Its CONNECTION LIMIT.");
        }
        let _ = writeln!(out, "max_db_connections = {most}");
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Scram,
    Md5,
    None,
}

fn kind(role: &RoleSeen) -> Kind {
    match role.secret.as_deref() {
        Some(secret) if secret.starts_with("SCRAM-SHA-256$") => Kind::Scram,
        Some(secret) if secret.starts_with("md5") => Kind::Md5,
        _ => Kind::None,
    }
}

fn users(out: &mut String, seen: &Seen) {
    if seen.secrets {
        let _ = writeln!(
            out,
            "\n# The roles that may log in, with PostgreSQL's own secrets: they log in as before, and what a client proves at its\n\
             # login opens the connections of its role. A password that changes there has to be changed here."
        );
    } else {
        let _ = writeln!(out, "\n[users.{AUTH_USER}]\n# password = \"...\"");
    }
    for role in &seen.roles {
        let name = comment(&role.name);
        let skipped = match (role.superuser, role.expired, kind(role)) {
            (true, ..) => "is a superuser, and better connects past the pooler",
            (_, true, _) => "has a password that is no longer valid (VALID UNTIL)",
            (_, _, Kind::None) if seen.secrets => "has no password in PostgreSQL, and cannot log in here by one",
            _ => "",
        };
        if !skipped.is_empty() {
            let _ = writeln!(out, "\n# {name} {skipped}.");
            continue;
        }
        let limit = u32::try_from(role.limit).ok().filter(|limit| *limit > 0);
        let secret = role.secret.as_deref().filter(|_| seen.secrets);
        if secret.is_none() && limit.is_none() || role.name == AUTH_USER {
            continue;
        }
        let _ = writeln!(out, "\n[users.{}]", quoted(&role.name));
        if let Some(secret) = secret {
            let _ = writeln!(out, "password = {}", quoted(secret));
        }
        if let Some(limit) = limit {
            let _ = writeln!(out, "# Its CONNECTION LIMIT ({}).", comment(&identifier(&role.name)));
            let _ = writeln!(out, "max_user_connections = {limit}");
        }
    }
}

/// As a basic string of TOML, which also does as a key.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control.is_control() => drop(write!(out, "\\u{:04X}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// Within a comment, which ends with its line.
fn comment(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '?' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_stays_a_name() {
        for name in ["plain", "o'brien", "a\"b\\c", "line\nbreak\u{7f}", "ä.ö", ""] {
            let text = format!("[users.{}]\npassword = {}\n", quoted(name), quoted(name));
            let table: toml::Table = text.parse().unwrap();
            assert_eq!(table["users"][name]["password"].as_str(), Some(name));
            assert_eq!(comment(name).lines().count().max(1), 1);
        }
    }
}
