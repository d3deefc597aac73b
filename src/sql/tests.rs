//! Texts and what they may do, and properties of the tokenizer.

use proptest::prelude::*;

use super::*;

/// What a text may do, in short words.
fn acts(text: &str) -> Vec<String> {
    shown(text, Dialect::default())
}

fn shown(text: &str, dialect: Dialect) -> Vec<String> {
    let name = |name: &Name| String::from_utf8(name.text.to_vec()).unwrap();
    let part = |range: &std::ops::Range<usize>| text[range.clone()].to_owned();
    let all = read(text.as_bytes(), dialect).acts;
    all.iter()
        .map(|act| match act {
            Act::Set(name) => format!("set {name}"),
            Act::Reset(name) => format!("reset {name}"),
            Act::SetConfig(Arg::Name(name)) => format!("config {name}"),
            Act::SetConfig(Arg::Parameter(number)) => format!("config ${number}"),
            Act::SetConfig(Arg::Opaque) => "config ?".to_owned(),
            Act::Prepare { name: named, types, statement } => {
                format!("prepare {} [{}] [{}]", name(named), part(types), part(statement))
            }
            Act::Execute(named) => format!("execute {} at {}", name(named), part(&named.range)),
            Act::Deallocate(named) => format!("deallocate {}", name(named)),
            Act::Listen(channel) => format!("listen {}", String::from_utf8_lossy(channel)),
            Act::Unlisten(channel) => format!("unlisten {}", String::from_utf8_lossy(channel)),
            other => format!("{other:?}"),
        })
        .collect()
}

