//! The options behind a rule's method, `name=value`.

use super::ldap::{Directory, LdapOptions};
use super::mistake::Mistake;
use super::rule::{Kind, Method};
use super::token::Token;

/// What the options of a rule say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `map=`: the map between the user that the system or the certificate names and the user of the database.
    pub map: Option<String>,
    /// `clientcert=`: the certificate that the client needs besides what the method asks for. With `cert` it is always
    /// there.
    pub clientcert: Option<ClientCert>,
    /// `clientname=`: which name of the certificate counts.
    pub clientname: CertificateName,
    /// `ldap...=`: the directory that checks passwords; always there with `ldap`.
    pub directory: Option<Directory>,
    /// `pamservice=`: the service of PAM; unset = `postgresql`, as in PostgreSQL.
    pub pam_service: Option<String>,
    /// `pam_use_hostname=`: whether PAM is told the name of the client's address instead of the address.
    pub pam_use_hostname: bool,
}

/// What a client's certificate has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCert {
    /// `verify-ca`: of a trusted authority.
    VerifyCa,
    /// `verify-full`: and with the user's name in it.
    VerifyFull,
}

/// Which name of a certificate counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertificateName {
    /// `CN`, the common name.
    #[default]
    Common,
    /// `DN`, the whole distinguished name.
    Distinguished,
}

const KNOWN: [&str; 5] = ["map", "clientcert", "clientname", "pamservice", "pam_use_hostname"];

impl Options {
    /// Reads what follows a method. Of an option that is given twice the last one counts, as in PostgreSQL.
    pub(super) fn parse<'a>(
        tokens: impl Iterator<Item = &'a Token>,
        kind: Kind,
        method: Method,
    ) -> Result<Self, Mistake> {
        let mut options = Self::default();
        let mut ldap = LdapOptions::default();
        for token in tokens {
            let (name, value) = match token.text.split_once('=') {
                Some(option) => option,
                None if method == Method::Ldap => return Err(Mistake::NoLdapOption),
                None => return Err(Mistake::NoOption(token.text.clone())),
            };
            match LdapOptions::NAMES.iter().find(|known| **known == name) {
                Some(_) if method == Method::Ldap => ldap.take(name, value)?,
                Some(option) => return Err(Mistake::OptionOfOther { option, methods: "ldap" }),
                None => options.take(name, value, (kind, method))?,
            }
        }
        if method == Method::Ldap {
            options.directory = Some(ldap.finish()?);
        }
        if method == Method::Cert {
            match options.clientcert {
                Some(ClientCert::VerifyCa) => return Err(Mistake::CertNeedsFull),
                Some(ClientCert::VerifyFull) | None => options.clientcert = Some(ClientCert::VerifyFull),
            }
        }
        Ok(options)
    }

    fn take(&mut self, name: &str, value: &str, (kind, method): (Kind, Method)) -> Result<(), Mistake> {
        match name {
            "map" if matches!(method, Method::Peer | Method::Cert) => {
                self.map = (!value.is_empty()).then(|| value.to_owned());
            }
            "map" => return Err(Mistake::OptionOfOther { option: "map", methods: "peer and cert" }),
            "clientcert" if kind != Kind::HostSsl => return Err(Mistake::TlsOption("clientcert")),
            "clientcert" => {
                self.clientcert = Some(match value {
                    "verify-ca" => ClientCert::VerifyCa,
                    "verify-full" => ClientCert::VerifyFull,
                    _ => return Err(Mistake::Value { option: "clientcert", choices: "verify-ca or verify-full" }),
                });
            }
            "clientname" if kind != Kind::HostSsl => return Err(Mistake::TlsOption("clientname")),
            "clientname" => {
                self.clientname = match value {
                    "CN" => CertificateName::Common,
                    "DN" => CertificateName::Distinguished,
                    _ => return Err(Mistake::Value { option: "clientname", choices: "CN or DN" }),
                };
            }
            "pamservice" if method == Method::Pam && !value.is_empty() && !value.contains('/') => {
                self.pam_service = Some(value.to_owned());
            }
            "pamservice" if method == Method::Pam => {
                return Err(Mistake::Value { option: "pamservice", choices: "the name of a file in /etc/pam.d" });
            }
            "pamservice" => return Err(Mistake::OptionOfOther { option: "pamservice", methods: "pam" }),
            "pam_use_hostname" if method == Method::Pam => {
                self.pam_use_hostname = match value {
                    "1" => true,
                    "0" => false,
                    _ => return Err(Mistake::Value { option: "pam_use_hostname", choices: "0 or 1" }),
                };
            }
            "pam_use_hostname" => {
                return Err(Mistake::OptionOfOther { option: "pam_use_hostname", methods: "pam" });
            }
            _ => return Err(unknown(name)),
        }
        Ok(())
    }
}

pub(super) fn unknown(name: &str) -> Mistake {
    let near = |known: &&&str| strsim::osa_distance(name, known) <= 2;
    let nearest = KNOWN.iter().chain(&LdapOptions::NAMES).find(near).copied();
    Mistake::Option { name: name.to_owned(), nearest }
}
