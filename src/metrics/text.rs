//! Prometheus' text format, version 0.0.4: the writer.
//!
//! Label values and help may be anything and are escaped; names are the caller's to get right.

use std::fmt::Write;

use super::histogram::{BOUNDS, Counts};

/// Kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, until the process starts again.
    Counter,
    /// It may take any value.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
}

impl Kind {
    /// The format's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// A value.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    /// A number.
    Whole(u64),
    /// A number of any kind.
    Real(f64),
    /// Microseconds, shown as seconds.
    Micros(u64),
    /// A histogram, and the sum of its times in microseconds.
    Times(Counts, u64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Value {
        Value::Whole(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Value {
        Value::Whole(value.into())
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Value {
        Value::Whole(value as u64)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Value {
        Value::Real(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Whole(value.into())
    }
}

/// What a sample is of.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    /// The metric.
    pub name: &'a str,
    /// Names of its labels.
    pub labels: &'a [&'a str],
    /// Their values, in the same order.
    pub values: &'a [&'a str],
}

/// The text of one answer.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// Begins a metric; its samples have to follow.
    pub fn begin(&mut self, name: &str, kind: Kind, help: &str) {
        self.0.push_str("# HELP ");
        self.0.push_str(name);
        self.0.push(' ');
        escape(&mut self.0, help, false);
        // Writing to a String cannot fail.
        let _ = write!(self.0, "\n# TYPE {name} {}\n", kind.as_str());
    }

    /// One sample.
    pub fn sample(&mut self, series: &Series<'_>, value: &Value) {
        match value {
            Value::Times(counts, sum) => self.histogram(series, counts, *sum),
            value => self.line(series, "", None, value),
        }
    }

    /// The whole text.
    #[must_use]
    pub fn finish(self) -> String {
        self.0
    }

    fn histogram(&mut self, series: &Series<'_>, counts: &Counts, sum: u64) {
        let mut below = 0u64;
        let mut bounds = BOUNDS.iter();
        for count in counts.0 {
            below = below.wrapping_add(count);
            let bound = bounds.next().map_or_else(|| "+Inf".to_owned(), |bound| seconds(*bound));
            self.line(series, "_bucket", Some(&bound), &Value::Whole(below));
        }
        self.line(series, "_sum", None, &Value::Micros(sum));
        self.line(series, "_count", None, &Value::Whole(below));
    }

    fn line(&mut self, series: &Series<'_>, suffix: &str, bound: Option<&str>, value: &Value) {
        let out = &mut self.0;
        out.push_str(series.name);
        out.push_str(suffix);
        let bound = bound.map(|bound| ("le", bound));
        let pairs = series.labels.iter().copied().zip(series.values.iter().copied()).chain(bound);
        let mut separator = '{';
        for (label, value) in pairs {
            out.push(separator);
            out.push_str(label);
            out.push_str("=\"");
            escape(out, value, true);
            out.push('"');
            separator = ',';
        }
        if separator == ',' {
            out.push('}');
        }
        out.push(' ');
        let _ = match value {
            Value::Whole(value) => writeln!(out, "{value}"),
            Value::Real(value) => writeln!(out, "{value}"),
            Value::Micros(micros) => writeln!(out, "{}", seconds(*micros)),
            Value::Times(counts, _) => writeln!(out, "{}", counts.total()),
        };
    }
}

/// Seconds as a decimal number without needless zeros.
#[must_use]
pub fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    let short = text.trim_end_matches('0').trim_end_matches('.');
    short.to_owned()
}

fn escape(out: &mut String, text: &str, quoted: bool) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quoted => out.push_str("\\\""),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_prometheus() {
        let mut text = Text::default();
        text.begin("a_total", Kind::Counter, "One\\two\nthree \"four\".");
        text.sample(&Series { name: "a_total", labels: &["x", "y"], values: &["1\"2\\3\n4", "ä"] }, &Value::Whole(5));
        text.begin("b_seconds", Kind::Gauge, "B.");
        text.sample(&Series { name: "b_seconds", labels: &[], values: &[] }, &Value::Micros(1_500_000));
        let mut counts = Counts::default();
        (counts.0[0], counts.0[1], counts.0[17]) = (2, 1, 4);
        text.begin("c_seconds", Kind::Histogram, "C.");
        text.sample(&Series { name: "c_seconds", labels: &["x"], values: &["1"] }, &Value::Times(counts, 2_000_001));
        let text = text.finish();
        let begin = "# HELP a_total One\\\\two\\nthree \"four\".\n# TYPE a_total counter\na_total{x=\"1\\\"2\\\\3\\n4\",y=\"ä\"} 5\n\
                     # HELP b_seconds B.\n# TYPE b_seconds gauge\nb_seconds 1.5\n\
                     # HELP c_seconds C.\n# TYPE c_seconds histogram\n\
                     c_seconds_bucket{x=\"1\",le=\"0.0001\"} 2\nc_seconds_bucket{x=\"1\",le=\"0.00025\"} 3\n";
        assert!(text.starts_with(begin), "{text}");
        let end = "c_seconds_bucket{x=\"1\",le=\"60\"} 3\nc_seconds_bucket{x=\"1\",le=\"+Inf\"} 7\n\
                   c_seconds_sum{x=\"1\"} 2.000001\nc_seconds_count{x=\"1\"} 7\n";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn seconds_are_exact() {
        for (micros, text) in [(0, "0"), (1, "0.000001"), (100_000, "0.1"), (60_000_000, "60"), (10_250_000, "10.25")] {
            assert_eq!(seconds(micros), text);
        }
    }
}
