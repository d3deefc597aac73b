//! What the process knows about one user's secret, and what it has derived from it so far.
//!
//! A login must cost a few HMACs, not thousands of rounds; so each derivation happens once and is kept here, shared by
//! all logins of the user in an `Arc`. It holds no state of any exchange. Invariant: what is cached is bounded, and
//! no cached value admits a password that the stored secret would not.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::answer::AnswerError;
use super::crypto::{Key, NoEntropy, hmac, random, same, sha256};
use super::secret::{Derivation, Derived, MANY_ROUNDS, Password, ScramKeys, ScramVerifier, StoredSecret, md5_hash};

/// Bytes of a salt that we choose, as PostgreSQL's `SCRAM_DEFAULT_SALT_LEN`.
pub(super) const SALT_LEN: usize = 16;

/// How many (salt, iterations) pairs of PostgreSQL servers are remembered per user.
const CLIENT_KEYS_KEPT: usize = 4;

/// One user's secret with its derivations. Make one per user and share it in an `Arc`; keep it over a reload that
/// leaves the secret alone (see [`Credential::holds`]), or each client sees a new salt.
pub struct Credential {
    secret: StoredSecret,
    scram_iterations: u32,
    /// Of a plain secret: the verifier with a salt of our own.
    verifier: OnceLock<ScramVerifier>,
    /// Of a stored verifier: the last plain password that satisfied it, as an HMAC under `proof_key`.
    proven: Mutex<Option<Key>>,
    /// Random and never leaves memory. A core dump holds it beside `proven`, and both together are as good for
    /// guessing as one unsalted hash; that is the price of plain logins that do not cost the rounds each time.
    proof_key: OnceLock<Key>,
    /// Of a plain secret: keys for PostgreSQL servers, the oldest first.
    client_keys: Mutex<VecDeque<Derived>>,
    /// Of a stored verifier: the ClientKey that the last login revealed.
    revealed: Mutex<Option<Zeroizing<Key>>>,
    derivations: AtomicU64,
}

/// The key goes with the login that it was revealed for, so it is worth as much as the password to who reads memory.
impl Drop for Credential {
    fn drop(&mut self) {
        self.proven.get_mut().unwrap_or_else(PoisonError::into_inner).zeroize();
        if let Some(key) = self.proof_key.get_mut() {
            key.zeroize();
        }
    }
}

impl Credential {
    /// Wraps a secret; derives nothing yet. `scram_iterations` is the setting of that name: the rounds of a verifier
    /// made from a plain password.
    pub fn new(secret: StoredSecret, scram_iterations: u32) -> Self {
        Self {
            secret,
            scram_iterations: scram_iterations.max(1),
            verifier: OnceLock::new(),
            proven: Mutex::new(None),
            proof_key: OnceLock::new(),
            client_keys: Mutex::new(VecDeque::new()),
            revealed: Mutex::new(None),
            derivations: AtomicU64::new(0),
        }
    }

    /// The secret as stored.
    pub fn secret(&self) -> &StoredSecret {
        &self.secret
    }

    /// Whether a credential made of these would be the same, so that a reload can keep this one and its caches.
    pub fn holds(&self, secret: &StoredSecret, scram_iterations: u32) -> bool {
        let derives = matches!(secret, StoredSecret::Plain(_));
        self.secret == *secret && (!derives || self.scram_iterations == scram_iterations.max(1))
    }

    /// How many times the rounds were paid since this credential was made.
    pub fn derivations(&self) -> u64 {
        self.derivations.load(Ordering::Relaxed)
    }

    /// Whether another one is made of the same, as [`Credential::holds`] has it.
    pub fn equals(&self, other: &Self) -> bool {
        self.holds(&other.secret, other.scram_iterations)
    }

    /// An empty password is no secret: it admits nobody and answers nothing.
    pub fn is_empty(&self) -> bool {
        self.secret.is_empty()
    }

