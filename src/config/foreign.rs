//! Settings of PgBouncer that are none of pgpool's: why, and what a file that has one is told.

/// What becomes of a file with the setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// There is nothing to set; a pgbouncer.ini is told so.
    Needless,
    /// Not there yet. A pgbouncer.ini is told so where it says something else than the default.
    Missing,
}

/// A setting of PgBouncer that pgpool does not have.
#[derive(Debug)]
pub(super) struct Foreign {
    pub(super) name: &'static str,
    /// PgBouncer's default, with which nothing is missed.
    pub(super) default: &'static str,
    pub(super) fate: Fate,
    /// Why, and what there is instead.
    pub(super) why: &'static str,
}

const fn foreign(name: &'static str, default: &'static str, fate: Fate, why: &'static str) -> Foreign {
    Foreign { name, default, fate, why }
}

/// Of the section `[pgbouncer]`, by name.
pub(super) const GENERAL: &[Foreign] = &[
    foreign("conffile", "", Fate::Needless, "a reload reads the file that was named at the start"),
    foreign("dns_zone_check_period", "0", Fate::Needless, "names in use are looked up again every dns_max_ttl"),
    foreign("job_name", "pgbouncer", Fate::Needless, "it names a service of Windows"),
    foreign("pkt_buf", "4096", Fate::Needless, "buffers have 64 kB and are lent to those who are served"),
    foreign("resolv_conf", "", Fate::Missing, "the system's resolver is asked, by its own settings"),
    foreign("sbuf_loopcnt", "5", Fate::Needless, "connections take turns by themselves"),
    foreign("service_name", "pgbouncer", Fate::Needless, "it names a service of Windows"),
    foreign("tcp_defer_accept", "1", Fate::Needless, "connections are accepted when they come"),
    foreign("track_extra_parameters", "IntervalStyle", Fate::Needless, "every setting follows its client"),
];

/// Whatever PgBouncer calls `name`, in any section.
pub(super) fn find(name: &str) -> Option<&'static Foreign> {
    GENERAL.iter().find(|foreign| foreign.name == name)
}

impl Foreign {
    /// Whether `text` asks for what would be without the setting.
    pub(super) fn is_default(&self, text: &str) -> bool {
        let number = |text: &str| text.parse::<f64>().ok();
        text == self.default || (number(text).is_some() && number(text) == number(self.default))
    }

    /// What is said of it.
    pub(super) fn message(&self) -> String {
        match self.fate {
            Fate::Needless => format!("`{}` of PgBouncer has no effect: {}", self.name, self.why),
            Fate::Missing => {
                format!("`{}` of PgBouncer is not supported by this version: {}", self.name, self.why)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::General;
    use crate::config::table::Table;

    #[test]
    fn a_setting_is_either_ours_or_missing() {
        assert!(GENERAL.iter().all(|foreign| General::row(foreign.name).is_none()));
        assert!(GENERAL.is_sorted_by_key(|foreign| foreign.name));
    }

    #[test]
    fn the_default_may_be_spelled_in_several_ways() {
        let loops = find("sbuf_loopcnt").unwrap();
        assert!(loops.is_default("5") && loops.is_default("5.0") && !loops.is_default("11"));
        assert!(find("resolv_conf").unwrap().is_default("") && !find("resolv_conf").unwrap().is_default("0"));
    }
}
