//! All servers together: the status, the first line for Nagios, and the JSON.

use serde_json::json;

use super::advice::{Advice, Provider};
use super::facts::Facts;
use super::findings::{Bounds, Finding, Severity, leaks};
use super::pooler::Pooler;

/// The exit status, Nagios's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Status {
    Ok,
    Warning,
    Critical,
    Unknown,
}

impl Status {
    pub(crate) fn code(self) -> u8 {
        match self {
            Status::Ok => 0,
            Status::Warning => 1,
            Status::Critical => 2,
            Status::Unknown => 3,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Status::Ok => "OK",
            Status::Warning => "WARNING",
            Status::Critical => "CRITICAL",
            Status::Unknown => "UNKNOWN",
        }
    }
}

/// One server.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) facts: Facts,
    pub(crate) findings: Vec<Finding>,
    pub(crate) advice: Vec<Advice>,
}

/// Everything that was looked at.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) servers: Vec<Looked>,
    /// Servers that nothing is known of, in one line each, and whether that is because no slot is left.
    pub(crate) failed: Vec<String>,
    pub(crate) full: bool,
    /// The running pgpool, or why it is not known; none without a configuration.
    pub(crate) pooler: Option<Result<Pooler, String>>,
    pub(crate) bounds: Bounds,
}

impl Report {
    /// The worst of all; what is known to be critical goes before what is unknown.
    pub(crate) fn status(&self) -> Status {
        let worst = self.servers.iter().flat_map(|looked| &looked.findings).map(|finding| finding.severity).max();
        match worst {
            Some(Severity::Critical) => Status::Critical,
            _ if self.full => Status::Critical,
            _ if !self.failed.is_empty() => Status::Unknown,
            Some(Severity::Warning) => Status::Warning,
            Some(Severity::Info) | None => Status::Ok,
        }
    }

    /// `PGPOOL OK - ... | used=...`
    pub(crate) fn status_line(&self) -> String {
        let mut parts: Vec<String> = self.failed.clone();
        let several = self.servers.len() + self.failed.len() > 1;
        let mut data = Vec::new();
        for (index, looked) in self.servers.iter().enumerate() {
            let place = if several { format!("{}: ", looked.facts.target) } else { String::new() };
            match &looked.facts.slots {
                Some(slots) => {
                    parts.push(format!(
                        "{place}{:.0}% of {} slots taken, {} left",
                        slots.percent, slots.ordinary, slots.left
                    ));
                    let bound = |percent: f64| (percent * f64::from(slots.ordinary) / 100.0).floor();
                    let name = if several { format!("used{}", index + 1) } else { String::from("used") };
                    data.push(format!(
                        "{name}={};{};{};0;{}",
                        slots.used,
                        bound(self.bounds.warn),
                        bound(self.bounds.critical),
                        slots.ordinary
                    ));
                }
                None => parts.push(format!("{place}slots unknown")),
            }
        }
        let count = |severity| {
            let findings = self.servers.iter().flat_map(|looked| &looked.findings);
            findings.filter(|finding| finding.severity == severity).count()
        };
        for (count, name) in [(count(Severity::Critical), "critical"), (count(Severity::Warning), "warning")] {
            if count > 0 {
                parts.push(format!("{count} {name}"));
            }
        }
        let data = if data.is_empty() { String::new() } else { format!(" | {}", data.join(" ")) };
        format!("PGPOOL {} - {}{data}", self.status().word(), parts.join("; "))
    }

    /// One line; docs/doctor.md names the keys.
    pub(crate) fn json(&self) -> String {
        let servers: Vec<_> = self
            .servers
            .iter()
            .map(|looked| {
                json!({
                    "facts": looked.facts,
                    "findings": looked.findings,
                    "leaked_pools": leaks(&looked.facts, self.bounds.leak_age),
                    "advice": looked.advice,
                    "provider": Provider::of(&looked.facts),
                })
            })
            .collect();
        let (pooler, pooler_error) = match &self.pooler {
            Some(Ok(pooler)) => (Some(pooler), None),
            Some(Err(error)) => (None, Some(error)),
            None => (None, None),
        };
        let status = self.status();
        json!({
            "status": status.word(),
            "exit": status.code(),
            "message": self.status_line(),
            "servers": servers,
            "errors": self.failed,
            "pooler": pooler,
            "pooler_error": pooler_error,
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::Slots;
    use super::*;

    const BOUNDS: Bounds = Bounds { warn: 80.0, critical: 95.0, leak_age: 600.0, transaction_age: 300.0 };

    fn looked(severity: Option<Severity>) -> Looked {
        let slots = Slots::of(|name| Some(if name == "max_connections" { 50 } else { 0 }), 10, 0);
        let facts = Facts { target: "a:1".into(), slots, ..Facts::default() };
        let findings = severity.map(|severity| Finding { severity, code: "slots", message: String::from("x") });
        Looked { facts, findings: findings.into_iter().collect(), advice: Vec::new() }
    }

    fn report(servers: Vec<Looked>, failed: &[&str], full: bool) -> Report {
        let failed = failed.iter().map(|text| (*text).to_owned()).collect();
        Report { servers, failed, full, pooler: None, bounds: BOUNDS }
    }

    #[test]
    fn the_worst_counts() {
        let line = |report: Report| (report.status().code(), report.status_line());
        let (code, text) = line(report(vec![looked(Some(Severity::Info))], &[], false));
        assert_eq!((code, text.as_str()), (0, "PGPOOL OK - 20% of 50 slots taken, 40 left | used=10;40;47;0;50"));
        assert_eq!(line(report(vec![looked(Some(Severity::Warning))], &[], false)).0, 1);
        assert_eq!(line(report(vec![looked(Some(Severity::Warning))], &["no"], false)).0, 3);
        let (code, text) = line(report(vec![looked(Some(Severity::Critical))], &["no"], false));
        assert_eq!(code, 2);
        assert!(text.starts_with("PGPOOL CRITICAL - no; a:1: 20% of"), "{text}");
        assert_eq!(line(report(Vec::new(), &["full"], true)).0, 2);
    }

    #[test]
    fn the_document_has_its_keys() {
        let text = report(vec![looked(Some(Severity::Warning))], &[], false).json();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["exit"], 1);
        assert_eq!(value["servers"][0]["facts"]["slots"]["left"], 40);
        assert_eq!(value["servers"][0]["findings"][0]["severity"], "warning");
        assert_eq!(value["servers"][0]["provider"], "own");
    }
}