    /// The verifier to run a SCRAM exchange with; `None` if only an md5 hash is stored. The first call for a plain
    /// secret pays the rounds; others that come meanwhile wait for it instead of paying as well.
    pub(super) fn scram_verifier(&self) -> Result<Option<&ScramVerifier>, NoEntropy> {
        match &self.secret {
            StoredSecret::Scram(verifier) => Ok(Some(verifier)),
            StoredSecret::Md5(_) => Ok(None),
            StoredSecret::Plain(password) => {
                if let Some(verifier) = self.verifier.get() {
                    return Ok(Some(verifier));
                }
                let salt: [u8; SALT_LEN] = random()?;
                Ok(Some(self.verifier.get_or_init(|| self.derive(password.as_bytes(), &salt, self.scram_iterations))))
            }
        }
    }

    /// The stored form of the md5 secret for this user; `None` if a verifier is stored.
    pub(super) fn md5_hash(&self, user: &str) -> Option<[u8; 32]> {
        match &self.secret {
            StoredSecret::Plain(password) => Some(md5_hash(password.as_bytes(), user)),
            StoredSecret::Md5(hash) => Some(**hash),
            StoredSecret::Scram(_) => None,
        }
    }

    /// Whether this plain password is the user's.
    ///
    /// Against a stored verifier the first right password and every wrong one cost the rounds, unless `derived` is what
    /// [`Credential::check_derivation`] of the same password came to; a right one that is repeated costs one HMAC.
    pub(super) fn is_satisfied_by(&self, password: &[u8], user: &str, derived: Option<Derived>) -> bool {
        match &self.secret {
            StoredSecret::Plain(stored) => same(stored.as_bytes(), password),
            StoredSecret::Md5(stored) => stored.ct_eq(&md5_hash(password, user)).into(),
            StoredSecret::Scram(verifier) => self.satisfies(verifier, password, derived),
        }
    }

    /// What [`Credential::is_satisfied_by`] of this password would take long for.
    pub(super) fn check_derivation(&self, password: &[u8]) -> Option<Derivation> {
        let StoredSecret::Scram(verifier) = &self.secret else { return None };
        let long = verifier.iterations > MANY_ROUNDS && !self.is_proven(self.digest(password).as_ref());
        long.then(|| Derivation::begin(password, &verifier.salt, verifier.iterations))
    }

    fn digest(&self, password: &[u8]) -> Option<Key> {
        self.proof_key().map(|key| hmac(&key, password))
    }

    fn is_proven(&self, digest: Option<&Key>) -> bool {
        let proven = *self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        digest.zip(proven).is_some_and(|(digest, proven)| proven.ct_eq(digest).into())
    }

    fn satisfies(&self, verifier: &ScramVerifier, password: &[u8], derived: Option<Derived>) -> bool {
        let digest = self.digest(password);
        if self.is_proven(digest.as_ref()) {
            return true;
        }
        self.derivations.fetch_add(1, Ordering::Relaxed);
        let keys = match derived.filter(|derived| derived.is_for(&verifier.salt, verifier.iterations)) {
            Some(derived) => derived.keys,
            None => ScramKeys::derive(password, &verifier.salt, verifier.iterations),
        };
        let derived = ScramVerifier::of_keys(&keys, &verifier.salt, verifier.iterations);
        let right = derived.stored_key.ct_eq(&verifier.stored_key) & derived.server_key.ct_eq(&verifier.server_key);
        if right.into() {
            if digest.is_some() {
                *self.proven.lock().unwrap_or_else(PoisonError::into_inner) = digest;
            }
            self.reveal(&keys.client_key);
            return true;
        }
        false
    }

    /// Without randomness nothing is remembered, and each login costs the rounds.
    fn proof_key(&self) -> Option<Key> {
        if let Some(key) = self.proof_key.get() {
            return Some(*key);
        }
        let fresh = random().ok()?;
        Some(*self.proof_key.get_or_init(|| fresh))
    }

