//! Who may read what is not for everybody: the users of the console, by HTTP's Basic scheme.
//!
//! Only secrets count that are stored here or that `auth_query` finds; the rules, certificates, directories and PAM by which
//! the console may let its users in say nothing about a password in a header.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Request, StatusCode};
use tokio::time::{sleep, timeout};

use super::{Answer, Caller, Http, text};
use crate::admin;
use crate::auth::{Basic, Credential};
use crate::config::Config;

/// How long a wrong password has to wait for its answer.
const PENANCE: Duration = Duration::from_millis(500);
/// How long PostgreSQL may take to tell a secret.
const LOOKUP: Duration = Duration::from_secs(5);

impl Http {
    /// Nothing, if the caller may read; else the answer.
    pub(super) async fn refused(&self, request: &Request<Incoming>, caller: Caller) -> Option<Answer> {
        if self.is_open(request, caller) {
            return None;
        }
        let Some(given) = request.headers().get(header::AUTHORIZATION) else { return Some(asks()) };
        let config = self.proxy.pools.config.load_full();
        if let Some(basic) = Basic::parse(given.as_bytes()) {
            let user = basic.user.clone();
            if self.proves(&config, basic).await {
                return None;
            }
            if config.general.log_pooler_errors {
                tracing::warn!(peer = %caller.peer, %user, "HTTP request refused: not a user of the console, or a wrong password");
            }
        }
        sleep(PENANCE).await;
        Some(asks())
    }

    /// Whether everybody may read: the socket is a loopback one, and so is the name that the request is for. A page of
    /// somebody else's, whose name is made to lead here, is not.
    pub(super) fn is_open(&self, request: &Request<Incoming>, caller: Caller) -> bool {
        let local = |name: &str| {
            let name = name
                .strip_prefix('[')
                .and_then(|name| name.split_once(']'))
                .map_or_else(|| name.rsplit_once(':').map_or(name, |(name, _)| name), |(name, _)| name);
            name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        };
        let host = request.headers().get(header::HOST);
        caller.local.ip().to_canonical().is_loopback()
            && host.is_none_or(|host| host.to_str().is_ok_and(local))
            && request.uri().host().is_none_or(local)
    }

    async fn proves(&self, config: &Config, basic: Basic) -> bool {
        let general = &config.general;
        let known = general.admin_users.contains(&basic.user) || general.stats_users.contains(&basic.user);
        let credential = if known { self.credential(config, &basic.user).await } else { None };
        let mock = self.proxy.gate.mock.with_iterations(general.scram_iterations);
        self.makers.run(move || basic.proves(credential, &mock)).await.unwrap_or(false)
    }

    async fn credential(&self, config: &Config, user: &str) -> Option<Arc<Credential>> {
        let pools = &self.proxy.pools;
        if let Some(stored) = pools.credentials.of_user(config, user) {
            return Some(stored);
        }
        let source = config.auth_source(admin::DATABASE)?;
        let found = timeout(LOOKUP, pools.lookups.find(pools, &source, user)).await.ok()?.ok()?;
        found.credential
    }
}

fn asks() -> Answer {
    let mut answer = text(StatusCode::UNAUTHORIZED, "a user of the console and the password are asked for");
    let scheme = HeaderValue::from_static("Basic realm=\"pgpool\", charset=\"UTF-8\"");
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    answer
}
