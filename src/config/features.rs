//! `session_features`: what is done about a client that leaves something on its backend beyond its transaction.
//!
//! Written as one policy for everything, or as a list with policies of single features. A policy without a name stands
//! for the features that are not named; without one those are pinned. A database's value replaces the general one.

use std::fmt;

use crate::config::choice::Policy;
use crate::config::suggest::nearest;
use crate::config::value::{Kind, Raw, ValueError};

/// A policy per feature of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionFeatures {
    /// Advisory locks of the session.
    pub advisory_locks: Policy,
    /// Temporary tables that outlive the transaction.
    pub temp_tables: Policy,
    /// Cursors with hold.
    pub cursors: Policy,
    /// `LISTEN`.
    pub listen: Policy,
    /// Libraries that were loaded.
    pub load: Policy,
    /// Settings that nothing reports and no statement shows.
    pub settings: Policy,
}

/// The kind of the setting.
pub(super) struct Features;

impl SessionFeatures {
    /// The features by their names in the configuration, in the order of the fields.
    pub const NAMES: &'static [&'static str] =
        &["advisory_locks", "temp_tables", "cursors", "listen", "load", "settings"];

    /// The same policy for every feature.
    #[must_use]
    pub const fn all(policy: Policy) -> SessionFeatures {
        SessionFeatures {
            advisory_locks: policy,
            temp_tables: policy,
            cursors: policy,
            listen: policy,
            load: policy,
            settings: policy,
        }
    }

    /// The policies, in the order of [`SessionFeatures::NAMES`].
    fn policies(self) -> [Policy; 6] {
        [self.advisory_locks, self.temp_tables, self.cursors, self.listen, self.load, self.settings]
    }

    fn policy_mut(&mut self, feature: &str) -> Option<&mut Policy> {
        match feature {
            "advisory_locks" => Some(&mut self.advisory_locks),
            "temp_tables" => Some(&mut self.temp_tables),
            "cursors" => Some(&mut self.cursors),
            "listen" => Some(&mut self.listen),
            "load" => Some(&mut self.load),
            "settings" => Some(&mut self.settings),
            _ => None,
        }
    }

    fn parse<'a>(items: impl Iterator<Item = &'a str>) -> Result<SessionFeatures, ValueError> {
        let mut others: Option<Policy> = None;
        let mut named: Vec<(String, Policy)> = Vec::new();
        for item in items {
            let Some((feature, policy)) = item.split_once('=') else {
                let policy = others_policy(item)?;
                if let Some(first) = others.replace(policy) {
                    return Err(ValueError::TwoPolicies { first: first.as_str(), second: policy.as_str() });
                }
                continue;
            };
            let feature = known(feature)?;
            if named.iter().any(|(name, _)| *name == feature) {
                return Err(ValueError::FeatureTwice(feature));
            }
            named.push((feature, policy.parse()?));
        }
        let mut features = SessionFeatures::all(others.unwrap_or_default());
        for (name, policy) in named {
            if let Some(field) = features.policy_mut(&name) {
                *field = policy;
            }
        }
        Ok(features)
    }
}

/// A word without a name: a policy for what is not named. A feature's name alone lacks its policy.
fn others_policy(word: &str) -> Result<Policy, ValueError> {
    word.parse().map_err(|error| match known(word) {
        Ok(feature) => ValueError::NoPolicy { feature, policy: Policy::default().as_str() },
        Err(_) => error,
    })
}

/// The name as it stands in the table, whatever case it was written in.
fn known(feature: &str) -> Result<String, ValueError> {
    let word = feature.trim().to_ascii_lowercase();
    if SessionFeatures::NAMES.contains(&word.as_str()) {
        return Ok(word);
    }
    let found = feature.trim().to_owned();
    let near = nearest(&word, SessionFeatures::NAMES.iter().copied());
    Err(ValueError::Feature { found, nearest: near, known: SessionFeatures::NAMES })
}

impl Default for SessionFeatures {
    fn default() -> Self {
        Self::all(Policy::default())
    }
}