#[test]
fn texts_and_their_acts() {
    let cases: &[(&str, &[&str])] = &[
        ("", &[]),
        ("select 1", &[]),
        ("SET work_mem = '4MB'", &["set work_mem"]),
        ("/* hi */ set -- there\n session WORK_MEM to 4", &["set work_mem"]),
        ("set \"Work_Mem\" = 1; select 1; ; reset WORK_MEM;", &["set work_mem", "reset work_mem"]),
        ("set app.tenant_id = 'x'", &["set app.tenant_id"]),
        ("set \"app\" . \"Tenant\" to default", &["reset app.tenant"]),
        ("set x = default, 'a'", &["set x"]),
        ("set x from current", &["set x"]),
        ("set local work_mem = 1; set transaction read only; set constraints all deferred", &[]),
        ("set role admin; set session role 'x'; reset role", &["set role", "set role", "reset role"]),
        ("set session authorization bob", &["set session_authorization"]),
        (
            "reset session authorization; reset all; reset time zone",
            &["reset session_authorization", "ResetAll", "reset timezone"],
        ),
        (
            "set time zone 'UTC'; set names 'utf8'; set schema 'x'",
            &["set timezone", "set client_encoding", "set search_path"],
        ),
        (
            "set session characteristics as transaction read only",
            &[
                "set default_transaction_isolation",
                "set default_transaction_read_only",
                "set default_transaction_deferrable",
            ],
        ),
        ("set u&\"w\\006frk_mem\" = 1", &["Opaque"]),
        // Not a SET of the session's.
        ("update t set role = 1 where set = 2", &[]),
        ("alter system set work_mem = 1; alter role x set work_mem = 1", &[]),
        ("create function f() returns int language sql set work_mem = 1 as 'select 1'", &[]),
        ("select 'set role x'; select $$; set role x;$$, $a$;set x = 1;$b$;$a$", &[]),
        ("select e'\\'; set role x; --'", &[]),
        ("select \"; set role x;\" from \"a\"\"; set role y\"", &[]),
        ("/* /* nested */ ; set role x */ select 1 -- ; set role x\n", &[]),
        ("create rule r as on insert to t do (delete from a; update b set c = 1)", &[]),
        // Hidden ones.
        ("select '\\'; set role x; --'", &["set role"]),
        ("select 'a''b'; set role x", &["set role"]),
        ("select 'a'\n'b'; set role x", &["set role"]),
        ("select 'a' -- '\n'b'; set role x; select ''", &["set role"]),
        ("select a$b$; set role x; select c$b$", &["set role"]),
        ("select 1 /*/* */*/; set role x", &["set role"]),
        ("select $1$2; set role x", &["set role"]),
        ("select $a; set role x; $", &["set role"]),
        ("select 1 +-- comment\n 1; set role x", &["set role"]),
        ("select u&'\\'; set role x; --'", &["set role"]),
        ("select u &'a'; set role x", &["set role"]),
        ("begin atomic select 1; set role x; end", &["set role"]),
        // set_config.
        ("select set_config('App.Tenant', 'x', false)", &["config app.tenant"]),
        ("select pg_catalog . \"set_config\" ( 'a.b' , f(1, 'x'), $3 )", &["config a.b"]),
        ("select set_config('a.b', 'x', true), set_config('a.c', 'x', 't')", &[]),
        (
            "select set_config('a.b', 'x', true and false), set_config('a.b', 'x', not true)",
            &["config a.b", "config a.b"],
        ),
        ("select set_config($1, $2, false)", &["config $1"]),
        ("select set_config('a' || 'b', 'x', false)", &["config ?"]),
        ("select set_config(set_config('a.b', 'c.d', false), 'x', false)", &["config a.b", "config ?"]),
        ("select set_config('a.b'", &["config ?"]),
        ("select set_config(e'a\\x2eb', 'x', false)", &["config ?"]),
        ("select u&\"set_\\0063onfig\"('a.b', 'x', false)", &["config a.b"]),
        ("select set_config from t", &[]),
        // Prepared statements.
        ("PREPARE Foo AS select $1", &["prepare foo [] [ select $1]"]),
        (
            "prepare \"Foo\" (int, numeric(10, 2)) as select $1;select 2",
            &["prepare Foo [(int, numeric(10, 2))] [ select $1]"],
        ),
        ("prepare transaction 'x'", &[]),
        ("execute foo(1, 'x'); execute \"Bar\"", &["execute foo at foo", "execute Bar at \"Bar\""]),
        ("explain (analyze, costs off) execute foo (1)", &["execute foo at foo"]),
        ("create table t as execute foo(1)", &["execute foo at foo"]),
        ("create trigger t after insert on x execute function f()", &[]),
        ("grant execute on function f to x", &[]),
        (
            "deallocate foo; deallocate prepare \"X\"; deallocate prepare",
            &["deallocate foo", "deallocate X", "deallocate prepare"],
        ),
        ("deallocate all; DEALLOCATE PREPARE ALL; discard all", &["DeallocateAll", "DeallocateAll", "DiscardAll"]),
        // What pins.
        ("listen Foo; unlisten \"Foo\"; unlisten *", &["listen foo", "unlisten Foo", "UnlistenAll"]),
        ("select pg_advisory_lock(1)", &["Uses(AdvisoryLock)"]),
        ("select pg_catalog.\"pg_try_advisory_lock_shared\" (1)", &["Uses(AdvisoryLock)"]),
        ("select pg_advisory_xact_lock(1), 'pg_advisory_lock(1)', pg_advisory_lock from t", &[]),
        ("select pg_advisory_unlock_all()", &["Ends(AdvisoryLock)"]),
        ("create temp table t (a int)", &["Uses(TempTable)"]),
        ("create or replace local temporary view v as select 1", &["Uses(TempTable)"]),
        ("create temp table t (a int) on commit drop", &[]),
        ("create temp table t (a int) on commit delete rows", &["Uses(TempTable)"]),
        ("create table pg_temp.t (a int)", &["Uses(TempTable)"]),
        ("create table temp (a int)", &[]),
        ("explain analyze create temp table t as select 1", &["Uses(TempTable)"]),
        ("with a as (select 1) select * into temporary t from a", &["Uses(TempTable)"]),
        ("select 1 into t; drop table t; discard temp", &["Ends(TempTable)", "Ends(TempTable)"]),
        ("declare c cursor with hold for select 1", &["Uses(HoldCursor)"]),
        ("declare c cursor without hold for select 1; close c", &["Ends(HoldCursor)"]),
        ("load 'x'", &["Uses(Load)"]),
        ("do $$ begin perform 1; end $$; call p()", &["Opaque", "Opaque"]),
    ];
    for (text, expected) in cases {
        assert_eq!(acts(text), *expected, "{text}");
    }
}

#[test]
fn backslashes_count_where_the_session_says_so() {
    let old = Dialect { standard_strings: false, ..Dialect::default() };
    assert_eq!(shown("select '\\'; set role x; --'", old), [""; 0]);
    assert_eq!(shown("select '\\\\'; set role x; --'", old), ["set role"]);
    // In SJIS a backslash may be the second half of a character.
    let text = b"select e'\x83\\'; set role x; --'";
    assert_eq!(read(text, Dialect { two_byte: true, ..Dialect::default() }).acts, [Act::Set("role".into())]);
    assert_eq!(read(text, Dialect::default()).acts, []);
}

#[test]
fn the_first_statement_and_counts() {
    for (text, first, statements, sets) in [
        ("", First::Empty, 0, 0),
        (" ;; ", First::Empty, 0, 0),
        ("select 1;", First::Plain, 1, 0),
        ("(select 1) union select 2", First::Plain, 1, 0),
        (";; rollback to x", First::TransactionEnd, 1, 0),
        ("prepare transaction 'x'", First::TransactionEnd, 1, 0),
        (
            "begin; set local x = 1; set transaction read only; reset y; set constraints all deferred",
            First::Other,
            5,
            3,
        ),
        ("\"select\" 1", First::Other, 1, 0),
    ] {
        let script = read(text.as_bytes(), Dialect::default());
        assert_eq!((script.first, script.statements, script.sets), (first, statements, sets), "{text}");
    }
}

