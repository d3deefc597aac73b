//! A client's question whether it is listened for: asked once, answered once.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use super::Hub;
use crate::backend::ConnectError;
use crate::wire::sqlstate;
use crate::wire::view::Diagnostic;
use crate::wire::write::Report;

/// How long a client waits until it is listened for; the time of a PAUSE does not count.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why nobody listens for a client. It is not subscribed then.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NoListener {
    /// `max_db_connections` or `max_user_connections` leaves no connection for it.
    #[error("{0} leaves no connection to listen on")]
    Limit(&'static str),
    /// PostgreSQL refused the login of the listening connection.
    #[error("cannot open the listening connection: {0}")]
    Login(Arc<ConnectError>),
    /// PostgreSQL refused LISTEN, as a standby does.
    #[error("{}", .0.message)]
    Refused(Box<Diagnostic>),
    /// It took too long; with the last trouble, if there was any.
    #[error("nobody listens after {} s{}", .0.as_secs(), .1.as_ref().map(|error| format!(": {error}")).unwrap_or_default())]
    Late(Duration, Option<Arc<ConnectError>>),
    /// The client listens on too many channels.
    #[error("no client may listen on more than {0} channels")]
    Channels(usize),
    /// The client has left.
    #[error("the client has left")]
    Gone,
}

impl NoListener {
    /// What the client is told: an ERROR, its session goes on.
    #[must_use]
    pub fn report(&self) -> Report {
        let error = |code: &str, hint: &str| Report::new("ERROR", code, format!("cannot LISTEN: {self}")).hint(hint);
        match self {
            NoListener::Limit(_) => error(
                sqlstate::TOO_MANY_CONNECTIONS,
                "One connection per database listens for all clients. Raise the limit, which has to be 2 at least.",
            ),
            NoListener::Login(failure) => match &**failure {
                ConnectError::Refused(said) => error(&said.code, &said.hint).detail(said.detail.clone()),
                ConnectError::Lookup(_)
                | ConnectError::Connect(_)
                | ConnectError::Io(_)
                | ConnectError::Timeout
                | ConnectError::NoTls
                | ConnectError::TlsAnswer
                | ConnectError::NoSlot
                | ConnectError::Misfit(_)
                | ConnectError::Tls(_)
                | ConnectError::Authentication(_)
                | ConnectError::Protocol(_) => error(sqlstate::CONNECTION_FAILURE, ""),
            },
            NoListener::Refused(said) => error(&said.code, &said.hint).detail(said.detail.clone()),
            NoListener::Late(..) => error(
                sqlstate::CONNECTION_FAILURE,
                "The pooler cannot open a connection to PostgreSQL to listen on; it tries again by itself.",
            ),
            NoListener::Channels(_) => error(sqlstate::PROGRAM_LIMIT_EXCEEDED, "UNLISTEN what is not needed."),
            NoListener::Gone => error(sqlstate::CONNECTION_FAILURE, ""),
        }
    }
}

/// The question, shared by who asks and who answers.
#[derive(Debug, Default)]
pub(super) struct Ask(Mutex<Asked>);

#[derive(Debug, Default)]
struct Asked {
    answer: Option<Result<(), NoListener>>,
    waker: Option<Waker>,
}

impl Ask {
    /// One that is answered already.
    pub(super) fn answered(answer: Result<(), NoListener>) -> Ask {
        Ask(Mutex::new(Asked { answer: Some(answer), waker: None }))
    }

    /// Answers it; the first answer counts.
    pub(super) fn answer(&self, answer: Result<(), NoListener>) {
        let mut asked = self.lock();
        asked.answer.get_or_insert(answer);
        let waker = asked.waker.take();
        drop(asked);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<(), NoListener>> {
        let mut asked = self.lock();
        if let Some(answer) = &asked.answer {
            return Poll::Ready(answer.clone());
        }
        asked.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A subscription that was asked for. Dropping it does not unsubscribe.
#[derive(Debug)]
#[must_use = "somebody has to wait until PostgreSQL listens"]
pub struct Subscription {
    pub(super) ask: Arc<Ask>,
    pub(super) hub: Option<Arc<Hub>>,
    pub(super) client: u64,
    pub(super) channel: Arc<[u8]>,
    /// The client did not listen on the channel before.
    pub(super) fresh: bool,
    pub(super) patience: Option<Pin<Box<Sleep>>>,
}

impl Subscription {
    /// Ready when the listening backend has really executed LISTEN for the channel, at once where it had; an error says
    /// why it does not. After an error the client is subscribed to the channel only if it was before.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NoListener>> {
        loop {
            if let Poll::Ready(answer) = self.ask.poll(cx) {
                if answer.is_err() {
                    self.withdraw();
                }
                return Poll::Ready(answer);
            }
            let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
            if patience.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.patience = None;
            if self.hub.as_ref().is_some_and(|hub| hub.is_paused()) {
                continue;
            }
            let trouble = self.hub.as_ref().and_then(|hub| hub.roll().trouble());
            self.ask.answer(Err(NoListener::Late(PATIENCE, trouble)));
        }
    }

    /// Waits for [`Subscription::poll_ready`].
    ///
    /// Cancel safety: safe.
    ///
    /// # Errors
    /// [`NoListener`].
    pub async fn ready(&mut self) -> Result<(), NoListener> {
        poll_fn(|cx| self.poll_ready(cx)).await
    }

    fn withdraw(&mut self) {
        if let Some(hub) = self.hub.take()
            && self.fresh
        {
            hub.unsubscribe(self.client, Some(&self.channel));
        }
    }
}
