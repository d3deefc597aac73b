//! What is read of an X.509 certificate beyond what the TLS library tells: its subject, its key, its names, the hash of
//! its signature (RFC 5280, X.690).
//!
//! Nothing is verified here. Invariant: no byte is looked at outside of the element that has it, and no input panics.

use std::fmt::Write;

/// Elements of DER that are looked for.
mod tag {
    pub(super) const INTEGER: u8 = 0x02;
    pub(super) const BIT_STRING: u8 = 0x03;
    pub(super) const OCTET_STRING: u8 = 0x04;
    pub(super) const OID: u8 = 0x06;
    pub(super) const SEQUENCE: u8 = 0x30;
    pub(super) const SET: u8 = 0x31;
    pub(super) const CONTEXT_0: u8 = 0xa0;
    pub(super) const CONTEXT_3: u8 = 0xa3;
}

const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// 1.2.840.113549.1.1, signatures with RSA.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1];
/// 1.2.840.10045.4, signatures with ECDSA.
const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4];
/// 2.16.840.1.101.3.4.2, the hash functions of the SHA-2 family.
const SHA2: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2];

/// The names that OpenSSL gives to parts of a distinguished name.
const ATTRIBUTES: [(&[u8], &str); 14] = [
    (COMMON_NAME, "CN"),
    (&[0x55, 4, 4], "SN"),
    (&[0x55, 4, 5], "serialNumber"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "street"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 12], "title"),
    (&[0x55, 4, 42], "GN"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "emailAddress"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
];

/// The hash function of a certificate's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureHash {
    /// MD5 or SHA-1, which RFC 5929 replaces by SHA-256.
    Weak,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// The parts of a certificate.
#[derive(Clone, Copy, Debug)]
pub struct Certificate<'a> {
    issuer: &'a [u8],
    validity: &'a [u8],
    subject: &'a [u8],
    key_info: &'a [u8],
    extensions: &'a [u8],
    signature_algorithm: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// Finds the parts; `None` where it is no certificate.
    #[must_use]
    pub fn parse(der: &'a [u8]) -> Option<Certificate<'a>> {
        let mut all = Reader(Reader(der).expect(tag::SEQUENCE)?);
        let mut body = Reader(all.expect(tag::SEQUENCE)?);
        let signature_algorithm = all.expect(tag::SEQUENCE)?;
        if body.is_next(tag::CONTEXT_0) {
            body.next()?;
        }
        body.expect(tag::INTEGER)?;
        body.expect(tag::SEQUENCE)?;
        let issuer = body.expect(tag::SEQUENCE)?;
        let validity = body.expect(tag::SEQUENCE)?;
        let subject = body.expect(tag::SEQUENCE)?;
        let key_info = body.next()?.whole;
        let mut extensions: &[u8] = &[];
        while !body.0.is_empty() {
            let element = body.next()?;
            if element.tag == tag::CONTEXT_3 {
                extensions = Reader(element.contents).expect(tag::SEQUENCE)?;
            }
        }
        Some(Certificate { issuer, validity, subject, key_info, extensions, signature_algorithm })
    }

    /// The first common name of the subject. One with a zero byte is none: it means to deceive.
    #[must_use]
    pub fn common_name(&self) -> Option<String> {
        let mut rest = Reader(self.subject);
        while !rest.0.is_empty() {
            let mut set = Reader(rest.expect(tag::SET)?);
            while !set.0.is_empty() {
                let (oid, value) = attribute(set.expect(tag::SEQUENCE)?)?;
                if oid == COMMON_NAME {
                    return text(&value).filter(|name| !name.contains('\0') && !name.is_empty());
                }
            }
        }
        None
    }

    /// The subject as RFC 2253 writes it and PostgreSQL shows it: the last part first.
    #[must_use]
    pub fn subject(&self) -> Option<String> {
        let mut parts = Vec::new();
        let mut rest = Reader(self.subject);
        while !rest.0.is_empty() {
            let mut set = Reader(rest.expect(tag::SET)?);
            let mut together = Vec::new();
            while !set.0.is_empty() {
                let (oid, value) = attribute(set.expect(tag::SEQUENCE)?)?;
                let known = ATTRIBUTES.iter().find(|(known, _)| *known == oid).map(|(_, name)| (*name).to_owned());
                together.push(format!("{}={}", known.unwrap_or_else(|| dotted(oid)), escaped(&text(&value)?)));
            }
            parts.push(together.join("+"));
        }
        parts.reverse();
        Some(parts.join(","))
    }

    /// The hash function of its signature; `None` where the signature has none of its own, as Ed25519.
    #[must_use]
    pub fn signature_hash(&self) -> Option<SignatureHash> {
        let mut algorithm = Reader(self.signature_algorithm);
        let oid = algorithm.expect(tag::OID)?;
        if let Some(rest) = oid.strip_prefix(RSA) {
            return match rest {
                [4 | 5] => Some(SignatureHash::Weak),
                [10] => pss_hash(algorithm),
                [11] => Some(SignatureHash::Sha256),
                [12] => Some(SignatureHash::Sha384),
                [13] => Some(SignatureHash::Sha512),
                [14] => Some(SignatureHash::Sha224),
                _ => None,
            };
        }
        match oid.strip_prefix(ECDSA)? {
            [1] => Some(SignatureHash::Weak),
            [3, 1] => Some(SignatureHash::Sha224),
            [3, 2] => Some(SignatureHash::Sha256),
            [3, 3] => Some(SignatureHash::Sha384),
            [3, 4] => Some(SignatureHash::Sha512),
            _ => None,
        }
    }

    /// SubjectPublicKeyInfo, whole.
    #[must_use]
    pub fn key_info(&self) -> &'a [u8] {
        self.key_info
    }

    /// What is within the AlgorithmIdentifier of the key, and the key's bits.
    pub(super) fn key(&self) -> Option<(&'a [u8], &'a [u8])> {
        let mut info = Reader(Reader(self.key_info).expect(tag::SEQUENCE)?);
        let algorithm = info.expect(tag::SEQUENCE)?;
        // The first byte counts the bits that do not belong to it.
        match info.expect(tag::BIT_STRING)?.split_first()? {
            (0, key) => Some((algorithm, key)),
            _ => None,
        }
    }

    /// Whether it is valid at a moment, in seconds since 1970.
    #[must_use]
    pub fn is_valid_at(&self, now: u64) -> bool {
        let mut both = Reader(self.validity);
        let mut seconds = || both.next().and_then(|element| seconds(&element));
        matches!((seconds(), seconds()), (Some(from), Some(to)) if (from..=to).contains(&now))
    }

    /// Whether the subject is its own issuer.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }

    /// Whether it says for which names or addresses it is, other than by its common name.
    #[must_use]
    pub fn has_alternative_names(&self) -> bool {
        let mut rest = Reader(self.extensions);
        while let Some(extension) = rest.expect(tag::SEQUENCE) {
            let mut extension = Reader(extension);
            if extension.expect(tag::OID) != Some(SUBJECT_ALT_NAME) {
                continue;
            }
            // Where "critical" stands in between, it is skipped.
            while let Some(element) = extension.next() {
                if element.tag == tag::OCTET_STRING {
                    let mut names = Reader(Reader(element.contents).expect(tag::SEQUENCE).unwrap_or_default());
                    return std::iter::from_fn(|| names.next()).any(|name| matches!(name.tag, 0x82 | 0x87));
                }
            }
        }
        false
    }
}

