//! The frame scanner on what PostgreSQL sends, presented as the relay presents it: a window of at most one buffer,
//! that begins with what was not consumed of the window before.
//!
//! The throughput is that of messages (`elem/s`; 1000 / Melem/s is ns per message) and of bytes. No byte is copied and no
//! system call is made, so this is the scanner alone. The relay skips whole rows before it asks the scanner
//! (`session::whole_rows`); both ways are measured.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench fails by panicking")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pgpool::session::whole_rows;
use pgpool::wire::scan::{Grammar, Scanner};
use pgpool::wire::tag::{back, back_limit};
use pgpool::wire::write;

/// Size of the relay's buffer, bytes.
const BUFFER: usize = 64 * 1024;
/// The grammar of the relay's direction to the client.
const BACK: Grammar = Grammar {
    limit: back_limit,
    whole: |tag| matches!(tag, back::READY | back::PARAMETER_STATUS | back::COMMAND_COMPLETE),
    whole_max: usize::MAX,
    max: u32::MAX,
};

/// What PostgreSQL sends, cut into chunks of one size.
struct Sent {
    name: &'static str,
    bytes: Vec<u8>,
    chunk: usize,
}

/// How the rows of a stream are looked at.
#[derive(Clone, Copy)]
enum Way {
    /// Every message by the scanner.
    Scanner,
    /// Whole rows by the relay's short cut, the rest by the scanner.
    Rows,
}

fn frame(criterion: &mut Criterion) {
    let streams = [
        Sent { name: "rows-of-30-bytes", bytes: rows(40_000, 30), chunk: BUFFER },
        Sent { name: "rows-of-100-bytes", bytes: rows(10_000, 100), chunk: BUFFER },
        Sent { name: "row-of-1-MiB", bytes: rows(1, 1 << 20), chunk: BUFFER },
        Sent { name: "one-byte-chunks", bytes: rows(300, 30), chunk: 1 },
    ];
    for sent in &streams {
        let mut group = criterion.benchmark_group(sent.name);
        let messages = count(sent, Way::Scanner);
        assert_eq!(messages, count(sent, Way::Rows), "both ways see the same messages");
        group.throughput(Throughput::ElementsAndBytes { elements: messages, bytes: sent.bytes.len() as u64 });
        group.bench_function("scanner", |bencher| bencher.iter(|| pass(black_box(sent), Way::Scanner)));
        group.bench_function("whole-rows", |bencher| bencher.iter(|| pass(black_box(sent), Way::Rows)));
        group.finish();
    }
}

/// Scans the stream to its end, and answers how many pieces and skips that took.
fn pass(sent: &Sent, way: Way) -> u64 {
    let mut steps = 0;
    walk(sent, way, |_| steps += 1);
    steps
}

/// The messages of the stream.
fn count(sent: &Sent, way: Way) -> u64 {
    let (mut skipped, mut messages) = (Vec::new(), 0);
    walk(sent, way, |step| match step {
        Step::Skipped(bytes) => skipped.extend_from_slice(bytes),
        Step::Ended => messages += 1,
        Step::Piece => {}
    });
    if !skipped.is_empty() {
        messages += count(&Sent { name: "skipped", bytes: skipped, chunk: usize::MAX }, Way::Scanner);
    }
    messages
}

/// What one look at a window came to.
enum Step<'a> {
    /// These are whole rows.
    Skipped(&'a [u8]),
    /// A piece that is not the last of its message.
    Piece,
    /// The end of a message.
    Ended,
}

/// Presents window after window, as the relay does.
#[inline]
fn walk<'a>(sent: &'a Sent, way: Way, mut step: impl FnMut(Step<'a>)) {
    let mut scanner = Scanner::default();
    let (mut used, mut read) = (0, 0);
    while read < sent.bytes.len() {
        read = sent.bytes.len().min(read.saturating_add(sent.chunk));
        loop {
            if matches!(way, Way::Rows) && scanner.at_boundary() {
                let skipped = whole_rows(sent.bytes.get(used..read).unwrap_or_default());
                if skipped > 0 {
                    step(Step::Skipped(sent.bytes.get(used..used + skipped).unwrap_or_default()));
                    used += skipped;
                }
            }
            let window = sent.bytes.get(used..read).unwrap_or_default();
            let Some(piece) = scanner.next(window, &BACK).unwrap() else { break };
            used += piece.bytes.len();
            step(if piece.part.ends() { Step::Ended } else { Step::Piece });
        }
    }
    assert_eq!(used, sent.bytes.len(), "a whole stream leaves nothing over");
}

/// The answer to a query with `count` rows of one column, each a message of `size` bytes (at least 12).
fn rows(count: usize, size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let value = vec![b'x'; size.saturating_sub(11).max(1)];
    for _ in 0..count {
        write::message(&mut out, back::DATA_ROW, |out| {
            out.extend_from_slice(&1u16.to_be_bytes());
            out.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
            out.extend_from_slice(&value);
        });
    }
    write::message(&mut out, back::COMMAND_COMPLETE, |out| out.extend_from_slice(b"SELECT 1\0"));
    write::ready_idle(&mut out);
    out
}

criterion_group!(benches, frame);
criterion_main!(benches);
