//! SET and RESET, from behind that word.
//!
//! Most of the words that choose a form may be the name of a setting too, `SET session.x = 1`, so what is behind them
//! decides. That is how PostgreSQL's grammar does it (`set_rest` and `reset_rest` in `gram.y`).

use super::acts::{Acts, SETTING_BYTES, cut, setting_name};
use super::keyword::Keyword;
use super::token::{Kind, Token, Value, Word};
use super::{Act, Feature};

const AUTHORIZATION: &[u8] = b"session_authorization";
/// What SET SESSION CHARACTERISTICS AS TRANSACTION sets.
const CHARACTERISTICS: [&str; 3] =
    ["default_transaction_isolation", "default_transaction_read_only", "default_transaction_deferrable"];

/// A SET or RESET that is being read.
#[derive(Debug)]
pub(super) struct Setting {
    verb: Verb,
    scope: Scope,
    expects: Expects,
    /// The parts so far with their dots.
    name: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Set,
    Reset,
}

/// What a token has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    More,
    Done,
    /// That is no SET or RESET; the token was not taken.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    NotSaid,
    Session,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expects {
    Name,
    /// What is behind a name, or behind the keyword that it may be.
    BehindName(Keyword),
    /// What is behind SET SESSION CHARACTERISTICS.
    BehindCharacteristics,
    Value(Default),
    /// The other parts of `search_path`.
    Schema,
}

/// What puts a setting back to its default besides DEFAULT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Default {
    Nothing,
    /// LOCAL, of TIME ZONE.
    Local,
    /// NONE, of ROLE.
    None,
    /// No value at all, of NAMES.
    Absent,
}

impl Setting {
    pub(super) fn new(verb: Verb) -> Self {
        Self { verb, scope: Scope::NotSaid, expects: Expects::Name, name: Vec::new() }
    }

    pub(super) fn token(&mut self, token: &Token<'_>, acts: &mut Acts) -> Step {
        match self.expects {
            Expects::Name => self.name(token),
            Expects::BehindName(keyword) => self.behind_name(keyword, token, acts),
            Expects::BehindCharacteristics if token.keyword() == Keyword::As => {
                CHARACTERISTICS.iter().for_each(|name| acts.push(Act::Set((*name).into())));
                Step::Done
            }
            Expects::BehindCharacteristics => self.behind_name(Keyword::None, token, acts),
            Expects::Value(default) => self.value(default, token, acts),
            Expects::Schema => schema(token, acts),
        }
    }

    /// The statement is over.
    pub(super) fn end(&self, acts: &mut Acts) -> Step {
        match (self.verb, self.expects) {
            (_, Expects::Schema) => Step::Done,
            (Verb::Set, Expects::Value(Default::Absent) | Expects::BehindName(Keyword::Names)) => {
                acts.push(Act::Reset("client_encoding".into()));
                Step::Done
            }
            (Verb::Reset, Expects::BehindName(keyword)) => {
                self.reset(keyword, acts);
                Step::Done
            }
            (Verb::Reset, Expects::Value(_)) => Step::Done,
            _ => Step::Failed,
        }
    }

    fn name(&mut self, token: &Token<'_>) -> Step {
        let Some(Word { text, keyword, quoted }) = token.word() else { return Step::Failed };
        let first = self.name.is_empty();
        if self.name.len() + text.len() < SETTING_BYTES {
            self.name.extend_from_slice(cut(text));
        } else {
            return Step::Failed;
        }
        self.expects = Expects::BehindName(if first && !quoted { keyword } else { Keyword::None });
        Step::More
    }

    fn behind_name(&mut self, keyword: Keyword, token: &Token<'_>, acts: &mut Acts) -> Step {
        if token.is(b'.') {
            self.name.push(b'.');
            self.expects = Expects::Name;
            return Step::More;
        }
        match (self.verb, token.keyword()) {
            (Verb::Set, Keyword::To) => self.behind(Default::Nothing),
            (Verb::Set, _) if token.is(b'=') => self.behind(Default::Nothing),
            (Verb::Set, Keyword::From) => self.set(acts),
            (Verb::Set, _) => self.form(keyword, token, acts),
            (Verb::Reset, Keyword::Authorization) if keyword == Keyword::Session => {
                acts.push(Act::Reset("session_authorization".into()));
                Step::Done
            }
            (Verb::Reset, Keyword::Zone) if keyword == Keyword::Time => {
                acts.push(Act::Reset("timezone".into()));
                Step::Done
            }
            (Verb::Reset, Keyword::Isolation) if keyword == Keyword::Transaction => Step::Done,
            (Verb::Reset, _) => {
                self.reset(keyword, acts);
                Step::Failed
            }
        }
    }

