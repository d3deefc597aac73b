//! `-d`: the program starts itself again without its terminal, and stays until that process serves or has failed.
//!
//! The second process says that it serves by a line on its standard output, which is a pipe to the first. Up to then its
//! errors go where the first one's go.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::process::{Command, ExitCode, Stdio};

use rustix::process::setsid;
use rustix::stdio::{dup2_stderr, dup2_stdout};

/// The argument of the second process.
pub(crate) const DETACHED: &str = "--detached";
const SERVES: &[u8] = b"serves\n";

/// Starts the second process, and waits until it serves.
///
/// # Errors
/// The system's error; that it has failed is told by the code.
pub(crate) fn detach() -> io::Result<ExitCode> {
    let arguments = std::env::args_os().skip(1);
    let mut child = Command::new(std::env::current_exe()?)
        .arg(DETACHED)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = Vec::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_end(&mut said)?;
    }
    if said == SERVES {
        return Ok(ExitCode::SUCCESS);
    }
    // It has told why.
    child.wait()?;
    Ok(ExitCode::FAILURE)
}

/// In the second process: leaves the terminal.
///
/// # Errors
/// The system's error.
pub(crate) fn leave_terminal() -> io::Result<()> {
    Ok(setsid().map(drop)?)
}

/// In the second process: tells the first one that it serves, and says nothing more there.
///
/// # Errors
/// The system's error.
pub(crate) fn serves() -> io::Result<()> {
    let nowhere = OpenOptions::new().write(true).open("/dev/null")?;
    dup2_stderr(&nowhere)?;
    let mut out = io::stdout();
    out.write_all(SERVES)?;
    out.flush()?;
    Ok(dup2_stdout(&nowhere)?)
}
