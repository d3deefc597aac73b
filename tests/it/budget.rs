//! The slot budget against real PostgreSQL servers with few slots: no client is refused for want of them, nobody starves,
//! strangers and other pgpools get theirs, and the console says how it stands.

use std::{
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::support::{
    Cluster, Pooler, Raw, Stop, Table, eventually, for_each_worker_count,
    pooler::{run, write_settings},
    programs::postgres_bin_dir,
};

const SOON: Duration = Duration::from_secs(10);

/// Entries `d0` to `d11` that lead to the same database.
fn twelve(cluster: &Cluster) -> String {
    let entry = |number: usize| {
        format!("[databases.d{number}]\nhost = \"127.0.0.1\"\nport = {}\ndbname = \"app\"\n", cluster.port())
    };
    (0..12).map(entry).collect()
}

/// Clients that run short transactions until they are told to end, and what they met.
struct Load {
    over: Arc<AtomicBool>,
    errors: Arc<Mutex<Vec<String>>>,
    /// Transactions per client.
    done: Vec<Arc<AtomicU64>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(port: u16, databases: &[String], clients: usize) -> Load {
        let (over, errors) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let mut load = Load { over, errors, done: Vec::new(), threads: Vec::new() };
        for number in 0..clients {
            let database = databases[number % databases.len()].clone();
            let (over, errors, done) = (Arc::clone(&load.over), Arc::clone(&load.errors), Arc::new(AtomicU64::new(0)));
            load.done.push(Arc::clone(&done));
            load.threads.push(thread::spawn(move || {
                let mut client = match Raw::try_login(port, "alice", "alicepw", &database) {
                    Ok(client) => client,
                    Err(error) => return errors.lock().unwrap().push(format!("login: {error:?}")),
                };
                client.set_read_timeout(Duration::from_secs(60));
                while !over.load(Relaxed) {
                    match client.query("select pg_sleep(0.002)") {
                        Ok(_) => done.fetch_add(1, Relaxed),
                        Err(error) => return errors.lock().unwrap().push(format!("query: {error:?}")),
                    };
                }
            }));
        }
        load
    }

    /// Waits until every client has done this many more.
    fn all_go_on(&self, more: u64) {
        let before: Vec<u64> = self.done.iter().map(|done| done.load(Relaxed)).collect();
        eventually(Duration::from_secs(60), "every client goes on", || {
            let errors = self.errors.lock().unwrap().clone();
            assert_eq!(errors, [] as [String; 0]);
            self.done.iter().zip(&before).all(|(done, before)| done.load(Relaxed) >= before + more)
        });
    }

    fn end(self) {
        self.over.store(true, Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*self.errors.lock().unwrap(), [] as [String; 0]);
    }
}

fn names() -> Vec<String> {
    (0..12).map(|number| format!("d{number}")).collect()
}

fn server(console: &mut Raw) -> Table {
    let table = Table::of(console, "show budget");
    let server = table.column("server").first().cloned().unwrap_or_default();
    table.matching(&[("server", &server), ("database", "")])
}

fn share(console: &mut Raw) -> u64 {
    server(console).number("share")
}

fn count(cluster: &Cluster) -> usize {
    cluster.backend_pids("alice").len()
}

#[test]
fn twelve_pools_and_twenty_slots_refuse_nobody() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::builder().max_connections(20).start();
        let pooler = Pooler::trusting(&cluster, workers, &format!("default_pool_size = 20\n{}", twelve(&cluster)));
        let load = Load::start(pooler.port(), &names(), 120);
        let mut console = pooler.console();
        let end = Instant::now() + Duration::from_secs(4);
        while Instant::now() < end {
            // A superuser can log in at any time.
            let mut admin = Raw::login(cluster.port(), "postgres", "", "postgres");
            let used: usize =
                admin.value("select count(*) from pg_stat_activity where usename = 'alice'").parse().unwrap();
            assert!(used <= 17, "{used} of 17");
            thread::sleep(Duration::from_millis(20));
        }
        load.all_go_on(3);
        let row = server(&mut console);
        // Twenty less three for superusers and three of headroom, and what the administrators above have.
        assert_eq!((row.number("max_connections"), row.number("superuser_reserved")), (20, 3));
        assert!((11..=14).contains(&row.number("share")), "{row:?}");
        assert!(row.number("ours") <= 14 && row.number("percent") <= 100, "{row:?}");
        let table = Table::of(&mut console, "show budget");
        let shares: u64 = names().iter().map(|name| table.matching(&[("database", name)]).number("share")).sum();
        assert!(shares <= 14 && names().iter().all(|name| table.matching(&[("database", name)]).number("share") >= 1));
        load.end();
    });
}

