//! Addresses of host names, kept for a while.
//!
//! The resolver is a value, so that a test can play it; the system's does not tell how long an answer holds, so the
//! configuration says. One question per name is under way at a time. An answer that lacks an address of the one before is
//! noted for whoever holds connections to it. What nobody needs any more is for the caller to say; it is forgotten when it
//! would have to be asked for anew.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use tokio::net::lookup_host;

use super::{Endpoint, Micros, Target};

/// How many names are asked about at a time.
const AT_ONCE: usize = 16;

/// An answer that is on its way.
pub type Answer<'a, T = Vec<SocketAddr>> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// What knows the addresses of names.
pub trait Resolve: fmt::Debug + Send + Sync {
    /// The addresses of `host`, in the order of preference; their port is 0.
    fn resolve<'a>(&'a self, host: &'a str) -> Answer<'a>;
}

/// The system's resolver.
#[derive(Debug)]
pub struct System;

impl Resolve for System {
    fn resolve<'a>(&'a self, host: &'a str) -> Answer<'a> {
        Box::pin(async move { Ok(lookup_host((host, 0)).await?.collect()) })
    }
}

/// How long answers hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetimes {
    /// Addresses; 0 asks for each connection.
    pub found: Micros,
    /// That there are none.
    pub failed: Micros,
}

/// What is known of names.
#[derive(Debug)]
pub struct Names {
    resolver: Box<dyn Resolve>,
    known: Mutex<HashMap<String, Arc<Name>>>,
    /// Some answer lacks an address that the one before it had.
    lacks: AtomicBool,
}

#[derive(Debug, Default)]
struct Name {
    /// Held by who asks.
    asking: tokio::sync::Mutex<()>,
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    /// When it was last asked; 0 = never.
    asked: Micros,
    /// The last addresses that there were.
    addresses: Vec<SocketAddr>,
    /// What the last question gave instead of addresses.
    failure: Option<(io::ErrorKind, String)>,
}

impl Default for Names {
    fn default() -> Self {
        Names::new(System)
    }
}

impl Names {
    /// By this resolver.
    pub fn new(resolver: impl Resolve + 'static) -> Names {
        Names { resolver: Box::new(resolver), known: Mutex::default(), lacks: AtomicBool::new(false) }
    }

