//! Clients that break the protocol, on purpose or not: each is told so and closed, and nobody else notices.
//!
//! All of it happens beside an innocent client that queries without a pause, and the pooler's memory is watched.

mod after_login;
mod before_login;
mod crowds;

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use crate::support::{Cluster, Pooler, Raw, process::memory_kib};

/// What the pooler's memory may grow by, KiB.
const GROWTH: u64 = 4 * 1024;

struct Scene {
    cluster: Cluster,
    pooler: Pooler,
}

impl Scene {
    fn start(settings: &str) -> Self {
        let cluster = Cluster::start();
        let pooler = Pooler::start(&cluster, &format!("[pgpool]\n{settings}"));
        Self { cluster, pooler }
    }

    /// Runs `attack` while an innocent client goes about its business.
    fn beside_an_innocent(&self, attack: impl FnOnce()) {
        let mut innocent = self.pooler.login("bob", "bobpw", "app");
        for _ in 0..50 {
            innocent.query("select 1").unwrap();
        }
        let before = memory_kib(self.pooler.pid(), "VmRSS");
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let innocent = scope.spawn(|| {
                let mut count = 0_u32;
                loop {
                    assert_eq!(innocent.value(&format!("select {count} + 1")), (count + 1).to_string());
                    count += 1;
                    if over.load(Relaxed) {
                        return count;
                    }
                }
            });
            let _over = SetWhenDropped(&over);
            attack();
            over.store(true, Relaxed);
            assert!(innocent.join().unwrap() > 0);
        });
        let grown = memory_kib(self.pooler.pid(), "VmRSS").saturating_sub(before);
        assert!(grown < GROWTH, "the pooler grew by {grown} KiB");
    }
}

/// Ends the innocent client's loop when the attack panics.
struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Expects a FATAL error and the end of the connection.
fn assert_closed(client: &mut Raw, code: &str, message: &str, name: &str) {
    let error = client.expect_error();
    assert_eq!(
        (error.severity.as_str(), error.code.as_str(), error.message.as_str()),
        ("FATAL", code, message),
        "{name}"
    );
    client.expect_eof();
}