#[test]
fn a_configuration_that_could_ask_for_too_much_is_told_with_the_sum() {
    let cluster = Cluster::builder().max_connections(20).start();
    let pooler = Pooler::trusting(&cluster, 1, &format!("default_pool_size = 20\n{}", twelve(&cluster)));
    pooler.login("alice", "alicepw", "d0").query("select 1").unwrap();
    let line = pooler.wait_for_log("could ask for more connections", SOON);
    assert!(line.contains("d11") && line.contains("slots=17"), "{line}");
    let mark = pooler.log_len();
    pooler.reload(&cluster, "[pgpool]\nauth_type = \"trust\"\nmax_db_connections = 3");
    pooler.login("alice", "alicepw", "app").query("select 1").unwrap();
    pooler.reload(&cluster, "[pgpool]\nauth_type = \"trust\"\ndefault_pool_size = 30");
    let line = pooler.wait_for_log_since(mark, "could ask for more connections", SOON);
    assert!(line.contains("30"), "{line}");
}

/// PostgreSQL 16 and newer keeps slots for pg_use_reserved_connections; `scripts/embedded_postgres` has such.
#[test]
fn slots_that_are_kept_for_some_roles_are_left_to_them() {
    let version = Command::new(postgres_bin_dir().join("postgres")).arg("--version").output().unwrap();
    let knows_them = !String::from_utf8(version.stdout).unwrap().contains("(PostgreSQL) 15.");
    let (conf, kept) = if knows_them { ("reserved_connections = 5", "5") } else { ("work_mem = 4MB", "") };
    let cluster = Cluster::builder().max_connections(20).conf(conf).start();
    let pooler = Pooler::trusting(&cluster, 2, &format!("default_pool_size = 20\n{}", twelve(&cluster)));
    let load = Load::start(pooler.port(), &names(), 60);
    load.all_go_on(3);
    let mut console = pooler.console();
    let most = if knows_them { 9 } else { 14 };
    eventually(SOON, "the budget is known", || (1..=most).contains(&share(&mut console)));
    assert_eq!(server(&mut console).value("reserved"), kept);
    if knows_them {
        cluster.sql("app", "grant pg_use_reserved_connections to alice");
        eventually(SOON, "they are alice's now", || share(&mut console) > most);
    }
    load.all_go_on(3);
    load.end();
}

#[test]
fn what_is_idle_goes_at_once_to_who_needs_it() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let settings = format!("slot_budget = 4\ndefault_pool_size = 20\n{}", twelve(&cluster));
        let pooler = Pooler::trusting(&cluster, workers, &settings);
        let mut rich: Vec<_> = (0..4).map(|_| pooler.login("alice", "alicepw", "d0")).collect();
        rich.iter_mut().for_each(|client| drop(client.query("begin").unwrap()));
        rich.iter_mut().for_each(|client| drop(client.query("commit").unwrap()));
        eventually(SOON, "the pool has all", || count(&cluster) == 4);
        let start = Instant::now();
        let mut poor = pooler.login("alice", "alicepw", "d1");
        assert_eq!(poor.value("select 1"), "1");
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        // The one that made room takes a moment to leave.
        eventually(SOON, "no more than four", || count(&cluster) <= 4);
    });
}

