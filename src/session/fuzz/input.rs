//! The bytes of one run.

/// What is left of them.
#[derive(Debug)]
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// As many as there are, `count` at most.
    pub(super) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// One of these.
pub(super) fn pick<T: Copy + Default>(from: &[T], by: u8) -> T {
    from.get(usize::from(by) % from.len().max(1)).copied().unwrap_or_default()
}
