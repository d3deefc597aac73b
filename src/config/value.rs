//! Values of settings: from TOML, from text in PgBouncer's spelling, and back to text.
//!
//! A `Kind` says how one type of setting is read and shown; the tables of settings name a kind per row. What `show`
//! prints, `read` takes back as the same value.

use std::marker::PhantomData;
use std::path::PathBuf;

use toml::de::DeValue;

use crate::config::choice::Choice;
use crate::config::database::Host;
use crate::config::secret::Secret;

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
    /// PgBouncer knows this value, this version does not.
    #[error("`{0}` of PgBouncer is not supported by this version")]
    Unsupported(&'static str),
    /// A zero byte, which no PostgreSQL message can carry inside a string.
    #[error("a zero byte is not allowed")]
    ZeroByte,
    /// A comma list where one host is expected.
    #[error("several hosts are not supported by this version")]
    SeveralHosts,
}

/// How one type of setting is read and shown.
pub(super) trait Kind {
    /// What the configuration holds.
    type Value;
    /// Unit of a bare number, "" when there is none.
    const UNIT: &'static str = "";
    /// Reads a value.
    fn read(raw: &Raw<'_>) -> Result<Self::Value, ValueError>;
    /// Shows a value in PgBouncer's spelling; never shows a secret.
    fn show(value: &Self::Value) -> String;
}

/// `bool`; shown as 1 and 0 like PgBouncer does.
pub(super) struct Flag;
/// A whole number from `MIN` to `MAX`.
pub(super) struct Within<T, const MIN: u64, const MAX: u64>(PhantomData<T>);
/// Any text.
pub(super) struct Text;
/// A list of words; text is split at commas.
pub(super) struct Words;
/// A path; the empty text is `None`.
pub(super) struct File;
/// One word of an enum.
pub(super) struct OneOf<C>(PhantomData<C>);
/// Permissions of a file, in octal.
pub(super) struct Mode;
/// A secret.
pub(super) struct Hidden;
/// Where a PostgreSQL server listens.
pub(super) struct Target;
/// A setting that may be left out.
pub(super) struct Maybe<K>(PhantomData<K>);

/// The largest number that PgBouncer's settings hold.
pub(super) const INT_MAX: u64 = 2_147_483_647;
/// A number of connections; 0 means no limit or none, the setting says which.
pub(super) type Count = Within<u32, 0, INT_MAX>;

/// Permissions of the socket file; only the lowest nine bits are ever set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode(pub u32);

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

impl Kind for Flag {
    type Value = bool;

    fn read(raw: &Raw<'_>) -> Result<bool, ValueError> {
        let known = match raw {
            Raw::Bool(flag) => Some(*flag),
            Raw::Integer { value: 0, .. } => Some(false),
            Raw::Integer { value: 1, .. } => Some(true),
            Raw::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
                "1" | "true" | "on" | "yes" => Some(true),
                "0" | "false" | "off" | "no" => Some(false),
                _ => None,
            },
            Raw::Integer { .. } | Raw::Float(_) | Raw::List(_) | Raw::Other(_) => None,
        };
        known.ok_or_else(|| raw.mismatch("true or false"))
    }

    fn show(value: &bool) -> String {
        String::from(if *value { "1" } else { "0" })
    }
}

impl<T, const MIN: u64, const MAX: u64> Kind for Within<T, MIN, MAX>
where
    T: TryFrom<i128> + ToString,
{
    type Value = T;

    fn read(raw: &Raw<'_>) -> Result<T, ValueError> {
        let expected = "a whole number";
        let number = match raw {
            Raw::Integer { value, .. } => *value,
            Raw::Text(text) => whole_number(text.trim()).ok_or_else(|| raw.mismatch(expected))?,
            Raw::Bool(_) | Raw::Float(_) | Raw::List(_) | Raw::Other(_) => return Err(raw.mismatch(expected)),
        };
        let outside = || ValueError::Range { found: number.to_string(), min: MIN.to_string(), max: MAX.to_string() };
        if number < i128::from(MIN) || number > i128::from(MAX) {
            return Err(outside());
        }
        T::try_from(number).map_err(|_| outside())
    }

    fn show(value: &T) -> String {
        value.to_string()
    }
}

/// Decimal, or hexadecimal with `0x`. A leading zero is refused: PgBouncer would read octal, people mean decimal.
fn whole_number(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let starts_with_digit = digits.starts_with(|c: char| c.is_ascii_digit());
    let ambiguous = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0x");
    if !starts_with_digit || ambiguous {
        return None;
    }
    let number = match digits.strip_prefix("0x") {
        Some(hex) => i128::from_str_radix(hex, 16).ok()?,
        None => digits.parse::<i128>().ok()?,
    };
    Some(if negative { -number } else { number })
}

