//! Rules and maps as text again. What is printed reads back as the same, but for the options of `ldap`, which may hold a
//! password; every name is quoted, so that none is taken for a keyword.

use std::fmt;

use super::address::Address;
use super::ident::{DatabaseUser, Mapping, SystemUser};
use super::name::{DatabaseName, UserName};
use super::option::{CertificateName, ClientCert};
use super::pattern::Pattern;
use super::rule::{Kind, Method, Rule};

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = Kind::NAMES.iter().find(|(_, kind)| *kind == self.kind).map_or("", |(name, _)| name);
        write!(f, "{kind} {} {}", List(&self.databases), List(&self.users))?;
        match &self.address {
            _ if self.kind == Kind::Local => {}
            Address::All => f.write_str(" all")?,
            Address::SameHost => f.write_str(" samehost")?,
            Address::SameNet => f.write_str(" samenet")?,
            Address::Network(network) => {
                let (address, mask) = network.parts();
                write!(f, " {address} {mask}")?;
            }
            Address::Host(pattern) => write!(f, " {}", Quoted("", pattern.as_str()))?,
        }
        let method = Method::NAMES.iter().find(|(_, method)| *method == self.method).map_or("", |(name, _)| name);
        write!(f, " {method}")?;
        if let Some(map) = &self.options.map {
            write!(f, " {}", Quoted("map=", map))?;
        }
        match self.options.clientcert {
            Some(ClientCert::VerifyCa) => f.write_str(" clientcert=verify-ca")?,
            Some(ClientCert::VerifyFull) => f.write_str(" clientcert=verify-full")?,
            None => {}
        }
        if self.options.clientname == CertificateName::Distinguished {
            f.write_str(" clientname=DN")?;
        }
        if let Some(service) = &self.options.pam_service {
            write!(f, " {}", Quoted("pamservice=", service))?;
        }
        if self.options.pam_use_hostname {
            f.write_str(" pam_use_hostname=1")?;
        }
        match &self.options.directory {
            // Its options hold a password.
            Some(directory) => write!(f, " # {directory}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", Quoted("", &self.map))?;
        match &self.system {
            SystemUser::Name(name) => write!(f, "{} ", Quoted("", name))?,
            SystemUser::Pattern(pattern) => write!(f, "{pattern} ")?,
        }
        match &self.user {
            DatabaseUser::Group(before, after) => write!(f, "{}", Quoted("", &format!("{before}\\1{after}"))),
            DatabaseUser::Fixed(name) => name.fmt(f),
        }
    }
}

impl fmt::Display for DatabaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::SameUser => f.write_str("sameuser"),
            Self::SameRole => f.write_str("samerole"),
            Self::Replication => f.write_str("replication"),
            Self::Name(name) => Quoted("", name).fmt(f),
            Self::Pattern(pattern) => pattern.fmt(f),
        }
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Member(role) => write!(f, "+{}", Quoted("", role)),
            Self::Name(name) => Quoted("", name).fmt(f),
            Self::Pattern(pattern) => pattern.fmt(f),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Quoted("/", self.expression()).fmt(f)
    }
}

/// A column; one without values is that of an empty `@` file, which cannot be written otherwise.
struct List<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, value) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            value.fmt(f)?;
        }
        Ok(())
    }
}

/// Two texts as one quoted token.
struct Quoted<'a>(&'a str, &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = |text: &str| text.replace('"', "\"\"");
        write!(f, "\"{}{}\"", quote(self.0), quote(self.1))
    }
}
