//! The pgpool program.
fn main() {}
