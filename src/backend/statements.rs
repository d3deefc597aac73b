//! Prepared statements: one table of texts for the whole process, and what each backend has of it.
//!
//! A [`Statement`] is a text with its parameter types. Equal ones are one allocation, whatever pools and clients they
//! come from, and have one name on all backends. What two clients may not share although the text is the same (a literal
//! that PostgreSQL reads by `DateStyle`, bytes in another encoding) differs in its `setting`, a part of the key that the
//! session makes up. Invariant: the bytes of all texts that anything but a backend has stay below the table's limit, and
//! those that only backends have below a limit of each of them.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use ahash::RandomState;

use crate::sql::{Act, First, Script};

/// What the names on backends begin with; the process's [`Tag`], `_` and the id follow. A client's own name does not reach
/// a backend that follows statements, except where it is unknown and PostgreSQL is to say so, and for texts that are
/// too long to be looked at whole, which pin.
pub const PREFIX: &[u8] = b"pgpool_";

/// Letters in the names on backends that nobody can guess, and which are others in each process: a text that is passed on
/// before it is understood must not find another client's statement by trying.
type Tag = [u8; TAG];
const TAG: usize = 12;

/// What an entry costs beside its text, bytes.
const OVERHEAD: usize = 256;

/// How many statements are kept for the next client that comes with the same text, though nobody has them.
const RECENT: usize = 256;

/// How a statement came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// By Parse: the body of the message behind the statement's name.
    Protocol,
    /// By PREPARE: parameter types as SQL without their parentheses (or nothing), NUL, and the statement.
    Sql,
}

/// What a table knows of all its statements without looking at them.
#[derive(Debug, Default)]
struct Sums {
    /// Of all but those that only backends have.
    bytes: AtomicUsize,
    count: AtomicUsize,
}

/// One text with its parameter types.
#[derive(Debug)]
pub struct Statement {
    /// Unique in this process, never used again.
    pub id: u64,
    /// Its name on backends.
    pub name: Box<[u8]>,
    /// How it came to be.
    pub origin: Origin,
    /// See [`Origin`].
    pub body: Box<[u8]>,
    /// What running it may do to the session.
    pub script: Script,
    /// How often a client has prepared it.
    pub parses: AtomicU64,
    /// How often a backend had it already.
    pub hits: AtomicU64,
    /// PostgreSQL has refused it once.
    pub refused: AtomicBool,
    /// The client's own statement, if others are named in it, by the names that they have on backends.
    pub renamed_from: OnceLock<Arc<Statement>>,
    /// The statements that are named in it, as far as the client had them then.
    pub named: OnceLock<Box<[Arc<Statement>]>>,
    /// What running it prepares, if it is a PREPARE that came by Parse.
    pub prepares: OnceLock<Prepares>,
    /// Names that clients have for it, times [`CLIENT`], and backends that have it: one number, so that it is seen which
    /// change makes it one that only backends have.
    users: AtomicU64,
    setting: u64,
    hash: u64,
    sums: Arc<Sums>,
}

