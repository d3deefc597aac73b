//! LISTEN for clients in transaction mode: one listening backend per database, mailboxes, what is lost and told.
//!
//! The hubs are talked to directly; what a session makes of them is another subject.

mod stage;

use std::sync::Arc;

use pgpool::pool::{HubState, NoListener, Reason, sweep};
use stage::{Mail, SOON, Stage, config, note};
use tokio::time::{Duration, sleep};

use crate::support::random::Random;
use crate::support::{Cluster, Stop};

const LISTENING: &str = "select pid from pg_stat_activity where application_name = 'pgpool listener'";

fn pids(cluster: &Cluster) -> Vec<u32> {
    cluster.sql("postgres", LISTENING).lines().map(|pid| pid.parse().unwrap()).collect()
}

/// What the listening backend was asked last.
fn last_query(cluster: &Cluster) -> String {
    cluster.sql("postgres", "select query from pg_stat_activity where application_name = 'pgpool listener'")
}

/// Waits without keeping the runtime's thread.
async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + SOON;
    while !done() {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

fn is_gap(mail: &Mail) -> bool {
    *mail == Mail::Warning("notifications may have been lost".to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_backend_listens_for_all_clients() {
    let cluster = Cluster::start();
    let stage = Stage::new(&cluster, "");
    let (alice, trusty) = (stage.client("alice"), stage.client("trusty"));
    alice.listen("news").await.unwrap();
    trusty.listen("news").await.unwrap();
    trusty.listen("Odd \"name\"; --").await.unwrap();
    assert_eq!(pids(&cluster).len(), 1);
    assert_eq!(stage.hub().state, HubState::Listening);
    assert_eq!(pids(&cluster), [stage.hub().process_id]);
    assert_eq!(stage.listened(), (2, 2));

    cluster.sql("app", "notify news, 'one'; notify news, 'two'; notify others, 'x'");
    assert_eq!(alice.mails(2).await, [note("news", "one"), note("news", "two")]);
    assert_eq!(trusty.mails(2).await, [note("news", "one"), note("news", "two")]);
    cluster.sql("app", "notify \"Odd \"\"name\"\"; --\"");
    assert_eq!(trusty.mail().await, [note("Odd \"name\"; --", "")]);
    // What another database says is not heard.
    cluster.sql("postgres", "notify news, 'elsewhere'");

    alice.unlisten(Some("news"));
    cluster.sql("app", "notify news, 'three'");
    assert_eq!(trusty.mail().await, [note("news", "three")]);
    assert!(!alice.has_mail());
    trusty.unlisten(None);
    assert_eq!(stage.listened(), (0, 0));
    eventually("UNLISTEN is sent", || last_query(&cluster).starts_with("UNLISTEN")).await;
    cluster.sql("app", "notify news, 'four'");

    // The backend stays for a while, and serves whoever comes next.
    let before = stage.hub().process_id;
    alice.listen("news").await.unwrap();
    assert_eq!(stage.hub().process_id, before);
    cluster.sql("app", "notify news, 'five'");
    assert_eq!(alice.mail().await, [note("news", "five")]);
    assert!(!trusty.has_mail());
    assert_eq!((stage.hub().delivered, stage.hub().dropped, stage.hub().losses), (7, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_listens_on_nothing() {
    let cluster = Cluster::start();
    let stage = Stage::new(&cluster, "");
    let (stays, leaves) = (stage.client("trusty"), stage.client("trusty"));
    let long = "x".repeat(70);
    stays.listen(&long).await.unwrap();
    leaves.listen("a").await.unwrap();
    leaves.listen("b").await.unwrap();
    assert_eq!(stage.listened(), (3, 2));
    let record = Arc::clone(leaves.record());
    drop(leaves);
    assert_eq!(stage.listened(), (1, 1));
    // Its record lives on, but joins nothing any more.
    let late = stage.pools.listeners.subscribe(&stays.pool, &record, b"c").ready().await;
    assert!(matches!(late, Err(NoListener::Gone)), "{late:?}");
    assert_eq!(stage.listened(), (1, 1));
    // PostgreSQL cuts long names.
    cluster.sql("app", &format!("notify {long}, 'cut'"));
    assert_eq!(stays.mail().await, [note(&long[..63], "cut")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_mailbox_drops_and_says_so() {
    let cluster = Cluster::start();
    let stage = Stage::new(&cluster, "[pgpool]\nlisten_queue_size = 3");
    let (slow, quick) = (stage.client("trusty"), stage.client("trusty"));
    slow.listen("news").await.unwrap();
    quick.listen("news").await.unwrap();
    for number in 0..5 {
        cluster.sql("app", &format!("notify news, '{number}'"));
        assert_eq!(quick.mail().await, [note("news", &number.to_string())]);
    }
    eventually("two are dropped", || stage.hub().dropped == 2).await;
    let lost = Mail::Warning("2 notifications were lost".to_owned());
    assert_eq!(slow.mail().await, [note("news", "0"), note("news", "1"), note("news", "2"), lost]);
    cluster.sql("app", "notify news, 'again'");
    assert_eq!(slow.mail().await, [note("news", "again")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_backend_is_replaced_and_the_gap_is_told() {
    let mut cluster = Cluster::start();
    let stage = Stage::new(&cluster, "");
    let client = stage.client("trusty");
    // More channels than go into one query.
    for number in 0..1200 {
        let channel = format!("c{number}");
        let _unwatched = stage.pools.listeners.subscribe(&client.pool, client.record(), channel.as_bytes());
    }
    client.listen("c0").await.unwrap();
    client.listen("c1199").await.unwrap();
    let first = stage.hub().process_id;
    cluster.terminate_backend(first);
    assert!(is_gap(&client.mail().await[0]));
    assert_eq!(stage.hub().state, HubState::Listening);
    assert_eq!((stage.hub().losses, stage.pools.listeners.losses()), (1, 1));
    assert_ne!(stage.hub().process_id, first);
    cluster.sql("app", "notify c7, 'there'; notify c1199, 'again'");
    assert_eq!(client.mails(2).await, [note("c7", "there"), note("c1199", "again")]);

    cluster.stop(Stop::Fast);
    eventually("the loss is seen", || stage.hub().state == HubState::Lost).await;
    let late = stage.client("trusty");
    let (listened, ()) = tokio::join!(late.listen("c7"), async { cluster.start_again() });
    listened.unwrap();
    assert!(is_gap(&client.mail().await[0]));
    cluster.sql("app", "notify c7, 'restarted'");
    assert_eq!(client.mail().await, [note("c7", "restarted")]);
    // Who came in the gap has missed nothing.
    assert_eq!(late.mail().await, [note("c7", "restarted")]);
    assert_eq!(stage.hub().losses, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_disconnected_where_the_policy_says_so() {
    let cluster = Cluster::start();
    let stage = Stage::new(&cluster, "[pgpool]\nlistener_lost = \"disconnect\"");
    let (listens, idles) = (stage.client("trusty"), stage.client("trusty"));
    listens.listen("news").await.unwrap();
    cluster.terminate_backend(stage.hub().process_id);
    assert_eq!(listens.interrupted().await, Reason::ListenerLost);
    assert_eq!(idles.record().interrupt.raised(), None);
    drop(listens);
    idles.listen("news").await.unwrap();
    cluster.sql("app", "notify news, 'x'");
    assert_eq!(idles.mail().await, [note("news", "x")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_listened_on_is_refused() {
    let cluster = Cluster::start();
    let stage = Stage::new(&cluster, "[users.alice]\npassword = \"wrong\"");
    let alice = stage.client("alice");
    let refused = alice.listen("news").await.unwrap_err();
    assert_eq!(refused.report().code, "28P01", "{refused}");
    assert_eq!(stage.listened(), (0, 0));
    // While the pause lasts nobody tries again, but everybody is told.
    let again = alice.listen("news").await.unwrap_err();
    assert_eq!(again.report().code, "28P01", "{again}");
    assert_eq!(stage.listened(), (0, 0));

    let stage = Stage::new(&cluster, "[pgpool]\nmax_db_connections = 1");
    let none = stage.client("trusty").listen("news").await.unwrap_err();
    assert!(matches!(none, NoListener::Limit("max_db_connections")), "{none}");
    assert_eq!(none.report().code, "53300");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_name_that_postgresql_refuses_spoils_no_other() {
    let cluster = Cluster::start();
    let stage = Stage::new(&cluster, "");
    let client = stage.client("trusty");
    let (good, bad, other) = tokio::join!(client.listen("good"), client.listen(""), client.listen("other"));
    good.unwrap();
    other.unwrap();
    let bad = bad.unwrap_err();
    assert_eq!(bad.report().code, "42601", "{bad}");
    assert_eq!((stage.listened(), stage.hub().losses), ((2, 1), 0));
    cluster.sql("app", "notify good, 'x'");
    assert_eq!(client.mail().await, [note("good", "x")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_listening_backend_counts_and_gives_its_place_back() {
    let cluster = Cluster::start();
    let stage = Stage::new(&cluster, "[pgpool]\nmax_db_connections = 3");
    let client = stage.client("trusty");
    client.listen("news").await.unwrap();
    assert_eq!(stage.pools.database_backends.used("app"), 1);
    // It stands among the pool's backends for the console, but takes no place of the pool.
    assert_eq!((client.pool.backends().len(), client.pool.counts().total), (1, 0));
    stage.pools.set_paused(None, true);
    eventually("PAUSE closes it", || pids(&cluster).is_empty()).await;
    assert_eq!(stage.pools.database_backends.used("app"), 0);
    assert_eq!(client.pool.backends().len(), 0);
    let waits = stage.client("trusty");
    let (listened, ()) = tokio::join!(waits.listen("news"), async {
        stage.pools.set_paused(None, false);
    });
    listened.unwrap();
    assert!(is_gap(&client.mail().await[0]));
    // RECONNECT, which the sweeper sees.
    let before = stage.hub().process_id;
    client.pool.reconnect();
    sweep(&stage.pools, 0);
    assert!(is_gap(&client.mail().await[0]));
    assert_ne!(stage.hub().process_id, before);
    assert_eq!(stage.pools.database_backends.used("app"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_follow_their_pool_to_another_database() {
    let cluster = Cluster::start();
    let stage = Stage::new(&cluster, "");
    let client = stage.client("trusty");
    client.listen("news").await.unwrap();
    stage.pools.put_in_force(config(&cluster, "[databases.app]\ndbname = \"postgres\""), pgpool::net::tls::Tls::none());
    assert!(is_gap(&client.mail().await[0]));
    cluster.sql("app", "notify news, 'old'");
    cluster.sql("postgres", "notify news, 'new'");
    assert_eq!(client.mail().await, [note("news", "new")]);
    eventually("the old hub ends", || pids(&cluster).len() == 1).await;
    client.unlisten(Some("news"));
    assert_eq!(stage.listened(), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_aborts_leave_no_channel_behind() {
    let cluster = Cluster::start();
    let stage = Arc::new(Stage::new(&cluster, ""));
    let mut random = Random::announced();
    let stays = stage.client("trusty");
    stays.listen("c0").await.unwrap();
    for round in 0..30 {
        let mut tasks = Vec::new();
        for number in 0..20 {
            let (stage, mut random) = (Arc::clone(&stage), random.part(round * 100 + number));
            tasks.push(tokio::spawn(async move {
                let client = stage.client("trusty");
                for _ in 0..random.below(8) {
                    let channel = format!("c{}", random.below(6));
                    match random.below(4) {
                        0 => client.unlisten(Some(&channel)),
                        1 => client.unlisten(None),
                        2 => drop(stage.pools.listeners.subscribe(&client.pool, client.record(), channel.as_bytes())),
                        _ => client.listen(&channel).await.unwrap(),
                    }
                }
            }));
        }
        if random.below(6) == 0 {
            let pid = stage.hub().process_id;
            cluster.sql("postgres", &format!("select pg_terminate_backend({pid})"));
        }
        for task in tasks {
            if random.below(3) == 0 {
                task.abort();
            }
            if let Err(error) = task.await {
                assert!(error.is_cancelled(), "{error}");
            }
        }
        assert_eq!(stage.listened(), (1, 1), "in round {round}");
    }
    eventually("it listens", || stage.hub().state == HubState::Listening).await;
    cluster.sql("app", "notify c0, 'the end'");
    let end = note("c0", "the end");
    while stays.mail().await.last() != Some(&end) {}
    drop(stays);
    assert_eq!(stage.listened(), (0, 0));
    eventually("UNLISTEN is sent", || last_query(&cluster).contains("UNLISTEN \"c0\"")).await;
}
