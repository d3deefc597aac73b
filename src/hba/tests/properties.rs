//! Whatever is written, reading ends with rules or with mistakes; and what is printed reads back.

use proptest::prelude::*;

use super::{faults, maps, rules};
use crate::hba::{Channel, Decision, Facts, Surroundings};

/// Pieces of lines, so that more than the first column is reached.
fn pieces() -> impl Strategy<Value = String> {
    let words = proptest::sample::select(vec![
        "local",
        "host",
        "hostssl",
        "hostnossl",
        "all",
        "sameuser",
        "replication",
        "samerole",
        "a",
        "\"b c\"",
        "\"",
        "\"\"",
        "/^x",
        "/(",
        "@f",
        "+g",
        "+\"g h\"",
        "10.0.0.0/8",
        "10.0.0.1",
        "255.0.0.0",
        "::1/128",
        "fe80::%1",
        ".x.y",
        "x.y",
        "samehost",
        "samenet",
        "trust",
        "reject",
        "md5",
        "peer",
        "cert",
        "map=m",
        "clientcert=verify-ca",
        "include",
        ",",
        "#",
        "\\",
        "\n",
        "\t",
        "\\1",
        "=",
        "\r\n",
        "ü",
    ]);
    let word = prop_oneof![8 => words.prop_map(str::to_owned), 1 => "\\PC{0,3}"];
    proptest::collection::vec((word, prop_oneof![4 => Just(" "), 1 => Just(""), 1 => Just("\n")]), 0..24)
        .prop_map(|words| words.into_iter().map(|(word, blank)| word + blank).collect())
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(?s).{0,200}") {
        let _ = (rules(&text), maps(&text));
    }

    #[test]
    fn pieces_are_read_or_refused_with_their_lines(text in pieces()) {
        let lines = text.split('\n').count();
        if let Err(faults) = rules(&text) {
            prop_assert!(!faults.is_empty());
            prop_assert!(faults.iter().all(|fault| fault.line.is_none_or(|line| (1..=lines).contains(&line))));
        }
        let _ = maps(&text);
    }

    #[test]
    fn rules_are_printed_and_read_again(text in pieces()) {
        // Line by line, since most texts have a bad one.
        for line in text.lines() {
            for rule in rules(line).map(|rules| rules.0).unwrap_or_default() {
                let printed = rule.to_string();
                let again = rules(&printed);
                prop_assert!(again.is_ok(), "{printed}: {:?}", faults(again));
                prop_assert!(again.unwrap().0[0].says(&rule), "{printed}");
            }
            for mapping in maps(line).map(|maps| maps.0).unwrap_or_default() {
                prop_assert_eq!(&maps(&mapping.to_string()).unwrap().0[0], &mapping);
            }
        }
    }

    #[test]
    fn a_quoted_name_is_that_name_and_nothing_else(name in "[^\0\r\n\\\\/]{1,20}", other in "[^\0\r\n]{1,5}") {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        let rules = rules(&format!("local {quoted} {quoted} trust")).unwrap();
        let fits = |database: &str, user: &str| {
            let channel = Channel::Local { peer_uid: None };
            let facts = Facts { channel: &channel, databases: &[database], user, replication: false };
            matches!(rules.decide(&facts, &Surroundings::default()), Decision::Rule(_))
        };
        prop_assert!(fits(&name, &name));
        prop_assert_eq!(fits(&other, &name), other == name);
        prop_assert_eq!(fits(&name, &other), other == name);
    }
}
