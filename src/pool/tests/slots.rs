//! The slots of a server under random aborts: never more than there may be, none lost, and every pool gets one.

use super::*;

/// Fewer than there are pools.
const SLOTS: u32 = 4;
const POOLS: usize = 6;

/// The pools of several users, all at the same server.
fn pools_of(stage: &Stage) -> Vec<Arc<Pool>> {
    let database = stage.pools.config.load().database("db").unwrap();
    (0..POOLS).map(|number| stage.pools.pool(&database, &format!("user{number}"))).collect()
}

fn client_of(stage: &Stage, pool: &Arc<Pool>) -> Arc<ClientRecord> {
    let identity = ClientIdentity { user: Arc::clone(&pool.key.user), ..stage.client().identity.clone() };
    let record = ClientRecord::new(stage.pools.shared.next_id(), Box::default(), identity, Vec::new());
    record.join(pool);
    Arc::new(record)
}

async fn storm_over_pools(seed: u64) {
    let stage = stage("");
    let pools = pools_of(&stage);
    let slots = stage.pools.shared.budgets.all().remove(0);
    slots.limit_to(SLOTS);
    let mut random = Random(seed | 1);
    let over = Arc::new(AtomicBool::new(false));
    let watched = (Arc::clone(&slots), Arc::clone(&over));
    let watcher = tokio::spawn(async move {
        while !watched.1.load(Relaxed) {
            assert!(watched.0.held() <= SLOTS, "{} slots are held", watched.0.held());
            tokio::task::yield_now().await;
        }
    });
    for _ in 0..TURNS {
        let mut tasks = Vec::new();
        for _ in 0..CLIENTS {
            let seed = random.below(u64::MAX) | 1;
            let pool = &pools[usize::try_from(random.below(POOLS as u64)).unwrap()];
            let lent = Arc::clone(&stage.lent);
            tasks.push(tokio::spawn(turn(Arc::clone(pool), client_of(&stage, pool), lent, Random(seed))));
        }
        if random.below(12) == 0 {
            stage.pools.set_paused(None, true);
            tokio::task::yield_now().await;
            stage.pools.set_paused(None, false);
        }
        for task in tasks {
            if random.below(8) == 0 {
                task.abort();
            }
            if let Err(error) = task.await
                && error.is_panic()
            {
                let text = error.into_panic().downcast_ref::<String>().cloned().unwrap_or_default();
                assert!(!text.contains("lent twice") && !text.contains("total"), "{text}");
            }
        }
    }
    // Clients of all pools at once, for fewer slots: each is served.
    let mut tasks = Vec::new();
    for pool in pools.iter().cycle().take(3 * POOLS) {
        let (pool, client) = (Arc::clone(pool), client_of(&stage, pool));
        tasks.push(tokio::spawn(async move {
            let lease = timeout(Duration::from_secs(30), pool.checkout(&client, Patient)).await;
            lease.expect("a pool starves").unwrap().release();
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    over.store(true, Relaxed);
    watcher.await.unwrap();
    stage.pools.set_paused(None, true);
    // What was half open is closed by its connector.
    let all_back = async {
        while slots.held() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(20), all_back).await.expect("a slot is lost");
}

#[tokio::test]
async fn slots_hold_under_random_aborts_on_one_worker() {
    storm_over_pools(seed()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_hold_under_random_aborts_on_two_workers() {
    storm_over_pools(seed()).await;
}