impl fmt::Display for SessionFeatures {
    /// The policy of most features, then those that differ.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policies = self.policies();
        let uses = |policy: &Policy| policies.iter().filter(|other| *other == policy).count();
        // Of policies that as many features have, the first in the order of the documentation.
        let most = Policy::ALL.iter().rev().max_by_key(|policy| uses(policy)).copied().unwrap_or_default();
        write!(f, "{most}")?;
        for (name, policy) in Self::NAMES.iter().zip(policies).filter(|(_, policy)| *policy != most) {
            write!(f, ", {name}={policy}")?;
        }
        Ok(())
    }
}

impl Kind for Features {
    type Value = SessionFeatures;
    const EMPTY_IS_UNSET: bool = true;

    fn read(raw: &Raw<'_>) -> Result<SessionFeatures, ValueError> {
        match raw {
            Raw::Text(text) => SessionFeatures::parse(text.split(',').map(str::trim)),
            Raw::List(items) => SessionFeatures::parse(items.iter().map(|item| item.trim())),
            Raw::Bool(_) | Raw::Integer { .. } | Raw::Float(_) | Raw::Other(_) => {
                Err(raw.mismatch("a policy like \"pin\", or a list like \"pin, listen=reject\""))
            }
        }
    }

    fn show(value: &SessionFeatures) -> String {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<SessionFeatures, ValueError> {
        Features::read(&Raw::Text(text))
    }

    #[test]
    fn policies_with_and_without_names() {
        let pinned = SessionFeatures::default();
        let cases = [
            ("pin", pinned, "pin"),
            ("Reject", SessionFeatures::all(Policy::Reject), "reject"),
            ("listen=warn", SessionFeatures { listen: Policy::Warn, ..pinned }, "pin, listen=warn"),
            (
                " pin, advisory_locks = reject ,TEMP_TABLES=Allow",
                SessionFeatures { advisory_locks: Policy::Reject, temp_tables: Policy::Allow, ..pinned },
                "pin, advisory_locks=reject, temp_tables=allow",
            ),
            (
                "load=pin, reject",
                SessionFeatures { load: Policy::Pin, ..SessionFeatures::all(Policy::Reject) },
                "reject, load=pin",
            ),
            (
                "allow, cursors=warn, listen=warn, load=warn",
                SessionFeatures {
                    cursors: Policy::Warn,
                    listen: Policy::Warn,
                    load: Policy::Warn,
                    ..SessionFeatures::all(Policy::Allow)
                },
                "warn, advisory_locks=allow, temp_tables=allow, settings=allow",
            ),
        ];
        for (text, features, shown) in cases {
            assert_eq!(read(text), Ok(features), "{text}");
            assert_eq!(Features::show(&features), shown);
        }
        let list = Raw::List(vec!["pin", " listen=warn "]);
        assert_eq!(Features::read(&list), read("pin, listen=warn"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let cases = [
            ("", "`` is none of pin, warn, reject, allow"),
            ("pin,", "`` is none of pin, warn, reject, allow"),
            ("pni", "`pni` is none of pin, warn, reject, allow"),
            ("pin, reject", "both `pin` and `reject` stand for the features without a name"),
            ("pin, listen", "`listen` lacks a policy, like listen=pin"),
            ("listen=", "`` is none of pin, warn, reject, allow"),
            ("listen=no", "`no` is none of pin, warn, reject, allow"),
            ("listen=pin, LISTEN=warn", "`listen` occurs twice"),
            ("advisory_lock=pin", "unknown feature `advisory_lock`, did you mean `advisory_locks`?"),
            ("tables=pin", "unknown feature `tables`, did you mean `temp_tables`?"),
            ("x=pin", "unknown feature `x`: there are advisory_locks, temp_tables, cursors, listen, load, settings"),
        ];
        for (text, message) in cases {
            assert_eq!(read(text).unwrap_err().to_string(), message, "{text}");
        }
        let error = Features::read(&Raw::Bool(true)).unwrap_err().to_string();
        assert_eq!(error, "expected a policy like \"pin\", or a list like \"pin, listen=reject\", found a boolean");
    }

    proptest! {
        #[test]
        fn shown_features_read_back(chosen in proptest::collection::vec(0..4_usize, 6)) {
            let mut features = SessionFeatures::default();
            for (name, index) in SessionFeatures::NAMES.iter().zip(chosen) {
                *features.policy_mut(name).unwrap() = Policy::ALL[index];
            }
            prop_assert_eq!(read(&features.to_string()), Ok(features));
        }
    }
}
