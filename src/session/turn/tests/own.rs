//! Requests of the pooler's own, answers that it gives itself, and requests that it refuses, between those of a client:
//! against a model of PostgreSQL that knows whose each request is.

use proptest::prelude::*;

use super::super::*;

/// What comes for one request of the client.
#[derive(Clone, Debug)]
enum Asked {
    /// P, B, D, E or C, behind so many requests of our own; whether each fails.
    Extended {
        tag: u8,
        own: Vec<(Own, bool)>,
        fails: bool,
    },
    /// Parse or Close that is answered here, a Parse perhaps behind one of our own.
    Made {
        made: Made,
        own: Option<bool>,
    },
    Query {
        ends: Ends,
    },
    /// A Query that needs something: by a Query of our own, or else by a Parse with a Sync.
    Needing {
        by_query: bool,
        own_fails: bool,
        ends: Ends,
    },
    RefusedParse,
    RefusedQuery,
    Sync,
    Flush,
}

/// What becomes of a Query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Well,
    /// Behind the rows of another statement.
    Badly,
    InBlock,
    OutOfBlock,
}

#[test]
fn an_error_at_a_sync_of_our_own_leaves_its_ready_for_query_owed() {
    let mut turn = Turn::default();
    turn.own(Own::Parse, None);
    turn.own(Own::Sync, None);
    assert_eq!(turn.front(b'Q'), Front::Forward);
    assert_eq!(turn.back(b'1', b""), Back::Swallow);
    assert_eq!(turn.back(b'E', b""), Back::OwnFailed);
    assert_eq!(turn.back(b'Z', b"I"), Back::Swallow);
    assert!(!turn.finished(), "the Query is not answered");
    assert_eq!((turn.back(b'C', b""), turn.back(b'Z', b"I")), (Back::Forward, Back::Ready));
    assert!(turn.finished());
}

#[test]
fn what_was_to_be_refused_within_a_copy_that_failed_is_forgotten() {
    let mut turn = Turn::default();
    assert_eq!(turn.front(b'Q'), Front::Forward);
    turn.refuse_query(vec![1]);
    assert_eq!((turn.back(b'G', b""), turn.back(b'E', b"")), (Back::Forward, Back::Forward));
    assert_eq!(turn.back(b'Z', b"I"), Back::Ready);
    turn.refuse_query(vec![2]);
    assert_eq!(turn.back(b'E', b""), Back::Replace);
    assert_eq!(turn.take_report(), [2]);
}

fn asked() -> impl Strategy<Value = Asked> {
    let fails = || proptest::bool::weighted(0.15);
    let own = prop_oneof![Just(Own::Parse), Just(Own::Close), Just(Own::Bind), Just(Own::Execute), Just(Own::Describe)];
    let owns = || proptest::collection::vec((own.clone(), fails()), 0..4);
    let made = prop_oneof![
        Just(Made::CloseComplete).prop_map(|made| (made, None)),
        proptest::option::of(fails()).prop_map(|own| (Made::ParseComplete, own)),
    ];
    let ends = || prop_oneof![4 => Just(Ends::Well), 2 => Just(Ends::Badly), 1 => Just(Ends::InBlock), 1 => Just(Ends::OutOfBlock)];
    prop_oneof![
        8 => (proptest::sample::select(b"PBDEC".to_vec()), owns(), fails())
            .prop_map(|(tag, own, fails)| Asked::Extended { tag, own, fails }),
        4 => made.prop_map(|(made, own)| Asked::Made { made, own }),
        2 => ends().prop_map(|ends| Asked::Query { ends }),
        3 => (any::<bool>(), proptest::bool::weighted(0.4), ends())
            .prop_map(|(by_query, own_fails, ends)| Asked::Needing { by_query, own_fails, ends }),
        1 => Just(Asked::RefusedParse),
        1 => Just(Asked::RefusedQuery),
        5 => Just(Asked::Sync),
        1 => Just(Asked::Flush),
    ]
}

/// A message on its way to the client, and the number of the request that it is about.
#[derive(Debug)]
struct Said {
    request: usize,
    tag: u8,
    body: &'static [u8],
}

/// PostgreSQL, and what the client has to see.
#[derive(Default)]
struct Model {
    in_block: bool,
    failed: bool,
    implicit: bool,
    skipping: bool,
    underway: VecDeque<Said>,
    /// What the client has to see: the requests' numbers and the types of the answers.
    wanted: Vec<(usize, u8)>,
    /// Requests that are not carried out although they were noted, and whether they failed by themselves.
    undone: Vec<(u64, bool)>,
}

impl Model {
    fn idle(&self) -> bool {
        !self.in_block && !self.implicit && !self.skipping
    }

    fn say(&mut self, request: usize, tag: u8, shown: bool) {
        let body: &[u8] = match (tag, self.in_block, self.failed) {
            (b'Z', false, _) => b"I",
            (b'Z', true, false) => b"T",
            (b'Z', true, true) => b"E",
            _ => b"",
        };
        self.underway.push_back(Said { request, tag, body });
        if shown {
            self.wanted.push((request, tag));
        }
    }

