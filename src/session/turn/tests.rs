//! The turn machine against tables, and against a model of PostgreSQL that answers random streams of messages.

mod own;
mod repeating;

use proptest::prelude::*;

use super::*;

/// Runs a script: `>` and the types of client messages, `<` and those of PostgreSQL (`Zi`, `Zt`, `Ze` for the three
/// statuses); the turn must be finished exactly where the script has a dot.
fn run(script: &str) -> Turn {
    let mut turn = Turn::default();
    let mut to_client = false;
    for word in script.split_whitespace() {
        match word {
            ">" => to_client = false,
            "<" => to_client = true,
            "." => assert!(turn.finished(), "not finished in {script}: {turn:?}"),
            "!" => assert!(!turn.finished(), "finished in {script}: {turn:?}"),
            _ if to_client => {
                let (tag, body) = match word {
                    "Zi" => (b'Z', &b"I"[..]),
                    "Zt" => (b'Z', &b"T"[..]),
                    "Ze" => (b'Z', &b"E"[..]),
                    other => (other.as_bytes()[0], &b""[..]),
                };
                let verdict = turn.back(tag, body);
                assert!(matches!(verdict, Back::Forward | Back::Ready), "{verdict:?} for {word} in {script}: {turn:?}");
            }
            _ => assert_eq!(turn.front(word.as_bytes()[0]), Front::Forward, "{word} in {script}: {turn:?}"),
        }
    }
    turn
}

#[test]
fn scripts() {
    let scripts = [
        // Simple queries.
        "> Q ! < T D D C ! Zi .",
        "> Q < I Zi .",
        "> Q < E Zi .",
        "> Q < T D C T D C C Zi .",
        "> Q < C Zt ! > Q < T C Zt ! > Q < C Zi .",
        "> Q < C Zt ! > Q < E Ze ! > Q < C Zi .",
        "> Q Q ! < C Zi ! < C Zi .",
        "> Q < N S A C Zi . < N A S .",
        // Extended queries, with and without Sync, pipelined.
        "> P B D E S ! < 1 2 T D D C ! Zi .",
        "> P D S < 1 t n Zi .",
        "> P H ! < 1 ! > B E H < 2 C ! > S ! < Zi .",
        "> B E S B E S < 2 C Zi ! < 2 C Zi .",
        "> E S < s Zt ! > E S < C Zt ! > S < Zt ! > Q < C Zi .",
        "> C S < 3 Zi .",
        "> P B E Q < 1 2 C ! C Zi .",
        "> S < Zi .",
        // Errors in the middle.
        "> P B E S < 1 E ! Zi .",
        "> P B E S P B E S < E ! Zi ! < 1 2 C Zi .",
        "> P < E ! > B E ! > S ! < Zi .",
        "> P < E > Q ! > S < Zi .",
        "> P B < E > E S < Zi .",
        "> B E < 2 E > S < Ze ! > Q < C Zi .",
        "> S < E Zi .",
        // COPY out.
        "> Q < H d d c C Zi .",
        "> B E S < 2 H d c C Zi .",
        // COPY in, simple.
        "> Q < G ! > d d c ! < C Zi .",
        "> Q d d c ! < G C ! Zi .",
        "> Q < G > d f < E Zi .",
        "> Q < G > d < E Zi . > d c .",
        "> Q < G > d c < E Zi .",
        "> Q < G > d c < C G > d c < C Zi .",
        "> Q d c d c < G C G C Zi .",
        "> Q < G > S H d c < C Zi .",
        "> Q c < E Zi .",
        // COPY in, extended: the Sync of the first flight is read over.
        "> B E S < 2 G > d c S ! < C Zi .",
        "> B E < 2 G > d c S < C Zi .",
        "> B E S < 2 G > d < E ! > c ! > S ! < Zi .",
        "> B E S < 2 G > d f S < E ! Zi .",
        "> B E S < 2 G > d S c S < C Zi .",
        "> B E S < 2 E Zi .",
        // A Sync inside of a COPY that fails is answered where PostgreSQL has not read it before it found out.
        "> Q < G > S d S c < E Zi . Zi . Zi .",
        "> Q d S c Q < G E Zi ! Zi ! T C Zi .",
        "> Q d S c Q < G E Zi ! T C Zi .",
        "> Q d S c F < G E Zi ! Zi ! V Zi .",
        "> Q d S c B E S < G E Zi ! Zi ! 2 C Zi .",
        "> Q d S c S S < G E Zi ! Zi ! Zi . Zi .",
        "> B E < 2 G > d S c < E ! Zi .",
        "> B E < 2 G > d S c < E ! Zi . > Q < C Zi .",
        "> B E S d S c S Q < 2 G E Zi ! Zi ! Zi ! C Zi .",
        "> B E S d S c S Q < 2 G E Zi ! C Zi .",
        // FunctionCall.
        "> F < V Zi .",
        "> F < E Zi .",
        "> Q < C Zt > F < V Zt ! > Q < C Zi .",
    ];
    for script in scripts {
        run(script);
    }
}