#[test]
fn what_is_kept_is_bounded() {
    let many = "set a = 1;".repeat(50_000);
    let script = read(many.as_bytes(), Dialect::default());
    assert_eq!(script.acts.len(), 10_001);
    assert_eq!(script.acts.last(), Some(&Act::Opaque));
    let deep = format!("select {}", "set_config(".repeat(100_000));
    assert!(read(deep.as_bytes(), Dialect::default()).acts.contains(&Act::SetConfig(Arg::Opaque)));
    let tag = "x".repeat(5000);
    let script = read(format!("select ${tag}$ ' ${tag}$; set role x").as_bytes(), Dialect::default());
    assert!(script.acts.contains(&Act::Opaque), "a tag that cannot be kept");
    let name = "n".repeat(100);
    assert_eq!(acts(&format!("listen {name}")), [format!("listen {}", &name[..63])]);
}

fn dialects() -> impl Strategy<Value = Dialect> {
    (any::<bool>(), any::<bool>()).prop_map(|(standard_strings, two_byte)| Dialect { standard_strings, two_byte })
}

fn pieces() -> impl Strategy<Value = String> {
    let words = [
        "set",
        "role",
        "local",
        ";",
        "'",
        "''",
        "\"",
        "$$",
        "$a$",
        "$1",
        "--",
        "\n",
        "/*",
        "*/",
        "\\",
        "e'",
        "u&'",
        "u&\"",
        "(",
        ")",
        ",",
        "set_config",
        "'a.b'",
        "true",
        "prepare",
        "as",
        "execute",
        "x",
        " ",
        "begin",
        "é",
        ".",
        "1e",
        "-",
        "/",
        "explain",
        "create temp",
        "on commit drop",
        "pg_advisory_lock(1)",
        "listen",
        "do",
        "=",
        "\0",
    ];
    proptest::collection::vec(proptest::sample::select(words.to_vec()), 0..40).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn any_split_reads_the_same(text in pieces(), cuts in proptest::collection::vec(1usize..9, 1..20), dialect in dialects()) {
        let mut reading = Reading::new(dialect);
        let mut rest = text.as_bytes();
        for cut in cuts.iter().cycle() {
            let (chunk, tail) = rest.split_at((*cut).min(rest.len()));
            reading.feed(chunk);
            rest = tail;
            if rest.is_empty() { break; }
        }
        prop_assert_eq!(reading.finish(), read(text.as_bytes(), dialect));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), dialect in dialects()) {
        let _ = read(&bytes, dialect);
    }

    /// Whatever stands in front of it, as long as it is closed.
    #[test]
    fn a_statement_behind_a_literal_is_seen(inner in "[a-z'\"$/*; -]{0,30}") {
        let quoted = inner.replace('\'', "''");
        prop_assert_eq!(acts(&format!("select '{quoted}'; set role x")), ["set role"]);
        let name = inner.replace('"', "\"\"");
        prop_assert_eq!(acts(&format!("select \"n{name}\"; set role x")), ["set role"]);
        if !inner.contains("$q$") && !inner.ends_with("$") && !inner.ends_with("$q") {
            prop_assert_eq!(acts(&format!("select $q${inner}$q$; set role x")), ["set role"]);
        }
        if !inner.contains("*/") && !inner.contains("/*") && !inner.ends_with('*') && !inner.ends_with('/') && !inner.starts_with('/') {
            prop_assert_eq!(acts(&format!("select /*{inner}*/ 1; set role x")), ["set role"]);
        }
        prop_assert_eq!(acts(&format!("select 1 --{inner}\n; set role x")), ["set role"]);
    }

    #[test]
    fn what_is_quoted_does_nothing(inner in "(set role x|;|listen a|do|set_config\\('a.b',1,false\\)| ){0,8}") {
        prop_assert_eq!(acts(&format!("select '{inner}', $${inner}$$, \"{inner}\", e'{}' /*{inner}*/ --{inner}", inner.replace('\'', "\\'")))
            .len(), usize::from(inner.contains('\'')) * acts(&format!("select '{inner}', $${inner}$$, \"{inner}\", e'{}' /*{inner}*/ --{inner}", inner.replace('\'', "\\'"))).len());
    }

    #[test]
    fn case_does_not_count(text in pieces()) {
        let upper = text.to_ascii_uppercase();
        if !upper.contains('$') && !upper.contains('"') && !upper.contains('\'') {
            prop_assert_eq!(read(text.as_bytes(), Dialect::default()), read(upper.as_bytes(), Dialect::default()));
        }
    }
}