    fn ready(&mut self, request: usize, shown: bool) {
        self.implicit = false;
        self.say(request, b'Z', shown);
    }

    /// A request of the extended protocol. `shown`: whether its answer is, and whether its error is.
    fn extended(&mut self, (request, undo): (usize, u64), answer: u8, fails: bool, shown: (bool, bool)) {
        if self.skipping {
            self.undone.push((undo, false));
        } else if fails || self.failed {
            self.undone.push((undo, true));
            self.failed = self.in_block;
            self.skipping = true;
            self.say(request, b'E', shown.1);
        } else {
            self.implicit = true;
            self.say(request, answer, shown.0);
        }
    }

    /// `failed`: a request of our own that was in its place.
    fn made(&mut self, request: usize, made: Made, failed: bool, undo: u64) {
        if self.skipping {
            self.undone.push((undo, failed));
        } else {
            self.implicit = true;
            self.wanted.push((request, made.message()[0]));
        }
    }

    fn query(&mut self, request: usize, ends: Ends, shown: bool, undo: u64) {
        if self.skipping {
            return self.undone.push((undo, false));
        }
        let fails = (self.failed && ends != Ends::OutOfBlock) || ends == Ends::Badly;
        if !self.failed && shown {
            b"TDC".iter().for_each(|tag| self.say(request, *tag, shown));
        } else if !fails {
            self.say(request, b'C', shown);
        }
        if fails {
            self.undone.push((undo, true));
            self.failed = self.in_block;
            self.say(request, b'E', shown);
        } else if matches!(ends, Ends::InBlock | Ends::OutOfBlock) {
            (self.in_block, self.failed) = (ends == Ends::InBlock, false);
        }
        self.ready(request, shown);
    }

    fn sync(&mut self, request: usize, shown: bool) {
        self.skipping = false;
        self.ready(request, shown);
    }
}

/// The turn between the two.
#[derive(Default)]
struct Between {
    turn: Turn,
    model: Model,
    /// What the client has seen; answers of the pooler's own have no number.
    seen: Vec<(Option<usize>, u8)>,
    undone: Vec<(u64, bool)>,
    last_undo: u64,
}

fn report(request: usize) -> Vec<u8> {
    request.to_string().into_bytes()
}

impl Between {
    /// What to take back, with a number of its own.
    fn step(&mut self) -> (Box<Step>, u64) {
        self.last_undo += 1;
        (Box::new(Step::Sent(self.last_undo)), self.last_undo)
    }

    fn own(&mut self, request: usize, (own, fails): (Own, bool), shows_error: bool) {
        let (step, undo) = self.step();
        let answer = match own {
            Own::Parse => b'1',
            Own::Bind => b'2',
            Own::Close => b'3',
            Own::Describe => b'n',
            Own::Execute | Own::Query | Own::Sync | Own::Probe => b'C',
        };
        self.turn.own(own, Some(step));
        self.model.extended((request, undo), answer, fails, (false, shows_error));
    }

    fn ask(&mut self, request: usize, asked: &Asked) -> Result<(), TestCaseError> {
        if let Asked::Needing { .. } = asked {
            // A Sync of our own must not end what PostgreSQL is skipping.
            while self.turn.may_skip() {
                self.deliver()?;
            }
        }
        if self.turn.skips() {
            self.pass_over(request, asked);
            return Ok(());
        }
        match asked {
            Asked::Extended { tag, own, fails } => {
                let skipping = self.model.skipping;
                own.iter().for_each(|own| self.own(request, *own, true));
                let (step, undo) = self.step();
                let (owed, answer) = match tag {
                    b'P' => (Owed::Parse, b'1'),
                    b'B' => (Owed::Bind, b'2'),
                    b'D' => (Owed::Describe, b'n'),
                    b'E' => (Owed::Execute, b'C'),
                    _ => (Owed::Close, b'3'),
                };
                self.turn.push(owed, Some(step), About::default());
                if owed == Owed::Parse && self.model.skipping && !skipping {
                    // A Parse fails with what was sent for it.
                    self.model.undone.push((undo, true));
                } else {
                    self.model.extended((request, undo), answer, *fails, (true, true));
                }
            }
            Asked::Made { made, own } => {
                let skipping = self.model.skipping;
                own.iter().for_each(|fails| self.own(request, (Own::Parse, *fails), true));
                let (step, undo) = self.step();
                self.turn.make(*made, Some(step));
                self.model.made(request, *made, !skipping, undo);
            }
            Asked::Query { ends } => self.query(request, *ends),
            Asked::Needing { by_query, own_fails, ends } => {
                let within = self.turn.is_within_batch();
                prop_assert!(within || !self.model.skipping, "it would end what is skipped: {:?}", self.turn);
                if *by_query && !within {
                    let (step, undo) = self.step();
                    self.turn.own(Own::Query, Some(step));
                    self.model.query(request, if *own_fails { Ends::Badly } else { Ends::Well }, false, undo);
                } else {
                    self.own(request, (Own::Parse, *own_fails), within);
                }
                if !*by_query && !within {
                    self.turn.own(Own::Sync, None);
                    self.model.sync(request, false);
                }
                self.query(request, *ends);
            }
            Asked::RefusedParse => {
                self.turn.refuse_parse(report(request));
                self.model.extended((request, 0), b'1', true, (true, true));
            }
            Asked::RefusedQuery => {
                self.turn.refuse_query(report(request));
                if !self.model.skipping {
                    self.model.failed = self.model.in_block;
                    self.model.say(request, b'E', true);
                    self.model.ready(request, true);
                }
            }
            Asked::Sync => {
                self.turn.front(b'S');
                self.model.sync(request, true);
            }
            Asked::Flush => drop(self.turn.front(b'H')),
        }
        self.take_made();
        self.check()
    }

