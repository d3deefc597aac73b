//! Batches that are sent again because a plan was out of date.

use proptest::prelude::*;

use super::super::*;
use super::run;

const ABOUT: About = About { statement: 7, since: 1, name: 0 };

/// A batch that may be repeated: its first request is about statement 7.
fn batch(requests: &[Owed]) -> Turn {
    let mut turn = Turn::default();
    for request in requests {
        match request {
            Owed::Bind => turn.bind(ABOUT),
            Owed::Describe => turn.describe(ABOUT),
            Owed::Made(made) => turn.make(*made, None),
            Owed::Own(own) => turn.own(*own, None),
            Owed::Parse => turn.parse(None),
            Owed::Execute => turn.execute(None),
            other => turn.push(*other, None, About::default()),
        }
    }
    turn
}

#[test]
fn a_batch_is_repeated_only_whole_and_last() {
    use Owed::{Bind, Close, CopyEnd, Describe, Execute, Function, Parse, Query, RefusedParse, Settle, Sync};
    let made = Owed::Made(Made::ParseComplete);
    let own = |own| Owed::Own(own);
    for (requests, wanted) in [
        (&[Bind, Describe, Execute, Sync][..], Some(4)),
        (&[Describe, Sync], Some(2)),
        (&[Bind, Execute, made, own(Own::Close), own(Own::Parse), Bind, Execute, Close, Parse, Sync], Some(9)),
        (&[Bind, Execute], None),
        (&[Bind, Execute, Sync, Bind], None),
        (&[Bind, Execute, Sync, Bind, Execute, Sync], None),
        (&[Bind, Execute, Sync, Query], None),
        (&[Bind, Execute, CopyEnd, Sync], None),
        (&[Bind, Function, Sync], None),
        (&[Bind, RefusedParse, Sync], None),
        (&[Bind, own(Own::Query), Sync], None),
        (&[Execute, Sync], None),
        (&[made, Bind, Sync], None),
        (&[Settle, Bind, Sync], None),
        (&[Sync], None),
        (&[], None),
    ] {
        assert_eq!(batch(requests).rest_of_batch(), wanted, "{requests:?}");
    }
    let mut block = run("> Q < C Zt");
    block.bind(ABOUT);
    block.front(b'S');
    assert_eq!(block.rest_of_batch(), None);
}

#[test]
fn a_statement_that_cannot_be_prepared_again_fails_the_batch() {
    let mut turn = batch(&[Owed::Bind, Owed::Execute]);
    turn.parse(Some(Box::new(Step::Sent(8))));
    turn.front(b'S');
    turn.repeat(Some(Box::new(Step::Sent(7))));
    assert_eq!((turn.back(b'Z', b"I"), turn.back(b'3', b"")), (Back::Swallow, Back::Swallow));
    assert_eq!(turn.back(b'E', b""), Back::Forward);
    // The last that was noted is taken back first.
    let undone = turn.take_undone();
    let ids = undone.iter().map(|(step, failed)| match **step {
        Step::Sent(id) => (id, *failed),
        _ => (0, false),
    });
    assert_eq!(ids.collect::<Vec<_>>(), [(8, false), (7, true)]);
    assert_eq!((turn.back(b'Z', b"I"), turn.finished()), (Back::Ready, true));
}

proptest! {
    /// Behind a repeated batch come the answers to each of its requests once, and what the client sent meanwhile.
    #[test]
    fn a_repeated_batch_is_answered_once(
        describe in any::<bool>(),
        rest in proptest::collection::vec(0..6_usize, 0..12),
        late in any::<bool>(),
    ) {
        let first = if describe { Owed::Describe } else { Owed::Bind };
        let all = [
            (Owed::Bind, "2"),
            (Owed::Execute, "C"),
            (Owed::Describe, "n"),
            (Owed::Made(Made::CloseComplete), ""),
            (Owed::Own(Own::Close), "3"),
            (Owed::Parse, "1"),
        ];
        let mut requests = vec![first];
        requests.extend(rest.iter().map(|&index| all[index].0));
        requests.push(Owed::Sync);
        let mut turn = batch(&requests);
        let made = rest.iter().filter(|&&index| index == 3).count();
        prop_assert_eq!(turn.rest_of_batch(), Some(requests.len() - made));
        let batches = turn.batches();
        turn.repeat(None);
        prop_assert!(!turn.finished() && !turn.needs_client());
        if late {
            turn.front(b'Q');
        }
        for (tag, body) in [(b'Z', &b"I"[..]), (b'3', b""), (b'1', b"")] {
            prop_assert_eq!(turn.back(tag, body), Back::Swallow);
            prop_assert_eq!(turn.next_made(), None);
        }
        prop_assert_eq!(turn.batches(), (batches.0 + u64::from(late), batches.1));
        prop_assert_eq!(turn.back(if describe { b'n' } else { b'2' }, b""), Back::Forward);
        for index in rest {
            let (owed, answer) = all[index];
            match owed {
                Owed::Made(made) => prop_assert_eq!(turn.next_made(), Some(made)),
                Owed::Own(_) => prop_assert_eq!(turn.back(answer.as_bytes()[0], b""), Back::Swallow),
                _ => prop_assert_eq!(turn.back(answer.as_bytes()[0], b""), Back::Forward),
            }
        }
        prop_assert_eq!(turn.back(b'Z', b"I"), Back::Ready);
        if late {
            prop_assert!(!turn.finished());
            prop_assert_eq!((turn.back(b'I', b""), turn.back(b'Z', b"I")), (Back::Forward, Back::Ready));
        }
        prop_assert!(turn.finished() && !turn.has_undone());
    }
}