    /// The keys to answer a PostgreSQL server with; `None` unless a plain password is stored.
    ///
    /// The lock is held while the rounds are paid, so that a burst of reconnects pays them once, unless `derived` is what
    /// [`Credential::answer_derivation`] came to.
    pub(super) fn client_keys(&self, salt: &[u8], iterations: u32, derived: Option<Derived>) -> Option<ScramKeys> {
        let StoredSecret::Plain(password) = &self.secret else { return None };
        let mut cache = self.client_keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = cache.iter().find(|entry| entry.is_for(salt, iterations)) {
            return Some(entry.keys.clone());
        }
        self.derivations.fetch_add(1, Ordering::Relaxed);
        let derived = derived.filter(|derived| derived.is_for(salt, iterations)).unwrap_or_else(|| {
            let keys = ScramKeys::derive(password.as_bytes(), salt, iterations);
            Derived { salt: salt.into(), iterations, keys }
        });
        let keys = derived.keys.clone();
        if cache.len() >= CLIENT_KEYS_KEPT {
            cache.pop_front();
        }
        cache.push_back(derived);
        Some(keys)
    }

    /// What [`Credential::client_keys`] would take long for.
    pub(super) fn answer_derivation(&self, salt: &[u8], iterations: u32) -> Option<Derivation> {
        let password = self.password()?;
        let kept = |cache: &VecDeque<Derived>| cache.iter().any(|entry| entry.is_for(salt, iterations));
        let long = iterations > MANY_ROUNDS && !kept(&self.client_keys.lock().unwrap_or_else(PoisonError::into_inner));
        long.then(|| Derivation::begin(password.as_bytes(), salt, iterations))
    }

    /// A client has proved to have this ClientKey. Where a verifier is stored that it belongs to, it is kept, for
    /// logins to a PostgreSQL that has the same verifier.
    pub(super) fn reveal(&self, client_key: &Key) {
        let StoredSecret::Scram(verifier) = &self.secret else { return };
        if sha256(client_key).ct_eq(&verifier.stored_key).into() {
            let mut revealed = self.revealed.lock().unwrap_or_else(PoisonError::into_inner);
            revealed.get_or_insert_with(|| Zeroizing::new(*client_key));
        }
    }

    /// Whether a login has revealed the key of the stored verifier.
    pub(super) fn is_revealed(&self) -> bool {
        self.revealed.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// The keys that a login has revealed, for a server that asks for this salt and so many rounds.
    pub(super) fn revealed_keys(&self, salt: &[u8], iterations: u32) -> Result<ScramKeys, AnswerError> {
        let StoredSecret::Scram(verifier) = &self.secret else { return Err(AnswerError::WrongSecretType) };
        let revealed = self.revealed.lock().unwrap_or_else(PoisonError::into_inner);
        let client_key = revealed.as_ref().ok_or(AnswerError::NoKeys)?;
        if *verifier.salt != *salt || verifier.iterations != iterations {
            return Err(AnswerError::OtherVerifier);
        }
        Ok(ScramKeys { client_key: **client_key, server_key: verifier.server_key })
    }

    /// The plain password, if that is what is stored and it is not empty.
    pub(super) fn password(&self) -> Option<&Password> {
        match &self.secret {
            StoredSecret::Plain(password) if !self.is_empty() => Some(password),
            StoredSecret::Plain(_) | StoredSecret::Md5(_) | StoredSecret::Scram(_) => None,
        }
    }

    fn derive(&self, password: &[u8], salt: &[u8], iterations: u32) -> ScramVerifier {
        self.derivations.fetch_add(1, Ordering::Relaxed);
        ScramVerifier::from_password(password, salt, iterations)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("secret", &self.secret).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn scram(password: &str) -> Credential {
        let verifier = ScramVerifier::from_password(password.as_bytes(), b"salt of sixteen.", 3);
        Credential::new(StoredSecret::parse(verifier.to_string()), 3)
    }

    #[test]
    fn a_plain_secret_is_derived_once_and_keeps_its_salt() {
        let credential = Arc::new(Credential::new(StoredSecret::parse("secret"), 7));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let credential = Arc::clone(&credential);
                std::thread::spawn(move || credential.scram_verifier().unwrap().cloned().unwrap())
            })
            .collect();
        let verifiers: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(verifiers.iter().all(|verifier| *verifier == verifiers[0]));
        assert_eq!((verifiers[0].iterations, verifiers[0].salt.len()), (7, SALT_LEN));
        assert_eq!(credential.derivations(), 1);
        let other = Credential::new(StoredSecret::parse("secret"), 7);
        assert_ne!(other.scram_verifier().unwrap().unwrap().salt, verifiers[0].salt);
    }

