//! The HTTP server for monitoring (`http_addr`): health, readiness, metrics and the status page.
//!
//! It reads snapshots as the console does and commands nothing. Whatever a peer does costs a bounded number of connections
//! of bounded life, bytes and work; what takes longer than a moment (rendering, checking a password) runs on a thread
//! beside those that serve clients. Invariant: nothing but `/healthz` and `/readyz` is answered without credentials,
//! unless the socket and the name that it was asked by are loopback.

mod access;
mod budget;
mod crowd;
mod health;
mod json;
mod listen;
mod process;
mod ready;
mod scene;
mod status;
mod table;
mod trend;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::sleep;

use super::Proxy;
use crate::admin::Shutdown;
use crate::frontend::Errands;
use crate::metrics::LogCounts;
use crowd::{Crowd, Seat};
use scene::{Scene, Series};
use table::{Source, exposition};
use trend::Trend;

pub(super) use listen::listen;

/// How long a peer may take for the head of a request, the silence before it included.
const HEAD: Duration = Duration::from_secs(10);
/// How long a connection lives at most, so that one that does not take its answer ends.
const LIFE: Duration = Duration::from_secs(60);
/// Most bytes of a request's head.
const MOST_HEAD: usize = 16 << 10;
/// Most header fields of a request.
const MOST_FIELDS: usize = 64;
/// Answers that are made at the same time.
const MAKERS: usize = 2;

type Answer = hyper::Response<Full<Bytes>>;

/// The HTTP server.
pub(super) struct Http {
    proxy: Arc<Proxy>,
    crowd: Arc<Crowd>,
    /// Threads for what takes longer.
    makers: Errands,
    series: Series,
    trend: Trend,
    log: Arc<LogCounts>,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
struct Caller {
    peer: SocketAddr,
    /// Our listening socket's address.
    local: SocketAddr,
}

impl Http {
    pub(super) fn new(proxy: &Arc<Proxy>, log: Arc<LogCounts>) -> Arc<Http> {
        let makers = proxy.gate.lookups.beside(MAKERS);
        let (crowd, series, trend) = <(Arc<Crowd>, Series, Trend)>::default();
        Arc::new(Http { proxy: Arc::clone(proxy), crowd, makers, series, trend, log })
    }

    /// Looks at the pools now and then, for the page, until the process ends.
    pub(super) async fn follow_trend(self: Arc<Self>) {
        loop {
            self.trend.look(&self.proxy.pools);
            sleep(trend::STEP).await;
        }
    }

    /// Whether the process is ending.
    pub(super) fn ending(&self) -> watch::Receiver<Option<Shutdown>> {
        self.proxy.ending.subscribe()
    }

    /// Whether another process has the listening sockets.
    pub(super) fn is_handed_over(&self) -> bool {
        self.proxy.is_handed_over()
    }

    /// A place for a connection that was accepted, if there is one.
    pub(super) fn enter(&self) -> Option<Seat> {
        self.crowd.enter()
    }

    /// Serves a connection until it ends. `local` is the address that was listened on.
    pub(super) async fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, local: SocketAddr, seat: Seat) {
        let (http, seat) = (&self, &seat);
        let service = service_fn(|request| async move {
            Ok::<_, Infallible>(http.answer(&request, Caller { peer, local }, seat).await)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(MOST_HEAD)
            .max_headers(MOST_FIELDS)
            .serve_connection(TokioIo::new(stream), service);
        tokio::select! {
            // How a peer of the monitoring ends is nothing to be told.
            _ = connection => {}
            () = seat.taken() => {}
            () = sleep(LIFE) => {}
        }
    }

    async fn answer(self: &Arc<Self>, request: &Request<Incoming>, caller: Caller, seat: &Seat) -> Answer {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD");
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        let path = request.uri().path();
        if path == "/healthz" {
            return health::health(&self.proxy);
        }
        if let Some(database) = ready::asked_for(path) {
            let frank = self.is_open(request, caller);
            let _busy = seat.busy();
            return self.ready(database, frank).await;
        }
        let make: fn(&Http) -> Answer = match path {
            "/metrics" => Http::metrics,
            "/status.json" => Http::status,
            "/" => |_| page(StatusCode::OK, "text/html; charset=utf-8", include_str!("page/index.html")),
            "/status.js" => |_| page(StatusCode::OK, "text/javascript; charset=utf-8", include_str!("page/status.js")),
            "/status.css" => |_| page(StatusCode::OK, "text/css; charset=utf-8", include_str!("page/status.css")),
            _ => return nothing(),
        };
        if let Some(refused) = self.refused(request, caller).await {
            return refused;
        }
        let _busy = seat.busy();
        let http = Arc::clone(self);
        let made = self.makers.run(move || make(&http)).await;
        made.unwrap_or_else(|| text(StatusCode::SERVICE_UNAVAILABLE, "shutting down"))
    }

    fn metrics(&self) -> Answer {
        let pools = &self.proxy.pools;
        let scene = Scene::look(&self.proxy, &self.series);
        let source = Source { scene: &scene, events: &pools.shared.events, tls: &pools.tls_counts, log: &self.log };
        page(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", exposition(&source))
    }

    fn status(&self) -> Answer {
        let scene = Scene::look(&self.proxy, &self.series);
        page(StatusCode::OK, "application/json", status::status(&self.proxy, &scene, &self.trend))
    }
}

fn nothing() -> Answer {
    text(StatusCode::NOT_FOUND, "there is /, /metrics, /status.json, /healthz, /readyz and /readyz/DATABASE")
}

/// One line.
fn text(status: StatusCode, line: &str) -> Answer {
    page(status, "text/plain; charset=utf-8", format!("{line}\n"))
}

/// An answer that nobody may keep, show in a frame, or take for something else.
fn page(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Answer::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}
