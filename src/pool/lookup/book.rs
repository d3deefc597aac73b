//! What a desk has been told, and who waits for it: pure, its time is an argument.
//!
//! One question per user is under way at a time, whoever waits. An answer counts for as long as the settings say; a
//! refused login shortens that to [`REFRESH`] after the answer, so that a rotated password works at the next attempt and
//! wrong passwords cost PostgreSQL one query per user and second at most. The number of answers is bounded.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::LookupError;
use crate::auth::Credential;
use crate::net::Micros;

/// A user's secret: nothing where there is no such user.
pub(super) type Secret = Option<Arc<Credential>>;

/// The roles that a user is a member of: none where there is no such user.
pub(super) type Roles = Arc<BTreeSet<Box<str>>>;

/// What was found.
pub(super) type Outcome<T> = Result<T, LookupError>;

/// Least time between two questions about a user whose answer is doubted, microseconds.
const REFRESH: Micros = 1_000_000;

/// Most answers that are kept.
const MOST: usize = 10_000;

/// How long answers count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lifetimes {
    /// `auth_query_lifetime`
    pub(super) found: Duration,
    /// `auth_query_negative_lifetime`
    pub(super) nothing: Duration,
}

/// What the book says of a user.
#[derive(Debug)]
pub(super) enum Look<T> {
    /// This.
    Known(T),
    /// It is being asked.
    Asked(oneshot::Receiver<Outcome<T>>),
    /// It cannot be asked at present.
    Hopeless(LookupError),
}

#[derive(Debug)]
struct Entry<T> {
    found: T,
    /// There is such a user, with something in it for him.
    usable: bool,
    asked: Micros,
    fresh_until: Micros,
}

/// The book of one desk about one thing.
#[derive(Debug)]
pub(super) struct Book<T> {
    entries: HashMap<Box<str>, Entry<T>>,
    waiting: HashMap<Box<str>, Vec<oneshot::Sender<Outcome<T>>>>,
    /// Users in `waiting`, the first in need first.
    queue: VecDeque<Box<str>>,
    /// Why nothing can be asked, and until when that is not tried.
    trouble: Option<(LookupError, Micros)>,
}

impl<T> Default for Book<T> {
    fn default() -> Self {
        Self { entries: HashMap::new(), waiting: HashMap::new(), queue: VecDeque::new(), trouble: None }
    }
}

impl<T: Clone> Book<T> {
    /// What is known of the user; if that is nothing fresh, it is queued.
    pub(super) fn look(&mut self, user: &str, now: Micros) -> Look<T> {
        if let Some(entry) = self.entries.get(user).filter(|entry| now < entry.fresh_until) {
            return Look::Known(entry.found.clone());
        }
        if let Some((error, _)) = self.trouble.as_ref().filter(|(_, until)| now < *until) {
            return Look::Hopeless(error.clone());
        }
        let (sender, receiver) = oneshot::channel();
        if let Some(waiting) = self.waiting.get_mut(user) {
            waiting.push(sender);
        } else {
            self.waiting.insert(user.into(), vec![sender]);
            self.queue.push_back(user.into());
        }
        Look::Asked(receiver)
    }

    /// Who is to be asked about next; those whom nobody waits for any more are dropped.
    pub(super) fn next(&mut self) -> Option<Box<str>> {
        while let Some(user) = self.queue.front() {
            let wanted = self.waiting.get(user).is_some_and(|waiting| waiting.iter().any(|sender| !sender.is_closed()));
            if wanted {
                return Some(user.clone());
            }
            self.waiting.remove(user);
            self.queue.pop_front();
        }
        None
    }

    /// PostgreSQL's answer about a user; `usable` unless there is nothing in it.
    fn note(&mut self, user: &str, (found, usable): (T, bool), now: Micros, lifetimes: Lifetimes) {
        self.trouble = None;
        self.make_room(now);
        let lifetime = if usable { lifetimes.found } else { lifetimes.nothing };
        let fresh_until = now.saturating_add(u64::try_from(lifetime.as_micros()).unwrap_or(u64::MAX));
        self.entries.insert(user.into(), Entry { found: found.clone(), usable, asked: now, fresh_until });
        self.tell(user, &Ok(found));
    }

    /// No answer about this user.
    pub(super) fn fail(&mut self, user: &str, error: &LookupError) {
        self.tell(user, &Err(error.clone()));
    }

