//! A streaming standby of a test's PostgreSQL.

use std::{fs, io::Write};

use super::{
    cluster::Cluster,
    programs::{postgres_bin_dir, unprivileged},
};

impl Cluster {
    /// A PostgreSQL of its own that follows this one, made by pg_basebackup.
    pub(crate) fn standby(&self) -> Cluster {
        Cluster::standby_of(self.port())
    }

    /// The same of whatever listens on this port of 127.0.0.1.
    pub(crate) fn standby_of(port: u16) -> Cluster {
        Cluster::made_by(|data, socket_dir| {
            let status = unprivileged(&postgres_bin_dir().join("pg_basebackup"), "TERM")
                .args(["-U", "postgres", "-h", "127.0.0.1", "-p", &port.to_string()])
                .args(["--checkpoint=fast", "-R", "-X", "stream", "-D"])
                .arg(data)
                .status()
                .expect("start pg_basebackup");
            assert!(status.success(), "pg_basebackup failed");
            let mut conf = fs::File::options().append(true).open(data.join("postgresql.auto.conf")).expect("open");
            writeln!(conf, "unix_socket_directories = '{}'", socket_dir.display()).expect("write");
        })
    }

    /// Makes a primary of a standby, and waits until it is one.
    pub(crate) fn promote(&self) {
        assert_eq!(self.sql("postgres", "select pg_promote(true, 30)"), "t", "not promoted");
    }
}