#[test]
fn a_busy_pool_gives_others_their_share() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let settings = format!("slot_budget = 6\ndefault_pool_size = 20\n{}", twelve(&cluster));
        let pooler = Pooler::trusting(&cluster, workers, &settings);
        let rich = Load::start(pooler.port(), &["d0".to_owned()], 40);
        let mut console = pooler.console();
        let of = |console: &mut Raw, name: &str| {
            Table::of(console, "show budget").matching(&[("database", name)]).number("ours")
        };
        eventually(SOON, "the rich pool has all", || of(&mut console, "d0") >= 5);
        let poor = Load::start(pooler.port(), &["d1".to_owned()], 20);
        poor.all_go_on(5);
        eventually(SOON, "both have half", || {
            let both = (of(&mut console, "d0"), of(&mut console, "d1"));
            both.0.abs_diff(both.1) <= 1 && both.0 + both.1 >= 5
        });
        poor.end();
        eventually(SOON, "the rich pool has all again", || of(&mut console, "d0") >= 5);
        rich.all_go_on(2);
        rich.end();
    });
}

#[test]
fn fewer_slots_than_pools_go_round() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let settings = format!("slot_budget = 3\ndefault_pool_size = 20\n{}", twelve(&cluster));
        let pooler = Pooler::trusting(&cluster, workers, &settings);
        let load = Load::start(pooler.port(), &names(), 36);
        load.all_go_on(5);
        assert!(count(&cluster) <= 3 + 1, "and the one that asks");
        load.end();
    });
}

#[test]
fn min_pool_size_is_kept_while_others_are_busy() {
    let cluster = Cluster::start();
    let settings = format!(
        "slot_budget = 8\ndefault_pool_size = 20\n{}[databases.calm]\nhost = \"127.0.0.1\"\nport = {}\ndbname = \"app\"\n\
         min_pool_size = 3\n",
        twelve(&cluster),
        cluster.port()
    );
    let pooler = Pooler::trusting(&cluster, 1, &settings);
    let mut calm = pooler.login("alice", "alicepw", "calm");
    calm.query("select 1").unwrap();
    let mut console = pooler.console();
    let kept = |console: &mut Raw| {
        Table::of(console, "show budget")
            .matching(&[("database", "calm")])
            .column("ours")
            .iter()
            .map(|ours| ours.parse::<u64>().unwrap())
            .sum::<u64>()
    };
    eventually(SOON, "the minimum is open", || kept(&mut console) >= 3 && server(&mut console).value("share") == "8");
    let load = Load::start(pooler.port(), &["d0".to_owned(), "d1".to_owned()], 40);
    for _ in 0..5 {
        load.all_go_on(2);
        assert!(kept(&mut console) >= 3);
    }
    load.end();
}

#[test]
fn strangers_get_slots_and_give_them_back() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::builder().max_connections(20).start();
        let pooler = Pooler::trusting(&cluster, workers, &format!("default_pool_size = 20\n{}", twelve(&cluster)));
        let load = Load::start(pooler.port(), &names(), 60);
        load.all_go_on(2);
        let mut console = pooler.console();
        let wide = share(&mut console);
        // As many as they can get.
        let mut strangers = Vec::new();
        eventually(SOON, "strangers have ten", || {
            strangers.extend(Raw::try_login(cluster.port(), "carol", "carolpw", "app").ok());
            strangers.len() >= 10
        });
        eventually(SOON, "the budget has shrunk", || share(&mut console) <= 5);
        load.all_go_on(2);
        eventually(SOON, "they are seen", || server(&mut console).number("others") >= 10);
        drop(strangers);
        eventually(Duration::from_secs(30), "the budget has grown", || share(&mut console) >= wide);
        load.all_go_on(2);
        load.end();
    });
}