impl Kind for Text {
    type Value = String;

    fn read(raw: &Raw<'_>) -> Result<String, ValueError> {
        let Raw::Text(text) = raw else { return Err(raw.mismatch("a string")) };
        without_zero_byte(text)
    }

    fn show(value: &String) -> String {
        value.clone()
    }
}

fn without_zero_byte(text: &str) -> Result<String, ValueError> {
    if text.contains('\0') { Err(ValueError::ZeroByte) } else { Ok(text.to_owned()) }
}

impl Kind for Words {
    type Value = Vec<String>;

    fn read(raw: &Raw<'_>) -> Result<Vec<String>, ValueError> {
        match raw {
            Raw::Text(text) => {
                text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(without_zero_byte).collect()
            }
            // An element of a list is taken as it is: a user's name may hold a comma.
            Raw::List(words) => words.iter().map(|word| without_zero_byte(word)).collect(),
            Raw::Bool(_) | Raw::Integer { .. } | Raw::Float(_) | Raw::Other(_) => {
                Err(raw.mismatch("a list of strings or a string with commas"))
            }
        }
    }

    fn show(value: &Vec<String>) -> String {
        value.join(", ")
    }
}

impl Kind for File {
    type Value = Option<PathBuf>;

    fn read(raw: &Raw<'_>) -> Result<Option<PathBuf>, ValueError> {
        let Raw::Text(text) = raw else { return Err(raw.mismatch("a path")) };
        let text = without_zero_byte(text)?;
        Ok((!text.is_empty()).then(|| PathBuf::from(text)))
    }

    fn show(value: &Option<PathBuf>) -> String {
        value.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
    }
}

impl<C: Choice> Kind for OneOf<C> {
    type Value = C;

    fn read(raw: &Raw<'_>) -> Result<C, ValueError> {
        match raw {
            Raw::Text(text) => text.parse(),
            _ => Err(raw.mismatch(C::EXPECTED)),
        }
    }

    fn show(value: &C) -> String {
        value.to_string()
    }
}

impl Kind for Mode {
    type Value = FileMode;

    fn read(raw: &Raw<'_>) -> Result<FileMode, ValueError> {
        let expected = "a file mode in octal, like \"0777\"";
        let bits = match raw {
            Raw::Integer { value, radix: 8 } => u32::try_from(*value).ok(),
            // 777 without a sign of octal would be 01411.
            Raw::Text(text) => {
                let digits = text.trim();
                let octal = digits.strip_prefix("0o").unwrap_or(digits);
                let plain = octal.bytes().all(|b| b.is_ascii_digit());
                plain.then(|| u32::from_str_radix(octal, 8).ok()).flatten()
            }
            Raw::Integer { .. } | Raw::Bool(_) | Raw::Float(_) | Raw::List(_) | Raw::Other(_) => None,
        };
        let bits = bits.ok_or_else(|| raw.mismatch(expected))?;
        if bits > 0o777 {
            let (min, max) = (String::from("0000"), String::from("0777"));
            return Err(ValueError::Range { found: format!("{bits:04o}"), min, max });
        }
        Ok(FileMode(bits))
    }

    fn show(value: &FileMode) -> String {
        format!("{:04o}", value.0)
    }
}

impl Kind for Hidden {
    type Value = Secret;

    fn read(raw: &Raw<'_>) -> Result<Secret, ValueError> {
        // The text must not appear in the error, so `mismatch` is only reached by values that are no text.
        let Raw::Text(text) = raw else { return Err(raw.mismatch("a string")) };
        Ok(Secret::new(&without_zero_byte(text)?))
    }

    fn show(_: &Secret) -> String {
        String::from("********")
    }
}

impl Kind for Target {
    type Value = Host;

    fn read(raw: &Raw<'_>) -> Result<Host, ValueError> {
        let expected = "a host name, an address or a directory";
        let Raw::Text(text) = raw else { return Err(raw.mismatch(expected)) };
        let text = without_zero_byte(text.trim())?;
        if text.starts_with('/') {
            return Ok(Host::Socket(PathBuf::from(text)));
        }
        if text.contains(',') {
            return Err(ValueError::SeveralHosts);
        }
        if text.is_empty() || text.contains(char::is_whitespace) {
            return Err(raw.mismatch(expected));
        }
        Ok(Host::Name(text))
    }

    fn show(value: &Host) -> String {
        value.to_string()
    }
}

impl<K: Kind> Kind for Maybe<K> {
    type Value = Option<K::Value>;
    const UNIT: &'static str = K::UNIT;

    fn read(raw: &Raw<'_>) -> Result<Self::Value, ValueError> {
        K::read(raw).map(Some)
    }

    fn show(value: &Self::Value) -> String {
        value.as_ref().map(K::show).unwrap_or_default()
    }
}
