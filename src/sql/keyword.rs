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

/// Makes letters small in a [`key`], and nothing else equal that may be in a word.
const SMALL: u64 = 0x2020_2020_2020_2020;

impl Keyword {
    /// The keyword that an identifier is. `word` is in lower case unless it was quoted, and `key` is its [`key`].
    pub(super) fn of(word: &[u8], key: u64, quoted: bool) -> Self {
        let (whole, keyword) = match candidate(key) {
            Candidate::None => return Self::None,
            Candidate::Named => return named(word),
            Candidate::Word(_, _) if quoted => return Self::None,
            Candidate::Word(whole, keyword) => (whole, keyword),
        };
        let short = whole.len() <= 8 && word.len() <= 8;
        if short || whole.as_bytes() == word { keyword } else { Self::None }
    }

    /// Whether a word with this key may be one.
    #[inline]
    pub(super) fn may_be(key: u64) -> bool {
        !matches!(candidate(key), Candidate::None)
    }

    /// Whether a word with this key may be the name of what is in the catalog.
    #[inline]
    pub(super) fn is_named(key: u64) -> bool {
        is_named(key)
    }
}

/// The first eight bytes as a number, whatever their case, so that most words are told apart by one look.
pub(super) const fn key(word: &[u8]) -> u64 {
    let mut key = 0;
    let mut at = 0;
    let mut rest = word;
    while at < 8
        && let [byte, others @ ..] = rest
    {
        key = key << 8 | *byte as u64;
        at += 1;
        rest = others;
    }
    key | SMALL
}

/// [`key`] of the first `length` bytes, of which there are so many.
#[inline]
pub(super) fn key_of_first(length: usize, bytes: &[u8]) -> u64 {
    let Some(first) = bytes.first_chunk() else { return key(bytes.get(..length).unwrap_or_default()) };
    let unused = 8 - length.clamp(1, 8);
    u64::from_be_bytes(*first) >> (8 * unused) | SMALL
}

/// What a word may be by its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Candidate {
    None,
    /// One of [`named`].
    Named,
    Word(&'static str, Keyword),
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

/// What the words of [`named`] begin with, and the other words; no two of them begin with the same eight bytes.
macro_rules! keywords {
    ([$($prefix:ident: $begins:literal,)*], $($key:ident: $word:literal => $keyword:ident,)*) => {
        #[inline]
        fn is_named(key: u64) -> bool {
            $(const $prefix: u64 = self::key($begins.as_bytes());)*
            matches!(key, $($prefix)|*)
        }

        #[inline]
        fn candidate(key: u64) -> Candidate {
            $(const $prefix: u64 = self::key($begins.as_bytes());)*
            $(const $key: u64 = self::key($word.as_bytes());)*
            match key {
                $($prefix)|* => Candidate::Named,
                $($key => Candidate::Word($word, Keyword::$keyword),)*
                _ => Candidate::None,
            }
        }
    };
}

keywords! {
    [
        SET_CONFIG: "set_config",
        ADVISORY: "pg_advisory",
        TRY_ADVISORY: "pg_try_advisory",
        QUERY_TO: "query_to",
        TS_STAT: "ts_stat",
        TS_REWRITE: "ts_rewrite",
        PG_SETTINGS: "pg_settings",
        PG_TEMP: "pg_temp",
        PG_TEMP_NUMBER: "pg_temp_",
    ],
    ABORT: "abort" => Abort,
    ALL: "all" => All,
    ANALYSE: "analyse" => Analyze,
    ANALYZE: "analyze" => Analyze,
    AS: "as" => As,
    AUTHORIZATION: "authorization" => Authorization,
    BOOL: "bool" => Type,
    BOOLEAN: "boolean" => Type,
    CALL: "call" => Call,
    CHARACTERISTICS: "characteristics" => Characteristics,
    CLOSE: "close" => Close,
    COMMIT: "commit" => Commit,
    CONSTRAINTS: "constraints" => Constraints,
    CREATE: "create" => Create,
    DEALLOCATE: "deallocate" => Deallocate,
    DECLARE: "declare" => Declare,
    DEFAULT: "default" => Default,
    DELETE: "delete" => Delete,
    DISCARD: "discard" => Discard,
    DO: "do" => Do,
    DROP: "drop" => Drop,
    END: "end" => End,
    EXECUTE: "execute" => Execute,
    EXPLAIN: "explain" => Explain,
    FOR: "for" => For,
    FROM: "from" => From,
    GLOBAL: "global" => Global,
    HOLD: "hold" => Hold,
    IMPORT: "import" => Import,
    INSERT: "insert" => Insert,
    INTO: "into" => Into,
    ISOLATION: "isolation" => Isolation,
    LISTEN: "listen" => Listen,
    LOAD: "load" => Load,
    LOCAL: "local" => Local,
    MERGE: "merge" => Merge,
    NAMES: "names" => Names,
    NONE: "none" => NoneWord,
    ON: "on" => On,
    OPTION: "option" => Option,
    PREPARE: "prepare" => Prepare,
    REPLACE: "replace" => Replace,
    RESET: "reset" => Reset,
    ROLE: "role" => Role,
    ROLLBACK: "rollback" => Rollback,
    SCHEMA: "schema" => Schema,
    SELECT: "select" => Select,
    SESSION: "session" => Session,
    SET: "set" => Set,
    TABLE: "table" => Table,
    TEMP: "temp" => Temp,
    TEMPORARY: "temporary" => Temp,
    TEXT: "text" => Type,
    TIME: "time" => Time,
    TO: "to" => To,
    TRANSACTION: "transaction" => Transaction,
    TRUE: "true" => True,
    UESCAPE: "uescape" => Uescape,
    UNLISTEN: "unlisten" => Unlisten,
    UPDATE: "update" => Update,
    USING: "using" => Using,
    VALUES: "values" => Values,
    VARCHAR: "varchar" => Type,
    VERBOSE: "verbose" => Verbose,
    WITH: "with" => With,
    XML: "xml" => Xml,
    ZONE: "zone" => Zone,
}
