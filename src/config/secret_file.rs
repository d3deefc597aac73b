//! `password_file`: a secret in a file of its own, where it may be replaced at any time.
//!
//! [`SecretFiles`] tells which files have changed since it looked last; what cannot be read leaves the secret that is
//! known in force. No message repeats what is in a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::config::check::beside;
use crate::config::secret::Secret;
use crate::config::{Config, Database, User};

/// Longest secret, bytes. There are none of that length, but there are files that never end.
const LONGEST: u64 = 1 << 20;

/// Why there is no secret in a file.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// It cannot be read, or is no text.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
    /// It holds a zero byte, which no PostgreSQL message can carry.
    #[error("it holds a zero byte")]
    ZeroByte,
    /// It is longer than any secret.
    #[error("it is longer than 1 MiB")]
    Long,
}

/// Reads the secret of a file: all of it but the line ends at its end.
pub(super) fn read(path: &Path) -> Result<Secret, SecretFileError> {
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        return Err(SecretFileError::Long);
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    match text.trim_end_matches(['\n', '\r']) {
        "" => Err(SecretFileError::Empty),
        secret if secret.contains('\0') => Err(SecretFileError::ZeroByte),
        secret => Ok(Secret::new(secret)),
    }
}

/// What tells one content of a file from the next without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Face {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Face {
    fn of(path: &Path) -> Option<Face> {
        let data = fs::metadata(path).ok()?;
        Some(Face {
            device: data.dev(),
            inode: data.ino(),
            size: data.size(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        })
    }
}

/// How the files looked the last time.
#[derive(Debug, Default)]
pub struct SecretFiles {
    seen: BTreeMap<PathBuf, Option<Face>>,
}

impl SecretFiles {
    /// Reads the files of a configuration that have changed since the last look, at the first look all. A file that
    /// changes while it is read is read again at the next look.
    pub fn look(&mut self, config: &Config) -> Vec<(PathBuf, Result<Secret, SecretFileError>)> {
        let files = config.secret_files();
        self.seen.retain(|path, _| files.contains(path));
        let mut found = Vec::new();
        for path in files {
            let face = Face::of(&path);
            if self.seen.get(&path) != Some(&face) {
                self.seen.insert(path.clone(), face);
                let secret = read(&path);
                found.push((path, secret));
            }
        }
        found
    }
}

impl Config {
    /// The files of `password_file` settings.
    pub fn secret_files(&self) -> BTreeSet<PathBuf> {
        let users = self.users.values().filter_map(|user| user.password_file.as_deref());
        let databases = self.databases.values().chain(&self.fallback);
        let files = users.chain(databases.filter_map(|database| database.password_file.as_deref()));
        files.map(|file| beside(&self.path, file)).collect()
    }

    /// The same configuration with what these files hold now, and the sections that it changes; `None` if it changes
    /// none.
    pub fn with_secrets(&self, secrets: &BTreeMap<PathBuf, Secret>) -> Option<(Config, Vec<String>)> {
        let of = |file: Option<&Path>| secrets.get(&beside(&self.path, file?));
        let mut new = self.clone();
        let mut changed = Vec::new();
        for user in new.users.values_mut() {
            let secret = of(user.password_file.as_deref()).filter(|secret| user.password.as_ref() != Some(secret));
            if let Some(secret) = secret {
                changed.push(format!("users.{}", user.name));
                *user = Arc::new(User { password: Some(secret.clone()), ..User::clone(user) });
            }
        }
        for database in new.databases.values_mut().chain(&mut new.fallback) {
            let secret =
                of(database.password_file.as_deref()).filter(|secret| database.password.as_ref() != Some(secret));
            if let Some(secret) = secret {
                changed.push(format!("databases.{}", database.name));
                *database = Arc::new(Database { password: Some(secret.clone()), ..Database::clone(database) });
            }
        }
        (!changed.is_empty()).then_some((new, changed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &[u8]) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, text).unwrap();
        read(&path).map(|secret| secret.expose().to_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_line_end_is_not_part_of_a_secret() {
        let long = "x".repeat(10_000);
        for (text, expected) in [("pw", "pw"), ("pw\n", "pw"), ("pw\r\n\n", "pw"), (" p w \n", " p w "), (&long, &long)]
        {
            assert_eq!(secret(text.as_bytes()).as_deref(), Ok(expected));
        }
        for (text, expected) in [("", "it is empty"), ("\n", "it is empty"), ("p\0w", "it holds a zero byte")] {
            assert_eq!(secret(text.as_bytes()), Err(expected.to_owned()));
        }
        assert!(secret(b"\xff").is_err());
        assert_eq!(secret(&vec![b'x'; (1 << 20) + 1]), Err("it is longer than 1 MiB".to_owned()));
        assert!(read(Path::new("/nonexistent/secret")).is_err());
    }

    #[test]
    fn only_what_has_changed_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("one", "1");
        write("two", "2");
        let text = "[databases.a]\nuser = \"u\"\npassword_file = \"two\"\n[users.u]\npassword_file = \"one\"\n";
        let config = Config::parse(text, &dir.path().join("pgpool.toml")).unwrap().config;
        assert_eq!(config.user("u").unwrap().password.as_ref().unwrap().expose(), "1");
        assert_eq!(config.forced_secret(&config.databases["a"]).unwrap().expose(), "2");
        let mut files = SecretFiles::default();
        let changes = |files: &mut SecretFiles, config: &Config| {
            let found = files.look(config);
            let secrets = found.into_iter().filter_map(|(path, secret)| Some((path, secret.ok()?))).collect();
            config.with_secrets(&secrets)
        };
        assert!(changes(&mut files, &config).is_none(), "they are as they were loaded");
        assert!(files.look(&config).is_empty());
        write("two", "another");
        let (config, changed) = changes(&mut files, &config).unwrap();
        assert_eq!(changed, ["databases.a"]);
        assert_eq!(config.forced_secret(&config.databases["a"]).unwrap().expose(), "another");
        // Replaced by another file of the same size, as secrets are rotated.
        write("fresh", "3");
        fs::rename(dir.path().join("fresh"), dir.path().join("one")).unwrap();
        let (config, changed) = changes(&mut files, &config).unwrap();
        assert_eq!(changed, ["users.u"]);
        // One that is gone leaves the secret in force.
        fs::remove_file(dir.path().join("one")).unwrap();
        assert!(files.look(&config)[0].1.is_err());
        assert!(files.look(&config).is_empty(), "said once");
        assert_eq!(config.user("u").unwrap().password.as_ref().unwrap().expose(), "3");
    }
}