    /// No answer about anybody, and no use in trying before `until`.
    pub(super) fn fail_all(&mut self, error: &LookupError, until: Micros) {
        self.trouble = Some((error.clone(), until));
        self.queue.clear();
        for sender in self.waiting.drain().flat_map(|(_, waiting)| waiting) {
            // One who has left does not miss it.
            let _ = sender.send(Err(error.clone()));
        }
    }

    /// A reload: all answers are to be asked for again, where that makes sense; what was derived from them stays. What went
    /// wrong may have been put right.
    pub(super) fn follow(&mut self, hopeless: Option<&LookupError>) {
        for entry in self.entries.values_mut() {
            entry.fresh_until = 0;
        }
        self.trouble = None;
        if let Some(error) = hopeless {
            self.fail_all(error, 0);
        }
    }

    /// A login by this answer was refused.
    pub(super) fn doubt(&mut self, user: &str) {
        if let Some(entry) = self.entries.get_mut(user) {
            entry.fresh_until = entry.fresh_until.min(entry.asked.saturating_add(REFRESH));
        }
    }

    /// Whether nobody waits and no answer counts any more.
    pub(super) fn is_unused(&self, now: Micros) -> bool {
        self.waiting.is_empty() && self.entries.values().all(|entry| entry.fresh_until <= now)
    }

    fn tell(&mut self, user: &str, outcome: &Outcome<T>) {
        self.queue.retain(|queued| **queued != *user);
        for sender in self.waiting.remove(user).into_iter().flatten() {
            let _ = sender.send(outcome.clone());
        }
    }

    /// Room for one more: what does not count any more goes first, then who was not found, then the older half.
    fn make_room(&mut self, now: Micros) {
        if self.entries.len() < MOST {
            return;
        }
        self.entries.retain(|_, entry| now < entry.fresh_until);
        if self.entries.len() > MOST / 2 {
            self.entries.retain(|_, entry| entry.usable);
        }
        if self.entries.len() > MOST / 2 {
            let mut ages: Vec<Micros> = self.entries.values().map(|entry| entry.asked).collect();
            let middle = ages.len() / 2;
            let (_, &mut median, _) = ages.select_nth_unstable(middle);
            let mut most = MOST / 2;
            self.entries.retain(|_, entry| {
                let stays = entry.asked >= median && most > 0;
                most -= usize::from(stays);
                stays
            });
        }
    }
}

impl Book<Secret> {
    /// PostgreSQL's answer about a user, `None` for one who does not exist. Where it is what was known already, that
    /// stays, with what was derived from it.
    pub(super) fn answer(&mut self, user: &str, credential: Option<Credential>, now: Micros, lifetimes: Lifetimes) {
        let known = self.credential(user);
        let credential = credential.map(|new| match known {
            Some(old) if old.equals(&new) => Arc::clone(old),
            _ => Arc::new(new),
        });
        let usable = credential.as_ref().is_some_and(|credential| !credential.is_empty());
        self.note(user, (credential, usable), now, lifetimes);
    }

    /// The user's credential, fresh or not.
    pub(super) fn credential(&self, user: &str) -> Option<&Arc<Credential>> {
        self.entries.get(user)?.found.as_ref()
    }
}

