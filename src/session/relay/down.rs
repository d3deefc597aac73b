//! From PostgreSQL to the client: answers are read, judged and passed on.

use std::task::{Context, Poll, ready};

use super::super::end::End;
use super::super::judge::{Judge, Rest, unexplained};
use super::super::names::Names;
use super::super::repeat::Repeat;
use super::super::turn::{About, Back};
use super::super::workspace::Workspace;
use super::{Parties, Relay};
use crate::backend::{Prepared, Shape};
use crate::wire::scan::{Part, Piece};
use crate::wire::tag::back;

impl Relay<'_> {
    /// From PostgreSQL to the client. Ready when the backend may go to somebody else; what the client has not taken
    /// yet is left in the buffer.
    pub(super) fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        loop {
            if self.over() {
                return Poll::Ready(Ok(()));
            }
            let suspended = self.suspended();
            while (!self.gathering || suspended) && !self.at.workspace.down.approved().is_empty() {
                match ready!(self.at.client.poll_write(cx, self.at.workspace.down.approved())) {
                    Ok(sent) => self.at.workspace.down.sent(sent),
                    Err(error) => return Poll::Ready(Err(End::ClientBroke(error))),
                }
            }
            if suspended {
                return Poll::Pending;
            }
            let room = self.at.workspace.down.room();
            if room.is_empty() {
                return Poll::Ready(Err(End::BackendViolation("a message is too long".to_owned())));
            }
            let read = match ready!(self.at.backend.stream.poll_read_armed(cx, room, &mut self.backend_armed)) {
                Ok(0) => return Poll::Ready(Err(End::BackendDied("PostgreSQL closed the connection".to_owned()))),
                Ok(read) => read,
                Err(error) => return Poll::Ready(Err(End::BackendDied(error.to_string()))),
            };
            self.at.tally.sent += read as u64;
            self.at.workspace.down.filled(read);
            self.judge_down()?;
            (self.gathering, self.flushed) = (false, false);
        }
    }

    fn judge_down(&mut self) -> Result<(), End> {
        loop {
            let Parties {
                workspace, backend, names, watch, tally, record, pool, settings, pinned, hears, scanner, ..
            } = &mut self.at;
            let Workspace { turn, down, up, out, out_sent, whole, parameters, .. } = &mut **workspace;
            if self.down_scanner.at_boundary() && turn.expects_rows() {
                down.approve(whole_rows(down.unjudged()));
            }
            let next = self.down_scanner.next(down.unjudged(), &self.down_grammar);
            let Some(piece) = next.map_err(|violation| End::BackendViolation(violation.to_string()))? else {
                return Ok(());
            };
            let Piece { tag, part, bytes } = piece;
            let length = bytes.len();
            let mut instead = None;
            self.learnt = if tag == back::ERROR { Shape::default() } else { self.learnt };
            if tag == back::ERROR && self.watching && up.approved().is_empty() && scanner.at_boundary() {
                let prepared = &mut backend.prepared;
                let mut repeat = Repeat { turn, names, prepared, out, out_sent, whole, parameters, pool };
                if repeat.error(&piece) {
                    down.discard(length);
                    continue;
                }
            }
            if part.starts() {
                if matches!(tag, back::PARAMETER_DESCRIPTION | back::ROW_DESCRIPTION | back::NO_DATA) {
                    learn(&piece, turn.about(), &mut self.learnt, (names, &mut backend.prepared));
                }
                if is_mere_answer(tag) {
                    self.down_rest = match turn.back(tag, &[]) {
                        Back::Forward => Rest::Forward,
                        Back::Swallow => Rest::Discard,
                        _ => return Err(unexplained(tag)),
                    };
                } else {
                    let interner = &pool.shared.interner;
                    let (mode, watching, pinned, hears) = (settings.mode, self.watching, *pinned, *hears);
                    let mut judge = Judge {
                        turn,
                        backend,
                        names,
                        watch,
                        interner,
                        tally,
                        record,
                        mode,
                        watching,
                        pinned,
                        hears,
                        instead: &mut instead,
                    };
                    match judge.message(&piece) {
                        Ok(rest) => self.down_rest = rest,
                        Err(end) => {
                            // It was judged, whatever comes of it: nobody must take it for unread.
                            down.discard(length);
                            return Err(end);
                        }
                    }
                }
                if tag == back::PARAMETER_DESCRIPTION && part == Part::Whole && *whole && turn.describes_known() {
                    // PostgreSQL finds out about a plan behind it.
                    if matches!(down.unjudged().get(length), None | Some(&back::ERROR)) {
                        parameters.extend_from_slice(bytes);
                        self.down_rest = Rest::Discard;
                    }
                } else if !parameters.is_empty() {
                    down.insert(parameters);
                    parameters.clear();
                }
            }
            match self.down_rest {
                Rest::Forward => down.approve(length),
                Rest::Discard => down.discard(length),
            }
            if let Some(message) = instead {
                // Only in the place of what is thrown away.
                down.insert(&message);
            }
            self.after_piece(part);
        }
    }

    fn after_piece(&mut self, part: Part) {
        let turn = &self.at.workspace.turn;
        self.held &= turn.is_settling();
        if part.ends() {
            if turn.makes_next() || turn.has_undone() || !self.notices.is_empty() {
                self.after_judging();
            }
            // What waits is looked at again.
            self.waits = false;
        }
    }
}

/// PostgreSQL tells what a statement takes or gives.
fn learn(piece: &Piece<'_>, about: About, learnt: &mut Shape, (names, prepared): (&mut Names, &mut Prepared)) {
    if about.statement == 0 {
        return;
    }
    if piece.tag == back::ROW_DESCRIPTION
        && learnt.is_unknown()
        && let Some(known) = prepared.known_rows(about.statement, about.since)
    {
        return names.tell(about.name, about.statement, known.rows_only());
    }
    learnt.learn(piece.tag, (piece.part == Part::Whole).then(|| piece.body()));
    if piece.tag != back::PARAMETER_DESCRIPTION {
        let shape = std::mem::take(learnt);
        prepared.learn(about.statement, about.since, shape);
        names.tell(about.name, about.statement, shape);
    }
}

/// Messages that tell nothing but that a request is answered, wholly or in part.
#[inline]
fn is_mere_answer(tag: u8) -> bool {
    matches!(
        tag,
        back::ROW_DESCRIPTION | back::DATA_ROW | back::PARSE_COMPLETE | back::BIND_COMPLETE | back::CLOSE_COMPLETE
    )
}

/// How many bytes at the start of `buf` are whole DataRows and CopyData.
#[inline]
#[must_use]
pub fn whole_rows(buf: &[u8]) -> usize {
    let mut at = 0;
    while let Some((&[back::DATA_ROW | back::COPY_DATA, a, b, c, d], _)) =
        buf.get(at..).and_then(<[u8]>::split_first_chunk::<5>)
    {
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length < 4 || buf.len() - at <= length {
            break;
        }
        at += 1 + length;
    }
    at
}
