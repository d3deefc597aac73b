//! Spans of time as people write them.

use std::time::Duration;

/// Reads `90`, `90s`, `10min`, `2h`, `1d`, `500ms`; a bare number means seconds.
///
/// # Errors
/// What is wrong, in a sentence.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: u64 = number.parse().map_err(|_| format!("\"{text}\" is no span of time such as 30s, 10min or 2h"))?;
    let milliseconds = match unit.trim() {
        "ms" => 1,
        "" | "s" | "sec" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(format!("\"{text}\" has no unit such as s, min, h or d")),
    };
    number.checked_mul(milliseconds).map(Duration::from_millis).ok_or_else(|| format!("\"{text}\" is too long"))
}

/// Seconds in the two largest units; never negative.
pub(crate) fn shown(seconds: f64) -> String {
    let total = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX).as_secs();
    let (days, hours, minutes) = (total / 86_400, total / 3_600 % 24, total / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{total} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", total % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_shown() {
        for (text, seconds) in [("90", 90), ("30min", 1800), ("2h", 7200), ("1 d", 86_400), ("1500ms", 1)] {
            assert_eq!(parse(text).unwrap().as_secs(), seconds, "{text}");
        }
        for text in ["", "min", "3 weeks", "-1s", "99999999999999999999s", "999999999999999999d"] {
            assert!(parse(text).is_err(), "{text}");
        }
        for (seconds, text) in
            [(-5.0, "0 s"), (59.9, "59 s"), (61.0, "1 min 1 s"), (3661.0, "1 h 1 min"), (1e6, "11 d 13 h")]
        {
            assert_eq!(shown(seconds), text);
        }
    }
}