    /// SET and a keyword, and a token that does not make it a name.
    fn form(&mut self, keyword: Keyword, token: &Token<'_>, acts: &mut Acts) -> Step {
        match (keyword, token.keyword()) {
            (Keyword::Transaction, _) => Step::Done,
            (Keyword::Local | Keyword::Constraints, _) if self.scope == Scope::NotSaid => Step::Done,
            (Keyword::Session, Keyword::Authorization) => self.behind_form(AUTHORIZATION, Default::Nothing),
            (Keyword::Session, Keyword::Characteristics) => {
                self.scope = Scope::Session;
                self.name.clear();
                let step = self.name(token);
                self.expects = Expects::BehindCharacteristics;
                step
            }
            (Keyword::Session, _) if self.scope == Scope::NotSaid => {
                self.scope = Scope::Session;
                self.name.clear();
                self.name(token)
            }
            (Keyword::Time, Keyword::Zone) => self.behind_form(b"timezone", Default::Local),
            (Keyword::Names, _) => {
                self.behind_form(b"client_encoding", Default::Absent);
                self.value(Default::Absent, token, acts)
            }
            (Keyword::Schema, _) => {
                self.behind_form(b"search_path", Default::Nothing);
                self.value(Default::Nothing, token, acts)
            }
            (Keyword::Role, _) => self.value(Default::None, token, acts),
            (Keyword::Xml, Keyword::Option) => {
                acts.push(Act::Set("xmloption".into()));
                Step::Done
            }
            _ => Step::Failed,
        }
    }

    fn behind_form(&mut self, name: &[u8], default: Default) -> Step {
        self.name.clear();
        self.name.extend_from_slice(name);
        self.behind(default)
    }

    fn behind(&mut self, default: Default) -> Step {
        self.expects = Expects::Value(default);
        Step::More
    }

    fn value(&mut self, default: Default, token: &Token<'_>, acts: &mut Acts) -> Step {
        match (token.keyword(), default) {
            (Keyword::Default, _) | (Keyword::Local, Default::Local) | (Keyword::NoneWord, Default::None) => {
                self.reset(Keyword::None, acts);
                Step::Done
            }
            _ => match self.set(acts) {
                Step::Done if self.name.eq_ignore_ascii_case(b"search_path") => {
                    self.expects = Expects::Schema;
                    schema(token, acts)
                }
                step => step,
            },
        }
    }

    fn set(&self, acts: &mut Acts) -> Step {
        acts.push(setting_name(&self.name).map_or(Act::Opaque, Act::Set));
        Step::Done
    }

    fn reset(&self, keyword: Keyword, acts: &mut Acts) {
        acts.push(match keyword {
            Keyword::All => Act::ResetAll,
            _ => setting_name(&self.name).map_or(Act::Opaque, Act::Reset),
        });
    }
}

/// Whether what is created without a schema's name becomes temporary: `pg_temp` in `search_path`.
fn schema(token: &Token<'_>, acts: &mut Acts) -> Step {
    let temporary = match token.kind {
        Kind::Word(word) => word.keyword == Keyword::PgTemp,
        Kind::Text(value) => names_temporary_schema(value),
        Kind::Parameter(_) | Kind::Number | Kind::Mark(_) | Kind::Unreadable => false,
    };
    if temporary {
        acts.push(Act::Uses(Feature::TempTable));
        return Step::Done;
    }
    Step::More
}

/// Whether `pg_temp` is in a value of `search_path`.
pub(super) fn names_temporary_schema(value: Value<'_>) -> bool {
    match value {
        Value::Whole(text) | Value::Part(text) => {
            text.windows(b"pg_temp".len()).any(|part| part.eq_ignore_ascii_case(b"pg_temp"))
        }
        Value::Unknown => true,
    }
}
