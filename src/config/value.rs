//! A value as it was written, and what it means to read one.
//!
//! Values come from TOML or from text in PgBouncer's spelling; a `Kind` turns both into the same. What its `show` prints,
//! its `read` takes back as the same value. The kinds themselves are in `kinds` and `span`.

use toml::de::DeValue;

/// A value as it was written, before its setting says what it should be.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw<'a> {
    /// `true` or `false` of TOML.
    Bool(bool),
    /// A TOML integer; one that is too large for 128 bits is cut to the nearest. The radix is 2, 8, 10 or 16.
    Integer {
        /// The number.
        value: i128,
        /// The base in which it was written.
        radix: u32,
    },
    /// A TOML float, infinities and NaN included.
    Float(f64),
    /// A TOML string, or a value of a pgbouncer.ini, a connection string or the console's `SET`.
    Text(&'a str),
    /// A TOML list that holds nothing but strings.
    List(Vec<&'a str>),
    /// Anything else; what it is, for the message.
    Other(&'static str),
}

/// Why a value does not fit its setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// A TOML value of another type.
    #[error("expected {expected}, found {found}")]
    Type {
        /// What the setting takes.
        expected: &'static str,
        /// What was written.
        found: &'static str,
    },
    /// A text that cannot be read.
    #[error("`{found}` is not {expected}")]
    Spelling {
        /// What the setting takes.
        expected: &'static str,
        /// What was written.
        found: String,
    },
    /// Too small or too large.
    #[error("{found} is outside the range {min} to {max}")]
    Range {
        /// What was written.
        found: String,
        /// Smallest value, as text.
        min: String,
        /// Largest value, as text.
        max: String,
    },
    /// None of the words that the setting knows.
    #[error("`{found}` is none of {}", choices.join(", "))]
    Choice {
        /// What was written.
        found: String,
        /// All words.
        choices: &'static [&'static str],
    },
    /// No feature of `session_features`.
    #[error("unknown feature `{found}`{}", feature_hint(*nearest, known))]
    Feature {
        /// What was written.
        found: String,
        /// A feature that is reasonably near.
        nearest: Option<&'static str>,
        /// All features.
        known: &'static [&'static str],
    },
    /// A feature without its policy.
    #[error("`{feature}` lacks a policy, like {feature}={policy}")]
    NoPolicy {
        /// The feature.
        feature: String,
        /// One of the policies.
        policy: &'static str,
    },
    /// A feature that is named again.
    #[error("`{0}` occurs twice")]
    FeatureTwice(String),
    /// Two policies that name no feature.
    #[error("both `{first}` and `{second}` stand for the features without a name")]
    TwoPolicies {
        /// The first of them.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// PgBouncer knows this value, this version does not.
    #[error("`{0}` of PgBouncer is not supported by this version")]
    Unsupported(&'static str),
    /// Something that the TLS library does not do.
    #[error("`{found}` is not possible with rustls: {instead}")]
    Impossible {
        /// What was asked for.
        found: String,
        /// What there is.
        instead: String,
    },
    /// A zero byte, which no PostgreSQL message can carry inside a string.
    #[error("a zero byte is not allowed")]
    ZeroByte,
}

fn feature_hint(nearest: Option<&str>, known: &[&str]) -> String {
    match nearest {
        Some(name) => format!(", did you mean `{name}`?"),
        None => format!(": there are {}", known.join(", ")),
    }
}

/// What a value looks like: for files whose text says the same in another spelling than TOML or `SET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Words.
    Text,
    /// A whole number.
    Number,
    /// True or false.
    Flag,
    /// A time.
    Time,
    /// Permissions of a file.
    Mode,
    /// The path of a file.
    Path,
}

/// How one type of setting is read and shown.
pub(super) trait Kind {
    /// What the configuration holds.
    type Value;
    /// What a value looks like.
    const SHAPE: Shape = Shape::Text;
    /// Unit of a bare number, "" when there is none.
    const UNIT: &'static str = "";
    /// Whether the empty text leaves an optional setting of this kind unset, as in a pgbouncer.ini.
    const EMPTY_IS_UNSET: bool = false;
    /// Reads a value.
    fn read(raw: &Raw<'_>) -> Result<Self::Value, ValueError>;
    /// Shows a value in PgBouncer's spelling; never shows a secret.
    fn show(value: &Self::Value) -> String;
    /// The text that `read` takes for this value, a secret included.
    fn write(value: &Self::Value) -> String {
        Self::show(value)
    }
}

impl<'a> Raw<'a> {
    /// A value of a parsed TOML document.
    pub(super) fn from_toml(value: &'a DeValue<'_>) -> Self {
        match value {
            DeValue::Boolean(flag) => Self::Bool(*flag),
            DeValue::Integer(number) => {
                let radix = number.radix();
                let cut = if number.as_str().starts_with('-') { i128::MIN } else { i128::MAX };
                Self::Integer { value: i128::from_str_radix(number.as_str(), radix).unwrap_or(cut), radix }
            }
            DeValue::Float(number) => number.as_str().parse().map_or(Self::Other("float"), Self::Float),
            DeValue::String(text) => Self::Text(text),
            DeValue::Array(items) => {
                let words: Option<Vec<&str>> = items.iter().map(|item| item.get_ref().as_str()).collect();
                words.map_or(Self::Other("a list of other things than strings"), Self::List)
            }
            DeValue::Datetime(_) => Self::Other("a date"),
            DeValue::Table(_) => Self::Other("a table"),
        }
    }

    /// The type of the value, for messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Bool(_) => "a boolean",
            Self::Integer { .. } => "an integer",
            Self::Float(_) => "a float",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Other(name) => name,
        }
    }

    pub(super) fn mismatch(&self, expected: &'static str) -> ValueError {
        match self {
            Self::Text(text) => ValueError::Spelling { expected, found: (*text).to_owned() },
            _ => ValueError::Type { expected, found: self.type_name() },
        }
    }
}
