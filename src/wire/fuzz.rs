//! Fuzz targets: any bytes of a peer's, with what has to hold of what is read of them.

use super::scan::{Grammar, Piece, Scanner, Violation};
use super::startup::{self, MAX_PACKET, Opening};
use super::tag::{back_limit, front_limit};
use super::view::{Diagnostic, Status, cstr, data_row, int32, parameter_status};

/// A message: its type, and its bytes with the header.
type Message = (u8, Vec<u8>);

/// The frame scanner: however a stream is split, it has the same messages, and ends the same way.
///
/// # Panics
/// Where that is not so.
#[doc(hidden)]
pub fn fuzz_scan(data: &[u8]) {
    let [choice, first, second, stream @ ..] = data else { return };
    let whole_max = usize::from(*choice >> 2) * 4;
    let whole: fn(u8) -> bool = if choice & 2 == 0 { |_| false } else { |tag| tag.is_ascii_uppercase() };
    let limit = if choice & 1 == 0 { front_limit } else { back_limit };
    let grammar = Grammar { limit, whole, whole_max, max: 1 << 20 };
    let at_once = reassembled(std::iter::once(stream), &grammar);
    for size in [*first, *second, 1] {
        let pieces = reassembled(stream.chunks(usize::from(size).max(1)), &grammar);
        assert_eq!(pieces, at_once, "in chunks of {size}");
    }
    let mut all: Vec<u8> = at_once.messages.iter().flat_map(|(_, bytes)| bytes).copied().collect();
    all.extend_from_slice(&at_once.open);
    assert!(stream.starts_with(&all), "messages are the stream's own bytes");
    for (tag, bytes) in &at_once.messages {
        let length = bytes.get(1..).and_then(int32).map(|(length, _)| length);
        let most = limit(*tag).unwrap_or_default().min(grammar.max);
        assert!(length.is_some_and(|length| (4..=most).contains(&length) && bytes.len() == length as usize + 1));
    }
}

/// What a stream was read as.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    messages: Vec<Message>,
    /// What was yielded of a message that has no end yet; all that there is of it.
    open: Vec<u8>,
    violation: Option<Violation>,
}

/// Feeds chunks the way a relay does, presenting again what was not consumed.
fn reassembled<'a>(chunks: impl Iterator<Item = &'a [u8]>, grammar: &Grammar) -> Read {
    let mut scanner = Scanner::default();
    let mut buf = Vec::new();
    let mut read = Read { messages: Vec::new(), open: Vec::new(), violation: None };
    for chunk in chunks {
        buf.extend_from_slice(chunk);
        let mut used = 0;
        loop {
            let before = scanner;
            match scanner.next(buf.get(used..).unwrap_or_default(), grammar) {
                Ok(Some(piece)) => {
                    used += piece.bytes.len();
                    put(&mut read, &piece);
                    assert_eq!(scanner.at_boundary(), piece.part.ends());
                    assert_eq!(scanner.under_way(), (!piece.part.ends()).then_some(piece.tag));
                }
                Ok(None) => break,
                Err(violation) => {
                    assert_eq!(scanner, before, "a violation moves nothing");
                    read.violation = Some(violation);
                    return read;
                }
            }
        }
        buf.drain(..used);
        assert!(buf.is_empty() || scanner.at_boundary(), "what is under way does not wait");
    }
    // Whether the last bytes were yielded or wait for more depends on the split, not what they are.
    read.open.extend_from_slice(&buf);
    read
}

fn put(read: &mut Read, piece: &Piece<'_>) {
    assert!(!piece.bytes.is_empty() && piece.body().len() <= piece.bytes.len());
    assert_eq!(piece.part.starts(), read.open.is_empty());
    read.open.extend_from_slice(piece.bytes);
    if piece.part.ends() {
        read.messages.push((piece.tag, std::mem::take(&mut read.open)));
    }
}

/// The packets that open a connection: what is served has a user and a database, and nothing that was not sent.
///
/// # Panics
/// Where that is not so.
#[doc(hidden)]
pub fn fuzz_startup(data: &[u8]) {
    if let Some((word, _)) = data.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*word);
        let body = startup::body_length(*word);
        assert_eq!(body.is_ok(), (8..=MAX_PACKET).contains(&length));
        assert!(body.is_err() || body.is_ok_and(|body| body + 4 == length as usize));
    }
    match startup::parse(data) {
        Ok(Opening::Ssl | Opening::GssEnc) => assert_eq!(data.len(), 4),
        Ok(Opening::Cancel { secret, .. }) => {
            assert!((4..=256).contains(&secret.len()) && data.len() == 8 + secret.len());
            assert!(data.ends_with(&secret));
        }
        Ok(Opening::Start(startup)) => {
            assert!(data.starts_with(&[0, 3]) && data.ends_with(&[0, 0]));
            assert!(!startup.user.is_empty() && !startup.database.is_empty());
            let texts = startup.settings.iter().flat_map(|(name, value)| [name, value]);
            let texts = texts.chain([&startup.user, &startup.database]).chain(&startup.protocol_options);
            assert!(texts.clone().all(|text| !text.contains('\0')));
            assert!(startup.settings.iter().all(|(name, _)| !name.is_empty()));
            let bytes: usize = texts.map(String::len).sum();
            assert!(bytes <= 2 * data.len(), "the database may be the user's name, and nothing else comes twice");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The views of messages: each value lies within the message, and all of them fill it.
///
/// # Panics
/// Where that is not so.
#[doc(hidden)]
pub fn fuzz_view(data: &[u8]) {
    assert_eq!(Status::from_ready(data).is_some(), matches!(data, [b'I' | b'T' | b'E']));
    match cstr(data) {
        Some((text, rest)) => assert!(!text.contains(&0) && text.len() + 1 + rest.len() == data.len()),
        None => assert!(!data.contains(&0)),
    }
    assert_eq!(int32(data).map(|(_, rest)| rest.len() + 4), (data.len() >= 4).then_some(data.len()));
    if let Some(values) = data_row(data) {
        let bytes: usize = values.iter().flatten().map(|value| value.len()).sum();
        assert_eq!(2 + 4 * values.len() + bytes, data.len());
    }
    if let Some((name, value)) = parameter_status(data) {
        assert_eq!([name.as_bytes(), b"\0", value, b"\0"].concat(), data);
    }
    let Diagnostic { severity, code, message, detail, hint, routine } = Diagnostic::read(data);
    let bytes = severity.len() + code.len() + message.len() + detail.len() + hint.len() + routine.len();
    // A byte that is no UTF-8 becomes three.
    assert!(bytes <= 3 * data.len());
}
