//! Where the programs are that the tests start, and as which user.
//!
//! PostgreSQL and PgBouncer refuse to run as root; then they run as the user `postgres`, through `setpriv`, which also
//! has the kernel end them when the test that started them is gone.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A cluster takes 40; several run at once.
const ENOUGH_MEGABYTES: u64 = 2_000;

/// The directory with `initdb` and `postgres`: `$PGPOOL_PG_BIN`, what `pg_config` says, or Debian's newest.
pub(crate) fn postgres_bin_dir() -> PathBuf {
    if let Some(dir) = env::var_os("PGPOOL_PG_BIN") {
        let dir = PathBuf::from(dir);
        assert!(has_server(&dir), "PGPOOL_PG_BIN={} holds no initdb and postgres", dir.display());
        return dir;
    }
    from_pg_config().or_else(newest_of_debian).unwrap_or_else(|| {
        panic!(
            "PostgreSQL's server programs were not found: install them (on Debian: apt-get install postgresql), \
             or name their directory in PGPOOL_PG_BIN"
        )
    })
}

/// `program` with the privileges that PostgreSQL accepts, ended by `pdeathsig` when the thread that spawns it ends.
pub(crate) fn unprivileged(program: &Path, pdeathsig: &str) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    // The test's own directory may be closed to that user.
    command.args(["--pdeathsig", pdeathsig]).arg(program).current_dir("/");
    command
}

/// `program` as anybody but root, ended by SIGKILL when the thread that spawns it ends. What root can read it can read:
/// it may lie in a directory of root's.
pub(crate) fn bound_to_this_thread(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
        command.args(["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]);
    }
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// `program` as it is, ended by SIGKILL when the thread that spawns it ends, unless it becomes somebody else.
pub(crate) fn ended_with_this_thread(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// Gives a file or directory to the user that PostgreSQL runs as.
pub(crate) fn give_to_postgres(path: &Path) {
    if is_root() {
        let (uid, gid) = postgres_ids();
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).expect("chown to postgres");
    }
}

/// PgBouncer to compare with: `$PGPOOL_PGBOUNCER`, or the system's.
pub(crate) fn pgbouncer() -> Option<PathBuf> {
    let found = named_pgbouncer().or_else(|| find("pgbouncer"));
    if found.is_none() {
        eprintln!("PgBouncer is not installed: nothing to compare with");
    }
    found
}

/// A PgBouncer for what older ones do not have: `$PGPOOL_PGBOUNCER`, or what scripts/newer_pgbouncer has fetched.
pub(crate) fn newer_pgbouncer() -> PathBuf {
    let fetched = || target_dir().join("pgbouncer-newer/pgbouncer");
    let found = named_pgbouncer().unwrap_or_else(fetched);
    assert!(found.is_file(), "there is no {}: scripts/newer_pgbouncer fetches it", found.display());
    found
}

fn named_pgbouncer() -> Option<PathBuf> {
    let named = PathBuf::from(env::var_os("PGPOOL_PGBOUNCER")?);
    assert!(named.is_file(), "PGPOOL_PGBOUNCER={} is no program", named.display());
    Some(named)
}

/// The second number of its version: 24 of PgBouncer 1.24.1.
pub(crate) fn minor_version(pgbouncer: &Path) -> u32 {
    let output = Command::new(pgbouncer).arg("--version").output().expect("start pgbouncer");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.strip_prefix("PgBouncer 1.").and_then(|rest| rest.split('.').next());
    version.and_then(|minor| minor.parse().ok()).unwrap_or_else(|| panic!("what version is {text}?"))
}

/// The first executable of that name in PATH, or in /usr/sbin.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Where PostgreSQL's data goes: memory where there is plenty, since copying a thousand files to a disk can take longer
/// than the test.
pub(crate) fn scratch_dir() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let free = Command::new("df").args(["--output=avail", "-B1M"]).arg(memory).output().ok().and_then(|output| {
        let text = String::from_utf8(output.stdout).ok()?;
        text.lines().nth(1)?.trim().parse::<u64>().ok()
    });
    if free.is_some_and(|megabytes| megabytes > ENOUGH_MEGABYTES) { memory.to_owned() } else { env::temp_dir() }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn has_server(dir: &Path) -> bool {
    dir.join("initdb").is_file() && dir.join("postgres").is_file()
}

fn from_pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let dir = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    has_server(&dir).then_some(dir)
}

fn newest_of_debian() -> Option<PathBuf> {
    fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version: u32 = path.file_name()?.to_str()?.parse().ok()?;
            let dir = path.join("bin");
            has_server(&dir).then_some((version, dir))
        })
        .max()
        .map(|(_, dir)| dir)
}

fn postgres_ids() -> (u32, u32) {
    let passwd = fs::read_to_string("/etc/passwd").expect("read /etc/passwd");
    let line = passwd
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .expect("running as root needs the user postgres, which Debian's postgresql package makes");
    let mut fields = line.split(':').skip(2).map(|id| id.parse().expect("a number in /etc/passwd"));
    (fields.next().expect("a uid"), fields.next().expect("a gid"))
}

/// A program that scripts/test has installed into target/tools.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let found = target_dir().join("tools/bin").join(name);
    if !found.exists() {
        eprintln!("{name} is not installed (scripts/test does it): nothing to run");
    }
    Some(found).filter(|found| found.exists())
}

fn target_dir() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the directory of what is built")
}
