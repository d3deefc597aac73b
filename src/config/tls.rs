//! Settings of TLS as values: protocol versions, cipher suites, key exchange groups.
//!
//! The words are PgBouncer's and OpenSSL's, the possibilities those of rustls. What was asked for and cannot be had is
//! left out, as OpenSSL does, but not quietly: the value keeps what it was, for a warning. A list of which nothing is
//! left is an error that says what there is. What such a list excludes (`!aNULL`) and rustls does not have anyway is
//! excluded already.

use crate::config::value::{Kind, Raw, ValueError};

/// The cipher suites of TLS 1.2 that there are, by OpenSSL's names, the preferred first.
pub const SUITES_12: [&str; 6] = [
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-CHACHA20-POLY1305",
];

/// The cipher suites of TLS 1.3, the preferred first.
pub const SUITES_13: [&str; 3] = ["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"];

/// The groups for the key exchange, the preferred first.
pub const GROUPS: [&str; 4] = ["X25519", "prime256v1", "secp384r1", "X25519MLKEM768"];

/// Words for "what is good", of PgBouncer and OpenSSL.
const ALL_SUITES: [&str; 8] = ["default", "secure", "fast", "normal", "compat", "legacy", "all", "high"];

/// Which versions of TLS may be spoken; at least one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsProtocols {
    /// TLS 1.2.
    pub v12: bool,
    /// TLS 1.3.
    pub v13: bool,
    /// Older ones were named as well.
    pub old: bool,
}

impl TlsProtocols {
    /// TLS 1.2 and 1.3.
    pub const SECURE: Self = Self { v12: true, v13: true, old: false };
}

/// A choice out of a few names, in the order of preference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// As it was written.
    text: String,
    /// What it stands for, never empty.
    pub names: Vec<&'static str>,
    /// Words of it that stand for nothing that there is.
    pub left_out: Vec<String>,
}

impl Chosen {
    /// All of `names`, under the word `text`.
    pub(super) fn all(text: &str, names: &[&'static str]) -> Self {
        Self { text: text.to_owned(), names: names.to_vec(), left_out: Vec::new() }
    }
}

/// Versions of TLS.
pub(super) struct Protocols;
/// Cipher suites of TLS 1.2, in OpenSSL's language.
pub(super) struct Suites12;
/// Cipher suites of TLS 1.3.
pub(super) struct Suites13;
/// Groups for the key exchange.
pub(super) struct Groups;

impl Kind for Protocols {
    type Value = TlsProtocols;

    fn read(raw: &Raw<'_>) -> Result<TlsProtocols, ValueError> {
        let Raw::Text(text) = raw else { return Err(raw.mismatch("versions of TLS")) };
        let mut chosen = TlsProtocols { v12: false, v13: false, old: false };
        for word in words(text) {
            match word.to_ascii_lowercase().as_str() {
                "tlsv1.2" => chosen.v12 = true,
                "tlsv1.3" => chosen.v13 = true,
                "secure" | "default" | "all" | "legacy" => (chosen.v12, chosen.v13) = (true, true),
                "tlsv1.0" | "tlsv1.1" | "tlsv1" | "sslv3" | "sslv2" => chosen.old = true,
                _ => return Err(impossible(word, "the versions are tlsv1.2, tlsv1.3 and secure (both)")),
            }
        }
        match chosen {
            TlsProtocols { v12: false, v13: false, old: true } => {
                Err(impossible(text, "use tlsv1.2, tlsv1.3 or secure"))
            }
            TlsProtocols { v12: false, v13: false, old: false } => Err(raw.mismatch("versions of TLS")),
            chosen => Ok(chosen),
        }
    }

    fn show(value: &TlsProtocols) -> String {
        String::from(match (value.v12, value.v13) {
            (true, false) => "tlsv1.2",
            (false, true) => "tlsv1.3",
            _ => "secure",
        })
    }
}

impl Kind for Suites12 {
    type Value = Chosen;

