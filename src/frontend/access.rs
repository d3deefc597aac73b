//! `auth_type = "hba"`: which rule counts for a client, and what does not take a password.
//!
//! The rules themselves are `hba`'s, which knows no socket. Here are the facts that they ask for, the words in which
//! a client is refused (PostgreSQL's own), and the methods `peer` and `cert`.

use std::sync::Arc;

use crate::auth::Password;
use crate::config::Config;
use crate::hba::{
    CertificateError, Channel, ClientCertificate, Decision, Directory, Facts, HostName, Interfaces, Memberships,
    Method, Place, Rule, Surroundings,
};
use crate::net::tls::{Certificate, Session};
use crate::net::{Endpoint, Stream, lookup};
use crate::pool::FoundRoles;
use crate::wire::sqlstate;
use crate::wire::startup::{Replication, Startup};
use crate::wire::write::Report;

use super::login::while_there;
use super::{CONSOLE, Gate, Rejected, Visitor, is_console};

const HINT: &str = "The rules that count are those of the pooler's auth_hba_file, not those of PostgreSQL.";

/// Why a client is not let in, for the log.
#[derive(Debug, thiserror::Error)]
pub enum Denial {
    /// No rule is about it.
    #[error("no line of auth_hba_file fits")]
    NoRule,
    /// A rule rejects it.
    #[error("rejected by {0}")]
    Rejected(Place),
    /// A rule rejects an address that could not be looked up.
    #[error("{0} rejects, and whether it is about this address could not be looked up")]
    InDoubt(Place),
    /// Whether a rule is about it depends on its roles, and there is nobody to ask.
    #[error("a line needs to know the roles of the user, and there is no auth_user to ask PostgreSQL as")]
    NoAuthUser,
    /// Its certificate does not do.
    #[error("{error}, which {place} asks for")]
    Certificate {
        /// What is wrong.
        error: CertificateError,
        /// The rule.
        place: Place,
    },
    /// It is not known as whom its process runs.
    #[error("the system does not tell the user of the client's process, which {0} asks for")]
    NoPeer(Place),
    /// Its process runs as somebody who may not be this user.
    #[error("the client's process runs as \"{system}\", who may not be this user by {place}")]
    OtherPeer {
        /// The user of the system.
        system: String,
        /// The rule.
        place: Place,
    },
    /// A directory does not vouch for it.
    #[cfg(feature = "ldap")]
    #[error("{0}")]
    Directory(#[source] super::directory::DirectoryError),
    /// PAM does not vouch for it.
    #[cfg(feature = "pam")]
    #[error("{0}")]
    Pam(#[source] super::pam::PamError),
    /// It was built without what checks this password; the configuration was refused then.
    #[error("this pgpool cannot check the password")]
    NotBuilt,
    /// It has proved who it is, and the configuration does not know that user.
    #[error("no such user, and {0} admits known users only")]
    UnknownUser(Place),
}

impl Denial {
    /// Whether the rules did not let it come as far as a proof.
    pub(super) fn is_by_rule(&self) -> bool {
        matches!(self, Denial::NoRule | Denial::Rejected(_) | Denial::InDoubt(_) | Denial::NoAuthUser)
    }
}

/// What PAM is asked about a client.
#[cfg_attr(not(feature = "pam"), expect(dead_code, reason = "read by what asks PAM"))]
#[derive(Clone, Debug)]
pub(super) struct Service {
    /// The file in `/etc/pam.d`.
    pub(super) name: String,
    /// Where the client comes from; none by a Unix socket.
    pub(super) host: Option<String>,
}

/// How a client has to prove itself, after its rule.
#[derive(Clone, Debug)]
pub(super) enum Proving<'a> {
    /// By the machine of `auth`.
    By(crate::auth::Method),
    /// By its password, which the directory checks.
    Directory(&'a Directory),
    /// By its password, which PAM checks.
    Pam(Service),
    /// It has.
    Done,
}

/// A client before its login, with what it asks for.
#[derive(Clone, Copy)]
pub(super) struct Caller<'a> {
    pub(super) gate: &'a Gate,
    pub(super) config: &'a Config,
    pub(super) visitor: &'a Visitor,
    pub(super) startup: &'a Startup,
}

impl<'a> Caller<'a> {
    /// Finds the rule for the client, and checks what does not take a word from it.
    pub(super) async fn prove(self, stream: &mut Stream) -> Result<Proving<'a>, Rejected> {
        let channel = channel(stream, &self.visitor.peer);
        let mut databases = vec![self.startup.database.as_str()];
        if is_console(self.startup) {
            // One database with two names: a rule about either is about both.
            databases.extend(CONSOLE.iter().filter(|name| **name != self.startup.database));
        }
        let replication = self.startup.replication == Replication::Physical;
        let facts = Facts { channel: &channel, databases: &databases, user: &self.startup.user, replication };
        let rule = self.rule(&facts, stream).await?;
        let failed = |error| {
            let denial = Denial::Certificate { error, place: rule.place.clone() };
            let words = match error {
                CertificateError::Missing => error.to_string(),
                CertificateError::NoName | CertificateError::OtherUser => self.failed("certificate"),
            };
            denied(words, denial)
        };
        rule.check_certificate(&facts, &self.config.access.maps).map_err(failed)?;
        use crate::auth::Method as Machine;
        Ok(Proving::By(match rule.method {
            Method::Reject => return Err(self.refused(&channel, Denial::Rejected(rule.place.clone()))),
            Method::Trust => Machine::Trust,
            Method::Password => Machine::Plain,
            Method::Md5 => Machine::Md5,
            Method::ScramSha256 => Machine::ScramSha256,
            Method::Ldap => {
                let directory = rule.options.directory.as_ref();
                return directory.map(Proving::Directory).ok_or(Rejected::Internal("rule without its directory"));
            }
            Method::Pam => return Ok(Proving::Pam(self.service(&channel, rule).await)),
            Method::Cert => return self.known("certificate", rule),
            Method::Peer => {
                self.check_peer(&channel, rule).await?;
                return self.known("Peer", rule);
            }
        }))
    }

