//! Log lines to the system's syslog, a datagram each (RFC 3164, without time and host, which the system adds).
//!
//! Nobody waits for it: a line that cannot be sent at once is lost there, and still stands on standard error.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use pgpool::config::{Facility, General};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Where syslog listens.
const SOCKET: &str = "/dev/log";

/// The way to syslog.
#[derive(Debug)]
pub(crate) struct Syslog {
    socket: UnixDatagram,
    path: PathBuf,
    facility: u8,
    ident: String,
}

/// The way to syslog, while there is to be one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outlet(Arc<RwLock<Option<Arc<Syslog>>>>);

impl Outlet {
    /// Opens or closes the way, as the settings say.
    ///
    /// # Errors
    /// The system's error, in words.
    pub(crate) fn follow(&self, general: &General) -> Result<(), String> {
        let opened = general.syslog.then(|| Syslog::open(general)).transpose();
        let opened = opened.map_err(|error| format!("cannot log to syslog: {error}"))?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = opened.map(Arc::new);
        Ok(())
    }

    /// Whether lines go there.
    pub(crate) fn is_open(&self) -> bool {
        self.syslog().is_some()
    }

    fn syslog(&self) -> Option<Arc<Syslog>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Takes one line.
#[derive(Debug)]
pub(crate) struct Line {
    syslog: Option<Arc<Syslog>>,
    severity: u8,
}

impl Syslog {
    /// # Errors
    /// The system's error; that nobody listens is none.
    pub(crate) fn open(general: &General) -> io::Result<Syslog> {
        Self::to(Path::new(SOCKET), general)
    }

    fn to(path: &Path, general: &General) -> io::Result<Syslog> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let (facility, ident) = (code(general.syslog_facility), general.syslog_ident.clone());
        Ok(Syslog { socket, path: path.to_path_buf(), facility, ident })
    }
}

impl<'a> MakeWriter<'a> for Outlet {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { syslog: self.syslog(), severity: 6 }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line {
        let severity = match *meta.level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        Line { syslog: self.syslog(), severity }
    }
}

impl io::Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let Some(syslog) = &self.syslog else { return Ok(line.len()) };
        let Syslog { socket, path, facility, ident } = &**syslog;
        let mut datagram = format!("<{}>{ident}[{}]: ", facility * 8 + self.severity, std::process::id()).into_bytes();
        datagram.extend_from_slice(line.trim_ascii());
        let _ = socket.send_to(&datagram, path);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn code(facility: Facility) -> u8 {
    match facility {
        Facility::User => 1,
        Facility::Daemon => 3,
        Facility::Auth => 4,
        Facility::AuthPriv => 10,
        Facility::Local0 => 16,
        Facility::Local1 => 17,
        Facility::Local2 => 18,
        Facility::Local3 => 19,
        Facility::Local4 => 20,
        Facility::Local5 => 21,
        Facility::Local6 => 22,
        Facility::Local7 => 23,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_line_is_a_datagram() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let general =
            General { syslog_facility: Facility::Local1, syslog_ident: "pool".to_owned(), ..General::default() };
        let syslog = Outlet::default();
        *syslog.0.write().unwrap() = Some(Arc::new(Syslog::to(&path, &general).unwrap()));
        // Nobody is there, and nothing comes of it.
        syslog.make_writer().write_all(b" lost\n").unwrap();
        let listener = UnixDatagram::bind(&path).unwrap();
        syslog.make_writer().write_all(b" INFO pgpool is ready\n").unwrap();
        let mut datagram = [0; 100];
        let length = listener.recv(&mut datagram).unwrap();
        let expected = format!("<142>pool[{}]: INFO pgpool is ready", std::process::id());
        assert_eq!(std::str::from_utf8(&datagram[..length]).unwrap(), expected);
        // Closed, it takes nothing.
        syslog.follow(&General::default()).unwrap();
        assert!(!syslog.is_open());
        syslog.make_writer().write_all(b"lost\n").unwrap();
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.recv(&mut datagram).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
