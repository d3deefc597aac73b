//! Lending: a checkout and the release that follows it, on a real pool of backends that a fake PostgreSQL has let in.
//!
//! `warm` is one loop without a runtime's turn in between: an idle backend is there each time. Under `T-tasks-on-S` each
//! of T tasks takes one of S backends, holds it for one turn of the runtime, gives it back and begins again; the time is
//! that of one checkout with its release, T tasks taken together. Three ways are measured side by side:
//!
//! - `nothing`: only the turn of the runtime, which the other two contain;
//! - `deadpool`: `deadpool::unmanaged::Pool` by itself, which is what deadpool costs of the third;
//! - `pgpool`: a lease of the pool, with the book of who waits, the limits and the look at the socket.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench fails by panicking")]

mod support;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkGroup, Criterion, SamplingMode, criterion_group, criterion_main, measurement::WallTime};
use deadpool::unmanaged::Pool as Seats;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Barrier;
use tokio::task::{JoinSet, yield_now};

use support::house::{House, Stays};
use support::postgres::{Answers, Postgres};

/// Tasks, and backends that they share.
const SHAPES: [(u32, u32); 4] = [(1, 1), (8, 8), (32, 20), (1000, 20)];

/// What deadpool lends here: nothing that costs anything, as in the pool's shelf.
struct Seat;

fn checkout(criterion: &mut Criterion) {
    warm(criterion);
    for (name, workers) in [("current-thread", 1), ("two-workers", 2)] {
        for (tasks, size) in SHAPES {
            let mut group = criterion.benchmark_group(format!("{name}/{tasks}-tasks-on-{size}"));
            // A sample is long enough that starting the tasks does not count.
            group.sample_size(20).sampling_mode(SamplingMode::Flat);
            let runtime = runtime(workers);
            under_nothing(&mut group, &runtime, tasks);
            under_deadpool(&mut group, &runtime, tasks, size);
            under_pgpool(&mut group, &runtime, tasks, size);
            group.finish();
        }
    }
}

/// Somebody is there to be lent, and nobody waits.
fn warm(criterion: &mut Criterion) {
    let runtime = runtime(1);
    let house = open(&runtime, 1);
    let seats = seats(1);
    let mut group = criterion.benchmark_group("warm");
    group.bench_function("deadpool", |bencher| bencher.iter(|| drop(seats.try_get().unwrap())));
    group.bench_function("pgpool", |bencher| {
        // Sockets are of the runtime, and looking at one asks it what it knows.
        let _inside = runtime.enter();
        let settings = house.pool.settings.load_full();
        bencher.iter(|| house.pool.try_checkout(&settings).unwrap().release());
    });
    group.finish();
}

fn under_nothing(group: &mut BenchmarkGroup<'_, WallTime>, runtime: &Runtime, tasks: u32) {
    group.bench_function("nothing", |bencher| {
        bencher.iter_custom(|rounds| {
            let work = || async move {
                for _ in 0..rounds {
                    yield_now().await;
                }
            };
            runtime.block_on(together(tasks, work))
        });
    });
}

fn under_deadpool(group: &mut BenchmarkGroup<'_, WallTime>, runtime: &Runtime, tasks: u32, size: u32) {
    let seats = seats(size);
    group.bench_function("deadpool", |bencher| {
        bencher.iter_custom(|rounds| {
            let work = || {
                let seats = seats.clone();
                async move {
                    for _ in 0..rounds {
                        let seat = seats.get().await.unwrap();
                        yield_now().await;
                        drop(seat);
                    }
                }
            };
            runtime.block_on(together(tasks, work))
        });
    });
}

fn under_pgpool(group: &mut BenchmarkGroup<'_, WallTime>, runtime: &Runtime, tasks: u32, size: u32) {
    let house = open(runtime, size);
    group.bench_function("pgpool", |bencher| {
        bencher.iter_custom(|rounds| {
            let work = || {
                let (pool, client) = (Arc::clone(&house.pool), house.client());
                async move {
                    for _ in 0..rounds {
                        let lease = match pool.try_checkout(&pool.settings.load_full()) {
                            Some(lease) => lease,
                            None => pool.checkout(client.record(), Stays).await.unwrap(),
                        };
                        yield_now().await;
                        lease.release();
                    }
                }
            };
            runtime.block_on(together(tasks, work))
        });
    });
}

/// Runs `tasks` tasks that begin at the same time; a task's share of the time until the last has ended.
async fn together<W: Future<Output = ()> + Send + 'static>(tasks: u32, work: impl Fn() -> W) -> Duration {
    let gate = Arc::new(Barrier::new(tasks as usize));
    let mut running = JoinSet::new();
    for _ in 0..tasks {
        let (gate, work) = (Arc::clone(&gate), work());
        running.spawn(async move {
            gate.wait().await;
            let start = Instant::now();
            work.await;
            (start, Instant::now())
        });
    }
    // Taken by the tasks, since whoever waits for them may be woken late.
    let times = running.join_all().await;
    let start = times.iter().map(|&(start, _)| start).min().unwrap();
    let end = times.iter().map(|&(_, end)| end).max().unwrap();
    (end - start) / tasks
}

fn open(runtime: &Runtime, size: u32) -> House {
    runtime.block_on(async { House::open(Postgres::start(Arc::new(Answers::default())), size).await })
}

fn seats(size: u32) -> Seats<Seat> {
    let seats = Seats::new(size as usize);
    for _ in 0..size {
        assert!(seats.try_add(Seat).is_ok(), "there is room for {size}");
    }
    seats
}

fn runtime(workers: usize) -> Runtime {
    let mut builder = if workers == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    if workers > 1 {
        builder.worker_threads(workers);
    }
    builder.enable_all().build().unwrap()
}

criterion_group!(benches, checkout);
criterion_main!(benches);
