//! TLS with clients and with PostgreSQL.

mod backends;
mod binding;
mod certificates;
mod files;
mod openings;
mod sslmodes;
mod streams;

use std::{process::Command, sync::Arc};

use rustls::{ClientConfig, SupportedProtocolVersion, version};

use crate::support::{Cluster, Pki, Pooler};

const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

/// A pgpool with TLS for clients, who are trusted or asked for SCRAM.
fn pooler(cluster: &Cluster, pki: &Pki, mode: &str, more: &str) -> Pooler {
    Pooler::start(cluster, &format!("[pgpool]\n{}{more}", pki.client_tls(mode)))
}

fn client(pki: &Pki) -> Arc<ClientConfig> {
    Arc::new(pki.client(BOTH, None))
}

/// What psql prints, or complains of; `parameters` are libpq's besides host, port and database.
fn psql(pooler: &Pooler, parameters: &str, sql: &str) -> Result<String, String> {
    let parameters = format!("host=localhost hostaddr=127.0.0.1 port={} dbname=app {parameters}", pooler.port());
    psql_at(&parameters, sql)
}

fn psql_at(parameters: &str, sql: &str) -> Result<String, String> {
    let output = Command::new("psql")
        .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql, parameters])
        .env("PGCONNECT_TIMEOUT", "10")
        .env("PGSSLROOTCERT", "/nonexistent")
        .env("HOME", "/nonexistent")
        .env("PGPASSWORD", "alicepw")
        .output()
        .expect("start psql");
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