#[test]
fn what_is_not_owed_breaks_the_connection() {
    let cases: [(&str, &[u8]); 14] = [
        ("", b"D"),
        ("", b"Z"),
        ("", b"C"),
        ("> Q < C Zi", b"T"),
        ("> P", b"2"),
        ("> P", b"Z"),
        ("> B E", b"C"),
        ("> Q", b"1"),
        ("> S", b"C"),
        ("> F", b"D"),
        ("> Q", b"W"),
        ("> P H < 1", b"1"),
        ("> Q < G", b"Z"),
        ("> B E H < 2 G", b"s"),
    ];
    for (script, tag) in cases {
        assert_eq!(run(script).back(tag[0], b"I"), Back::Broken, "{script}");
    }
    let mut turn = run("> Q");
    assert_eq!(turn.back(b'Z', b"X"), Back::Broken);
}

#[test]
fn settling_is_kept_from_the_client() {
    let mut turn = Turn::default();
    turn.settle();
    assert!(!turn.finished());
    assert_eq!(turn.front(b'Q'), Front::Forward);
    for tag in [b'C', b'S', b'N', b'T', b'D'] {
        assert_eq!(turn.back(tag, b""), Back::Swallow);
    }
    assert_eq!(turn.back(b'A', b""), Back::Forward);
    assert!(!turn.expects_rows());
    assert_eq!(turn.back(b'Z', b"I"), Back::Settled);
    assert!(turn.expects_rows());
    assert_eq!((turn.back(b'C', b""), turn.back(b'Z', b"I")), (Back::Forward, Back::Ready));
    assert!(turn.finished());

    turn.settle();
    assert_eq!(turn.back(b'E', b""), Back::SettleFailed);
}

#[test]
fn goodbye_is_never_passed_on() {
    for script in ["", "> Q", "> P < E"] {
        assert_eq!(run(script).front(b'X'), Front::Terminate);
    }
}

/// What a client of the model sends.
#[derive(Clone, Copy, Debug)]
enum Step {
    Query {
        fails: bool,
    },
    Begin,
    Commit,
    /// COPY FROM STDIN by simple query, all of its data in the same flight.
    Copy {
        fails: bool,
    },
    /// The same with a Sync between two pieces of data, of which the first or the second may be wrong.
    SyncedCopy {
        wrong: Option<bool>,
    },
    /// COPY FROM STDIN by Bind and Execute, ended and synced in the same flight.
    ExtendedCopy {
        fails: bool,
    },
    /// One of P B D E C, which may fail.
    Extended {
        tag: u8,
        fails: bool,
    },
    Flush,
    Sync,
    Function {
        fails: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let fails = || proptest::bool::weighted(0.2);
    prop_oneof![
        4 => fails().prop_map(|fails| Step::Query { fails }),
        1 => Just(Step::Begin),
        1 => Just(Step::Commit),
        1 => fails().prop_map(|fails| Step::Copy { fails }),
        1 => proptest::option::of(any::<bool>()).prop_map(|wrong| Step::SyncedCopy { wrong }),
        1 => fails().prop_map(|fails| Step::ExtendedCopy { fails }),
        8 => (proptest::sample::select(b"PBDEC".to_vec()), fails()).prop_map(|(tag, fails)| Step::Extended { tag, fails }),
        2 => Just(Step::Flush),
        4 => Just(Step::Sync),
        1 => fails().prop_map(|fails| Step::Function { fails }),
    ]
}

/// PostgreSQL as far as the order of its answers goes.
#[derive(Default)]
struct Model {
    in_block: bool,
    failed: bool,
    /// An extended query has begun an implicit transaction that a Sync or a Query will end.
    implicit: bool,
    skipping: bool,
}

impl Model {
    fn idle(&self) -> bool {
        !self.in_block && !self.implicit && !self.skipping
    }