impl Book<Roles> {
    /// PostgreSQL's answer about a user: the roles, the user's own among them, or none where there is no such user.
    pub(super) fn member_of(&mut self, user: &str, roles: BTreeSet<Box<str>>, now: Micros, lifetimes: Lifetimes) {
        let usable = !roles.is_empty();
        self.note(user, (Arc::new(roles), usable), now, lifetimes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::StoredSecret;

    const SECOND: Micros = 1_000_000;
    const LIFETIMES: Lifetimes = Lifetimes { found: Duration::from_secs(30), nothing: Duration::from_secs(5) };

    fn secret(text: &str) -> Option<Credential> {
        Some(Credential::new(StoredSecret::parse(text), 1))
    }

    fn known(look: Look<Secret>) -> Option<Arc<Credential>> {
        let Look::Known(credential) = look else { panic!("{look:?} is not known") };
        credential
    }

    fn is_asked(look: &Look<Secret>) -> bool {
        matches!(look, Look::Asked(_))
    }

    #[test]
    fn one_question_serves_all_who_wait() {
        let mut book = Book::<Secret>::default();
        let waiting: Vec<Look<Secret>> = (0..3).map(|_| book.look("ann", 0)).collect();
        assert!(is_asked(&book.look("bob", 0)), "whoever leaves is not asked for");
        assert_eq!(book.next().as_deref(), Some("ann"));
        book.answer("ann", secret("pw"), 0, LIFETIMES);
        for look in waiting {
            let Look::Asked(mut receiver) = look else { panic!("{look:?} does not wait") };
            assert!(receiver.try_recv().unwrap().unwrap().is_some());
        }
        assert_eq!(book.next(), None);
    }

    #[test]
    fn answers_count_for_their_time() {
        let mut book = Book::<Secret>::default();
        book.answer("ann", secret("pw"), 0, LIFETIMES);
        book.answer("ghost", None, 0, LIFETIMES);
        book.answer("expired", secret(""), 0, LIFETIMES);
        assert!(known(book.look("ann", 29 * SECOND)).is_some());
        assert!(is_asked(&book.look("ann", 30 * SECOND)));
        assert!(known(book.look("ghost", 4 * SECOND)).is_none());
        assert!(is_asked(&book.look("ghost", 5 * SECOND)));
        assert!(known(book.look("expired", 4 * SECOND)).is_some());
        assert!(is_asked(&book.look("expired", 5 * SECOND)));
        let never = Lifetimes { found: Duration::ZERO, nothing: Duration::ZERO };
        book.answer("bob", secret("pw"), 0, never);
        assert!(is_asked(&book.look("bob", 0)));
    }

    #[test]
    fn a_refused_login_has_it_asked_again_but_not_at_once() {
        for answer in [secret("pw"), None] {
            let mut book = Book::<Secret>::default();
            book.answer("ann", answer, 10 * SECOND, LIFETIMES);
            book.doubt("ann");
            known(book.look("ann", 11 * SECOND - 1));
            assert!(is_asked(&book.look("ann", 11 * SECOND)));
        }
        let mut book = Book::<Secret>::default();
        book.answer("ghost", None, 0, LIFETIMES);
        book.doubt("ghost");
        book.doubt("nobody");
        assert!(is_asked(&book.look("ghost", 5 * SECOND)), "a doubt makes nothing last longer");
    }

    #[test]
    fn the_same_answer_keeps_what_was_derived() {
        let mut book = Book::<Secret>::default();
        let lasting = |book: &Book<Secret>| Arc::clone(book.credential("ann").unwrap());
        book.answer("ann", secret("pw"), 0, LIFETIMES);
        let first = lasting(&book);
        book.follow(None);
        assert!(is_asked(&book.look("ann", 1)));
        book.answer("ann", secret("pw"), 1, LIFETIMES);
        assert!(Arc::ptr_eq(&first, &lasting(&book)));
        book.answer("ann", secret("rotated"), 2, LIFETIMES);
        assert!(!Arc::ptr_eq(&first, &lasting(&book)));
    }

    #[test]
    fn trouble_is_told_to_all_until_its_time_is_over() {
        let mut book = Book::<Secret>::default();
        let Look::Asked(mut receiver) = book.look("ann", 0) else { panic!("known") };
        book.fail_all(&LookupError::Limit("max_db_connections"), SECOND);
        assert!(receiver.try_recv().unwrap().is_err());
        assert!(matches!(book.look("bob", SECOND - 1), Look::Hopeless(_)));
        assert!(is_asked(&book.look("bob", SECOND)));
        book.fail_all(&LookupError::Limit("max_db_connections"), 9 * SECOND);
        book.follow(None);
        assert!(is_asked(&book.look("bob", SECOND)));
    }

    #[test]
    fn the_book_is_bounded_and_strangers_do_not_push_out_users() {
        let mut book = Book::<Secret>::default();
        for index in 0..100 {
            book.answer(&format!("user{index}"), secret("pw"), 0, LIFETIMES);
        }
        for index in 0..3 * MOST {
            book.answer(&format!("ghost{index}"), None, 1, LIFETIMES);
            assert!(book.entries.len() <= MOST);
        }
        assert!((0..100).all(|index| book.credential(&format!("user{index}")).is_some()));
        for index in 0..2 * MOST as u64 {
            book.answer(&format!("more{index}"), secret("pw"), 2 + index, LIFETIMES);
            assert!(book.entries.len() <= MOST);
        }
        assert!(book.credential(&format!("more{}", 2 * MOST - 1)).is_some());
        assert!(book.credential("user0").is_none());
    }

    #[test]
    fn an_unused_book_is_one_without_waiters_and_fresh_answers() {
        let mut book = Book::<Secret>::default();
        assert!(book.is_unused(0));
        let look = book.look("ann", 0);
        assert!(!book.is_unused(0));
        drop(look);
        assert_eq!(book.next(), None);
        assert!(book.is_unused(0));
        book.answer("ann", secret("pw"), 0, LIFETIMES);
        assert!(!book.is_unused(0));
        assert!(book.is_unused(30 * SECOND));
    }
}
