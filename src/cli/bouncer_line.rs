//! Log lines in PgBouncer's shape: `2026-01-31 23:59:59.123 CET [4711] LOG C-0x00000000002a: app/alice@unix:6432 words`.
//!
//! The words are the event's own message; what else it has follows as `name=value`.

use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// What stands before the words.
pub(super) enum Head {
    /// Time, process and level.
    Full(TimeZone),
    /// Nothing, since syslog knows all that.
    None,
}

impl Head {
    /// Time by the system's zone, as `TZ` or `/etc/localtime` have it now; without either it is UTC.
    pub(super) fn local() -> Head {
        Head::Full(TimeZone::try_system().unwrap_or(TimeZone::UTC))
    }
}

impl<S, N> FormatEvent<S, N> for Head
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if let Head::Full(zone) = self {
            let (level, pid) = (word(*event.metadata().level()), std::process::id());
            write!(writer, "{} [{pid}] {level} ", stamp(Timestamp::now(), zone))?;
        }
        // The span of a client says who it is.
        for span in ctx.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                write!(writer, "{fields} ")?;
            }
        }
        ctx.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

fn stamp(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%.3f %Z").to_string()
}

fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "LOG",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "NOISE",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_local_with_milliseconds_and_the_zones_name() {
        let at = Timestamp::from_millisecond(1_767_222_000_007).unwrap();
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        assert_eq!(stamp(at, &TimeZone::UTC), "2025-12-31 23:00:00.007 UTC");
        assert_eq!(stamp(at, &berlin), "2026-01-01 00:00:00.007 CET");
        let summer = Timestamp::from_second(1_782_900_000).unwrap();
        assert_eq!(stamp(summer, &berlin), "2026-07-01 12:00:00.000 CEST");
        let nameless = TimeZone::posix("<-03>3").unwrap();
        assert_eq!(stamp(at, &nameless), "2025-12-31 20:00:00.007 -03");
    }
}
