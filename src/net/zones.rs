//! The zones that host names are in, and whether something has changed in them: their serials, asked for once each
//! period.
//!
//! Who asks nameservers is a value, so that a test can play it, and time is an argument. A name counts as changed when
//! its zone has another serial, and when its zone becomes known: nobody has seen then what happened before.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::Micros;
use super::names::{Answer, Names, together};

/// How many times as long as nobody answered nobody is asked.
const REST: Micros = 3;

/// A zone, and which state of it a nameserver has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Soa {
    /// Its name, in lower case and without the last dot.
    pub zone: String,
    /// The serial of its SOA.
    pub serial: u32,
}

/// What knows the zones of names.
pub trait Zoning: fmt::Debug + Send + Sync {
    /// The zone that a host name is in, or would be if it existed; none where no nameserver tells of one. A name with a
    /// dot at its end is complete.
    fn zone_of<'a>(&'a self, host: &'a str) -> Answer<'a, Option<Soa>>;
}

/// One row of SHOW DNS_ZONES.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownZone {
    /// Name of the zone.
    pub zone: String,
    /// Its serial; 0 = no nameserver has told it yet.
    pub serial: u32,
    /// How many host names are in it.
    pub hosts: u32,
}

/// What is known of zones.
#[derive(Debug)]
pub struct Zones {
    zoning: Box<dyn Zoning>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    hosts: BTreeMap<String, Host>,
    zones: BTreeMap<String, Zone>,
}

#[derive(Debug, Default)]
struct Host {
    /// Its zone, once it is found.
    zone: Option<String>,
    asked: Asked,
    /// It was said that it is not found.
    complained: bool,
}

#[derive(Debug, Default)]
struct Zone {
    serial: u32,
    asked: Asked,
    complained: bool,
}

/// When something was last asked about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Asked {
    /// 0 = never.
    at: Micros,
    /// How long it is not asked about again, whatever the period.
    rest: Micros,
}

enum Question {
    /// In which zone is this name?
    Host(String),
    /// Which serial has this zone?
    Zone(String),
}

impl Zones {
    /// By what this says.
    pub fn new(zoning: impl Zoning + 'static) -> Zones {
        Zones { zoning: Box::new(zoning), known: Mutex::default() }
    }

    /// Asks about the zones of all these names, where that was not done for a period, and has those names looked up again
    /// in whose zone something has changed. A zone that takes long to say nothing rests for longer than that, since the
    /// others wait for it.
    ///
    /// Cancel safety: safe, but what was not looked up again yet stays as it is.
    pub async fn check(&self, names: &Names, period: Micros, now: Micros) {
        let questions = {
            let mut known = self.known();
            known.follow(names.hosts());
            known.questions(period, now)
        };
        together(questions.into_iter().map(|question| self.ask(question, names, now)).collect()).await;
    }

    async fn ask(&self, question: Question, names: &Names, now: Micros) {
        let begun = Instant::now();
        let answer = match &question {
            Question::Host(host) => self.zoning.zone_of(host).await,
            // The dot says that a zone's name is complete.
            Question::Zone(zone) => self.zoning.zone_of(&format!("{zone}.")).await,
        };
        let took = Micros::try_from(begun.elapsed().as_micros()).unwrap_or(Micros::MAX);
        let asked = Asked { at: now.max(1), rest: if answer.is_err() { took.saturating_mul(REST) } else { 0 } };
        let changed = match question {
            Question::Host(host) => self.known().found(&host, answer, asked),
            Question::Zone(zone) => self.known().told(&zone, answer, asked),
        };
        if !changed.is_empty() {
            names.renew(&changed, now).await;
        }
    }

    /// Forgets everything.
    pub fn forget(&self) {
        *self.known() = Known::default();
    }

