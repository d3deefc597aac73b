//! Fewer messages that still fail.

use std::time::{Duration, Instant};

use super::{run::Mismatch, script::Round};

const LONGEST: Duration = Duration::from_secs(60);

/// Leaves out clients, batches and flights one after the other for as long as the last round fails without them. Rounds
/// before it are kept only as far as it does not fail by itself, since what they leave on the backends may be the cause.
pub(super) fn shrink(
    rounds: &[Round],
    mut fails: impl FnMut(&[Round]) -> Option<Mismatch>,
) -> Option<(Vec<Round>, Mismatch)> {
    let end = Instant::now() + LONGEST;
    let mut tails = (0..rounds.len()).rev().map(|first| &rounds[first..]);
    let (mut small, mut mismatch) = tails.find_map(|tail| Some((tail.to_vec(), fails(tail)?)))?;
    for leave_out in [clients, batches, flights] {
        // From the end, so that what is left out does not change the numbers of what is still to be tried.
        let mut number = leave_out(&mut small.clone(), usize::MAX);
        while number > 0 && Instant::now() < end {
            number -= 1;
            let mut smaller = small.clone();
            leave_out(&mut smaller, number);
            // What is left may be no whole conversation any more.
            let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| fails(&smaller)));
            if let Ok(Some(again)) = again {
                (small, mismatch) = (smaller, again);
            }
        }
    }
    Some((small, mismatch))
}

/// Leaves out the client of that number, and says how many there are.
fn clients(rounds: &mut [Round], number: usize) -> usize {
    let mut scripts: Vec<_> = rounds.iter_mut().flat_map(|round| &mut round.scripts).collect();
    if let Some(script) = scripts.get_mut(number) {
        script.clear();
    }
    scripts.len()
}

fn batches(rounds: &mut [Round], number: usize) -> usize {
    let mut count = 0;
    for script in rounds.iter_mut().flat_map(|round| &mut round.scripts) {
        let here = number.wrapping_sub(count);
        count += script.len();
        if number < count && here < script.len() {
            script.remove(here);
            return count;
        }
    }
    count
}

fn flights(rounds: &mut [Round], number: usize) -> usize {
    let mut count = 0;
    for batch in rounds.iter_mut().flat_map(|round| &mut round.scripts).flatten() {
        let here = number.wrapping_sub(count);
        count += batch.flights.len();
        // A batch of nothing has no answer to wait for.
        if number < count && here < batch.flights.len() && batch.flights.len() > 1 {
            batch.flights.remove(here);
            return count;
        }
    }
    count
}
