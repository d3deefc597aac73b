//! Which rule counts for a client: the first that fits.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::address::{Address, Network};
use super::ident::IdentMaps;
use super::name::{DatabaseName, UserName};
use super::option::{CertificateName, ClientCert};
use super::rule::{Kind, Method, Rule};
use super::{HostPattern, Rules};

/// How a client is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Channel {
    /// By a Unix socket.
    Local {
        /// The user id of its process, as the kernel tells.
        peer_uid: Option<u32>,
    },
    /// By TCP, without encryption.
    Plain {
        /// Its address.
        peer: IpAddr,
    },
    /// By TCP with TLS.
    Tls {
        /// Its address.
        peer: IpAddr,
        /// Its certificate, if it has shown one of a trusted authority.
        certificate: Option<ClientCertificate>,
    },
}

/// The names in a client's certificate, which was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The common name of its subject.
    pub common_name: Option<String>,
    /// The distinguished name of its subject, as RFC 2253 writes it.
    pub distinguished_name: String,
}

/// What a client says of itself, and what is known of it.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// How it is connected.
    pub channel: &'a Channel,
    /// The names of the database that it asks for, the one that it gave first. Only the console has more than one.
    pub databases: &'a [&'a str],
    /// The user that it wants to be.
    pub user: &'a str,
    /// Whether it asks for physical replication.
    pub replication: bool,
}

/// What only the system, or PostgreSQL, knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The name of the client's address.
    pub name: HostName,
    /// The addresses of this machine.
    pub interfaces: Interfaces,
    /// The roles that the user is a member of.
    pub memberships: Memberships,
}

/// The name of a client's address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostName {
    /// Nobody has asked yet.
    #[default]
    Unasked,
    /// The address has this name, and the name has this address.
    Confirmed(String),
    /// It has none, or one that belongs to another address.
    None,
    /// It could not be looked up.
    Unknown,
}

/// The addresses of this machine, with their masks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Interfaces {
    /// Nobody has asked yet.
    #[default]
    Unasked,
    /// These.
    Known(Vec<(IpAddr, IpAddr)>),
    /// The system does not tell.
    Unknown,
}

/// The roles that the user is a member of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Memberships {
    /// Nobody has asked yet.
    #[default]
    Unasked,
    /// These, direct and indirect ones and the user's own; none where PostgreSQL has no such user.
    Known(Arc<BTreeSet<Box<str>>>),
}

impl Memberships {
    /// Whether the role is one of them.
    pub(super) fn include(&self, role: &str) -> Option<bool> {
        match self {
            Self::Unasked => None,
            Self::Known(roles) => Some(roles.contains(role)),
        }
    }
}

