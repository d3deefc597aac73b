//! Fuzz target: the turn between a client and a PostgreSQL that both send what they like.
//!
//! A record of what was sent is kept beside it, the simplest there is: requests in their order, each of which an answer
//! strikes off. It knows nothing of COPY FROM STDIN, and is not asked any more once one has begun.

use std::collections::VecDeque;

use super::{About, Back, MOST_OWED, Made, Own, Step, Turn};
use crate::wire::tag::{back, front};
use crate::wire::view::Status;

/// A request that is not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// One of the extended protocol, by its type.
    Extended(u8),
    /// What a ReadyForQuery answers, and an error does not skip.
    Sync,
    /// What a ReadyForQuery answers.
    Query,
    /// One that is answered without PostgreSQL.
    Made,
}

/// All of them.
#[derive(Debug, Default)]
struct Record {
    sent: VecDeque<Sent>,
    /// After an error no request counts before a Sync.
    skips: bool,
    in_block: bool,
    /// A COPY has begun: nothing is known any more.
    lost: bool,
}

impl Record {
    fn send(&mut self, sent: Sent) {
        if sent == Sent::Sync {
            self.skips = false;
        }
        if !self.skips {
            self.sent.push_back(sent);
        }
    }

    fn front(&mut self, tag: u8) {
        match tag {
            front::SYNC => self.send(Sent::Sync),
            front::QUERY | front::FUNCTION_CALL => self.send(Sent::Query),
            front::PARSE | front::BIND | front::DESCRIBE | front::EXECUTE | front::CLOSE => {
                self.send(Sent::Extended(tag));
            }
            _ => {}
        }
    }

    fn back(&mut self, tag: u8, body: &[u8]) {
        self.lost |= tag == back::COPY_IN;
        let Some(&head) = self.sent.front() else {
            assert!(self.lost || tag != back::READY, "a ReadyForQuery that nothing asked for");
            return;
        };
        let answered = match (head, tag) {
            (Sent::Sync | Sent::Query, back::READY) => {
                self.in_block = body != b"I";
                true
            }
            (Sent::Extended(_), back::ERROR) => {
                while self.sent.front().is_some_and(|sent| *sent != Sent::Sync) {
                    self.sent.pop_front();
                }
                self.skips = self.sent.is_empty();
                false
            }
            (Sent::Extended(front::PARSE), back::PARSE_COMPLETE)
            | (Sent::Extended(front::BIND), back::BIND_COMPLETE)
            | (Sent::Extended(front::CLOSE), back::CLOSE_COMPLETE)
            | (Sent::Extended(front::DESCRIBE), back::NO_DATA | back::ROW_DESCRIPTION)
            | (Sent::Extended(front::EXECUTE), back::COMMAND_COMPLETE | back::EMPTY_QUERY | back::PORTAL_SUSPENDED) => {
                true
            }
            _ => false,
        };
        if answered {
            self.sent.pop_front();
        }
    }
}

/// The run: the turn, the record, and what may be taken back.
#[derive(Debug, Default)]
struct Run {
    turn: Turn,
    record: Record,
    given: u64,
    taken: u64,
}

const FRONT: &[u8; 12] = b"QPBDECSFHdcf";
const BACK: &[u8; 20] = b"123CDEGHIKNSTVWZcnst";
const OWN: [Own; 7] = [Own::Parse, Own::Bind, Own::Execute, Own::Close, Own::Query, Own::Sync, Own::Describe];

/// Two bytes are one step: what happens, and its detail. The turn is never finished while an answer is owed, holds no
/// more than what is owed, and takes nothing back twice.
///
/// # Panics
/// Where that is not so.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let mut run = Run::default();
    let (steps, _) = data.as_chunks::<2>();
    for &[what, detail] in steps {
        if !run.step(what, detail) {
            return;
        }
        run.check();
    }
    run.turn.reset();
    assert!(run.turn.finished() && !run.turn.has_undone() && run.turn.reports.is_empty());
}

fn pick<T: Copy>(from: &[T], by: u8) -> Option<T> {
    from.get(usize::from(by) % from.len()).copied()
}

impl Run {
    /// Answers whether it goes on.
    fn step(&mut self, what: u8, detail: u8) -> bool {
        let asks = !self.turn.is_full() && !self.turn.is_settling();
        let enters = asks && self.turn.takes_requests();
        match what % 8 {
            0 | 1 if asks => {
                let tag = pick(FRONT, detail).unwrap_or_default();
                self.turn.front(tag);
                self.record.front(tag);
            }
            2 if enters => self.ask(detail),
            3 if enters => self.own(detail),
            4 => return self.back(detail, b"I"),
            5 => return self.back(detail, if what & 8 == 0 { b"T" } else { b"E" }),
            6 => {
                // What would be the right answer, so that long runs are reached.
                let tag = match self.record.sent.front() {
                    Some(Sent::Sync | Sent::Query) => back::READY,
                    Some(Sent::Extended(front::PARSE)) => back::PARSE_COMPLETE,
                    Some(Sent::Extended(front::BIND)) => back::BIND_COMPLETE,
                    Some(Sent::Extended(front::CLOSE)) => back::CLOSE_COMPLETE,
                    Some(Sent::Extended(front::DESCRIBE)) => back::NO_DATA,
                    Some(Sent::Extended(_)) => back::COMMAND_COMPLETE,
                    Some(Sent::Made) | None => back::NOTICE,
                };
                let tag = if detail & 7 == 0 && tag != back::NOTICE { back::ERROR } else { tag };
                return self.answer(tag, b"I");
            }
            _ if self.turn.needs_probe() => {
                self.turn.own(Own::Probe, None);
                self.turn.own(Own::Sync, None);
            }
            _ => {}
        }
        true
    }