    fn query(&mut self, request: usize, ends: Ends) {
        let (step, undo) = self.step();
        self.turn.query(VecDeque::from([*step]), None);
        self.model.query(request, ends, true, undo);
    }

    /// PostgreSQL is known to skip this, so that nothing is noted.
    fn pass_over(&mut self, request: usize, asked: &Asked) {
        let tag = match asked {
            Asked::Extended { tag, .. } => *tag,
            Asked::Made { made: Made::ParseComplete, .. } | Asked::RefusedParse => b'P',
            Asked::Made { made: Made::CloseComplete, .. } => b'C',
            Asked::Query { .. } | Asked::Needing { .. } | Asked::RefusedQuery => b'Q',
            Asked::Sync => b'S',
            Asked::Flush => b'H',
        };
        assert!(self.model.skipping);
        self.turn.front(tag);
        if tag == b'S' {
            self.model.sync(request, true);
        }
    }

    /// One message of PostgreSQL.
    fn deliver(&mut self) -> Result<(), TestCaseError> {
        let Some(Said { request, tag, body }) = self.model.underway.pop_front() else {
            return Err(TestCaseError::fail(format!("nothing comes: {:?}", self.turn)));
        };
        match self.turn.back(tag, body) {
            Back::Forward | Back::Ready => self.seen.push((Some(request), tag)),
            Back::Swallow => {}
            Back::OwnFailed => self.turn.blame_next(report(request)),
            Back::Replace | Back::Blame => {
                prop_assert_eq!(self.turn.take_report(), report(request));
                self.seen.push((Some(request), tag));
            }
            verdict @ (Back::Settled | Back::SettleFailed | Back::Broken) => {
                prop_assert!(false, "{:?} for {} of {}: {:?}", verdict, tag as char, request, self.turn);
            }
        }
        self.take_made();
        self.check()
    }

    fn take_made(&mut self) {
        while let Some(made) = self.turn.next_made() {
            self.seen.push((None, made.message()[0]));
        }
        for (step, failed) in self.turn.take_undone() {
            let Step::Sent(undo) = *step else { panic!("a step of somebody else's") };
            self.undone.push((undo, failed));
        }
    }

    /// The client has seen the beginning of what it has to see, and the backend is released only when nothing is to come.
    fn check(&self) -> Result<(), TestCaseError> {
        prop_assert!(self.seen.len() <= self.model.wanted.len());
        for (seen, wanted) in self.seen.iter().zip(&self.model.wanted) {
            prop_assert!(seen.1 == wanted.1 && seen.0.is_none_or(|request| request == wanted.0), "{:?}", self.seen);
        }
        let over = self.model.underway.is_empty();
        prop_assert_eq!(self.turn.finished(), over && self.model.idle(), "{:?}", self.turn);
        if over {
            prop_assert_eq!(self.seen.len(), self.model.wanted.len(), "{:?}", self.turn);
        }
        Ok(())
    }
}

proptest! {
    /// The client sees exactly the answers to its own requests, in their order, and none to one of ours, but for the
    /// error that stands for its request. What is not carried out is taken back, and nothing else.
    #[test]
    fn the_client_sees_the_answers_to_its_own_requests(
        all in proptest::collection::vec((asked(), 0..24_usize), 1..60),
    ) {
        let mut between = Between::default();
        for (request, (asked, lag)) in all.iter().enumerate() {
            between.ask(request, asked)?;
            while between.model.underway.len() > *lag {
                between.deliver()?;
            }
        }
        // Whatever is open ends.
        between.ask(all.len(), &Asked::Sync)?;
        between.ask(all.len() + 1, &Asked::Query { ends: Ends::OutOfBlock })?;
        while !between.model.underway.is_empty() {
            between.deliver()?;
        }
        prop_assert!(between.turn.finished() && !between.turn.doubtful());
        let (sent, over) = between.turn.batches();
        prop_assert_eq!(sent, over);
        let [mut undone, mut wanted] = [between.undone, between.model.undone];
        wanted.retain(|(undo, _)| *undo > 0);
        undone.sort_unstable();
        wanted.sort_unstable();
        prop_assert_eq!(undone, wanted);
    }
}
