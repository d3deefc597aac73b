//! What the fuzzer has found, action by action.

use super::input::Input;
use super::{Run, fuzz};

const QUERY: u8 = 0;
const PARSE: u8 = 2;
/// Sync, Flush and what belongs to COPY.
const OTHER: u8 = 10;
const LEAVE_OR_HOLD: u8 = 18;
const ANSWER: u8 = 20;
const MISBEHAVE: u8 = 26;
const INTERRUPT: u8 = 30;
/// The other client.
const SECOND: u8 = 1;
/// Before anybody has looked.
const AT_ONCE: u8 = 0x80;
const BEGIN: u8 = 0;
const COPY: u8 = 3;
const DISCARD: u8 = 9;
const DEALLOCATE_ALL: u8 = 20;
const SELECT: u8 = 23;
const FLUSH: u8 = 0;
const SYNC: u8 = 5;

async fn run(steps: &[&[u8]]) {
    let dir = tempfile::tempdir().unwrap();
    // One connection, in transaction mode.
    fuzz(&[&[0][..], &steps.concat()].concat(), dir.path()).await;
}

/// A turn ends behind half a request, and the rest of it is refused.
#[tokio::test(start_paused = true)]
async fn a_session_listens_to_its_client_after_a_canceled_wait() {
    let half: &[&[u8]] =
        &[&[QUERY | AT_ONCE, SELECT], &[LEAVE_OR_HOLD | AT_ONCE, 4 + 8 * 3], &[PARSE, 0], &[ANSWER, 0]];
    let taken: &[&[u8]] = &[&[QUERY | SECOND, BEGIN], &[ANSWER, 0]];
    run(&[half, taken, &[&[OTHER, FLUSH], &[INTERRUPT, 0], &[OTHER, SYNC]]].concat()).await;
}

/// The rest of a Flush, which is dropped, comes while the backend is asked what has changed.
#[tokio::test(start_paused = true)]
async fn a_session_listens_to_its_client_behind_what_it_drops() {
    run(&[&[QUERY, DISCARD], &[LEAVE_OR_HOLD, 4 + 8 * 3], &[OTHER, FLUSH], &[ANSWER, 0]]).await;
}

/// PostgreSQL says the half of a message behind the last answer to a client that has left.
#[tokio::test(start_paused = true)]
async fn half_a_message_is_not_forgotten_when_a_client_has_left() {
    let half: &[u8] = &[MISBEHAVE, 1 + 8 * 3, b'n', 0xab, 0x84];
    let leaves: &[&[u8]] = &[&[QUERY, SELECT], &[LEAVE_OR_HOLD, 1]];
    // The whole ReadyForQuery is held back until the half stands behind it.
    let says: &[&[u8]] = &[&[MISBEHAVE, 6 + 8 * 6], &[ANSWER, 0], half, &[MISBEHAVE, 6]];
    run(&[leaves, says, &[&[ANSWER, 7], &[ANSWER, 7], &[QUERY | SECOND, SELECT]]].concat()).await;
}

/// A request within a COPY would wait for what is owed, and that for the end of the COPY.
#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_a_copy_ends_the_session() {
    run(&[&[QUERY, COPY], &[ANSWER, 0], &[OTHER, SYNC], &[QUERY, DISCARD]]).await;
}

/// The second request cannot be judged before the first is answered, which it never is.
#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_is_missed_while_its_request_waits() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = Run::begin(0, dir.path()).await.unwrap();
    for (what, detail) in [(QUERY, DEALLOCATE_ALL), (PARSE, 0), (LEAVE_OR_HOLD, 1)] {
        run.act(what, detail, &mut Input(b"")).await;
    }
    assert!(run.stage.pools.clients.is_empty());
    run.finish().await;
}