/// The body of the fuzz target: each part lies within the certificate, and names have nothing in them that deceives.
///
/// # Panics
/// Where that is not so.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let Some(certificate) = Certificate::parse(data) else { return };
    let Certificate { issuer, validity, subject, key_info, extensions, signature_algorithm } = certificate;
    let within = data.as_ptr_range();
    for part in [issuer, validity, subject, key_info, extensions, signature_algorithm] {
        let range = part.as_ptr_range();
        assert!(part.is_empty() || (within.start <= range.start && range.end <= within.end));
    }
    assert!(issuer.len() + validity.len() + subject.len() + key_info.len() + extensions.len() < data.len());
    // Bytes behind a certificate change nothing about it.
    let longer = [data, &[0x30]].concat();
    assert_eq!(Certificate::parse(&longer).and_then(|longer| longer.subject()), certificate.subject());
    if let Some(name) = certificate.common_name() {
        assert!(!name.is_empty() && !name.contains('\0') && name.len() <= 2 * data.len());
    }
    if let Some(subject) = certificate.subject() {
        assert!(subject.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{subject}");
    }
    if let Some((algorithm, key)) = certificate.key() {
        assert!(algorithm.len() + key.len() < key_info.len());
    }
    let until = (0..64).rev().map(|bit| 1 << bit).find(|now| certificate.is_valid_at(*now));
    assert!(until.is_none_or(|until| until < 1 << 40), "a year has four digits");
    let _ = (certificate.signature_hash(), certificate.is_self_issued(), certificate.has_alternative_names());
}