impl Statement {
    /// The text without parameter types.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        let (start, end) = match (self.origin, self.body.iter().position(|&byte| byte == 0)) {
            (Origin::Protocol, end) => (0, end.unwrap_or(self.body.len())),
            (Origin::Sql, at) => (at.map_or(0, |at| at + 1), self.body.len()),
        };
        self.body.get(start..end).unwrap_or_default()
    }

    /// How many parameters it has, if PostgreSQL takes it; nothing where its text does not tell. Those of a text that it
    /// analyses are counted by the highest number, others are those whose types were given.
    #[must_use]
    pub fn parameters(&self) -> Option<u16> {
        let end = self.body.iter().position(|&byte| byte == 0)?;
        let given = match self.origin {
            Origin::Protocol => u16::from_be_bytes(*self.body.get(end + 1..)?.first_chunk()?),
            Origin::Sql => listed(self.body.get(..end)?)?,
        };
        // Those in what a PREPARE prepares are not its own.
        if self.script.acts.iter().any(|act| matches!(act, Act::Prepare { .. })) {
            return Some(given);
        }
        match (self.script.parameters, self.script.first) {
            (0, _) => Some(given),
            (highest, First::Plain) => Some(highest.max(given)),
            (_, First::Empty | First::TransactionEnd | First::Other) => None,
        }
    }

    /// The statement of this name that is named in it.
    #[must_use]
    pub fn find_named(&self, name: &[u8]) -> Option<&Arc<Statement>> {
        self.named.get()?.iter().find(|named| *named.name == *name)
    }

    /// The `setting` of the keys of what stands for this one where others are named in it: what two different texts are
    /// renamed to may be the same.
    #[must_use]
    pub fn setting_of_renamed(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.setting, self.id).hash(&mut hasher);
        hasher.finish()
    }

    /// Names that clients have for it.
    #[must_use]
    pub fn clients(&self) -> u64 {
        self.users.load(Relaxed) / CLIENT
    }

    /// Backends that have it.
    #[must_use]
    pub fn servers(&self) -> u64 {
        self.users.load(Relaxed) % CLIENT
    }

    /// A client has a name for it.
    pub fn add_client(&self) {
        let before = self.users.fetch_add(CLIENT, Relaxed);
        self.count(before, before + CLIENT);
    }

    /// A client has one name less for it.
    pub fn remove_client(&self) {
        let before = self.users.fetch_sub(CLIENT, Relaxed);
        self.count(before, before.wrapping_sub(CLIENT));
    }

    pub(super) fn add_server(&self) {
        let before = self.users.fetch_add(1, Relaxed);
        self.count(before, before + 1);
    }

    pub(super) fn remove_server(&self) {
        let before = self.users.fetch_sub(1, Relaxed);
        self.count(before, before.wrapping_sub(1));
    }

    /// What only backends have does not count: each of them has a limit.
    fn count(&self, before: u64, after: u64) {
        match (is_spare(before), is_spare(after)) {
            (false, true) => drop(self.sums.bytes.fetch_sub(self.bytes(), Relaxed)),
            (true, false) => drop(self.sums.bytes.fetch_add(self.bytes(), Relaxed)),
            (true, true) | (false, false) => {}
        }
    }

    /// What it counts for, bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.body.len() + OVERHEAD
    }

    fn is(&self, key: &Key<'_>) -> bool {
        self.origin == key.origin && self.setting == key.setting && *self.body == *key.body
    }
}

/// How many types are in a list of PREPARE; nothing where that takes a parser.
fn listed(types: &[u8]) -> Option<u16> {
    let mut depth = 0_i32;
    let mut commas = 0;
    for byte in types {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b',' if depth == 0 => commas += 1,
            b'"' | b'\'' | b'/' | b'-' => return None,
            _ => {}
        }
    }
    Some(if types.trim_ascii().is_empty() { 0 } else { commas + 1 })
}

/// One client, in [`Statement::users`].
const CLIENT: u64 = 1 << 32;

/// Whether nobody but backends has it.
fn is_spare(users: u64) -> bool {
    users < CLIENT && users > 0
}

fn backend_name(tag: &Tag, id: u64) -> Box<[u8]> {
    let mut name = PREFIX.to_vec();
    name.extend_from_slice(tag);
    name.push(b'_');
    name.extend_from_slice(id.to_string().as_bytes());
    name.into()
}

/// The id in a name on backends.
#[must_use]
pub fn id_of(name: &[u8]) -> Option<u64> {
    let (_, id) = name.strip_prefix(PREFIX)?.split_first_chunk::<TAG>()?;
    std::str::from_utf8(id.strip_prefix(b"_")?).ok()?.parse().ok()
}

/// The keys of the standard library's hash maps come from the system's random numbers.
fn random_tag() -> Tag {
    let mut bits = std::hash::RandomState::new().hash_one(PREFIX);
    [(); TAG].map(|()| {
        let letter = b'a'.saturating_add(u8::try_from(bits % 26).unwrap_or(0));
        bits /= 26;
        letter
    })
}

impl Drop for Statement {
    fn drop(&mut self) {
        // No backend has it any more, so it counts.
        self.sums.count.fetch_sub(1, Relaxed);
        self.sums.bytes.fetch_sub(self.bytes(), Relaxed);
    }
}

