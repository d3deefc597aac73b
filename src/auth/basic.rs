//! A user and a password as HTTP's Basic scheme has them (RFC 7617), checked like a password in the clear.
//!
//! It knows no header but the value of `Authorization`. Invariant: nobody passes who has not the stored secret; an unknown
//! user is refused like one with a wrong password.

use std::sync::Arc;

use super::credential::Credential;
use super::crypto::decode_base64;
use super::login::{Login, Method, MockSecret, Step};
use super::secret::Password;

/// Most bytes of a header's value that are looked at.
const LONGEST: usize = 4096;

/// What a client says who it is.
#[derive(Debug)]
pub struct Basic {
    /// The user.
    pub user: String,
    password: Password,
}

impl Basic {
    /// Reads the value of an `Authorization` header; nothing where it is of another scheme or malformed.
    #[must_use]
    pub fn parse(header: &[u8]) -> Option<Basic> {
        let text = std::str::from_utf8(header).ok().filter(|text| text.len() <= LONGEST)?;
        let (scheme, rest) = text.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let pair = zeroize::Zeroizing::new(decode_base64(rest.trim())?);
        let colon = pair.iter().position(|&byte| byte == b':')?;
        let user = std::str::from_utf8(pair.get(..colon)?).ok()?.to_owned();
        let password = pair.get(colon + 1..).filter(|password| !password.contains(&0))?;
        (!user.is_empty() && !user.contains('\0')).then(|| Basic { user, password: Password::new(password) })
    }

    /// Whether the password is that of `credential`; `None` stands for a user that does not exist. Against a stored
    /// verifier it may cost the rounds, some milliseconds of CPU.
    #[must_use]
    pub fn proves(&self, credential: Option<Arc<Credential>>, mock: &MockSecret) -> bool {
        let (mut login, first) = Login::begin(Method::Plain, &self.user, credential, mock);
        let body = zeroize::Zeroizing::new([self.password.as_bytes(), b"\0"].concat());
        matches!(first, Step::Ask(_)) && matches!(login.answer(&body), Step::Admit { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::super::crypto::encode_base64;
    use super::super::secret::{ScramVerifier, StoredSecret, md5_hash};
    use super::*;

    fn header(user: &str, password: &str) -> Vec<u8> {
        format!("Basic {}", encode_base64(format!("{user}:{password}").as_bytes())).into_bytes()
    }

    #[test]
    fn each_kind_of_stored_secret_is_satisfied_by_its_password_and_no_other() {
        let mock = MockSecret::from_key([7; 32], 3);
        let verifier = ScramVerifier::from_password(b"se:cret", b"salt of sixteen.", 3).to_string();
        let hash = format!("md5{}", String::from_utf8(md5_hash(b"se:cret", "ann").to_vec()).unwrap());
        for stored in ["se:cret", &verifier, &hash] {
            let credential = Arc::new(Credential::new(StoredSecret::parse(stored), 3));
            let proves = |password| {
                let basic = Basic::parse(&header("ann", password)).unwrap();
                basic.proves(Some(Arc::clone(&credential)), &mock)
            };
            assert!(proves("se:cret"), "{stored}");
            for wrong in ["", "se", "secret", "se:cret ", "SE:CRET", stored].iter().filter(|word| **word != "se:cret") {
                assert!(!proves(wrong), "{stored} {wrong}");
            }
        }
        let basic = Basic::parse(&header("ann", "x")).unwrap();
        assert!(!basic.proves(None, &mock), "no such user");
        let empty = Arc::new(Credential::new(StoredSecret::parse(""), 3));
        assert!(!Basic::parse(&header("ann", "")).unwrap().proves(Some(empty), &mock), "no secret");
    }

    #[test]
    fn what_is_no_basic_header_is_nobody() {
        let long = [b"Basic ".as_slice(), &[b'A'; 5000]].concat();
        let zero = header("ann", "pass\0word");
        for value in [
            b"".as_slice(),
            b"Basic",
            b"Basic ",
            b"Basic !!!",
            b"Basic YW5u",
            b"Bearer YW5uOng=",
            b"Basic OnB3",
            b"\xff\xfe",
            &long,
            &zero,
        ] {
            assert!(Basic::parse(value).is_none(), "{value:?}");
        }
        assert_eq!(Basic::parse(b"bAsIc YW5uOng=").unwrap().user, "ann");
    }
}
