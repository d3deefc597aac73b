//! Files that include files: from a path to all of its lines, in their order.
//!
//! `@name` in a column stands for the names in another file; `include`, `include_if_exists` and `include_dir` on a line of
//! their own for its lines. Names are relative to the file that has them. Files may nest ten deep and not in circles.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::mistake::{Fault, Mistake};
use super::rule::Place;
use super::token::{Token, fields, whole_lines};

/// How deep files may include each other, as in PostgreSQL.
const DEPTH: usize = 10;

/// What files are read through.
pub trait Files {
    /// The text of a file.
    ///
    /// # Errors
    /// The system's error; `NotFound` where there is no such file.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// The files of a directory, in any order.
    ///
    /// # Errors
    /// The system's error.
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;
}

/// A line with its columns. A column is empty only where an `@` file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) place: Place,
    pub(super) fields: Vec<Vec<Token>>,
}

impl Line {
    pub(super) fn fault(&self, mistake: Mistake) -> Fault {
        Fault { file: self.place.file.to_path_buf(), line: Some(self.place.line), mistake }
    }
}

/// All lines of the file at `path`, those of included files in the place of the line that includes them, and what is
/// wrong with them. Lines with a mistake are left out.
pub(super) fn lines(path: &Path, files: &dyn Files) -> (Vec<Line>, Vec<Fault>) {
    let mut reader = Reader { files, open: Vec::new(), lines: Vec::new(), faults: Vec::new() };
    if let Err(mistake) = reader.file(path) {
        reader.faults.push(Fault { file: path.to_path_buf(), line: None, mistake });
    }
    (reader.lines, reader.faults)
}

struct Reader<'a> {
    files: &'a dyn Files,
    /// The files that are being read, the outermost first.
    open: Vec<PathBuf>,
    lines: Vec<Line>,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    /// Reads a file; an error is about the file itself, and its place is where it was named.
    fn file(&mut self, path: &Path) -> Result<(), Mistake> {
        if self.open.iter().any(|open| open == path) {
            return Err(Mistake::Loop(path.to_path_buf()));
        }
        if self.open.len() > DEPTH {
            return Err(Mistake::TooDeep);
        }
        let text = self.files.read(path).map_err(|error| unreadable(path, error))?;
        self.open.push(path.to_path_buf());
        let file: Arc<Path> = Arc::from(path);
        for whole in whole_lines(&text) {
            let place = Place { file: Arc::clone(&file), line: whole.number };
            if let Err(mistake) = self.line(&place, &whole.text) {
                self.faults.push(Fault { file: path.to_path_buf(), line: Some(whole.number), mistake });
            }
        }
        self.open.pop();
        Ok(())
    }

    fn line(&mut self, place: &Place, text: &str) -> Result<(), Mistake> {
        let fields = fields(text)?;
        if let [first, second] = fields.as_slice()
            && let ([first], [second]) = (first.as_slice(), second.as_slice())
        {
            let path = beside(&place.file, &second.text);
            match first.text.as_str() {
                "include" => return self.file(&path),
                "include_if_exists" => return self.file_if_exists(&path),
                "include_dir" => return self.directory(&path),
                _ => {}
            }
        }
        let mut columns = Vec::new();
        let before = self.faults.len();
        for field in fields {
            let mut column = Vec::new();
            for token in field {
                match token.text.strip_prefix('@').filter(|name| !token.quoted && !name.is_empty()) {
                    Some(name) => column.extend(self.names(&beside(&place.file, name))?),
                    None => column.push(token),
                }
            }
            columns.push(column);
        }
        // What is wrong in an `@` file was said there.
        if !columns.is_empty() && self.faults.len() == before {
            self.lines.push(Line { place: place.clone(), fields: columns });
        }
        Ok(())
    }

    /// Every token of an `@` file.
    fn names(&mut self, path: &Path) -> Result<Vec<Token>, Mistake> {
        let outer = std::mem::take(&mut self.lines);
        let read = self.file(path);
        let inner = std::mem::replace(&mut self.lines, outer);
        read?;
        Ok(inner.into_iter().flat_map(|line| line.fields).flatten().collect())
    }

    fn file_if_exists(&mut self, path: &Path) -> Result<(), Mistake> {
        match self.files.read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Ok(_) | Err(_) => self.file(path),
        }
    }

    /// The files of a directory that end in `.conf` and do not begin with a dot, by name.
    fn directory(&mut self, path: &Path) -> Result<(), Mistake> {
        let mut found = self.files.list(path).map_err(|error| unreadable(path, error))?;
        let wanted = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            !name.starts_with('.') && name.len() > ".conf".len() && name.ends_with(".conf")
        };
        found.retain(wanted);
        found.sort();
        found.iter().try_for_each(|path| self.file(path))
    }
}

fn unreadable(path: &Path, error: io::Error) -> Mistake {
    Mistake::Unreadable { path: path.to_path_buf(), error: error.into() }
}

/// `name` as seen from the directory of `file`.
fn beside(file: &Path, name: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(name)
}
