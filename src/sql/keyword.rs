//! The words that matter.

/// A word that matters, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    /// None of the others, or no word at all.
    None,
    /// `U&"..."` with something to decode.
    Unreadable,

    // Names of functions and of what is in the catalog: these may be quoted.
    AdvisoryLock,
    AdvisoryUnlock,
    /// A function that runs the query in its argument.
    RunsText,
    SetConfig,
    PgSettings,
    PgTemp,

    Abort,
    All,
    Analyze,
    As,
    Authorization,
    Call,
    Characteristics,
    Close,
    Commit,
    Constraints,
    Create,
    Deallocate,
    Declare,
    Default,
    Delete,
    Discard,
    Do,
    Drop,
    End,
    Execute,
    Explain,
    For,
    From,
    Global,
    Hold,
    Import,
    Insert,
    Into,
    Isolation,
    Listen,
    Load,
    Local,
    Merge,
    Names,
    NoneWord,
    On,
    Option,
    Prepare,
    Replace,
    Reset,
    Role,
    Rollback,
    Schema,
    Select,
    Session,
    Set,
    Table,
    Temp,
    Time,
    To,
    Transaction,
    True,
    Type,
    Uescape,
    Unlisten,
    Update,
    Using,
    Values,
    Verbose,
    With,
    Xml,
    Zone,
}

impl Keyword {
    /// The keyword that an identifier is. `word` is in lower case unless it was quoted.
    pub(super) fn of(word: &[u8], quoted: bool) -> Self {
        if !(2..=28).contains(&word.len()) {
            return Self::None;
        }
        let keyword = match word.first() {
            Some(b'p' | b's' | b'q' | b't') => named(word),
            _ => Self::None,
        };
        if keyword == Self::None && !quoted { plain(word) } else { keyword }
    }
}

/// Functions and relations, and what stands for a schema.
fn named(word: &[u8]) -> Keyword {
    match word {
        b"set_config" => Keyword::SetConfig,
        b"pg_advisory_lock" | b"pg_advisory_lock_shared" => Keyword::AdvisoryLock,
        b"pg_try_advisory_lock" | b"pg_try_advisory_lock_shared" => Keyword::AdvisoryLock,
        b"pg_advisory_unlock" | b"pg_advisory_unlock_shared" | b"pg_advisory_unlock_all" => Keyword::AdvisoryUnlock,
        b"query_to_xml" | b"query_to_xmlschema" | b"query_to_xml_and_xmlschema" => Keyword::RunsText,
        b"ts_stat" | b"ts_rewrite" => Keyword::RunsText,
        b"pg_settings" => Keyword::PgSettings,
        b"pg_temp" => Keyword::PgTemp,
        _ if word.starts_with(b"pg_temp_") => Keyword::PgTemp,
        _ => Keyword::None,
    }
}

#[expect(clippy::too_many_lines, reason = "a line per word")]
fn plain(word: &[u8]) -> Keyword {
    match word {
        b"abort" => Keyword::Abort,
        b"all" => Keyword::All,
        b"analyse" | b"analyze" => Keyword::Analyze,
        b"as" => Keyword::As,
        b"authorization" => Keyword::Authorization,
        b"call" => Keyword::Call,
        b"characteristics" => Keyword::Characteristics,
        b"close" => Keyword::Close,
        b"commit" => Keyword::Commit,
        b"constraints" => Keyword::Constraints,
        b"create" => Keyword::Create,
        b"deallocate" => Keyword::Deallocate,
        b"declare" => Keyword::Declare,
        b"default" => Keyword::Default,
        b"delete" => Keyword::Delete,
        b"discard" => Keyword::Discard,
        b"do" => Keyword::Do,
        b"drop" => Keyword::Drop,
        b"end" => Keyword::End,
        b"execute" => Keyword::Execute,
        b"explain" => Keyword::Explain,
        b"for" => Keyword::For,
        b"from" => Keyword::From,
        b"global" => Keyword::Global,
        b"hold" => Keyword::Hold,
        b"import" => Keyword::Import,
        b"insert" => Keyword::Insert,
        b"into" => Keyword::Into,
        b"isolation" => Keyword::Isolation,
        b"listen" => Keyword::Listen,
        b"load" => Keyword::Load,
        b"local" => Keyword::Local,
        b"merge" => Keyword::Merge,
        b"names" => Keyword::Names,
        b"none" => Keyword::NoneWord,
        b"on" => Keyword::On,
        b"option" => Keyword::Option,
        b"prepare" => Keyword::Prepare,
        b"replace" => Keyword::Replace,
        b"reset" => Keyword::Reset,
        b"role" => Keyword::Role,
        b"rollback" => Keyword::Rollback,
        b"schema" => Keyword::Schema,
        b"select" => Keyword::Select,
        b"session" => Keyword::Session,
        b"set" => Keyword::Set,
        b"table" => Keyword::Table,
        b"temp" | b"temporary" => Keyword::Temp,
        b"time" => Keyword::Time,
        b"to" => Keyword::To,
        b"transaction" => Keyword::Transaction,
        b"true" => Keyword::True,
        b"bool" | b"boolean" | b"text" | b"varchar" => Keyword::Type,
        b"uescape" => Keyword::Uescape,
        b"unlisten" => Keyword::Unlisten,
        b"update" => Keyword::Update,
        b"using" => Keyword::Using,
        b"values" => Keyword::Values,
        b"verbose" => Keyword::Verbose,
        b"with" => Keyword::With,
        b"xml" => Keyword::Xml,
        b"zone" => Keyword::Zone,
        _ => Keyword::None,
    }
}