#[test]
fn a_refusal_is_back_pressure_where_nothing_else_is_known() {
    // Roles that may not read pg_settings: only what is refused tells.
    let cluster = Cluster::builder().max_connections(12).start();
    cluster.sql("app", "revoke select on pg_settings from public");
    let pooler = Pooler::trusting(&cluster, 2, &format!("default_pool_size = 20\n{}", twelve(&cluster)));
    let load = Load::start(pooler.port(), &names(), 60);
    load.all_go_on(5);
    let mut console = pooler.console();
    let row = server(&mut console);
    assert!(!row.value("trouble").is_empty(), "{row:?}");
    assert_eq!(row.value("max_connections"), "", "unknown");
    assert!(row.number("refused") > 0 && !row.value("last_refused").is_empty(), "{row:?}");
    load.end();
    drop(pooler);
    eventually(SOON, "its connections are gone", || count(&cluster) == 0);
    // A static limit takes over.
    let settings = format!("default_pool_size = 20\nmax_server_connections = 5\n{}", twelve(&cluster));
    let pooler = Pooler::trusting(&cluster, 2, &settings);
    let load = Load::start(pooler.port(), &names(), 60);
    load.all_go_on(5);
    let mut console = pooler.console();
    eventually(SOON, "the limit holds", || server(&mut console).value("share") == "5");
    assert_eq!(server(&mut console).number("refused"), 0);
    load.end();
}

#[test]
fn limits_of_roles_and_databases_hold_clients_up_and_refuse_none() {
    for limit in ["alter role alice connection limit 3", "alter database app connection limit 3"] {
        let cluster = Cluster::start();
        cluster.sql("postgres", limit);
        let pooler = Pooler::trusting(&cluster, 2, &format!("default_pool_size = 20\n{}", twelve(&cluster)));
        let load = Load::start(pooler.port(), &names()[..3], 30);
        load.all_go_on(10);
        assert!(count(&cluster) <= 3);
        load.end();
    }
}

#[test]
fn pgpools_share_a_server_without_talking_to_each_other() {
    let cluster = Cluster::builder().max_connections(40).start();
    let settings = format!("default_pool_size = 40\n{}", twelve(&cluster));
    let start = || Pooler::trusting(&cluster, 1, &settings);
    let fair = |poolers: &[&Pooler]| {
        let count = u64::try_from(poolers.len()).unwrap();
        // Forty less three for superusers and three of headroom.
        let due = 34 / count;
        let shares: Vec<u64> = poolers.iter().map(|pooler| share(&mut pooler.console())).collect();
        shares.iter().all(|share| share.abs_diff(due) <= 3) && shares.iter().sum::<u64>() <= 34 + count
    };
    let (one, two, three) = (start(), start(), start());
    let loads: Vec<Load> = [&one, &two].map(|pooler| Load::start(pooler.port(), &names(), 40)).into();
    let last = Load::start(three.port(), &names(), 40);
    eventually(SOON, "three share", || fair(&[&one, &two, &three]));
    for load in loads.iter().chain([&last]) {
        load.all_go_on(2);
    }
    assert_eq!(server(&mut one.console()).number("peers"), 2);
    last.end();
    drop(three);
    eventually(SOON, "two share", || fair(&[&one, &two]));
    let three = start();
    let last = Load::start(three.port(), &names(), 40);
    eventually(SOON, "three share again", || fair(&[&one, &two, &three]));
    for load in loads.iter().chain([&last]) {
        load.all_go_on(2);
    }
    for load in loads.into_iter().chain([last]) {
        load.end();
    }
}

