//! Passwords that PAM checks: the real libpam with service files and a module of the test's own (`libpam-wrapper`).

use std::{fs, path::PathBuf, thread, time::Duration};

use crate::support::{Cluster, Pooler, Raw, for_each_worker_count, reply::PgError};

const SOON: Duration = Duration::from_secs(5);

/// A directory of services: `pgbouncer` knows alice (`alicepam`) and whoever (`whoeverpam`), `postgresql` alice alone,
/// `other` her by another password; `expired` refuses every account; `remote` lets alice in from localhost; `slow` takes
/// two seconds.
fn services() -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix("pgpool-pam-").tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let services = dir.path().join("services");
    fs::create_dir(&services).unwrap();
    for (service, account, passwords) in [
        ("pgbouncer", "pam_permit.so", "alice:alicepam:pgbouncer\nwhoever:whoeverpam:pgbouncer\n"),
        ("postgresql", "pam_permit.so", "alice:alicepam:postgresql\n"),
        ("other", "pam_permit.so", "alice:otherpam:other\n"),
        ("expired", "pam_deny.so", "alice:alicepam:expired\n"),
    ] {
        let file = path(&format!("passwords-{service}"));
        fs::write(&file, passwords).unwrap();
        let auth = format!("auth required {} passdb={file}\n", library("pam_matrix.so"));
        fs::write(services.join(service), format!("{auth}account required {account}\n")).unwrap();
    }
    let script = path("remote.sh");
    fs::write(&script, "#!/bin/sh\n[ \"$PAM_RHOST\" = localhost ] && [ \"$PAM_USER\" = alice ]\n").unwrap();
    let remote = format!("auth required pam_exec.so quiet /bin/sh {script}\naccount required pam_permit.so\n");
    fs::write(services.join("remote"), remote).unwrap();
    fs::write(services.join("slow"), "auth required pam_exec.so quiet /bin/sleep 2\naccount required pam_permit.so\n")
        .unwrap();
    dir
}

fn library(name: &str) -> String {
    let found = ["/usr/lib", "/usr/lib64"].iter().find_map(|dir| find_below(&PathBuf::from(dir), name, 3));
    found.unwrap_or_else(|| panic!("{name} (on Debian: apt-get install libpam-wrapper)")).display().to_string()
}

fn find_below(dir: &PathBuf, name: &str, depth: usize) -> Option<PathBuf> {
    let entries: Vec<_> = fs::read_dir(dir).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let here = entries.iter().find(|path| path.file_name().is_some_and(|found| found == name));
    let below = || entries.iter().filter(|path| depth > 0 && path.is_dir() && !path.is_symlink());
    here.cloned().or_else(|| below().find_map(|path| find_below(path, name, depth - 1)))
}

fn start(cluster: &Cluster, services: &tempfile::TempDir, settings: &str) -> Pooler {
    let settings = format!("[pgpool]\n{settings}\n[databases.app]\nuser = \"trusty\"\n");
    let directory = services.path().join("services").display().to_string();
    let wrapper = library("libpam_wrapper.so");
    let environment = [("LD_PRELOAD", wrapper.as_str()), ("PAM_WRAPPER", "1"), ("PAM_WRAPPER_SERVICE_DIR", &directory)];
    Pooler::start_in(cluster, &settings, &[], &environment)
}

fn refused(pooler: &Pooler, user: &str, password: &str) -> PgError {
    let outcome = Raw::try_login(pooler.port(), user, password, "app");
    outcome.err().unwrap_or_else(|| panic!("{user} was let in with «{password}»"))
}

fn assert_refused(pooler: &Pooler, user: &str, password: &str) {
    let error = refused(pooler, user, password);
    let words = format!("PAM authentication failed for user \"{user}\"");
    assert_eq!((error.severity.as_str(), error.code.as_str(), error.message), ("FATAL", "28000", words));
}

#[test]
fn pam_checks_passwords() {
    for_each_worker_count(|workers| {
        let (cluster, services) = (Cluster::start(), services());
        let pooler = start(&cluster, &services, &format!("auth_type = \"pam\"\nworker_threads = {workers}"));
        for (user, password) in [("alice", "alicepam"), ("whoever", "whoeverpam")] {
            assert_eq!(pooler.login(user, password, "app").value("select current_user"), "trusty");
            assert_refused(&pooler, user, "wrong");
        }
        assert_refused(&pooler, "alice", "alicepw");
        assert_refused(&pooler, "nobody", "alicepam");
        assert_eq!(refused(&pooler, "alice", "").message, "empty password returned by client for user \"alice\"");
        pooler.wait_for_log("PAM refuses the password", SOON);
    });
}

#[test]
fn pam_by_rules_with_services_of_their_own() {
    let (cluster, services) = (Cluster::start(), services());
    let file = services.path().join("pg_hba.conf");
    let start_with = |line: &str| {
        fs::write(&file, format!("{line}\n")).unwrap();
        start(&cluster, &services, &format!("auth_type = \"hba\"\nauth_hba_file = \"{}\"", file.display()))
    };
    let pooler = start_with("host all all all pam");
    pooler.login("alice", "alicepam", "app");
    assert_refused(&pooler, "whoever", "whoeverpam");
    let pooler = start_with("host all all all pam pamservice=other");
    pooler.login("alice", "otherpam", "app");
    assert_refused(&pooler, "alice", "alicepam");
    let pooler = start_with("host all all all pam pamservice=expired");
    assert_refused(&pooler, "alice", "alicepam");
    pooler.wait_for_log("PAM refuses the account", SOON);
    let pooler = start_with("host all all all pam pamservice=remote pam_use_hostname=1");
    pooler.login("alice", "any", "app");
    assert_refused(&pooler, "bob", "any");
    let pooler = start_with("host all all all pam pamservice=remote");
    assert_refused(&pooler, "alice", "any");
}

#[test]
fn pam_that_takes_its_time_holds_up_nobody_else() {
    let (cluster, services) = (Cluster::start(), services());
    let file = services.path().join("pg_hba.conf");
    fs::write(&file, "host all alice all pam pamservice=slow\nhost all all all trust\n").unwrap();
    let settings = format!("auth_type = \"hba\"\nworker_threads = 1\nauth_hba_file = \"{}\"", file.display());
    let pooler = start(&cluster, &services, &settings);
    let port = pooler.port();
    let slow: Vec<_> = (0..4).map(|_| thread::spawn(move || Raw::login(port, "alice", "any", "app"))).collect();
    // All on one thread: each of these would wait for two seconds.
    for _ in 0..5 {
        assert_eq!(pooler.login("bob", "", "app").value("select 1"), "1");
    }
    assert!(slow.iter().any(|client| !client.is_finished()));
    for client in slow {
        client.join().unwrap();
    }
}
