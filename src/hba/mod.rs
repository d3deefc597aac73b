//! Host-based authentication: PostgreSQL's `pg_hba.conf` and `pg_ident.conf`, from text to the rule that counts for one
//! client.
//!
//! Pure: files are read through [`Files`], and what only the system knows (the name of an address, the addresses of this
//! machine), or PostgreSQL (who is a member of which role), is asked for by an answer such as
//! [`Decision::NeedsHostName`], and handed in with [`Surroundings`]. Format and meaning are those of PostgreSQL 16's `hba.c` and of its manual's page
//! "The pg_hba.conf File".
//!
//! Invariants: a file with one mistake is refused as a whole, with every mistake; the first rule that fits counts; and a
//! rule never admits a client because something was not known: without the memberships that a rule needs no later one
//! counts, and a `reject` whose address could not be looked up rejects.

mod address;
mod field;
mod fuzz;
mod ident;
mod ldap;
mod matching;
mod mistake;
mod name;
mod option;
mod pattern;
mod print;
mod rule;
mod source;
#[cfg(test)]
mod tests;
mod token;

use std::path::Path;

#[doc(hidden)]
pub use fuzz::fuzz;

pub use address::{Address, HostPattern, Network};
pub use ident::{IdentMaps, Mapping};
pub use ldap::{Directory, Entry, Scope, filter_for};
pub use matching::{
    CertificateError, Channel, ClientCertificate, Decision, Facts, HostName, Interfaces, Memberships, Surroundings,
};
pub use mistake::{Fault, Mistake};
pub use name::{DatabaseName, UserName};
pub use option::{CertificateName, ClientCert, Options};
pub use pattern::Pattern;
pub use rule::{Kind, Method, Place, Rule};
pub use source::Files;

/// The rules of one `pg_hba.conf`, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules(pub Vec<Rule>);

/// Reads the rules of the file at `path` and of all that it includes.
///
/// # Errors
/// Every mistake in them, in the order of the lines. A file without rules is one as well, as in PostgreSQL.
pub fn read_rules(path: &Path, files: &dyn Files) -> Result<Rules, Vec<Fault>> {
    let (lines, mut faults) = source::lines(path, files);
    let mut rules = Vec::new();
    for line in lines {
        match rule::parse(&line) {
            Ok(rule) => rules.push(rule),
            Err(mistake) => faults.push(line.fault(mistake)),
        }
    }
    if rules.is_empty() && faults.is_empty() {
        faults.push(Fault { file: path.to_path_buf(), line: None, mistake: Mistake::NoRules });
    }
    if faults.is_empty() { Ok(Rules(rules)) } else { Err(sorted(faults)) }
}

/// Reads the maps of the file at `path`, a `pg_ident.conf`, and of all that it includes.
///
/// # Errors
/// Every mistake in them, in the order of the lines.
pub fn read_maps(path: &Path, files: &dyn Files) -> Result<IdentMaps, Vec<Fault>> {
    let (lines, mut faults) = source::lines(path, files);
    let mut mappings = Vec::new();
    for line in lines {
        match ident::parse(&line) {
            Ok(mapping) => mappings.push(mapping),
            Err(mistake) => faults.push(line.fault(mistake)),
        }
    }
    if faults.is_empty() { Ok(IdentMaps(mappings)) } else { Err(sorted(faults)) }
}

/// By line within each file; files stay in the order in which they were first complained about.
fn sorted(mut faults: Vec<Fault>) -> Vec<Fault> {
    let mut order: Vec<std::path::PathBuf> = Vec::new();
    for fault in &faults {
        if !order.contains(&fault.file) {
            order.push(fault.file.clone());
        }
    }
    faults.sort_by_key(|fault| (order.iter().position(|file| *file == fault.file), fault.line));
    faults
}