/// What a PREPARE that came by Parse prepares. It has the name in its text that the statement has on all backends.
#[derive(Debug)]
pub struct Prepares {
    /// The client's own name for it.
    pub name: Box<[u8]>,
    /// The statement.
    pub statement: Arc<Statement>,
}

/// What makes two statements one.
#[derive(Clone, Copy, Debug, Hash)]
pub struct Key<'a> {
    /// How it came to be.
    pub origin: Origin,
    /// What else decides how PostgreSQL reads the text; 0 where nothing does.
    pub setting: u64,
    /// See [`Origin`].
    pub body: &'a [u8],
}

/// The table is full.
#[derive(Debug, thiserror::Error)]
#[error("the table of prepared statements is full")]
pub struct Full;

/// The table of all statements in use.
#[derive(Debug)]
pub struct Statements {
    known: Mutex<Known>,
    sums: Arc<Sums>,
    hasher: RandomState,
    tag: Tag,
}

impl Default for Statements {
    fn default() -> Statements {
        Statements { known: Mutex::default(), sums: Arc::default(), hasher: RandomState::new(), tag: random_tag() }
    }
}

#[derive(Debug, Default)]
struct Known {
    by_hash: HashMap<u64, Vec<Weak<Statement>>, RandomState>,
    recent: VecDeque<Arc<Statement>>,
    last_id: u64,
    /// How many entries there may be before those are struck out that nobody has any more.
    prune_at: usize,
}

impl Statements {
    /// The statement of this key, made by `script` where it is new. `limit`: most bytes of all texts but those that only
    /// backends have.
    ///
    /// # Errors
    /// [`Full`].
    pub fn intern(&self, key: Key<'_>, limit: usize, script: impl FnOnce() -> Script) -> Result<Arc<Statement>, Full> {
        let hash = self.hasher.hash_one(key);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = known.by_hash.get(&hash);
        if let Some(found) = bucket.and_then(|all| all.iter().filter_map(Weak::upgrade).find(|found| found.is(&key))) {
            found.parses.fetch_add(1, Relaxed);
            return Ok(found);
        }
        let bytes = key.body.len() + OVERHEAD;
        if self.sums.bytes.load(Relaxed) + bytes > limit {
            // Those that are only kept for the next client go first.
            let recent = std::mem::take(&mut known.recent);
            drop(known);
            drop(recent);
            if self.sums.bytes.load(Relaxed) + bytes > limit {
                return Err(Full);
            }
            known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        }
        known.last_id += 1;
        self.sums.bytes.fetch_add(bytes, Relaxed);
        self.sums.count.fetch_add(1, Relaxed);
        let statement = Arc::new(Statement {
            id: known.last_id,
            name: backend_name(&self.tag, known.last_id),
            origin: key.origin,
            body: key.body.into(),
            script: script(),
            parses: AtomicU64::new(1),
            hits: AtomicU64::new(0),
            users: AtomicU64::new(0),
            refused: AtomicBool::new(false),
            renamed_from: OnceLock::new(),
            named: OnceLock::new(),
            prepares: OnceLock::new(),
            setting: key.setting,
            hash,
            sums: Arc::clone(&self.sums),
        });
        let oldest = known.keep(&statement);
        drop(known);
        drop(oldest);
        Ok(statement)
    }

    /// Bytes of all texts but those that only backends have.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.sums.bytes.load(Relaxed)
    }

    /// How many there are; takes no lock.
    #[must_use]
    pub fn count(&self) -> usize {
        self.sums.count.load(Relaxed)
    }

    /// All statements, in order of their ids.
    #[must_use]
    pub fn shown(&self) -> Vec<Arc<Statement>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = known.by_hash.values().flatten().filter_map(Weak::upgrade).collect();
        drop(known);
        all.sort_unstable_by_key(|statement| statement.id);
        all
    }
}