#[test]
fn a_restart_with_fewer_slots_is_noticed() {
    let mut cluster = Cluster::builder().max_connections(40).start();
    let pooler = Pooler::trusting(&cluster, 2, &format!("default_pool_size = 20\n{}", twelve(&cluster)));
    let mut console = pooler.console();
    let load = Load::start(pooler.port(), &names(), 60);
    load.all_go_on(2);
    eventually(SOON, "the budget is known", || (30..=34).contains(&share(&mut console)));
    // Who is in a query when PostgreSQL stops is told so.
    load.over.store(true, Relaxed);
    load.threads.into_iter().for_each(|thread| thread.join().unwrap());
    cluster.sql("postgres", "alter system set max_connections = 15");
    cluster.restart(Stop::Fast);
    let load = Load::start(pooler.port(), &names(), 60);
    load.all_go_on(2);
    eventually(SOON, "the budget has shrunk", || share(&mut console) <= 9);
    let row = server(&mut console);
    assert_eq!(row.number("max_connections"), 15, "{row:?}");
    load.end();
}

#[test]
fn a_wait_that_ends_says_what_is_full_and_who_holds_it() {
    let cluster = Cluster::start();
    let settings = format!("slot_budget = 1\nquery_wait_timeout = 1\n{}", twelve(&cluster));
    let pooler = Pooler::trusting(&cluster, 1, &settings);
    let mut console = pooler.console();
    let mut holder = Raw::connect(pooler.port());
    holder.startup(&[("user", "alice"), ("database", "d0"), ("application_name", "nightly-report")]);
    holder.authenticate("alice", "alicepw").unwrap();
    holder.query("begin").unwrap();
    eventually(SOON, "the budget is known", || server(&mut console).value("share") == "1");
    let refused = Raw::try_login(pooler.port(), "alice", "alicepw", "d1").err().unwrap();
    assert_eq!((refused.code.as_str(), refused.message.as_str()), ("53300", "query_wait_timeout"));
    let (detail, hint) = (refused.detail.unwrap(), refused.hint.unwrap());
    for part in ["Pool d1/alice", "slots", "budget of 1", "nightly-report", "idle in transaction"] {
        assert!(detail.contains(part), "{part} is not in {detail}");
    }
    assert!(hint.contains("SHOW BUDGET"), "{hint}");
}

#[test]
fn the_budget_can_be_turned_off_and_on() {
    let cluster = Cluster::start();
    let pooler = Pooler::trusting(&cluster, 1, &format!("slot_budget = \"off\"\n{}", twelve(&cluster)));
    let mut console = pooler.console();
    let mut client = pooler.login("alice", "alicepw", "d0");
    client.query("select 1").unwrap();
    let row = server(&mut console);
    assert_eq!(
        (row.value("slot_budget"), row.value("share"), row.value("asked")),
        ("off".into(), "".into(), "".into())
    );
    console.query("set slot_budget = '50%'").unwrap();
    eventually(SOON, "the server is asked", || server(&mut console).value("share") == "48");
    console.query("set slot_budget = 'auto'").unwrap();
    eventually(SOON, "another rule", || server(&mut console).number("share") >= 90);
    let dir = tempfile::tempdir().unwrap();
    let file = write_settings(&cluster, dir.path(), "[pgpool]\nslot_budget = \"120%\"");
    let checked = run(&["check", file.to_str().unwrap()], SOON);
    assert!(checked.code != Some(0) && format!("{checked:?}").contains("slot_budget"), "{checked:?}");
}

#[test]
fn pauses_close_what_the_server_is_asked_on() {
    let cluster = Cluster::builder().max_connections(20).start();
    let pooler = Pooler::trusting(&cluster, 1, &format!("default_pool_size = 20\n{}", twelve(&cluster)));
    let load = Load::start(pooler.port(), &names(), 30);
    load.all_go_on(2);
    let all = "select count(*) from pg_stat_activity where application_name like 'pgpool budget%'";
    eventually(SOON, "it asks", || cluster.sql("postgres", all).trim() == "1");
    let mut console = pooler.console();
    console.query("pause").unwrap();
    eventually(SOON, "nothing is connected", || count(&cluster) == 0);
    console.query("resume").unwrap();
    load.all_go_on(2);
    load.end();
}