/// The hash function in the parameters of RSASSA-PSS, which is SHA-1 where none is named.
fn pss_hash(mut algorithm: Reader<'_>) -> Option<SignatureHash> {
    let mut parameters = Reader(algorithm.expect(tag::SEQUENCE)?);
    if !parameters.is_next(tag::CONTEXT_0) {
        return Some(SignatureHash::Weak);
    }
    let mut hash = Reader(Reader(parameters.next()?.contents).expect(tag::SEQUENCE)?);
    match hash.expect(tag::OID)?.strip_prefix(SHA2) {
        Some([1]) => Some(SignatureHash::Sha256),
        Some([2]) => Some(SignatureHash::Sha384),
        Some([3]) => Some(SignatureHash::Sha512),
        Some([4]) => Some(SignatureHash::Sha224),
        _ => None,
    }
}

/// A UTCTime or GeneralizedTime, in seconds since 1970; years before that are not wanted.
fn seconds(time: &Element<'_>) -> Option<u64> {
    let digits = std::str::from_utf8(time.contents).ok()?.strip_suffix('Z')?;
    let short = time.tag == 0x17;
    if digits.len() != if short { 12 } else { 14 } || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = digits.split_at_checked(if short { 2 } else { 4 })?;
    let year: u64 = year.parse().ok()?;
    let year = if !short { year } else { year + if year < 50 { 2000 } else { 1900 } };
    let pair = |at: usize| rest.get(at..at + 2)?.parse::<u64>().ok();
    let (month, day) = (pair(0)?, pair(2)?);
    // Days of the civil calendar, with years that begin in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month.checked_add(9)?) };
    let days = (365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day).checked_sub(1 + 719_468)?;
    Some(days * 86_400 + pair(4)? * 3_600 + pair(6)? * 60 + pair(8)?)
}

fn attribute(pair: &[u8]) -> Option<(&[u8], Element<'_>)> {
    let mut pair = Reader(pair);
    Some((pair.expect(tag::OID)?, pair.next()?))
}

/// A string of one of the kinds that names are made of.
fn text(value: &Element<'_>) -> Option<String> {
    match value.tag {
        // UTF8String, PrintableString, IA5String, NumericString.
        0x0c | 0x13 | 0x16 | 0x12 => String::from_utf8(value.contents.to_vec()).ok(),
        // TeletexString, which everybody reads as Latin-1.
        0x14 => Some(value.contents.iter().map(|&byte| char::from(byte)).collect()),
        // BMPString.
        0x1e => {
            let (pairs, []) = value.contents.as_chunks::<2>() else { return None };
            String::from_utf16(&pairs.iter().map(|&pair| u16::from_be_bytes(pair)).collect::<Vec<_>>()).ok()
        }
        // UniversalString.
        0x1c => {
            let (words, []) = value.contents.as_chunks::<4>() else { return None };
            words.iter().map(|&word| char::from_u32(u32::from_be_bytes(word))).collect()
        }
        _ => None,
    }
}

/// A value within a distinguished name (RFC 2253 section 2.4); what is not ASCII is written byte by byte.
fn escaped(value: &str) -> String {
    let mut out = String::new();
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b'#' | b' ' if at == 0 => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b' ' if at == last => out.push_str("\\ "),
            b' '..=b'~' => out.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => drop(write!(out, "\\{byte:02X}")),
        }
    }
    out
}

fn dotted(oid: &[u8]) -> String {
    let mut out = String::new();
    let mut value: u64 = 0;
    for &byte in oid {
        value = (value << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 != 0 {
            continue;
        }
        if out.is_empty() {
            let first = (value / 40).min(2);
            out = format!("{first}.{}", value - first * 40);
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, ".{value}");
        }
        value = 0;
    }
    out
}

struct Element<'a> {
    tag: u8,
    contents: &'a [u8],
    whole: &'a [u8],
}

/// Reads element after element.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<Element<'a>> {
        let (&[tag, first], mut rest) = self.0.split_first_chunk::<2>()?;
        let mut length = usize::from(first);
        if first & 0x80 != 0 {
            let count = usize::from(first & 0x7f);
            // A certificate is less than 16 MiB long, and DER has no indefinite lengths.
            if !(1..=3).contains(&count) {
                return None;
            }
            let (bytes, behind) = rest.split_at_checked(count)?;
            length = bytes.iter().fold(0, |length, &byte| (length << 8) | usize::from(byte));
            rest = behind;
        }
        let (contents, behind) = rest.split_at_checked(length)?;
        let whole = self.0.get(..self.0.len() - behind.len())?;
        self.0 = behind;
        Some(Element { tag, contents, whole })
    }

    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.is_next(tag) { self.next().map(|element| element.contents) } else { None }
    }

    fn is_next(&self, tag: u8) -> bool {
        self.0.first() == Some(&tag)
    }
}