    async fn rule(&self, facts: &Facts<'_>, stream: &mut Stream) -> Result<&'a Rule, Rejected> {
        let mut surroundings = Surroundings::default();
        let mut roles: Option<FoundRoles> = None;
        let found = loop {
            match self.config.access.rules.decide(facts, &surroundings) {
                Decision::Rule(rule) => break Ok(rule),
                Decision::NoRule => break Err(Denial::NoRule),
                Decision::InDoubt(rule) => break Err(Denial::InDoubt(rule.place.clone())),
                Decision::NeedsHostName => surroundings.name = self.host_name(facts.channel).await,
                Decision::NeedsInterfaces => surroundings.interfaces = self.interfaces().await,
                Decision::NeedsMemberships => {
                    let Some(found) = self.roles(stream).await? else { break Err(Denial::NoAuthUser) };
                    surroundings.memberships = Memberships::Known(Arc::clone(&found.roles));
                    roles = Some(found);
                }
            }
        };
        if let Some(roles) = roles
            && found.as_ref().map_or(true, |rule| rule.method == Method::Reject)
        {
            roles.doubt();
        }
        found.map_err(|denial| self.refused(facts.channel, denial))
    }

    /// The roles that the user is a member of; `None` where nobody can be asked, which a checked configuration leaves to
    /// names of databases that there are not.
    async fn roles(&self, stream: &mut Stream) -> Result<Option<FoundRoles>, Rejected> {
        let Startup { user, database, .. } = self.startup;
        let Some(source) = self.config.auth_source(database) else { return Ok(None) };
        let pools = &self.gate.pools;
        while_there(stream, pools.lookups.roles(pools, &source, user)).await.map(Some)
    }

    async fn host_name(&self, channel: &Channel) -> HostName {
        let (Channel::Plain { peer } | Channel::Tls { peer, .. }) = *channel else { return HostName::None };
        match self.gate.lookups.run(move || lookup::host_name(peer)).await {
            Some(Ok(Some(name))) => HostName::Confirmed(name),
            Some(Ok(None)) => HostName::None,
            Some(Err(error)) => {
                tracing::warn!(%peer, %error, "cannot look up the name of a client's address");
                HostName::Unknown
            }
            None => HostName::Unknown,
        }
    }

    async fn interfaces(&self) -> Interfaces {
        match self.gate.lookups.run(lookup::interfaces).await {
            Some(Ok(interfaces)) => Interfaces::Known(interfaces),
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot list the addresses of this machine");
                Interfaces::Unknown
            }
            None => Interfaces::Unknown,
        }
    }

    async fn check_peer(&self, channel: &Channel, rule: &Rule) -> Result<(), Rejected> {
        let place = || rule.place.clone();
        let unknown = || denied(self.failed("Peer"), Denial::NoPeer(place()));
        let Channel::Local { peer_uid: Some(uid) } = *channel else { return Err(unknown()) };
        let name = match self.gate.lookups.run(move || lookup::user_name(uid)).await {
            Some(Ok(Some(name))) => name,
            Some(Ok(None)) | None => return Err(unknown()),
            Some(Err(error)) => {
                tracing::warn!(uid, %error, "cannot look up the name of a user of the system");
                return Err(unknown());
            }
        };
        if self.config.access.maps.permits(rule.options.map.as_deref(), &name, &self.startup.user) {
            return Ok(());
        }
        Err(denied(self.failed("Peer"), Denial::OtherPeer { system: name, place: place() }))
    }