    /// The addresses of a host with this port, asked for if what is known is too old.
    ///
    /// Cancel safety: safe; the next one asks again.
    ///
    /// # Errors
    /// The resolver's, also from before.
    pub async fn addresses(
        &self,
        host: &str,
        port: u16,
        lifetimes: Lifetimes,
        now: Micros,
    ) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let name = self.name(host);
        if let Some(answer) = said(&name).fresh(lifetimes, now) {
            return answer.map(|addresses| with_port(addresses, port));
        }
        let _asking = name.asking.lock().await;
        // Somebody else may have had the answer meanwhile.
        if let Some(answer) = said(&name).fresh(lifetimes, now) {
            return answer.map(|addresses| with_port(addresses, port));
        }
        let answer = self.resolver.resolve(host).await;
        self.note(host, &name, answer, now).map(|addresses| with_port(addresses, port))
    }

    /// Asks again for what is too old of these names.
    pub async fn refresh(&self, hosts: &BTreeSet<String>, lifetimes: Lifetimes, now: Micros) {
        // A failure is told to whoever wants to connect.
        together(hosts.iter().map(|host| self.addresses(host, 0, lifetimes, now)).collect()).await;
    }

    /// Asks about these names at once, however old the answers are.
    ///
    /// Cancel safety: safe, but what was not asked about yet stays as it is.
    pub async fn renew(&self, hosts: &BTreeSet<String>, now: Micros) {
        let renew = async |host: &String| {
            let Some(name) = self.known().get(host).cloned() else { return };
            let _asking = name.asking.lock().await;
            let answer = self.resolver.resolve(host).await;
            // A failure is told to whoever wants to connect.
            let _ = self.note(host, &name, answer, now);
        };
        together(hosts.iter().map(renew).collect()).await;
    }

    /// The names that somebody has asked about.
    #[must_use]
    pub fn hosts(&self) -> BTreeSet<String> {
        self.known().keys().cloned().collect()
    }

    /// Forgets those of these names whose answers have run out, and that nobody is asking about.
    pub fn forget(&self, hosts: &BTreeSet<String>, lifetimes: Lifetimes, now: Micros) {
        let mut known = self.known();
        for host in hosts {
            let unused = |name: &Arc<Name>| Arc::strong_count(name) == 1 && said(name).fresh(lifetimes, now).is_none();
            if known.get(host).is_some_and(unused) {
                known.remove(host);
            }
        }
    }

    /// Whether an answer since the last call lacks an address that the one before it had.
    pub fn lost_addresses(&self) -> bool {
        self.lacks.swap(false, Relaxed)
    }

    /// Whether the name of `target` has addresses, and this is not one of them.
    #[must_use]
    pub fn has_left(&self, target: &Target, endpoint: &Endpoint) -> bool {
        let (Target::Tcp { host, .. }, Endpoint::Tcp(address)) = (target, endpoint) else { return false };
        let Some(name) = self.known().get(host).cloned() else { return false };
        let said = said(&name);
        said.failure.is_none() && !said.addresses.is_empty() && !said.addresses.iter().any(|a| a.ip() == address.ip())
    }

    /// Each name that was asked for, how many whole seconds what is known of it still counts, and its addresses; none
    /// where the last question failed.
    #[must_use]
    pub fn shown(&self, lifetimes: Lifetimes, now: Micros) -> Vec<(String, u64, Vec<SocketAddr>)> {
        let known: Vec<(String, Arc<Name>)> =
            self.known().iter().map(|(host, name)| (host.clone(), Arc::clone(name))).collect();
        let row = |(host, name): (String, Arc<Name>)| {
            let said = said(&name);
            let left = said.asked.saturating_add(said.lifetime(lifetimes)).saturating_sub(now) / 1_000_000;
            let addresses = if said.failure.is_some() { Vec::new() } else { said.addresses.clone() };
            (said.asked > 0).then_some((host, left, addresses))
        };
        let mut rows: Vec<_> = known.into_iter().filter_map(row).collect();
        rows.sort_unstable();
        rows
    }

    fn note(
        &self,
        host: &str,
        name: &Name,
        answer: io::Result<Vec<SocketAddr>>,
        now: Micros,
    ) -> io::Result<Vec<SocketAddr>> {
        let mut said = said(name);
        said.asked = now.max(1);
        match answer {
            Ok(addresses) => {
                said.failure = None;
                let gone = |old: &SocketAddr| !addresses.iter().any(|new| new.ip() == old.ip());
                if !addresses.is_empty() && said.addresses.iter().any(gone) {
                    tracing::info!(host, before = ?said.addresses, ?addresses, "host has other addresses");
                    self.lacks.store(true, Relaxed);
                }
                if !addresses.is_empty() {
                    said.addresses.clone_from(&addresses);
                }
                Ok(addresses)
            }
            Err(error) => {
                said.failure = Some((error.kind(), error.to_string()));
                Err(error)
            }
        }
    }

    fn name(&self, host: &str) -> Arc<Name> {
        let mut known = self.known();
        if let Some(name) = known.get(host) {
            return Arc::clone(name);
        }
        Arc::clone(known.entry(host.to_owned()).or_default())
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Arc<Name>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Said {
    fn lifetime(&self, lifetimes: Lifetimes) -> Micros {
        if self.failure.is_some() { lifetimes.failed } else { lifetimes.found }
    }

    fn fresh(&self, lifetimes: Lifetimes, now: Micros) -> Option<io::Result<Vec<SocketAddr>>> {
        if self.asked == 0 || now >= self.asked.saturating_add(self.lifetime(lifetimes)) {
            return None;
        }
        Some(match &self.failure {
            Some((kind, message)) => Err(io::Error::new(*kind, message.clone())),
            None => Ok(self.addresses.clone()),
        })
    }
}

fn said(name: &Name) -> MutexGuard<'_, Said> {
    name.said.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for all of these, a few of them at a time. What they answer comes in the order in which they end.
///
/// Cancel safety: safe if each of them is.
pub(super) async fn together<F: Future>(tasks: Vec<F>) -> Vec<F::Output> {
    let mut waiting = tasks.into_iter();
    let mut begun: Vec<Pin<Box<F>>> = Vec::new();
    let mut ended = Vec::new();
    poll_fn(|cx| {
        loop {
            begun.extend(waiting.by_ref().take(AT_ONCE - begun.len()).map(Box::pin));
            let before = ended.len();
            begun.retain_mut(|task| match task.as_mut().poll(cx) {
                Poll::Ready(output) => {
                    ended.push(output);
                    false
                }
                Poll::Pending => true,
            });
            if begun.is_empty() && waiting.len() == 0 {
                return Poll::Ready(());
            }
            if ended.len() == before {
                return Poll::Pending;
            }
        }
    })
    .await;
    ended
}

fn with_port(mut addresses: Vec<SocketAddr>, port: u16) -> Vec<SocketAddr> {
    addresses.iter_mut().for_each(|address| address.set_port(port));
    addresses
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    /// Answers with what is put there, and counts.
    #[derive(Clone, Debug, Default)]
    struct Played(Arc<(Mutex<Vec<SocketAddr>>, AtomicU32)>);

    impl Resolve for Played {
        fn resolve<'a>(&'a self, _: &'a str) -> Answer<'a> {
            self.0.1.fetch_add(1, Relaxed);
            let addresses = self.0.0.lock().unwrap().clone();
            Box::pin(async move {
                tokio::task::yield_now().await;
                if addresses.is_empty() { Err(io::Error::other("no such host")) } else { Ok(addresses) }
            })
        }
    }

    fn play() -> (Played, Names) {
        let played = Played::default();
        (played.clone(), Names::new(played))
    }

    impl Played {
        fn says(&self, hosts: &[u8]) {
            *self.0.0.lock().unwrap() = hosts.iter().map(|host| ([10, 0, 0, *host], 0).into()).collect();
        }

        fn asked(&self) -> u32 {
            self.0.1.swap(0, Relaxed)
        }
    }

    const TIMES: Lifetimes = Lifetimes { found: 100, failed: 10 };

    #[tokio::test]
    async fn answers_are_kept_for_their_time() {
        let (played, names) = play();
        played.says(&[1, 2]);
        let ask = |now| names.addresses("db", 5432, TIMES, now);
        let wanted: Vec<SocketAddr> = vec![([10, 0, 0, 1], 5432).into(), ([10, 0, 0, 2], 5432).into()];
        assert_eq!(ask(5).await.unwrap(), wanted);
        played.says(&[3]);
        assert_eq!(ask(104).await.unwrap(), wanted);
        assert_eq!(played.asked(), 1);
        assert!(!names.lost_addresses());
        assert_eq!(ask(105).await.unwrap(), [([10, 0, 0, 3], 5432).into()]);
        assert!(names.lost_addresses() && !names.lost_addresses());
        played.says(&[]);
        assert_eq!(ask(205).await.unwrap_err().to_string(), "no such host");
        played.says(&[3]);
        assert_eq!(ask(214).await.unwrap_err().to_string(), "no such host");
        assert_eq!(played.asked(), 2);
        assert!(ask(215).await.is_ok() && !names.lost_addresses());
        assert!(names.addresses("db", 1, Lifetimes::default(), 215).await.is_ok());
        assert_eq!(played.asked(), 2, "without a lifetime each time");
        assert_eq!(names.addresses("::1", 1, TIMES, 1).await.unwrap(), ["[::1]:1".parse().unwrap()]);
        assert_eq!(played.asked(), 0, "an address is no name");
    }

    #[tokio::test]
    async fn one_question_for_all_who_ask() {
        let (played, names) = play();
        played.says(&[1]);
        let ask = || names.addresses("db", 5432, TIMES, 7);
        let (a, b, c) = tokio::join!(ask(), ask(), ask());
        assert!(a.is_ok() && b.is_ok() && c.is_ok());
        assert_eq!(played.asked(), 1);
    }

    #[tokio::test]
    async fn an_address_has_left_when_an_answer_says_so() {
        let (played, names) = play();
        let target = Target::Tcp { host: "db".to_owned(), port: 5432 };
        let at = |host: u8| Endpoint::Tcp(([10, 0, 0, host], 5432).into());
        assert!(!names.has_left(&target, &at(1)), "nothing is known");
        played.says(&[1, 2]);
        names.refresh(&["db".to_owned()].into(), TIMES, 1).await;
        assert_eq!([names.has_left(&target, &at(1)), names.has_left(&target, &at(3))], [false, true]);
        played.says(&[]);
        names.refresh(&["db".to_owned()].into(), TIMES, 101).await;
        assert!(!names.has_left(&target, &at(3)), "a failure says nothing about addresses");
    }

    #[tokio::test]
    async fn a_name_that_nobody_needs_is_forgotten_when_its_answer_has_run_out() {
        let (played, names) = play();
        played.says(&[1]);
        names.refresh(&["a".to_owned(), "b".to_owned()].into(), TIMES, 1).await;
        let unused = BTreeSet::from(["a".to_owned(), "c".to_owned()]);
        names.forget(&unused, TIMES, 100);
        assert_eq!(names.hosts(), ["a".to_owned(), "b".to_owned()].into(), "it still counts");
        let asking = names.name("a");
        names.forget(&unused, TIMES, 101);
        assert_eq!(names.hosts().len(), 2, "somebody asks");
        drop(asking);
        names.forget(&unused, TIMES, 101);
        assert_eq!(names.hosts(), ["b".to_owned()].into());
        played.says(&[]);
        names.refresh(&["d".to_owned()].into(), TIMES, 200).await;
        names.forget(&["d".to_owned()].into(), TIMES, 209);
        assert!(names.hosts().contains("d"), "a failure counts for its own time");
        names.forget(&["d".to_owned()].into(), TIMES, 210);
        assert_eq!(names.hosts(), ["b".to_owned()].into());
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_hangs_holds_up_no_other_one() {
        let wait = async |micros: u64| {
            tokio::time::sleep(std::time::Duration::from_micros(micros)).await;
            micros
        };
        let begun = tokio::time::Instant::now();
        let ended = together([9_000_000, 2_000, 1_000].map(wait).into()).await;
        assert_eq!(ended, [1_000, 2_000, 9_000_000]);
        let many = together((0..u64::try_from(3 * AT_ONCE).unwrap()).map(|_| wait(1_000_000)).collect()).await;
        assert_eq!((many.len(), begun.elapsed().as_secs()), (3 * AT_ONCE, 12), "not all of them at once");
        assert!(together(Vec::<std::future::Ready<()>>::new()).await.is_empty());
    }

    #[tokio::test]
    async fn a_name_can_be_asked_about_before_its_answer_has_run_out() {
        let (played, names) = play();
        played.says(&[1]);
        let ask = |now| names.addresses("db", 5432, TIMES, now);
        ask(1).await.unwrap();
        played.says(&[2]);
        names.renew(&["db".to_owned(), "other".to_owned()].into(), 50).await;
        assert_eq!((played.asked(), names.lost_addresses()), (2, true), "what nobody needs is not looked up");
        assert_eq!(ask(149).await.unwrap(), [([10, 0, 0, 2], 5432).into()]);
        assert_eq!(played.asked(), 0, "it counts from then on");
        assert_eq!(names.hosts().len(), 1);
    }
}
