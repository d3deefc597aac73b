//! How a connection opens: requests for encryption, protocol versions, options of the protocol; and what reaches a
//! client that is idle.

use std::time::Duration;

use crate::support::{Cluster, Pooler, Raw, for_each_worker_count, messages, reply::tags};

#[test]
fn encryption_is_declined_and_the_login_goes_on() {
    let cluster = Cluster::start();
    let pooler = Pooler::start(&cluster, "");
    for requests in [
        &[messages::ssl_request()][..],
        &[messages::gss_request()],
        &[messages::ssl_request(), messages::gss_request()],
        &[messages::gss_request(), messages::ssl_request()],
    ] {
        let mut client = Raw::connect(pooler.port());
        for request in requests {
            client.send(request);
            assert_eq!(client.read_byte(), b'N');
        }
        client.startup(&[("user", "alice"), ("database", "app")]);
        client.authenticate("alice", "alicepw").unwrap();
        assert_eq!(client.value("select 1"), "1");
    }
}

#[test]
fn protocol_versions_and_options_are_negotiated() {
    let cluster = Cluster::start();
    let pooler = Pooler::start(&cluster, "");
    // Minor version and option asked for; what is negotiated; bytes of the cancel key's secret.
    let cases: [(u16, Option<&str>, Option<u32>, usize); 6] = [
        (0, None, None, 4),
        (2, None, None, 32),
        (9999, None, Some(2), 32),
        (0, Some("_pq_.nonsense"), Some(0), 4),
        (2, Some("_pq_.nonsense"), Some(2), 32),
        (9999, Some("_pq_.nonsense"), Some(2), 32),
    ];
    for (minor, option, negotiated, secret) in cases {
        let mut client = Raw::connect(pooler.port());
        let mut parameters = vec![("user", "alice"), ("database", "app")];
        parameters.extend(option.map(|name| (name, "1")));
        client.startup_with_version(minor, &parameters);
        if negotiated.is_some() {
            // Before anything else, so that the client knows what to expect.
            assert_eq!(client.read().tag, b'v', "3.{minor} {option:?}");
        }
        client.authenticate("alice", "alicepw").unwrap();
        let options: Vec<String> = option.into_iter().map(str::to_owned).collect();
        assert_eq!(client.negotiated, negotiated.map(|minor| (minor, options)), "3.{minor} {option:?}");
        assert_eq!(client.backend_key.as_ref().unwrap().1.len(), secret, "3.{minor} {option:?}");
        assert_eq!(client.value("select 1"), "1");
    }
}

/// A driver may send its first request along with the last message of its login.
#[test]
fn requests_behind_the_login_are_not_lost() {
    let cluster = Cluster::start();
    let pooler = Pooler::start(&cluster, "[pgpool]\nauth_type = \"plain\"");
    let mut client = Raw::connect(pooler.port());
    client.startup(&[("user", "alice"), ("database", "app")]);
    let request = client.read();
    assert_eq!((request.tag, request.body.as_slice()), (b'R', &3_u32.to_be_bytes()[..]));
    let long = format!("select length('{}')", "x".repeat(3000));
    client.send(&[messages::password("alicepw"), messages::query(&long), messages::query("select 2")].concat());
    let login = client.read_until_ready();
    assert!(tags(&login).starts_with("RS") && tags(&login).ends_with("SKZ"), "{login:?}");
    let first = client.read_until_ready();
    assert_eq!((tags(&first).as_str(), &first[1].row()[0]), ("TDCZ", &Some("3000".to_owned())));
    assert_eq!(tags(&client.read_until_ready()), "TDCZ");
}

#[test]
fn notifications_reach_an_idle_client_in_session_mode() {
    let cluster = Cluster::start();
    for_each_worker_count(|workers| {
        let settings = format!("[pgpool]\npool_mode = \"session\"\ndefault_pool_size = 1\nworker_threads = {workers}");
        let pooler = Pooler::start(&cluster, &settings);
        let mut client = pooler.login("alice", "alicepw", "app");
        client.query("listen news").unwrap();
        for payload in ["one", "two"] {
            cluster.sql("app", &format!("notify news, '{payload}'"));
            let message = client.read();
            assert_eq!((message.tag, message.strings(4)), (b'A', vec!["news".to_owned(), payload.to_owned()]));
        }
        assert_eq!(client.value("select 1"), "1");
        // Whoever comes next on this backend does not listen.
        let backend = client.value("select pg_backend_pid()");
        let mut next = pooler.login("alice", "alicepw", "app");
        client.send(&messages::terminate());
        assert_eq!(next.value("select pg_backend_pid()"), backend);
        cluster.sql("app", "notify news, 'three'");
        assert_eq!(next.value("select count(*) from pg_listening_channels()"), "0");
        assert!(next.is_silent_for(Duration::from_millis(50)));
    });
}
