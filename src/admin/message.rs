//! The messages of the extended protocol that the console reads, checked to the last byte.
//!
//! Source: `protocol-message-formats.html`. Every function takes the body without the header and answers `None` for
//! anything malformed.

use crate::wire::view::{cstr, int32};

/// Parse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parse {
    /// Name of the statement, empty for the unnamed one.
    pub(super) name: String,
    /// Its text.
    pub(super) query: String,
    /// Ids of the types of its first parameters; 0 for any.
    pub(super) types: Vec<u32>,
}

/// Bind; of the parameters only how many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bind {
    /// Name of the portal, empty for the unnamed one.
    pub(super) portal: String,
    /// Name of the statement.
    pub(super) statement: String,
    /// Count of parameters.
    pub(super) parameters: usize,
    /// Format codes of the results.
    pub(super) formats: Vec<u16>,
}

/// What Describe and Close name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Object {
    /// A statement.
    Statement(String),
    /// A portal.
    Portal(String),
}

/// A string that ends the body.
pub(super) fn query(body: &[u8]) -> Option<String> {
    let (text, rest) = cstr(body)?;
    rest.is_empty().then(|| lossy(text))
}

/// Parse.
pub(super) fn parse(body: &[u8]) -> Option<Parse> {
    let (name, rest) = cstr(body)?;
    let (query, rest) = cstr(rest)?;
    let (count, mut rest) = int16(rest)?;
    let mut types = Vec::new();
    for _ in 0..count {
        let (id, tail) = int32(rest)?;
        types.push(id);
        rest = tail;
    }
    rest.is_empty().then(|| Parse { name: lossy(name), query: lossy(query), types })
}

/// Bind.
pub(super) fn bind(body: &[u8]) -> Option<Bind> {
    let (portal, rest) = cstr(body)?;
    let (statement, rest) = cstr(rest)?;
    let (_, rest) = formats(rest)?;
    let (parameters, mut rest) = int16(rest)?;
    for _ in 0..parameters {
        let (length, value) = int32(rest)?;
        // -1 stands for NULL, which has no bytes.
        let length = if length == u32::MAX { 0 } else { usize::try_from(length).ok()? };
        rest = value.get(length..)?;
    }
    let (formats, rest) = formats(rest)?;
    let (portal, statement) = (lossy(portal), lossy(statement));
    rest.is_empty().then(|| Bind { portal, statement, parameters: usize::from(parameters), formats })
}

/// Describe and Close.
pub(super) fn object(body: &[u8]) -> Option<Object> {
    let (&kind, rest) = body.split_first()?;
    let name = query(rest)?;
    match kind {
        b'S' => Some(Object::Statement(name)),
        b'P' => Some(Object::Portal(name)),
        _ => None,
    }
}

/// Execute: the portal. The limit of rows is not kept: all that there are may be sent as well.
pub(super) fn execute(body: &[u8]) -> Option<String> {
    let (portal, rest) = cstr(body)?;
    let (_, rest) = int32(rest)?;
    rest.is_empty().then(|| lossy(portal))
}

fn formats(bytes: &[u8]) -> Option<(Vec<u16>, &[u8])> {
    let (count, mut rest) = int16(bytes)?;
    let mut formats = Vec::new();
    for _ in 0..count {
        let (format, tail) = int16(rest)?;
        formats.push(format);
        rest = tail;
    }
    Some((formats, rest))
}

fn int16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*head), rest))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bind_reads_past_its_parameters() {
        let body = b"p\0s\0\0\x01\0\0\0\x02\xff\xff\xff\xff\0\0\0\x02ab\0\x02\0\0\0\x01";
        let expected = Bind { portal: "p".to_owned(), statement: "s".to_owned(), parameters: 2, formats: vec![0, 1] };
        assert_eq!(bind(body), Some(expected));
        for end in 0..body.len() {
            assert_eq!(bind(&body[..end]), None, "{end}");
        }
    }

    #[test]
    fn each_body_ends_where_it_should() {
        assert_eq!(query(b"x\0"), Some("x".to_owned()));
        assert_eq!((query(b"x"), query(b"x\0y")), (None, None));
        assert!(parse(b"\0SHOW POOLS\0\0\0").is_some());
        assert_eq!(parse(b"\0SHOW POOLS\0\0\x01\0\0\0\x17").unwrap().types, [23]);
        assert!(parse(b"\0SHOW POOLS\0\0\x01\0\0\0\x17\0").is_none());
        assert!(parse(b"\0SHOW POOLS\0\0\x01").is_none());
        assert_eq!(object(b"Sx\0"), Some(Object::Statement("x".to_owned())));
        assert_eq!((object(b"Qx\0"), object(b"")), (None, None));
        assert_eq!(execute(b"\0\0\0\0\0"), Some(String::new()));
        assert_eq!(execute(b"\0\0\0\0"), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = (query(&body), parse(&body), bind(&body), object(&body), execute(&body));
        }
    }
}
