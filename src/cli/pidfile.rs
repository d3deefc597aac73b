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
    #[error("pidfile {} names the process {pid}, which is running", path.display())]
    Running {
        /// The file.
        path: PathBuf,
        /// Whom it names.
        pid: i32,
    },
    /// The system refused.
    #[error("cannot write pidfile {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// The file; it goes with the value.
#[derive(Debug)]
pub(crate) struct PidFile(PathBuf);

impl PidFile {
    /// Writes it, unless it names a process that runs.
    pub(crate) fn write(path: &Path) -> Result<PidFile, PidFileError> {
        let named = fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<i32>().ok());
        if let Some(pid) = named
            && u32::try_from(pid) != Ok(std::process::id())
            && is_running(pid)
        {
            return Err(PidFileError::Running { path: path.to_path_buf(), pid });
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
        // It may be gone already, or the directory closed to us; the next start looks at the process.
        let _ = fs::remove_file(&self.0);
    }
}

fn is_running(pid: i32) -> bool {
    // Somebody else's process is there as well, though it cannot be signalled.
    Pid::from_raw(pid).is_some_and(|pid| matches!(test_kill_process(pid), Ok(()) | Err(Errno::PERM)))
}
