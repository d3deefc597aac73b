//! `slot_budget`: how many of a PostgreSQL server's connection slots all pools together may hold.

use std::fmt;

use crate::config::kinds::INT_MAX;
use crate::config::value::{Kind, Raw, Shape, ValueError};

/// How many of a server's slots we may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlotBudget {
    /// What is there for ordinary roles, less what others use and `slot_headroom`.
    #[default]
    Auto,
    /// Nobody counts; PostgreSQL refuses what is too much.
    Off,
    /// No more than so many.
    Count(u32),
    /// No more than so many hundredths of what is there for ordinary roles; 1 to 100.
    Percent(u32),
}

impl fmt::Display for SlotBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SlotBudget::Auto => f.write_str("auto"),
            SlotBudget::Off => f.write_str("off"),
            SlotBudget::Count(count) => count.fmt(f),
            SlotBudget::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// "auto", "off", a number, or a percentage.
pub(super) struct Budget;

const EXPECTED: &str = "auto, off, a number of connections like 80, or a percentage like \"75%\"";

impl Kind for Budget {
    type Value = SlotBudget;
    const SHAPE: Shape = Shape::Text;

    fn read(raw: &Raw<'_>) -> Result<SlotBudget, ValueError> {
        let wrong = || raw.mismatch(EXPECTED);
        let within = |number: i128, most: u64| {
            u32::try_from(number).ok().filter(|number| (1..=most).contains(&u64::from(*number))).ok_or_else(|| {
                ValueError::Range { found: number.to_string(), min: "1".to_owned(), max: most.to_string() }
            })
        };
        match raw {
            Raw::Integer { value, .. } => within(*value, INT_MAX).map(SlotBudget::Count),
            Raw::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
                "auto" => Ok(SlotBudget::Auto),
                "off" => Ok(SlotBudget::Off),
                word => match word.strip_suffix('%') {
                    Some(number) => {
                        within(number.trim_end().parse().map_err(|_| wrong())?, 100).map(SlotBudget::Percent)
                    }
                    None => within(word.parse().map_err(|_| wrong())?, INT_MAX).map(SlotBudget::Count),
                },
            },
            Raw::Bool(_) | Raw::Float(_) | Raw::List(_) | Raw::Other(_) => Err(wrong()),
        }
    }

    fn show(value: &SlotBudget) -> String {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_numbers_and_percentages() {
        let read = |text: &str| Budget::read(&Raw::Text(text));
        for (text, wanted) in [
            ("auto", SlotBudget::Auto),
            (" OFF ", SlotBudget::Off),
            ("80", SlotBudget::Count(80)),
            ("75%", SlotBudget::Percent(75)),
            ("100 %", SlotBudget::Percent(100)),
        ] {
            assert_eq!(read(text), Ok(wanted), "{text}");
            assert_eq!(read(&Budget::show(&wanted)), Ok(wanted));
        }
        for text in ["", "0", "-1", "0%", "101%", "most", "1.5", "5000000000", "%"] {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!(Budget::read(&Raw::Integer { value: 12, radix: 10 }), Ok(SlotBudget::Count(12)));
    }
}