impl Known {
    /// Enters a new statement; answers one that is not kept any longer.
    fn keep(&mut self, statement: &Arc<Statement>) -> Option<Arc<Statement>> {
        if self.by_hash.len() >= self.prune_at {
            self.by_hash.retain(|_, bucket| {
                bucket.retain(|statement| statement.strong_count() > 0);
                !bucket.is_empty()
            });
            self.prune_at = self.by_hash.len() * 2 + 1024;
        }
        self.by_hash.entry(statement.hash).or_default().push(Arc::downgrade(statement));
        self.recent.push_back(Arc::clone(statement));
        (self.recent.len() > RECENT).then(|| self.recent.pop_front()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql;

    fn key(body: &[u8]) -> Key<'_> {
        Key { origin: Origin::Protocol, setting: 0, body }
    }

    fn intern(table: &Statements, body: &[u8]) -> Arc<Statement> {
        table.intern(key(body), usize::MAX, || sql::read(body, sql::Dialect::default())).unwrap()
    }

    #[test]
    fn equal_ones_are_one_and_ids_are_never_used_again() {
        let table = Statements::default();
        let one = intern(&table, b"select 1\0\0\0");
        assert!(Arc::ptr_eq(&one, &intern(&table, b"select 1\0\0\0")));
        let other =
            table.intern(Key { setting: 1, ..key(b"select 1\0\0\0") }, usize::MAX, || one.script.clone()).unwrap();
        let sql = table
            .intern(Key { origin: Origin::Sql, ..key(b"select 1\0\0\0") }, usize::MAX, || one.script.clone())
            .unwrap();
        assert!(one.id < other.id && other.id < sql.id);
        assert_eq!(one.text(), b"select 1");
        assert_eq!(intern(&table, b"").text(), b"");
    }

    #[test]
    fn bytes_are_bounded_and_come_back() {
        let table = Statements::default();
        let limit = 10 * (OVERHEAD + 8);
        let mut held = Vec::new();
        let refused = loop {
            let body = format!("{:07}\0", held.len());
            match table.intern(key(body.as_bytes()), limit, || sql::read(b"", sql::Dialect::default())) {
                Ok(statement) => held.push(statement),
                Err(Full) => break held.len(),
            }
        };
        assert_eq!((refused, table.bytes()), (10, limit));
        // What only a backend has is not in the way of new ones.
        let mut prepared = super::super::Prepared::default();
        held.drain(..).for_each(|statement| prepared.insert(statement));
        assert_eq!(table.bytes(), 0);
        let again = intern(&table, b"0000000\0");
        again.add_client();
        assert_eq!((table.bytes(), again.clients(), again.servers()), (again.bytes(), 1, 1));
        again.remove_client();
        drop(again);
        drop(prepared);
        assert_eq!(table.bytes(), 0);
        // What nobody has is kept for a while, but never in the way.
        for index in 0..100_000 {
            let body = format!("{index:07}\0");
            table.intern(key(body.as_bytes()), limit, || sql::read(b"", sql::Dialect::default())).unwrap();
        }
        assert!(table.bytes() <= limit);
        assert!(table.known.lock().unwrap().by_hash.len() < 4096);
    }

    #[test]
    fn parameters_are_known_by_the_text_where_it_tells() {
        let table = Statements::default();
        let parameters = |origin, body: &[u8]| {
            let text = body.split(|&byte| byte == 0).nth(usize::from(origin == Origin::Sql)).unwrap();
            let key = Key { origin, setting: 0, body };
            table.intern(key, 1 << 20, || sql::read(text, sql::Dialect::default())).unwrap().parameters()
        };
        for (body, wanted) in [
            (&b"select $2 + $1\0\0\0"[..], Some(2)),
            (b"select $1\0\0\x02\0\0\0\x17\0\0\0\x17", Some(2)),
            (b"begin\0\0\0", Some(0)),
            (b"\0\0\x01\0\0\0\x17", Some(1)),
            (b"explain select $1\0\0\0", None),
            (b"execute s($1)\0\0\0", None),
            (b"prepare s as select $1\0\0\0", Some(0)),
            (b"select 1\0", None),
        ] {
            assert_eq!(parameters(Origin::Protocol, body), wanted, "{}", body.escape_ascii());
        }
        for (body, wanted) in [
            (&b"\0select $1"[..], Some(1)),
            (b" \0select 1", Some(0)),
            (b"int, numeric(10, 2), text[]\0select 1", Some(3)),
            (b"int\0insert into t values ($2)", Some(2)),
            (b"\"a,b\"\0select $1", None),
        ] {
            assert_eq!(parameters(Origin::Sql, body), wanted, "{}", body.escape_ascii());
        }
    }
}
