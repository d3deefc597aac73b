//! Fuzz target: any text as a file of rules and as one of maps.

use std::io;
use std::path::{Path, PathBuf};

use super::{Channel, Decision, Facts, Fault, Files, IdentMaps, Rule, Rules, Surroundings, read_maps, read_rules};

/// The file that is read.
const NAME: &str = "/d/file";

/// One file, which may name itself, and another one, `/d/x.conf`, with the second half of its text.
struct Pair<'a>(&'a str, &'a str);

impl Files for Pair<'_> {
    fn read(&self, path: &Path) -> io::Result<String> {
        match path.to_str() {
            Some(NAME) => Ok(self.0.to_owned()),
            Some("/d/x.conf") => Ok(self.1.to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        if directory == Path::new("/d") { Ok(vec!["/d/x.conf".into()]) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}

/// Files of rules and of maps: a file is read as a whole or refused with the places of its mistakes; what is printed
/// reads back as the same; and the first rule that fits counts.
///
/// # Panics
/// Where that is not so.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (first, second) = text.split_once('\u{1}').unwrap_or((&text, ""));
    let files = Pair(first, second);
    match read_rules(Path::new(NAME), &files) {
        Ok(rules) => {
            assert!(!rules.0.is_empty());
            rules.0.iter().for_each(reads_back);
            decides(&rules);
        }
        Err(faults) => placed(&faults, first, second),
    }
    match read_maps(Path::new(NAME), &files) {
        Ok(maps) => mapped(&maps),
        Err(faults) => placed(&faults, first, second),
    }
}

fn placed(faults: &[Fault], first: &str, second: &str) {
    assert!(!faults.is_empty());
    for fault in faults {
        let text = if fault.file == Path::new(NAME) { first } else { second };
        let lines = text.split('\n').count();
        assert!(fault.line.is_none_or(|line| (1..=lines).contains(&line)), "{fault}");
        assert!(!fault.to_string().is_empty());
    }
}

fn reads_back(rule: &Rule) {
    // A column of an empty `@` file cannot be written, nor can the options of `ldap`, which hold a password.
    if rule.options.directory.is_some() || rule.databases.is_empty() || rule.users.is_empty() {
        return;
    }
    let printed = rule.to_string();
    let again = read_rules(Path::new(NAME), &Pair(&printed, ""));
    let again = again.as_ref().map(|rules| rules.0.as_slice());
    assert!(matches!(again, Ok([again]) if again.says(rule)), "{printed}: {again:?}");
}

fn mapped(maps: &IdentMaps) {
    for mapping in &maps.0 {
        let printed = mapping.to_string();
        let again = read_maps(Path::new(NAME), &Pair(&printed, ""));
        assert!(
            matches!(&again, Ok(IdentMaps(again)) if again.as_slice() == [mapping.clone()]),
            "{printed}: {again:?}"
        );
        assert!(maps.has(&mapping.map));
        let _ = maps.permits(Some(&mapping.map), "ann@example", "ann");
    }
    assert!(maps.permits(None, "ann", "ann") && !maps.permits(None, "ann", "bob"));
}

/// The rule that counts is one of the file, and none before it counts by itself.
fn decides(rules: &Rules) {
    let peer = std::net::IpAddr::from([10, 0, 0, 1]);
    let unknown = Surroundings::default();
    let channels = [Channel::Local { peer_uid: None }, Channel::Plain { peer }];
    for (channel, database) in channels.iter().flat_map(|channel| ["a", "ann"].map(|database| (channel, database))) {
        let databases = [database];
        let facts = Facts { channel, databases: &databases, user: "ann", replication: database == "a" };
        let Decision::Rule(found) = rules.decide(&facts, &unknown) else { continue };
        let before = rules.0.iter().take_while(|rule| !std::ptr::eq(*rule, found)).cloned();
        let before = Rules(before.collect());
        assert!(before.0.len() < rules.0.len(), "a rule from elsewhere");
        assert!(!matches!(before.decide(&facts, &unknown), Decision::Rule(_) | Decision::InDoubt(_)));
    }
}