    fn read(raw: &Raw<'_>) -> Result<Chosen, ValueError> {
        let Raw::Text(text) = raw else { return Err(raw.mismatch("cipher suites")) };
        let (mut names, mut left_out): (Vec<&'static str>, Vec<String>) = Default::default();
        for word in words(text) {
            if let Some(excluded) = word.strip_prefix(['!', '-']) {
                names.retain(|name| !belongs(name, excluded).unwrap_or(false));
            } else if word.eq_ignore_ascii_case("medium") || word.starts_with('+') || word == "@STRENGTH" {
                // There is nothing of medium strength, and the order of what is there is one of strength.
            } else {
                let mut known = false;
                for name in SUITES_12 {
                    let found = belongs(name, word);
                    known |= found.is_some();
                    if found == Some(true) && !names.contains(&name) {
                        names.push(name);
                    }
                }
                if !known {
                    left_out.push(word.to_owned());
                }
            }
        }
        some(
            raw,
            Chosen { text: (*text).to_owned(), names, left_out },
            &SUITES_12,
            "at least one cipher suite of TLS 1.2",
        )
    }

    fn show(value: &Chosen) -> String {
        value.text.clone()
    }
}

impl Kind for Suites13 {
    type Value = Chosen;

    fn read(raw: &Raw<'_>) -> Result<Chosen, ValueError> {
        listed(raw, &SUITES_13, |_| None)
    }

    fn show(value: &Chosen) -> String {
        value.text.clone()
    }
}

impl Kind for Groups {
    type Value = Chosen;

    fn read(raw: &Raw<'_>) -> Result<Chosen, ValueError> {
        listed(raw, &GROUPS, |word| match word {
            "p-256" | "secp256r1" => Some("prime256v1"),
            "p-384" => Some("secp384r1"),
            _ => None,
        })
    }