    #[test]
    fn a_repeated_right_password_costs_no_rounds() {
        let credential = scram("secret");
        for _ in 0..3 {
            assert!(credential.is_satisfied_by(b"secret", "u", None));
        }
        assert_eq!(credential.derivations(), 1);
        for _ in 0..2 {
            assert!(!credential.is_satisfied_by(b"wrong", "u", None));
        }
        assert_eq!(credential.derivations(), 3);
        assert!(credential.is_satisfied_by(b"secret", "u", None));
        assert_eq!(credential.derivations(), 3);
    }

    #[test]
    fn many_rounds_are_computed_in_pieces_to_the_same_end() {
        let many = MANY_ROUNDS + 1;
        let pieces = |derivation: Option<Derivation>| {
            let mut derivation = derivation.unwrap();
            let mut count = 1;
            while !derivation.advance(5000) {
                count += 1;
            }
            assert_eq!(count, 4);
            derivation.finish()
        };
        let verifier = ScramVerifier::from_password(b"secret", b"salt of sixteen.", many).to_string();
        let credential = Credential::new(StoredSecret::parse(verifier), 3);
        for (password, right) in [("wrong", false), ("secret", true)] {
            let derived = pieces(credential.check_derivation(password.as_bytes()));
            assert_eq!(credential.is_satisfied_by(password.as_bytes(), "u", Some(derived)), right);
        }
        assert!(credential.check_derivation(b"secret").is_none(), "it is known by now");
        // What was derived of something else is of no use, and no harm.
        let other = pieces(credential.check_derivation(b"wrong"));
        let (salt, count) = (other.salt.clone(), other.iterations);
        let plain = Credential::new(StoredSecret::parse("secret"), 3);
        assert!(plain.answer_derivation(&salt, MANY_ROUNDS).is_none());
        let derived = pieces(plain.answer_derivation(&salt, count));
        let expected = ScramKeys::derive(b"secret", &salt, count);
        assert_eq!(plain.client_keys(&salt, count, Some(derived)).unwrap().client_key, expected.client_key);
        assert!(plain.answer_derivation(&salt, count).is_none(), "it is kept");
        let keys = plain.client_keys(b"another salt", 2, Some(other)).unwrap();
        assert_eq!(keys.client_key, ScramKeys::derive(b"secret", b"another salt", 2).client_key);
    }

    #[test]
    fn client_keys_are_kept_for_the_last_four_salts() {
        let credential = Credential::new(StoredSecret::parse("secret"), 1);
        for salt in [b"a", b"b", b"c", b"d", b"a", b"d"] {
            credential.client_keys(salt, 2, None).unwrap();
        }
        assert_eq!(credential.derivations(), 4);
        credential.client_keys(b"e", 2, None).unwrap();
        credential.client_keys(b"b", 2, None).unwrap();
        assert_eq!(credential.derivations(), 5);
        credential.client_keys(b"a", 2, None).unwrap();
        assert_eq!(credential.derivations(), 6);
        credential.client_keys(b"a", 3, None).unwrap();
        assert_eq!(credential.derivations(), 7);
        assert_eq!(credential.client_keys.lock().unwrap().len(), CLIENT_KEYS_KEPT);
        assert!(scram("secret").client_keys(b"a", 2, None).is_none());
    }

    #[test]
    fn a_reload_can_tell_whether_anything_changed() {
        let credential = Credential::new(StoredSecret::parse("secret"), 5);
        assert!(credential.holds(&StoredSecret::parse("secret"), 5));
        assert!(!credential.holds(&StoredSecret::parse("secret"), 6));
        assert!(!credential.holds(&StoredSecret::parse("Secret"), 5));
        let StoredSecret::Scram(verifier) = scram("secret").secret().clone() else { panic!("no verifier") };
        let kept = scram("secret").holds(&StoredSecret::Scram(verifier), 99);
        assert!(kept, "rounds that are not used, and what a login has revealed would be lost");
    }
}