/// What the rules say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// This rule counts.
    Rule(&'a Rule),
    /// This rule rejects, and whether it is about the client could not be found out.
    InDoubt(&'a Rule),
    /// No rule fits.
    NoRule,
    /// Tell the name of the client's address and ask again.
    NeedsHostName,
    /// Tell the addresses of this machine and ask again.
    NeedsInterfaces,
    /// Tell the roles that the user is a member of and ask again. Where they cannot be found out, nobody may be let in:
    /// the rules that follow are for those whom this one is not about.
    NeedsMemberships,
}

/// Whether a rule is about a client.
enum Fit {
    Yes,
    No,
    Unknown,
    NeedsHostName,
    NeedsInterfaces,
    NeedsMemberships,
}

impl Rules {
    /// The rule that counts.
    pub fn decide(&self, facts: &Facts<'_>, surroundings: &Surroundings) -> Decision<'_> {
        for rule in &self.0 {
            match rule.fit(facts, surroundings) {
                Fit::Yes => return Decision::Rule(rule),
                Fit::No => {}
                // A rule that might have rejected must not be passed over.
                Fit::Unknown if rule.method == Method::Reject => return Decision::InDoubt(rule),
                Fit::Unknown => {}
                Fit::NeedsHostName => return Decision::NeedsHostName,
                Fit::NeedsInterfaces => return Decision::NeedsInterfaces,
                Fit::NeedsMemberships => return Decision::NeedsMemberships,
            }
        }
        Decision::NoRule
    }
}

impl Rule {
    fn fit(&self, facts: &Facts<'_>, surroundings: &Surroundings) -> Fit {
        let peer = match (self.kind, facts.channel) {
            (Kind::Local, Channel::Local { .. }) => None,
            (Kind::Host | Kind::HostNoGssEnc, Channel::Plain { peer } | Channel::Tls { peer, .. }) => Some(*peer),
            (Kind::HostSsl, Channel::Tls { peer, .. }) => Some(*peer),
            (Kind::HostNoSsl, Channel::Plain { peer }) => Some(*peer),
            // There is no GSSAPI encryption here.
            (Kind::HostGssEnc, _) => return Fit::No,
            (Kind::Local, Channel::Plain { .. } | Channel::Tls { .. }) => return Fit::No,
            (Kind::Host | Kind::HostNoGssEnc | Kind::HostSsl | Kind::HostNoSsl, Channel::Local { .. }) => {
                return Fit::No;
            }
            (Kind::HostSsl, Channel::Plain { .. }) | (Kind::HostNoSsl, Channel::Tls { .. }) => return Fit::No,
        };
        // Names before addresses, which may have to be looked up; and nobody is asked for memberships where the address
        // does not fit.
        let memberships = &surroundings.memberships;
        let databases = any(self.databases.iter().map(|name| name.covers(facts, memberships)));
        let users = any(self.users.iter().map(|name| name.covers(facts.user, memberships)));
        if databases == Some(false) || users == Some(false) {
            return Fit::No;
        }
        match peer.map_or(Fit::Yes, |peer| self.address.fit(peer, surroundings)) {
            Fit::No => Fit::No,
            _ if databases.is_none() || users.is_none() => Fit::NeedsMemberships,
            fit => fit,
        }
    }

    /// A name of this rule that needs memberships, and what to write where they cannot be had.
    #[must_use]
    pub fn membership(&self) -> Option<(String, &'static str)> {
        let same = self.databases.contains(&DatabaseName::SameRole).then(|| {
            ("samerole".to_owned(), "write the names, or sameuser where each user has a database of his name")
        });
        let member = |name: &UserName| match name {
            UserName::Member(role) => {
                Some((format!("+{role}"), "write the names of the members, or @file for a file of them"))
            }
            UserName::All | UserName::Name(_) | UserName::Pattern(_) => None,
        };
        same.or_else(|| self.users.iter().find_map(member))
    }

    /// Whether the client's certificate is what the rule asks for besides the method: none, unless `clientcert` or the
    /// method `cert` ask for one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_certificate(&self, facts: &Facts<'_>, maps: &IdentMaps) -> Result<(), CertificateError> {
        let Some(wanted) = self.options.clientcert else { return Ok(()) };
        let Channel::Tls { certificate: Some(certificate), .. } = facts.channel else {
            return Err(CertificateError::Missing);
        };
        if wanted == ClientCert::VerifyCa {
            return Ok(());
        }
        let name = match self.options.clientname {
            CertificateName::Common => certificate.common_name.as_deref().ok_or(CertificateError::NoName)?,
            CertificateName::Distinguished => certificate.distinguished_name.as_str(),
        };
        if maps.permits(self.options.map.as_deref(), name, facts.user) {
            Ok(())
        } else {
            Err(CertificateError::OtherUser)
        }
    }
}

/// Whether one of them is so; `None` where that depends on one that is not known.
fn any(mut answers: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut sure = true;
    let found = answers.any(|answer| {
        sure &= answer.is_some();
        answer == Some(true)
    });
    (found || sure).then_some(found)
}

/// Why a client's certificate does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It has shown none of a trusted authority.
    #[error("connection requires a valid client certificate")]
    Missing,
    /// Its subject has no common name.
    #[error("the client's certificate has no common name")]
    NoName,
    /// It is another user's.
    #[error("the client's certificate is for another user")]
    OtherUser,
}

impl Address {
    fn fit(&self, peer: IpAddr, surroundings: &Surroundings) -> Fit {
        let known = |fits: bool| if fits { Fit::Yes } else { Fit::No };
        match self {
            Self::All => Fit::Yes,
            Self::Network(network) => known(network.contains(peer)),
            Self::SameHost | Self::SameNet => match &surroundings.interfaces {
                Interfaces::Unasked => Fit::NeedsInterfaces,
                Interfaces::Unknown => Fit::Unknown,
                Interfaces::Known(interfaces) => known(interfaces.iter().any(|(address, mask)| {
                    let network = match self {
                        Self::SameNet => Network::new(*address, *mask),
                        _ => Some(Network::single(*address)),
                    };
                    network.is_some_and(|network| network.contains(peer))
                })),
            },
            Self::Host(pattern) => fit_name(pattern, &surroundings.name),
        }
    }
}

fn fit_name(pattern: &HostPattern, name: &HostName) -> Fit {
    match name {
        HostName::Unasked => Fit::NeedsHostName,
        HostName::Confirmed(name) if pattern.matches(name) => Fit::Yes,
        HostName::Confirmed(_) | HostName::None => Fit::No,
        HostName::Unknown => Fit::Unknown,
    }
}
