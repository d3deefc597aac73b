//! Work that blocks its thread and that a login waits for: asking the system or a library about a client.
//!
//! Threads are started where everything is, in `proxy/tasks.rs`; what is to be done is sent there. A login that ends
//! meanwhile does not end the work, which keeps its place until it is over, so that never more than the given number runs.

use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Semaphore, oneshot};

/// Something to be run on a thread that may block.
pub type Errand = Box<dyn FnOnce() + Send>;

/// Where errands of one kind are sent.
pub struct Errands {
    start: UnboundedSender<Errand>,
    places: Arc<Semaphore>,
}

impl Errands {
    /// Errands of which `most` run at the same time, and those that have to be started.
    #[must_use]
    pub fn new(most: usize) -> (Self, UnboundedReceiver<Errand>) {
        let (start, errands) = unbounded_channel();
        (Self { start, places: Arc::new(Semaphore::new(most)) }, errands)
    }

    /// Errands of another kind, of which `most` run beside these.
    #[must_use]
    pub fn beside(&self, most: usize) -> Self {
        Self { start: self.start.clone(), places: Arc::new(Semaphore::new(most)) }
    }

    /// Runs `work` when it is its turn. `None` when the process is about to end, or `work` has panicked.
    ///
    /// Cancel safety: work that has begun goes on, and its result is dropped.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
        let (answer, answered) = oneshot::channel();
        let errand = move || {
            let _place = place;
            // Nobody may be waiting any more.
            let _ = answer.send(work());
        };
        self.start.send(Box::new(errand)).ok()?;
        answered.await.ok()
    }
}