    fn show(value: &Chosen) -> String {
        value.text.clone()
    }
}

/// A list of names; `default` and `auto` stand for all, other spellings are `alias`'s.
fn listed(
    raw: &Raw<'_>,
    known: &[&'static str],
    alias: fn(&str) -> Option<&'static str>,
) -> Result<Chosen, ValueError> {
    let Raw::Text(text) = raw else { return Err(raw.mismatch("a list of names")) };
    let (mut names, mut left_out): (Vec<&'static str>, Vec<String>) = Default::default();
    for word in words(text) {
        let lower = word.to_ascii_lowercase();
        if matches!(lower.as_str(), "default" | "auto") {
            names.extend(known);
            continue;
        }
        let named = alias(&lower).or_else(|| known.iter().copied().find(|name| name.eq_ignore_ascii_case(word)));
        match named {
            Some(name) => names.push(name),
            None => left_out.push(word.to_owned()),
        }
    }
    let mut seen = Vec::new();
    names.retain(|name| {
        !seen.contains(name) && {
            seen.push(*name);
            true
        }
    });
    if text.trim().is_empty() {
        names.extend(known);
    }
    some(raw, Chosen { text: (*text).to_owned(), names, left_out }, known, "at least one name")
}

fn some(raw: &Raw<'_>, chosen: Chosen, known: &[&str], expected: &'static str) -> Result<Chosen, ValueError> {
    match (chosen.names.is_empty(), chosen.left_out.first()) {
        (false, _) => Ok(chosen),
        (true, Some(word)) => Err(impossible(word, &format!("there are {}", known.join(", ")))),
        (true, None) => Err(raw.mismatch(expected)),
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([':', ',', ' ']).filter(|word| !word.is_empty())
}

/// Whether the suite `name` is meant by a word of OpenSSL's cipher lists, all of whose parts must hold; `None` for a word
/// that means nothing here.
fn belongs(name: &str, word: &str) -> Option<bool> {
    let mut all = true;
    for part in word.split('+') {
        let lower = part.to_ascii_lowercase();
        all &= match lower.as_str() {
            word if ALL_SUITES.contains(&word) => true,
            "ecdhe" | "eecdh" | "kecdhe" | "keecdh" | "tlsv1.2" => true,
            "ecdsa" | "aecdsa" => name.contains("ECDSA"),
            "arsa" => name.contains("-RSA-"),
            "aes" | "aesgcm" => name.contains("AES"),
            "aes256" => name.contains("AES256"),
            "aes128" => name.contains("AES128"),
            "chacha20" => name.contains("CHACHA20"),
            _ if SUITES_12.iter().any(|known| known.eq_ignore_ascii_case(part)) => name.eq_ignore_ascii_case(part),
            _ => return None,
        };
    }
    Some(all)
}

fn impossible(found: &str, instead: &str) -> ValueError {
    ValueError::Impossible { found: found.to_owned(), instead: instead.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suites(text: &str) -> Result<Vec<&'static str>, String> {
        Suites12::read(&Raw::Text(text)).map(|chosen| chosen.names).map_err(|error| error.to_string())
    }

    #[test]
    fn cipher_lists_are_read_as_openssl_reads_them() {
        for all in ["default", "fast", "secure", "normal", "HIGH", "HIGH:MEDIUM:+3DES:!aNULL", "DEFAULT:!RC4:@STRENGTH"]
        {
            assert_eq!(suites(all).unwrap(), SUITES_12, "{all}");
        }
        assert_eq!(suites("ECDHE-RSA-AES128-GCM-SHA256").unwrap(), ["ECDHE-RSA-AES128-GCM-SHA256"]);
        assert_eq!(
            suites("ECDHE+CHACHA20:ECDHE+AES256:!aRSA").unwrap(),
            ["ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES256-GCM-SHA384"]
        );
        assert_eq!(suites("HIGH:!CHACHA20:!AES128").unwrap().len(), 2);
        let some = Suites12::read(&Raw::Text("ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-SHA:RC4-MD5")).unwrap();
        assert_eq!(some.names, ["ECDHE-RSA-AES128-GCM-SHA256"]);
        assert_eq!(some.left_out, ["DHE-RSA-AES256-SHA", "RC4-MD5"]);
        let error = suites("DHE-RSA-AES256-SHA").unwrap_err();
        assert!(error.contains("`DHE-RSA-AES256-SHA` is not possible with rustls: there are ECDHE-ECDSA"), "{error}");
        for none in ["", "MEDIUM", "HIGH:!ECDHE", "!aNULL"] {
            assert!(suites(none).unwrap_err().contains("at least one cipher suite"), "{none}: {:?}", suites(none));
        }
    }

    #[test]
    fn versions_that_are_gone_say_what_to_use() {
        let read = |text| Protocols::read(&Raw::Text(text)).map_err(|error| error.to_string());
        for both in ["secure", "all", "default", "tlsv1.2,tlsv1.3", "tlsv1.3:tlsv1.2"] {
            assert_eq!(read(both), Ok(TlsProtocols::SECURE), "{both}");
        }
        assert_eq!(read("TLSv1.3"), Ok(TlsProtocols { v12: false, v13: true, old: false }));
        assert_eq!(read("tlsv1.0,tlsv1.2"), Ok(TlsProtocols { v12: true, v13: false, old: true }));
        let error = read("tlsv1.0").unwrap_err();
        assert_eq!(error, "`tlsv1.0` is not possible with rustls: use tlsv1.2, tlsv1.3 or secure");
        assert!(read("tlsv1.4").is_err() && read("").is_err());
    }

    #[test]
    fn groups_have_openssls_names() {
        let read = |text| Groups::read(&Raw::Text(text)).map(|chosen| chosen.names).map_err(|error| error.to_string());
        assert_eq!(read("auto").unwrap(), GROUPS);
        assert_eq!(read("P-384:secp256r1,X25519").unwrap(), ["secp384r1", "prime256v1", "X25519"]);
        assert!(read("none").unwrap_err().contains("there are X25519"));
        assert_eq!(Suites13::read(&Raw::Text("")).unwrap().names, SUITES_13);
    }
}
