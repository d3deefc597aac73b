//! What somebody may have meant by a name that is not known.

use crate::config::database::Database;
use crate::config::general::General;
use crate::config::table::Table;
use crate::config::user::User;

/// The sections of a file.
pub(super) const SECTIONS: &[&str] = &["pgpool", "databases", "users", "peers"];

/// Longer words are not compared: the distance takes time by the product of the lengths, and nobody meant them.
const LONGEST: usize = 64;

/// The known name that `word` is probably a slip of: few letters away, or a name that has `word` as a part.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    if word.is_empty() || word.len() > LONGEST {
        return None;
    }
    let distance = |name: &str| strsim::damerau_levenshtein(&word, name);
    let near = known.clone().map(|name| (distance(name), name)).min();
    if let Some((distance, name)) = near
        && distance <= (word.len().max(name.len()) / 3).max(1)
    {
        return Some(name);
    }
    let has_word = |name: &&str| format!("_{name}_").contains(&format!("_{word}_"));
    known.filter(has_word).min_by_key(|name| name.len())
}

/// The message about a setting that its section does not have.
///
/// `section` is what stands in the brackets of the file, `T` what such a section fills.
pub(super) fn unknown_setting<T: Table>(name: &str, section: &str) -> String {
    if let Some(message) = elsewhere(name) {
        return message;
    }
    let hint = match nearest(name, names::<T>()) {
        Some(known) => format!(", did you mean `{known}`?"),
        None => others(name),
    };
    format!("unknown setting `{name}` in [{section}]{hint}")
}

/// "`pool_mode` belongs into [pgpool] or [users.NAME]", when `name` is a setting of these sections.
pub(super) fn elsewhere(name: &str) -> Option<String> {
    let mut homes = Vec::new();
    if General::row(name).is_some() {
        homes.push(format!("[{}]", General::SECTION));
    }
    if Database::row(name).is_some() {
        homes.push(format!("[{}]", Database::SECTION));
    }
    if User::row(name).is_some() {
        homes.push(format!("[{}]", User::SECTION));
    }
    (!homes.is_empty()).then(|| format!("`{name}` belongs into {}", homes.join(" or ")))
}

fn names<T: Table>() -> impl Iterator<Item = &'static str> + Clone {
    T::ROWS.iter().map(|row| row.name)
}

/// A slip of a setting's name in a section where that setting would be wrong as well.
fn others(name: &str) -> String {
    let near = [
        (General::SECTION, nearest(name, names::<General>())),
        (Database::SECTION, nearest(name, names::<Database>())),
        (User::SECTION, nearest(name, names::<User>())),
    ];
    let found = near.into_iter().find_map(|(section, known)| Some((section, known?)));
    found.map(|(section, known)| format!(", did you mean `{known}` of [{section}]?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised() {
        let cases = [
            ("mode", Some("pool_mode")),
            ("listen_prot", Some("listen_port")),
            ("LISTEN_PORT", Some("listen_port")),
            ("max_client_connections", Some("max_db_client_connections")),
            ("max_clients_conn", Some("max_client_conn")),
            ("frobnicate", None),
            ("", None),
            ("x", None),
        ];
        for (word, expected) in cases {
            assert_eq!(nearest(word, names::<General>()), expected, "{word}");
        }
    }
}