    /// Each zone; a host name whose zone is not known counts for the one behind its first dot.
    #[must_use]
    pub fn shown(&self) -> Vec<ShownZone> {
        let known = self.known();
        let mut rows: BTreeMap<&str, ShownZone> = BTreeMap::new();
        for (name, host) in &known.hosts {
            let Some(zone) = host.zone.as_deref().or_else(|| behind_the_dot(name)) else { continue };
            let serial = known.zones.get(zone).map_or(0, |zone| zone.serial);
            let row = rows.entry(zone).or_insert_with(|| ShownZone { zone: zone.to_owned(), serial, hosts: 0 });
            row.hosts += 1;
        }
        rows.into_values().collect()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn follow(&mut self, hosts: BTreeSet<String>) {
        self.hosts.retain(|host, _| hosts.contains(host));
        for host in hosts {
            self.hosts.entry(host).or_default();
        }
        let used: BTreeSet<&str> = self.hosts.values().filter_map(|host| host.zone.as_deref()).collect();
        self.zones.retain(|zone, _| used.contains(zone.as_str()));
    }

    /// Which zones have to be found, and which serials asked for.
    fn questions(&self, period: Micros, now: Micros) -> Vec<Question> {
        let lost = |host: &Host| host.zone.is_none() && host.asked.is_due(period, now);
        let hosts = self.hosts.iter().filter(|(_, host)| lost(host)).map(|(name, _)| Question::Host(name.clone()));
        let due = self.zones.iter().filter(|(_, zone)| zone.asked.is_due(period, now));
        hosts.chain(due.map(|(name, _)| Question::Zone(name.clone()))).collect()
    }

    /// Takes in what was said of a host name. Returns the names that have to be looked up again.
    fn found(&mut self, name: &str, answer: io::Result<Option<Soa>>, asked: Asked) -> BTreeSet<String> {
        let Some(host) = self.hosts.get_mut(name) else { return BTreeSet::new() };
        host.asked = asked;
        match answer {
            Ok(Some(soa)) => {
                tracing::info!(host = name, zone = soa.zone, serial = soa.serial, "zone of a host name is followed");
                let zone = soa.zone.clone();
                host.zone = Some(zone.clone());
                host.complained = false;
                let mut changed = self.told(&zone, Ok(Some(soa)), asked);
                changed.insert(name.to_owned());
                return changed;
            }
            Ok(None) if std::mem::replace(&mut host.complained, true) => {}
            Ok(None) => tracing::warn!(host = name, "no nameserver tells in which zone the host name is"),
            Err(_) if std::mem::replace(&mut host.complained, true) => {}
            Err(error) => tracing::warn!(host = name, %error, "cannot find the zone of a host name"),
        }
        BTreeSet::new()
    }

    /// Takes in what was said of a zone. Returns the names that have to be looked up again.
    fn told(&mut self, name: &str, answer: io::Result<Option<Soa>>, asked: Asked) -> BTreeSet<String> {
        let zone = self.zones.entry(name.to_owned()).or_default();
        let is_new = zone.asked == Asked::default();
        zone.asked = asked;
        match answer {
            Ok(Some(soa)) if soa.zone == name => {
                if std::mem::take(&mut zone.complained) {
                    tracing::info!(zone = name, serial = soa.serial, "the zone's serial is told again");
                }
                let before = std::mem::replace(&mut zone.serial, soa.serial);
                if before == soa.serial {
                    return BTreeSet::new();
                }
                if !is_new {
                    tracing::info!(zone = name, before, serial = soa.serial, "zone has another serial");
                }
                let inside = self.hosts.iter().filter(|(_, host)| host.zone.as_deref() == Some(name));
                return inside.map(|(host, _)| host.clone()).collect();
            }
            // It is no zone any more.
            Ok(_) => {
                self.zones.remove(name);
                for host in self.hosts.values_mut().filter(|host| host.zone.as_deref() == Some(name)) {
                    *host = Host::default();
                }
            }
            Err(_) if std::mem::replace(&mut zone.complained, true) => {}
            Err(error) => tracing::warn!(zone = name, %error, "cannot ask for the zone's serial"),
        }
        BTreeSet::new()
    }
}

impl Asked {
    fn is_due(self, period: Micros, now: Micros) -> bool {
        self.at == 0 || now >= self.at.saturating_add(period.max(self.rest))
    }
}

/// PgBouncer's zone of a host name.
fn behind_the_dot(host: &str) -> Option<&str> {
    host.trim_end_matches('.').split_once('.').map(|(_, zone)| zone).filter(|zone| !zone.is_empty())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::net::{Lifetimes, Resolve};

    /// A zone and its serial, none, or nothing at all.
    type Said = Result<Option<(&'static str, u32)>, ()>;

    /// Answers with what is put there, by the name; notes what it was asked.
    #[derive(Clone, Debug, Default)]
    struct Played(Arc<Mutex<Script>>);

    #[derive(Debug, Default)]
    struct Script {
        answers: BTreeMap<String, Said>,
        asked: Vec<String>,
        looked_up: Vec<String>,
        /// How long an answer takes, microseconds.
        takes: u64,
    }

    impl Zoning for Played {
        fn zone_of<'a>(&'a self, host: &'a str) -> Answer<'a, Option<Soa>> {
            let mut script = self.0.lock().unwrap();
            script.asked.push(host.to_owned());
            let answer = script.answers.get(host).copied().unwrap_or(Ok(None));
            let answer = answer.map(|soa| soa.map(|(zone, serial)| Soa { zone: zone.to_owned(), serial }));
            let takes = std::time::Duration::from_micros(script.takes);
            Box::pin(async move {
                tokio::time::sleep(takes).await;
                answer.map_err(|()| io::Error::other("nobody answers"))
            })
        }
    }

    impl Played {
        fn says(&self, host: &str, answer: Said) {
            self.0.lock().unwrap().answers.insert(host.to_owned(), answer);
        }

        fn asked(&self) -> Vec<String> {
            let mut asked = std::mem::take(&mut self.0.lock().unwrap().asked);
            asked.sort();
            asked
        }
    }

    const PERIOD: Micros = 10;

    /// Notes the names that it looks up.
    impl Resolve for Played {
        fn resolve<'a>(&'a self, host: &'a str) -> Answer<'a> {
            self.0.lock().unwrap().looked_up.push(host.to_owned());
            Box::pin(async { Ok(vec![([10, 0, 0, 1], 0).into()]) })
        }
    }

    struct Stage {
        played: Played,
        zones: Zones,
        names: Names,
    }

    impl Stage {
        fn new() -> Stage {
            let played = Played::default();
            Stage { zones: Zones::new(played.clone()), names: Names::new(played.clone()), played }
        }

        /// With these names and no others: those that are looked up again, and what is asked.
        async fn check(&self, hosts: &str, now: Micros) -> (String, String) {
            self.names.forget(&self.names.hosts(), Lifetimes::default(), now);
            for host in hosts.split(' ') {
                self.names.addresses(host, 0, Lifetimes::default(), now).await.unwrap();
            }
            self.played.0.lock().unwrap().looked_up.clear();
            self.zones.check(&self.names, PERIOD, now).await;
            let mut looked_up = std::mem::take(&mut self.played.0.lock().unwrap().looked_up);
            looked_up.sort();
            (looked_up.join(" "), self.played.asked().join(" "))
        }

        fn shown(&self) -> String {
            let row = |zone: ShownZone| format!("{} {} {}", zone.zone, zone.serial, zone.hosts);
            self.zones.shown().into_iter().map(row).collect::<Vec<_>>().join(", ")
        }
    }

    fn pair(changed: &str, asked: &str) -> (String, String) {
        (changed.to_owned(), asked.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_looked_up_again_when_the_serial_of_their_zone_is_another_one() {
        let stage = Stage::new();
        stage.played.says("a.x.test", Ok(Some(("x.test", 5))));
        stage.played.says("b.x.test", Ok(Some(("x.test", 5))));
        stage.played.says("c.y.test", Ok(Some(("y.test", 1))));
        stage.played.says("x.test.", Ok(Some(("x.test", 5))));
        stage.played.says("y.test.", Ok(Some(("y.test", 1))));
        assert_eq!(stage.check("a.x.test c.y.test", 0).await, pair("a.x.test c.y.test", "a.x.test c.y.test"));
        assert_eq!(stage.check("a.x.test c.y.test", 9).await, pair("", ""), "once each period");
        assert_eq!(stage.check("a.x.test c.y.test", 11).await, pair("", "x.test. y.test."));
        let all = "a.x.test b.x.test c.y.test";
        assert_eq!(stage.check(all, 15).await, pair("b.x.test", "b.x.test"), "one that is new");
        assert_eq!(stage.shown(), "x.test 5 2, y.test 1 1");
        stage.played.says("x.test.", Ok(Some(("x.test", 6))));
        assert_eq!(stage.check(all, 25).await, pair("a.x.test b.x.test", "x.test. y.test."));
        // Somebody has begun to count anew.
        stage.played.says("x.test.", Ok(Some(("x.test", 2))));
        assert_eq!(stage.check(all, 35).await, pair("a.x.test b.x.test", "x.test. y.test."));
        assert_eq!(stage.shown(), "x.test 2 2, y.test 1 1");
        assert_eq!(stage.check("c.y.test", 45).await, pair("", "y.test."), "nobody is in the other one");
        assert_eq!(stage.shown(), "y.test 1 1");
        stage.zones.forget();
        assert_eq!(stage.shown(), "");
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_asked_is_shown_and_asked_again() {
        let stage = Stage::new();
        stage.played.says("a.x.test", Err(()));
        let all = "a.x.test alone b.x.test";
        assert_eq!(stage.check(all, 1).await, pair("", "a.x.test alone b.x.test"));
        assert_eq!(stage.shown(), "x.test 0 2");
        assert_eq!(stage.check(all, 10).await, pair("", ""));
        stage.played.says("a.x.test", Ok(Some(("x.test", 5))));
        assert_eq!(stage.check(all, 11).await, pair("a.x.test", "a.x.test alone b.x.test"));
        assert_eq!(stage.shown(), "x.test 5 2");
        stage.played.says("x.test.", Err(()));
        assert_eq!(stage.check(all, 21).await.0, "", "silence is no change");
        assert_eq!(stage.shown(), "x.test 5 2", "what was known last");
        stage.played.says("x.test.", Ok(Some(("x.test", 6))));
        assert_eq!(stage.check(all, 31).await.0, "a.x.test");
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_long_to_say_nothing_is_left_alone_for_longer() {
        let stage = Stage::new();
        stage.played.says("a.x.test", Err(()));
        stage.played.0.lock().unwrap().takes = 1000;
        assert_eq!(stage.check("a.x.test", 1).await, pair("", "a.x.test"));
        assert_eq!(stage.check("a.x.test", 3000).await, pair("", ""));
        stage.played.says("a.x.test", Ok(Some(("x.test", 5))));
        assert_eq!(stage.check("a.x.test", 3001).await, pair("a.x.test", "a.x.test"));
        stage.played.says("x.test.", Err(()));
        assert_eq!(stage.check("a.x.test", 3011).await, pair("", "x.test."), "an answer may take long");
        assert_eq!(stage.check("a.x.test", 6010).await, pair("", ""));
        assert_eq!(stage.check("a.x.test", 6011).await, pair("", "x.test."));
    }

    #[tokio::test(start_paused = true)]
    async fn a_zone_that_is_none_any_more_has_its_names_looked_for_again() {
        let stage = Stage::new();
        stage.played.says("a.x.test", Ok(Some(("x.test", 5))));
        stage.check("a.x.test", 1).await;
        stage.played.says("x.test.", Ok(Some(("test", 8))));
        assert_eq!(stage.check("a.x.test", 11).await, pair("", "x.test."));
        stage.played.says("a.x.test", Ok(Some(("test", 8))));
        assert_eq!(stage.check("a.x.test", 12).await, pair("a.x.test", "a.x.test"));
        assert_eq!(stage.shown(), "test 8 1");
    }
}
