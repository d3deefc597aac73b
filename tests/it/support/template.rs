//! A data directory that is initialised once and copied for every cluster, since `initdb` takes seconds and each test
//! starts a PostgreSQL of its own.
//!
//! It lives in the build's directory for temporary files, named for all that it depends on. Test processes that run at
//! the same time are kept apart by a file lock, and it appears by one rename.

use std::{
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::programs::{give_to_postgres, postgres_bin_dir, scratch_dir, unprivileged};

const INITDB: &[&str] = &[
    "--username=postgres",
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    "--no-sync",
    "--no-instructions",
    "--wal-segsize=1",
];

/// What every cluster holds. One statement a line: this is fed to a single-user PostgreSQL.
const CONTENT: &str = "\
set password_encryption = 'scram-sha-256'
create role alice login password 'alicepw'
create role carol login password 'carolpw'
create role trusty login
set password_encryption = 'md5'
create role bob login password 'bobpw'
create database app
grant create on database app to alice, bob, carol, trusty
";

/// The same, for what has to be done inside of the database `app`.
const CONTENT_OF_APP: &str = "\
grant all on schema public to public
";

/// Fills `data` (not there yet) with a fresh data directory.
pub(crate) fn copy_to(data: &Path) {
    let template = template();
    let status = Command::new("cp").args(["-a", "--reflink=auto"]).arg(&template).arg(data).status().expect("start cp");
    assert!(status.success(), "copy {} to {}", template.display(), data.display());
}

fn template() -> PathBuf {
    let bin = postgres_bin_dir();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let template = target.join(format!("pg-template-{:016x}", fingerprint(&bin)));
    if template.is_dir() {
        return template;
    }
    fs::create_dir_all(target).expect("create the build's directory for temporary files");
    let lock = File::create(target.join("pg-template.lock")).expect("create the template's lock file");
    lock.lock().expect("lock the template");
    if !template.is_dir() {
        make(&bin, &template);
    }
    template
}

fn fingerprint(bin: &Path) -> u64 {
    let version = Command::new(bin.join("postgres")).arg("--version").output().expect("start postgres --version");
    let mut hasher = DefaultHasher::new();
    (version.stdout, rustix::process::geteuid().as_raw(), INITDB, CONTENT, CONTENT_OF_APP).hash(&mut hasher);
    hasher.finish()
}

/// Initialises where PostgreSQL's user can write, and moves the result.
fn make(bin: &Path, template: &Path) {
    let scratch =
        tempfile::Builder::new().prefix("pgpool-template-").tempdir_in(scratch_dir()).expect("make a directory");
    give_to_postgres(scratch.path());
    let data = scratch.path().join("data");
    let output =
        unprivileged(&bin.join("initdb"), "KILL").args(INITDB).arg("-D").arg(&data).output().expect("start initdb");
    assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
    run_single_user(bin, &data, "postgres", CONTENT);
    run_single_user(bin, &data, "app", CONTENT_OF_APP);

    let partial = template.with_extension("partial");
    let _ = fs::remove_dir_all(&partial);
    let status = Command::new("cp").arg("-a").arg(&data).arg(&partial).status().expect("start cp");
    assert!(status.success(), "copy the template");
    fs::rename(&partial, template).expect("put the template in place");
}

fn run_single_user(bin: &Path, data: &Path, database: &str, statements: &str) {
    let mut postgres = unprivileged(&bin.join("postgres"), "KILL")
        .args(["--single", "-F", "-D"])
        .arg(data)
        .args(["-c", "log_min_messages=error", "-c", "exit_on_error=on", database])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start a single-user postgres");
    postgres
        .stdin
        .take()
        .expect("a piped stdin")
        .write_all(statements.as_bytes())
        .expect("write to a single-user postgres");
    let output = postgres.wait_with_output().expect("wait for a single-user postgres");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !log.contains("ERROR"), "fill the template: {log}");
}