    /// Who has proved who he is still has to be in the configuration, as with `trust`.
    fn known(&self, method: &str, rule: &Rule) -> Result<Proving<'a>, Rejected> {
        match self.config.user(&self.startup.user) {
            Some(_) => Ok(Proving::Done),
            None => Err(denied(self.failed(method), Denial::UnknownUser(rule.place.clone()))),
        }
    }

    fn failed(&self, method: &str) -> String {
        format!("{method} authentication failed for user \"{}\"", self.startup.user)
    }

    /// PAM's service by a rule.
    async fn service(&self, channel: &Channel, rule: &Rule) -> Service {
        let host = match channel {
            Channel::Local { .. } => None,
            Channel::Plain { peer } | Channel::Tls { peer, .. } if !rule.options.pam_use_hostname => {
                Some(peer.to_string())
            }
            Channel::Plain { peer } | Channel::Tls { peer, .. } => match self.host_name(channel).await {
                HostName::Confirmed(name) => Some(name),
                HostName::Unasked | HostName::None | HostName::Unknown => Some(peer.to_string()),
            },
        };
        let name = rule.options.pam_service.as_deref().unwrap_or("postgresql");
        Service { name: name.to_owned(), host }
    }

    /// PAM's service by `auth_type`; the name is PgBouncer's.
    pub(super) fn usual_service(&self, stream: &Stream) -> Service {
        let host = match channel(stream, &self.visitor.peer) {
            Channel::Local { .. } => None,
            Channel::Plain { peer } | Channel::Tls { peer, .. } => Some(peer.to_string()),
        };
        Service { name: "pgbouncer".to_owned(), host }
    }

    /// Has PAM check a password.
    #[cfg(feature = "pam")]
    pub(super) async fn ask_pam(&self, service: Service, password: Password) -> Result<(), Rejected> {
        use super::pam::{PamError, Question, check};
        let Service { name: service, host } = service;
        let question = Question { service, user: self.startup.user.clone(), password, host };
        let checked = self.gate.checks.run(move || check(question)).await.unwrap_or(Err(PamError::Lost));
        checked.map_err(|error| denied(self.failed("PAM"), Denial::Pam(error)))
    }

    /// Never reached: a configuration that needs this is refused.
    #[cfg(not(feature = "pam"))]
    #[expect(clippy::unused_async, reason = "the same as with the feature")]
    pub(super) async fn ask_pam(&self, _: Service, _: Password) -> Result<(), Rejected> {
        Err(denied(self.failed("PAM"), Denial::NotBuilt))
    }

    /// Has the directory check a password.
    #[cfg(feature = "ldap")]
    pub(super) async fn ask_directory(&self, directory: &Directory, password: &Password) -> Result<(), Rejected> {
        let asked = super::directory::check(directory, &self.startup.user, password).await;
        asked.map_err(|error| denied(self.failed("LDAP"), Denial::Directory(error)))
    }

    /// Never reached: a configuration that needs this is refused.
    #[cfg(not(feature = "ldap"))]
    #[expect(clippy::unused_async, reason = "the same as with the feature")]
    pub(super) async fn ask_directory(&self, _: &Directory, _: &Password) -> Result<(), Rejected> {
        Err(denied(self.failed("LDAP"), Denial::NotBuilt))
    }

    /// PostgreSQL's words for a client that the rules do not let in.
    fn refused(&self, channel: &Channel, denial: Denial) -> Rejected {
        let begin = match denial {
            Denial::NoRule => "no pg_hba.conf entry for",
            _ => "pg_hba.conf rejects connection for",
        };
        let (host, encryption) = match channel {
            Channel::Local { .. } => ("[local]".to_owned(), "no encryption"),
            Channel::Plain { peer } => (peer.to_string(), "no encryption"),
            Channel::Tls { peer, .. } => (peer.to_string(), "SSL encryption"),
        };
        let Startup { user, database, .. } = self.startup;
        let message = format!("{begin} host \"{host}\", user \"{user}\", database \"{database}\", {encryption}");
        let report = Report::fatal(sqlstate::INVALID_AUTHORIZATION, message).hint(HINT);
        Rejected::Denied { report, reason: Box::new(denial) }
    }
}

/// How a client is connected.
fn channel(stream: &Stream, peer: &Endpoint) -> Channel {
    match peer {
        Endpoint::Tcp(address) => {
            let peer = address.ip().to_canonical();
            match stream.session() {
                Some(session) => Channel::Tls { peer, certificate: certificate(session) },
                None => Channel::Plain { peer },
            }
        }
        Endpoint::Unix { .. } => Channel::Local { peer_uid: stream.peer_uid() },
    }
}

fn denied(message: String, reason: Denial) -> Rejected {
    let report = Report::fatal(sqlstate::INVALID_AUTHORIZATION, message);
    Rejected::Denied { report, reason: Box::new(reason) }
}

/// The names in the client's certificate, which was verified in the handshake.
fn certificate(session: &Session) -> Option<ClientCertificate> {
    let shown = Certificate::parse(session.client_certificate.as_deref()?)?;
    Some(ClientCertificate { common_name: shown.common_name(), distinguished_name: shown.subject()? })
}
