//! Settings of PgBouncer that are read and shown, and set nothing here: why.

/// Names of `[pgpool]`, and the reason, which also says what there is instead.
pub(super) const IDLE: &[(&str, &str)] = &[
    ("job_name", "it names a service of Windows"),
    ("pkt_buf", "buffers have 64 kB and are lent to those who are served"),
    ("sbuf_loopcnt", "connections take turns by themselves"),
    ("track_extra_parameters", "every setting follows its client"),
];

/// Why the setting `name` sets nothing, if so.
pub(super) fn why_idle(name: &str) -> Option<&'static str> {
    IDLE.iter().find(|(idle, _)| *idle == name).map(|(_, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::General;
    use crate::config::table::Table;

    #[test]
    fn the_documentation_of_each_says_so() {
        for (name, why) in IDLE {
            let doc = General::row(name).unwrap().doc;
            assert!(doc.contains("without effect") && doc.contains(why), "{name}: {doc}");
        }
    }
}
