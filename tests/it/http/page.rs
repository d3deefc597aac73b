//! The status page in a real browser: on a desk and on a phone, light and dark, with live traffic.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use serde_json::json;

use crate::support::{Cluster, Pooler, Raw, browser::Browser, messages};

/// Tries to be markup and a script wherever it is shown.
const NASTY: &str = "<img src=x onerror=\"window.hit=1\"><script>window.hit=1</script>&lt;b&gt;'\"";

/// Where pictures of the page are left, to be looked at.
fn pictures() -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Clients that never rest, until it is dropped.
struct Traffic(Arc<AtomicBool>, Vec<thread::JoinHandle<()>>);

impl Traffic {
    fn start(port: u16) -> Traffic {
        let over = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                let mut client = Raw::login(port, "alice", "alicepw", "app");
                while !over.load(Relaxed) {
                    client.query("select 1").unwrap();
                }
            })
        };
        let clients = (0..3).map(client).collect();
        Traffic(over, clients)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
        for client in self.1.drain(..) {
            let _ = client.join();
        }
    }
}

#[test]
fn the_page_shows_what_happens_on_every_screen() {
    let cluster = Cluster::start();
    let pooler = Pooler::start(&cluster, "[pgpool]\nhttp_addr = \"127.0.0.1:0\"\ndefault_pool_size = 3");
    let url = format!("http://127.0.0.1:{}/", pooler.http_port());

    let mut holder = Raw::connect(pooler.port());
    holder.startup(&[("user", "bob"), ("database", "app"), ("application_name", NASTY)]);
    holder.authenticate("bob", "bobpw").unwrap();
    holder.query("begin").unwrap();
    // Two more that hold all of bob's connections, and one that waits.
    let mut others: Vec<Raw> = (0..3).map(|_| pooler.login("bob", "bobpw", "app")).collect();
    others[0].query("begin").unwrap();
    others[1].query("begin").unwrap();
    others[2].send(&messages::query("select 1"));
    let traffic = Traffic::start(pooler.port());

    let mut browser = Browser::start();
    for (name, width, height) in [("desk", 1280, 900), ("phone", 390, 844)] {
        for scheme in ["light", "dark"] {
            browser.look_like(width, height, scheme);
            browser.open(&url);
            let rows = "document.querySelectorAll('#pools tbody tr').length === 2 && !document.getElementById('budget').hidden";
            browser.wait_until(&format!("document.readyState === 'complete' && {rows}"));
            let text = browser.value("document.body.innerText").as_str().unwrap().to_owned();
            for part in [
                "app / alice",
                "app / bob",
                "serving",
                "idle in transaction",
                "3 lent, 0 idle of 3",
                "Slots of PostgreSQL",
            ] {
                assert!(text.contains(part), "{name} {scheme}: no {part} in {text}");
            }
            assert!(text.contains(&NASTY[..20]), "an application's name is text: {text}");
            assert_eq!(browser.value("window.hit === undefined && !document.querySelector('img')"), json!(true));

            // Rates are there, and move.
            let rate = "document.querySelector('[data-rate=\"transactions\"]').dataset.value";
            browser.wait_until(&format!("Number({rate}) > 0"));
            let first = browser.value(rate);
            browser.wait_until(&format!("Number({rate}) > 0 && {rate} !== {first}"));
            browser.wait_until("document.querySelectorAll('.chart polyline').length === 7");
            browser.wait_until(
                "[...document.querySelectorAll('#pools .rate')].some((cell) => Number.parseFloat(cell.textContent) > 0)",
            );

            let overflow = "document.documentElement.scrollWidth - window.innerWidth";
            assert!(browser.value(overflow).as_i64().unwrap() <= 0, "{name} {scheme} is too wide");
            let dark = "getComputedStyle(document.body).backgroundColor";
            let expected = if scheme == "dark" { "rgb(18, 22, 28)" } else { "rgb(246, 247, 249)" };
            assert_eq!(browser.value(dark), json!(expected), "{name}");
            browser.screenshot(&pictures().join(format!("status-{name}-{scheme}.png")));
            let outside: Vec<_> =
                browser.requested().into_iter().filter(|one| !one.starts_with(&url) && one != "data:,").collect();
            assert!(outside.is_empty(), "{outside:?}");
            assert_eq!(browser.complaints(), Vec::<String>::new(), "{name} {scheme}");
        }
    }
    drop(traffic);
}