    fn ready(&mut self, out: &mut Vec<&'static str>) {
        self.implicit = false;
        out.push(match (self.in_block, self.failed) {
            (false, _) => "Zi",
            (true, false) => "Zt",
            (true, true) => "Ze",
        });
    }

    fn error(&mut self, out: &mut Vec<&'static str>) {
        self.failed = self.in_block;
        out.push("E");
    }

    fn synced_copy(&mut self, wrong: Option<bool>, out: &mut Vec<&'static str>) {
        let refused = self.failed;
        if !refused {
            out.push("G");
        }
        match wrong {
            None if !refused => out.push("C"),
            _ => self.error(out),
        }
        self.ready(out);
        if refused || wrong == Some(false) {
            // The Sync comes behind what was wrong.
            self.ready(out);
        }
    }

    fn extended_copy(&mut self, fails: bool, out: &mut Vec<&'static str>) {
        match (self.failed, fails) {
            // Bind fails, or the COPY after it has begun.
            (true, _) => self.error(out),
            (false, true) => {
                out.extend(["2", "G"]);
                self.error(out);
            }
            (false, false) => out.extend(["2", "G", "C"]),
        }
        self.ready(out);
    }

    /// The client's message types for a step, and the answers.
    fn answer(&mut self, step: Step) -> (Vec<u8>, Vec<&'static str>) {
        let mut out = Vec::new();
        let sent = match step {
            Step::Query { .. } | Step::Begin | Step::Commit => vec![b'Q'],
            Step::Copy { .. } => b"Qddc".to_vec(),
            Step::SyncedCopy { .. } => b"QdSdc".to_vec(),
            Step::ExtendedCopy { .. } => b"BEddcS".to_vec(),
            Step::Extended { tag, .. } => vec![tag],
            Step::Flush => vec![b'H'],
            Step::Sync => vec![b'S'],
            Step::Function { .. } => vec![b'F'],
        };
        if self.skipping {
            if sent.contains(&b'S') {
                self.skipping = false;
                self.ready(&mut out);
            }
            return (sent, out);
        }
        match step {
            Step::Query { fails } | Step::Function { fails } | Step::Copy { fails } if fails || self.failed => {
                let _ = fails;
                self.error(&mut out);
                self.ready(&mut out);
            }
            Step::Query { .. } => {
                out.extend(["T", "D", "C"]);
                self.ready(&mut out);
            }
            Step::Function { .. } => {
                out.push("V");
                self.ready(&mut out);
            }
            Step::Copy { .. } => {
                out.extend(["G", "C"]);
                self.ready(&mut out);
            }
            Step::SyncedCopy { wrong } => self.synced_copy(wrong, &mut out),
            Step::Begin => {
                out.push("C");
                self.in_block = true;
                self.ready(&mut out);
            }
            Step::Commit => {
                out.push("C");
                (self.in_block, self.failed) = (false, false);
                self.ready(&mut out);
            }
            Step::ExtendedCopy { fails } => self.extended_copy(fails, &mut out),
            Step::Extended { fails, .. } if fails || self.failed => {
                self.error(&mut out);
                self.skipping = true;
            }
            Step::Extended { tag, .. } => {
                self.implicit = true;
                out.push(match tag {
                    b'P' => "1",
                    b'B' => "2",
                    b'D' => "n",
                    b'C' => "3",
                    _ => "C",
                });
            }
            Step::Flush => {}
            Step::Sync => self.ready(&mut out),
        }
        (sent, out)
    }
}

#[test]
fn a_request_within_a_copy_that_failed_leaves_a_doubt() {
    for (script, doubtful) in [
        ("> Q < G > d < E Zi .", false),
        ("> Q d c Q < G E Zi C Zi .", false),
        ("> Q d S c < G C Zi .", false),
        ("> Q d S c < G E Zi .", false),
        ("> Q d Q < G E Zi .", true),
        ("> P B E d c S < 1 2 G E Zi .", false),
        ("> P B E S < 1 2 G > d < E > c S < Zi .", false),
        ("> P B E d S c S < 1 2 G E Zi .", false),
    ] {
        assert_eq!(run(script).doubtful(), doubtful, "{script}");
    }
}

#[test]
fn a_turn_that_cannot_end_without_the_client_says_so() {
    for (script, needs) in [
        ("", true),
        ("> Q", false),
        ("> Q < C Zt", true),
        ("> F", false),
        ("> P B E", true),
        ("> P H < 1", true),
        ("> P B E S", false),
        ("> P B E S P", false),
        ("> P B E S P < 1 2 C Zi", true),
        ("> P H < E", true),
        ("> P H < E > S", false),
        ("> Q < G", true),
        ("> Q < G > d", true),
        ("> Q < G > d c", false),
        ("> Q d c < G", false),
        ("> Q < G > f < E", false),
    ] {
        assert_eq!(run(script).needs_client(), needs, "{script}");
    }
}

#[test]
fn a_request_begins_a_transaction_only_where_nothing_ran_since_the_last_one() {
    for (script, rests) in [
        ("", true),
        ("> P", true),
        ("> P H < 1", true),
        ("> B E", false),
        ("> B E H < 2", false),
        ("> B E H < 2 C", false),
        ("> B E S < 2 C Zi", true),
        ("> B E S < 2 C Zi > P", true),
        ("> Q < C Zt", false),
        ("> Q < C Zi > P H < 1", true),
        ("> Q S < C Zi", false),
    ] {
        assert_eq!(run(script).is_at_rest(), rests, "{script}");
    }
}

proptest! {
    /// However far PostgreSQL lags behind the client, each of its answers is expected, and the turn is finished exactly
    /// when PostgreSQL is idle and has answered everything.
    #[test]
    fn the_turn_agrees_with_the_model(steps in proptest::collection::vec((step(), 0usize..4), 1..60)) {
        let mut model = Model::default();
        let mut turn = Turn::default();
        // Answers that are on their way, with the model's idleness after each step.
        let mut underway: std::collections::VecDeque<(&'static str, Option<bool>)> = Default::default();
        let deliver = |turn: &mut Turn, underway: &mut std::collections::VecDeque<(&'static str, Option<bool>)>| {
            let Some((word, idle)) = underway.pop_front() else { return Ok(()) };
            let body = match word { "Zi" => &b"I"[..], "Zt" => b"T", "Ze" => b"E", _ => b"" };
            let verdict = turn.back(word.as_bytes()[0], body);
            prop_assert!(matches!(verdict, Back::Forward | Back::Ready), "{:?} for {}: {:?}", verdict, word, turn);
            if underway.is_empty() {
                prop_assert_eq!(turn.finished(), idle == Some(true), "{:?}", turn);
            }
            Ok(())
        };
        for (step, lag) in steps {
            let (sent, answers) = model.answer(step);
            for tag in sent {
                prop_assert_eq!(turn.front(tag), Front::Forward, "{:?}", turn);
            }
            prop_assert!(answers.is_empty() || !turn.finished());
            let last = answers.len();
            for (index, word) in answers.into_iter().enumerate() {
                underway.push_back((word, (index + 1 == last).then(|| model.idle())));
            }
            while underway.len() > lag * 3 {
                deliver(&mut turn, &mut underway)?;
            }
        }
        while !underway.is_empty() {
            deliver(&mut turn, &mut underway)?;
        }
        prop_assert_eq!(turn.finished(), model.idle());
    }
}
