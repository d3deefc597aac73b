//! The macro behind the tables of settings.
//!
//! One row states a setting's name, documentation, type, kind, default and whether a reload may change it. From the rows
//! come the fields of the struct, the parser of the file, `SET`, `SHOW CONFIG`, the comparison of two configurations and
//! the test of the example file, so none of them can forget a setting.

use crate::config::value::{Raw, Shape, ValueError};

/// When a changed value takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At a reload, or by the console's `SET`.
    Reload,
    /// Only when the process starts.
    Boot,
}

/// One setting of the section that fills a `T`.
pub struct Row<T> {
    /// Name of the setting, as in PgBouncer where it has it.
    pub name: &'static str,
    /// One line for operators.
    pub doc: &'static str,
    /// Unit of a bare number ("seconds", "milliseconds"), or "".
    pub unit: &'static str,
    /// What a value looks like.
    pub shape: Shape,
    /// Whether a reload may change it.
    pub when: When,
    /// Reads a value into the field; leaves the field alone on error.
    pub set: fn(&mut T, &Raw<'_>) -> Result<(), ValueError>,
    /// The field in PgBouncer's spelling; "" when unset, never a secret.
    pub show: fn(&T) -> String,
    /// The same with its secret, as text that `set` takes.
    pub(crate) write: fn(&T) -> String,
    /// Whether the field is the same in both.
    pub same: fn(&T, &T) -> bool,
    /// Takes the field over from another `T` (first argument: the one that is changed).
    pub copy: fn(&mut T, &T),
}

/// A struct that is filled from one kind of section.
pub trait Table: Default + 'static {
    /// How messages name the section, without brackets: `pgpool`, `databases.NAME`, `users.NAME`.
    const SECTION: &'static str;
    /// All settings, in the order of the documentation.
    const ROWS: &'static [Row<Self>];

    /// The row of the setting `name`.
    fn row(name: &str) -> Option<&'static Row<Self>> {
        Self::ROWS.iter().find(|row| row.name == name)
    }
}

macro_rules! settings {
    (
        $(#[$meta:meta])*
        pub struct $name:ident in $section:literal { $( $(#[$extra_meta:meta])* $extra:ident : $extra_type:ty, )* }
        $( #[doc = $doc:literal] $field:ident : $type:ty as $kind:ty = $default:expr, $when:ident; )*
    ) => {
        $(#[$meta])*
        #[allow(
            rustdoc::broken_intra_doc_links,
            rustdoc::invalid_html_tags,
            reason = "a row's doc is for operators: [users.NAME] is no link and <empty> is no tag"
        )]
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $( $(#[$extra_meta])* pub $extra: $extra_type, )*
            $( #[doc = $doc] pub $field: $type, )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $extra: Default::default(), )* $( $field: $default, )* }
            }
        }

        impl crate::config::table::Table for $name {
            const SECTION: &'static str = $section;
            const ROWS: &'static [crate::config::table::Row<Self>] = &[ $( crate::config::table::Row {
                name: stringify!($field),
                doc: $doc.trim_ascii_start(),
                unit: <$kind as crate::config::value::Kind>::UNIT,
                shape: <$kind as crate::config::value::Kind>::SHAPE,
                when: crate::config::table::When::$when,
                set: |target, raw| {
                    target.$field = <$kind as crate::config::value::Kind>::read(raw)?;
                    Ok(())
                },
                show: |target| <$kind as crate::config::value::Kind>::show(&target.$field),
                write: |target| <$kind as crate::config::value::Kind>::write(&target.$field),
                same: |one, other| one.$field == other.$field,
                copy: |target, from| target.$field.clone_from(&from.$field),
            }, )* ];
        }
    };
}

pub(super) use settings;
