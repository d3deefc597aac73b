//! What holds for any text.

use proptest::prelude::*;

use crate::sql::{Act, Characters, Dialect, Reading, Script, fuzz, read};

/// Pieces of which texts are made that come close to being SQL.
const PIECES: &[&str] = &[
    "SET",
    "set",
    "LOCAL",
    "SESSION",
    "RESET",
    "x",
    "app.y",
    "=",
    "TO",
    "1",
    "DEFAULT",
    "ALL",
    "'",
    "''",
    "\\",
    "\\'",
    "\"",
    "\"\"",
    "$",
    "$$",
    "$a$",
    "$1",
    "E'",
    "U&'",
    "U&\"",
    "B'",
    "N'",
    "--",
    "-",
    "/",
    "*",
    "/*",
    "*/",
    "\n",
    "\r",
    " ",
    ";",
    "(",
    ")",
    ",",
    ".",
    "::",
    "set_config",
    "pg_advisory_lock",
    "PREPARE",
    "p",
    "AS",
    "EXECUTE",
    "DO",
    "CREATE",
    "TEMP",
    "TABLE",
    "INTO",
    "SELECT",
    "DISCARD",
    "LISTEN",
    "DECLARE",
    "WITH",
    "HOLD",
    "FOR",
    "true",
    "false",
    "TIME",
    "ZONE",
    "ROLE",
    "TRANSACTION",
    "é",
    "\u{95}",
    "\0",
    "e",
    "u&",
    "UESCAPE",
    "ON",
    "COMMIT",
    "DROP",
    "pg_temp",
    "search_path",
    "EXPLAIN",
    "DEALLOCATE",
    "UPDATE",
    "pg_settings",
    "#",
    "@>",
];

/// Statements with acts, written plainly.
const ACTS: &[&str] = &[
    "SET x = 1",
    "RESET ALL",
    "SET SESSION AUTHORIZATION bob",
    "SELECT set_config($1, $2, false)",
    "PREPARE p (int) AS SELECT $1",
    "EXPLAIN (ANALYZE) EXECUTE p(1)",
    "DEALLOCATE ALL",
    "DISCARD ALL",
    "LISTEN c",
    "UNLISTEN *",
    "SELECT pg_advisory_lock(1)",
    "CREATE TEMP TABLE t (a int)",
    "SELECT 1 INTO TEMP t",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "LOAD $$x$$",
    "DROP TABLE t",
    "CALL p()",
];

fn dialects() -> impl Strategy<Value = Dialect> {
    let characters = prop_oneof![Just(Characters::Plain), Just(Characters::Pairs), Just(Characters::ShiftJis)];
    (any::<bool>(), characters).prop_map(|(standard_strings, characters)| Dialect { standard_strings, characters })
}

fn texts() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        9 => prop::sample::select(PIECES).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..4),
    ];
    let spaced = (piece, any::<bool>()).prop_map(|(mut piece, space)| {
        if space {
            piece.push(b' ');
        }
        piece
    });
    prop::collection::vec(spaced, 0..40).prop_map(|pieces| pieces.concat())
}

fn in_pieces(text: &[u8], cuts: &[usize], dialect: Dialect) -> Script {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).chain([0, text.len()]).collect();
    cuts.sort_unstable();
    let mut reading = Reading::new(dialect);
    cuts.windows(2).for_each(|pair| reading.feed(&text[pair[0]..pair[1]]));
    reading.finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_division_gives_the_same(
        text in texts(),
        cuts in prop::collection::vec(any::<usize>(), 0..8),
        dialect in dialects(),
    ) {
        let whole = read(&text, dialect);
        prop_assert_eq!(&whole, &in_pieces(&text, &cuts, dialect));
        let every: Vec<usize> = (0..text.len()).collect();
        prop_assert_eq!(&whole, &in_pieces(&text, &every, dialect));
    }

    #[test]
    fn any_bytes_do(data in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz(&data);
    }

    #[test]
    fn nothing_in_quotes_is_an_act(inside in prop::sample::select(ACTS), quoting in 0..8_u8, tail in prop::sample::select(ACTS)) {
        let quoted = match quoting {
            0 => format!("'; {inside}; '"),
            1 => format!("E'\\'; {inside}; \\\\'"),
            2 => format!("$q$; {inside}; $q$"),
            3 => format!("1 AS \"; {inside}; \"\"\""),
            4 => format!("1 /* /* */; {inside}; */"),
            5 => format!("1 -- ; {inside};\n"),
            6 => format!("'a' -- c\n '; {inside}; '''"),
            _ => format!("U&'; {inside};'"),
        };
        let acts = read(format!("SELECT {quoted}").as_bytes(), Dialect::default()).acts;
        prop_assert_eq!(acts, []);
        let behind = read(format!("SELECT {quoted}; {tail}").as_bytes(), Dialect::default());
        prop_assert_eq!(behind.statements, 2);
        prop_assert_eq!(kinds(&behind), kinds(&read(tail.as_bytes(), Dialect::default())));
    }

    #[test]
    fn space_and_comments_change_nothing(
        text in prop::sample::select(ACTS),
        between in prop::sample::select(vec!["\n", "/* ; */", "-- '\n", "\t \r", "/*/**/*/"]),
    ) {
        let spaced = format!("{between}{}{between}", text.replace(' ', between));
        prop_assert_eq!(kinds(&read(text.as_bytes(), Dialect::default())), kinds(&read(spaced.as_bytes(), Dialect::default())));
    }

    #[test]
    fn case_changes_nothing(text in prop::sample::select(ACTS), flips in prop::collection::vec(any::<bool>(), 64)) {
        let other: String = text.chars().zip(flips.iter().cycle()).map(|(letter, flip)| {
            if *flip { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() }
        }).collect();
        prop_assert_eq!(read(text.as_bytes(), Dialect::default()), read(other.as_bytes(), Dialect::default()));
    }
}

/// The acts without the places where they were found.
fn kinds(script: &Script) -> Vec<String> {
    let named = |verb: &str, name: &[u8]| format!("{verb} {name:?}");
    let kind = |act: &Act| match act {
        Act::Prepare { name, .. } => named("prepare", &name.text),
        Act::Execute(name) => named("execute", &name.text),
        Act::Deallocate(name) => named("deallocate", &name.text),
        other => format!("{other:?}"),
    };
    script.acts.iter().map(kind).collect()
}
