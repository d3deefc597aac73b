//! `pidfile`: the process's id in a file, for as long as it runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// Why the file cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PidFileError {
    /// The process that it names is there.
    #[error(
        "pidfile {} names the process {pid} ({name}), which is running: stop it, or take over from it with -R; if it is \
         no pooler, remove the file",
        path.display()
    )]
    Running {
        /// The file.
        path: PathBuf,
        /// Whom it names.
        pid: i32,
        /// What that is.
        name: String,
    },
    /// The system refused.
    #[error("cannot write pidfile {}: {source}; its directory has to be there and open to the user that pgpool runs as", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// The file; it goes with the value, unless another process has written it since.
#[derive(Debug)]
pub(crate) struct PidFile(PathBuf);

impl PidFile {
    /// Writes it for a process that starts. One that is to take over from `predecessor` writes it when it has; here it
    /// is only looked whether it will be able to.
    pub(crate) fn claim(path: &Path, predecessor: Option<u32>) -> Result<Option<PidFile>, PidFileError> {
        let its = predecessor.filter(|pid| named(path).map(u32::try_from) == Some(Ok(*pid)));
        if its.is_none() {
            return PidFile::write(path, predecessor).map(Some);
        }
        let opened = fs::OpenOptions::new().append(true).open(path);
        opened.map(|_| None).map_err(|source| PidFileError::Io { path: path.to_path_buf(), source })
    }

    /// Writes it, unless it names a process that runs and is not `predecessor`, who has been taken over from.
    pub(crate) fn write(path: &Path, predecessor: Option<u32>) -> Result<PidFile, PidFileError> {
        if let Some(pid) = named(path)
            && ![Some(std::process::id()), predecessor].contains(&u32::try_from(pid).ok())
            && is_running(pid)
        {
            return Err(PidFileError::Running { path: path.to_path_buf(), pid, name: name_of(pid) });
        }
        let text = format!("{}\n", std::process::id());
        match fs::write(path, text) {
            Ok(()) => Ok(PidFile(path.to_path_buf())),
            Err(source) => Err(PidFileError::Io { path: path.to_path_buf(), source }),
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if named(&self.0).map(u32::try_from) == Some(Ok(std::process::id())) {
            // It may be gone already, or the directory closed to us; the next start looks at the process.
            let _ = fs::remove_file(&self.0);
        }
    }
}

fn named(path: &Path) -> Option<i32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn is_running(pid: i32) -> bool {
    // Somebody else's process is there as well, though it cannot be signalled.
    Pid::from_raw(pid).is_some_and(|pid| matches!(test_kill_process(pid), Ok(()) | Err(Errno::PERM)))
}

fn name_of(pid: i32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    if name.is_empty() { "unknown".to_owned() } else { name.trim().to_owned() }
}
