//! Settings that are times: seconds, possibly fractional, or a number with a unit.

use std::time::Duration;

use crate::config::kinds::INT_MAX;
use crate::config::value::{Kind, Raw, Shape, ValueError};

/// A time of at least `MIN` and at most `MAX` units, where a bare number counts units of `UNIT` microseconds and the
/// time must be a multiple of `GRAIN` microseconds (finer parts are rounded off where the grain is one microsecond).
pub(super) struct Span<const UNIT: u64, const GRAIN: u64, const MIN: u64, const MAX: u64>;

/// Seconds, down to microseconds; at most 68 years, so that adding one to a clock cannot overflow.
pub(super) type Seconds = Span<SECOND, 1, 0, INT_MAX>;
/// A period, which cannot be zero.
pub(super) type Period = Span<SECOND, SECOND, 1, INT_MAX>;
/// Whole seconds as TCP keepalive takes them.
pub(super) type KeepaliveSeconds = Span<SECOND, SECOND, 0, 32_767>;
/// Whole milliseconds.
pub(super) type Millis = Span<1_000, 1_000, 0, INT_MAX>;

const SECOND: u64 = 1_000_000;

/// Units of times and their microseconds, in PostgreSQL's spelling.
const UNITS: &[(&str, f64)] = &[("us", 1.0), ("ms", 1e3), ("s", 1e6), ("min", 6e7), ("h", 3.6e9), ("d", 8.64e10)];

impl<const UNIT: u64, const GRAIN: u64, const MIN: u64, const MAX: u64> Span<UNIT, GRAIN, MIN, MAX> {
    const EXPECTED: &'static str = if GRAIN == SECOND {
        "a time in whole seconds, like 30 or \"2min\""
    } else if UNIT == SECOND {
        "a time in seconds, like 30, 0.5 or \"2min\""
    } else {
        "a time in whole milliseconds, like 500 or \"2s\""
    };
}

impl<const UNIT: u64, const GRAIN: u64, const MIN: u64, const MAX: u64> Kind for Span<UNIT, GRAIN, MIN, MAX> {
    type Value = Duration;
    const SHAPE: Shape = Shape::Time;
    const UNIT: &'static str = if UNIT == SECOND { "seconds" } else { "milliseconds" };

    fn read(raw: &Raw<'_>) -> Result<Duration, ValueError> {
        // A double is exact far beyond MAX units in microseconds (2^51).
        let unit = UNIT as f64;
        let micros = match raw {
            Raw::Integer { value, .. } => Some(*value as f64 * unit),
            Raw::Float(value) => Some(value * unit),
            Raw::Text(text) => micros(text.trim(), unit),
            Raw::Bool(_) | Raw::List(_) | Raw::Other(_) => None,
        };
        let micros = micros.filter(|micros| !micros.is_nan()).ok_or_else(|| raw.mismatch(Self::EXPECTED))?.round();
        let (min, max) = ((MIN * UNIT) as f64, (MAX * UNIT) as f64);
        if micros < min || micros > max {
            return Err(ValueError::Range {
                found: shown(raw),
                min: MIN.to_string(),
                max: format!("{MAX} {}", <Self as Kind>::UNIT),
            });
        }
        #[expect(clippy::cast_possible_truncation, reason = "checked just above")]
        let micros = micros as u64;
        if !micros.is_multiple_of(GRAIN) {
            return Err(ValueError::Spelling { expected: Self::EXPECTED, found: shown(raw) });
        }
        Ok(Duration::from_micros(micros))
    }

    fn show(value: &Duration) -> String {
        let micros = value.as_micros();
        let (whole, rest) = (micros / u128::from(UNIT), micros % u128::from(UNIT));
        if rest == 0 {
            return whole.to_string();
        }
        let digits = UNIT.ilog10() as usize;
        let fraction = format!("{rest:0digits$}");
        format!("{whole}.{}", fraction.trim_end_matches('0'))
    }
}

fn shown(raw: &Raw<'_>) -> String {
    match raw {
        Raw::Integer { value, .. } => value.to_string(),
        Raw::Float(value) => value.to_string(),
        Raw::Text(text) => (*text).to_owned(),
        Raw::Bool(_) | Raw::List(_) | Raw::Other(_) => raw.type_name().to_owned(),
    }
}

/// "1.5h", "2 min", "30": the number in microseconds; `bare` is the unit of a number alone.
fn micros(text: &str, bare: f64) -> Option<f64> {
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '-')).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let number: f64 = number.parse().ok()?;
    let unit = unit.trim();
    if unit.is_empty() {
        return Some(number * bare);
    }
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    Some(number * factor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units() {
        let cases = [
            ("0", 0),
            ("60", 60_000_000),
            ("0.5", 500_000),
            (".5", 500_000),
            ("2min", 120_000_000),
            ("2 min", 120_000_000),
            (" 500ms ", 500_000),
            ("1h", 3_600_000_000),
            ("1.5h", 5_400_000_000),
            ("1d", 86_400_000_000),
            ("250us", 250),
            ("7s", 7_000_000),
            ("0.0000001", 0),
        ];
        for (text, expected) in cases {
            assert_eq!(Seconds::read(&Raw::Text(text)), Ok(Duration::from_micros(expected)), "{text}");
        }
    }

    #[test]
    fn toml_numbers() {
        let int = |value| Raw::Integer { value, radix: 10 };
        assert_eq!(Seconds::read(&int(15)), Ok(Duration::from_secs(15)));
        assert_eq!(Seconds::read(&Raw::Float(2.5)), Ok(Duration::from_millis(2500)));
        assert_eq!(Millis::read(&int(15)), Ok(Duration::from_millis(15)));
        assert_eq!(Millis::read(&Raw::Text("30s")), Ok(Duration::from_secs(30)));
    }

    #[test]
    fn wrong_times_are_refused() {
        for text in ["", "x", "1 x", "min", "-1", "1e3", "1.2.3", "1-2", "99999999999", "1 000", "٣"] {
            assert!(Seconds::read(&Raw::Text(text)).is_err(), "{text}");
        }
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.5, 1e300] {
            assert!(Seconds::read(&Raw::Float(value)).is_err(), "{value}");
        }
        assert!(Seconds::read(&Raw::Integer { value: i128::MAX, radix: 10 }).is_err());
        assert!(Seconds::read(&Raw::Bool(true)).is_err());
        assert!(Period::read(&Raw::Text("0")).is_err());
        assert!(KeepaliveSeconds::read(&Raw::Text("1500ms")).is_err());
        assert!(KeepaliveSeconds::read(&Raw::Text("32768")).is_err());
        assert!(Millis::read(&Raw::Text("10us")).is_err());
    }

    #[test]
    fn shown_as_pgbouncer_does() {
        assert_eq!(Seconds::show(&Duration::from_secs(5)), "5");
        assert_eq!(Seconds::show(&Duration::from_millis(500)), "0.5");
        assert_eq!(Seconds::show(&Duration::from_micros(1_000_001)), "1.000001");
        assert_eq!(Millis::show(&Duration::from_secs(1)), "1000");
    }

    proptest! {
        #[test]
        fn shown_times_read_back(micros in 0..INT_MAX * SECOND) {
            let time = Duration::from_micros(micros);
            prop_assert_eq!(Seconds::read(&Raw::Text(&Seconds::show(&time))), Ok(time));
        }
    }
}