    fn undo(&mut self) -> Option<Box<Step>> {
        self.given += 1;
        Some(Box::new(Step::Sent(self.given)))
    }

    /// A request of the client's that is entered with what is known of it.
    fn ask(&mut self, detail: u8) {
        let undo = self.undo();
        match detail % 8 {
            0 => self.turn.parse(undo),
            1 => self.turn.execute(undo),
            2 => self.turn.bind(About { statement: u64::from(detail), since: 1, name: 1 }),
            3 => self.turn.describe(About { statement: u64::from(detail), since: 1, name: 1 }),
            4 => self.turn.make(if detail & 8 == 0 { Made::ParseComplete } else { Made::CloseComplete }, undo),
            5 => self.turn.refuse_query(vec![detail]),
            6 => self.turn.refuse_parse(vec![detail]),
            _ => self.turn.query(undo.into_iter().map(|step| *step).collect(), Some(Box::new([(1, 2)]))),
        }
        self.record.send(match detail % 8 {
            0 | 6 => Sent::Extended(front::PARSE),
            1 => Sent::Extended(front::EXECUTE),
            2 => Sent::Extended(front::BIND),
            3 => Sent::Extended(front::DESCRIBE),
            4 => Sent::Made,
            _ => Sent::Query,
        });
        self.make();
    }

    /// One of the pooler's own.
    fn own(&mut self, detail: u8) {
        if detail & 0x80 != 0 && !self.turn.owes_anything() && !self.turn.is_within_batch() {
            self.turn.settle();
            self.record.send(Sent::Query);
        } else if detail & 0x40 != 0 && self.turn.rest_of_batch().is_some() {
            let undo = self.undo();
            self.turn.repeat(undo);
            for sent in [Sent::Extended(front::PARSE), Sent::Extended(front::CLOSE), Sent::Sync] {
                self.record.sent.push_front(sent);
            }
        } else if let Some(own) = pick(&OWN, detail) {
            let undo = self.undo();
            self.turn.own(own, undo);
            self.record.send(match own {
                Own::Parse => Sent::Extended(front::PARSE),
                Own::Bind => Sent::Extended(front::BIND),
                Own::Execute => Sent::Extended(front::EXECUTE),
                Own::Close | Own::Probe => Sent::Extended(front::CLOSE),
                Own::Describe => Sent::Extended(front::DESCRIBE),
                Own::Query => Sent::Query,
                Own::Sync => Sent::Sync,
            });
        }
    }

    fn back(&mut self, detail: u8, body: &[u8]) -> bool {
        let tag = if detail < 240 { pick(BACK, detail).unwrap_or_default() } else { detail };
        self.answer(tag, if detail == 239 { b"" } else { body })
    }

    fn answer(&mut self, tag: u8, body: &[u8]) -> bool {
        match self.turn.back(tag, body) {
            Back::Broken | Back::SettleFailed => return false,
            Back::Replace => assert_eq!(self.turn.take_report().len(), 1, "a report for what was refused"),
            Back::Blame => assert_eq!(self.turn.take_report(), b"blamed"),
            Back::OwnFailed => self.turn.blame_next(b"blamed".to_vec()),
            Back::Ready => assert!(tag == back::READY && Status::from_ready(body) == Some(self.turn.status())),
            Back::Settled => assert!(tag == back::READY && body == b"I"),
            Back::Forward | Back::Swallow => {}
        }
        self.record.back(tag, body);
        self.make();
        true
    }

    fn make(&mut self) {
        while self.turn.next_made().is_some() {
            let made = self.record.sent.pop_front();
            assert!(self.record.lost || made == Some(Sent::Made), "{made:?} is not what was made");
        }
    }

    fn check(&mut self) {
        let turn = &mut self.turn;
        self.taken += turn.take_undone().len() as u64;
        assert!(self.taken <= self.given, "more was taken back than given");
        assert!(turn.owed.len() <= MOST_OWED + 4 && turn.reports.len() <= turn.owed.len() + 1, "{turn:?}");
        let (sent, over) = turn.batches();
        assert!(over <= sent, "more batches are over than were sent");
        if turn.finished() {
            assert!(!turn.owes_anything() && turn.waits_for_client() && turn.takes_requests() && !turn.skips());
            assert!(!turn.is_within_batch() && !turn.is_copying() && turn.status() == Status::Idle);
            let Record { sent, skips, in_block, lost } = &self.record;
            assert!(*lost || (sent.is_empty() && !skips && !in_block), "finished too early: {:?}", self.record);
        }
    }
}
