//! Tables of lines and clients, files that include files, and properties.

mod files;
mod lines;
mod matching;
mod properties;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::{Fault, Files, IdentMaps, Rules, read_maps, read_rules};

/// Files in memory.
#[derive(Default)]
struct Memory(BTreeMap<PathBuf, String>);

impl Memory {
    fn of(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect())
    }
}

impl Files for Memory {
    fn read(&self, path: &Path) -> io::Result<String> {
        self.0.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let found: Vec<PathBuf> =
            self.0.keys().rev().filter(|path| path.parent() == Some(directory)).cloned().collect();
        if found.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(found) }
    }
}

fn rules(text: &str) -> Result<Rules, Vec<Fault>> {
    read_rules(Path::new("hba"), &Memory::of(&[("hba", text)]))
}

fn maps(text: &str) -> Result<IdentMaps, Vec<Fault>> {
    read_maps(Path::new("ident"), &Memory::of(&[("ident", text)]))
}

/// What is wrong, one per line.
fn faults<T>(read: Result<T, Vec<Fault>>) -> Vec<String> {
    read.err().unwrap_or_default().iter().map(ToString::to_string).collect()
}
