//! Texts and their acts.

use super::acts;
use crate::sql::{Act, Characters, Dialect, First, read};

/// Each text has exactly these acts.
fn check(table: &[(&str, &[&str])]) {
    for (text, expected) in table {
        assert_eq!(acts(text), *expected, "{text}");
    }
}

fn check_nothing(texts: &[&str]) {
    for text in texts {
        assert_eq!(acts(text), [""; 0], "{text}");
    }
}

#[test]
fn set_names_the_setting() {
    check(&[
        ("SET search_path TO a, b", &["set search_path"]),
        ("set DateStyle = 'ISO'", &["set datestyle"]),
        ("SET SESSION work_mem='64MB';", &["set work_mem"]),
        ("SET/**/x=1", &["set x"]),
        ("/* c */ -- d\n SET -- e\n x /* f */ TO /* g; */ 1", &["set x"]),
        (";; ;SET x=1;;", &["set x"]),
        ("SET x=-1", &["set x"]),
        ("SET x =+1.5e3", &["set x"]),
        ("SET app.tenant_id = '42'", &["set app.tenant_id"]),
        ("SET \"app\".\"tenant\" TO 42", &["set app.tenant"]),
        ("SET \"App\" . Tenant TO 42", &["set app.tenant"]),
        ("SET a.b.c = 1", &["set a.b.c"]),
        ("SET x FROM CURRENT", &["set x"]),
        ("SET x TO $1", &["set x"]),
        ("SET TIME ZONE 'UTC'", &["set timezone"]),
        ("SET SESSION TIME ZONE -8", &["set timezone"]),
        ("SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE", &["set timezone"]),
        ("SET NAMES 'utf8'", &["set client_encoding"]),
        ("SET NAMES utf8", &["set client_encoding"]),
        ("SET SCHEMA 'a'", &["set search_path"]),
        ("SET ROLE bob", &["set role"]),
        ("SET ROLE 'none'", &["set role"]),
        ("SET role = bob", &["set role"]),
        ("SET SESSION ROLE bob", &["set role"]),
        ("SET SESSION AUTHORIZATION bob", &["set session_authorization"]),
        ("SET SESSION SESSION AUTHORIZATION 'bob'", &["set session_authorization"]),
        ("SET session_authorization TO bob", &["set session_authorization"]),
        ("SET XML OPTION DOCUMENT", &["set xmloption"]),
        ("SET x = 'default'", &["set x"]),
        ("SET x = \"default\"", &["set x"]),
        ("SET sort_mem = 1", &["set work_mem"]),
        ("SET zeit.zöne = 1", &["set zeit.zöne"]),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            &[
                "set default_transaction_isolation",
                "set default_transaction_read_only",
                "set default_transaction_deferrable",
            ],
        ),
    ]);
}

#[test]
fn a_keyword_may_be_the_name_of_a_setting() {
    check(&[
        ("SET local.x = 1", &["set local.x"]),
        ("SET LOCAL = 1", &["set local"]),
        ("SET session.x TO 1", &["set session.x"]),
        ("SET SESSION session.x TO 1", &["set session.x"]),
        ("SET SESSION local.x TO 1", &["set local.x"]),
        ("SET transaction.x = 1", &["set transaction.x"]),
        ("SET constraints.x = 1", &["set constraints.x"]),
        ("SET time.zone = 1", &["set time.zone"]),
        ("SET names.x = 1", &["set names.x"]),
        ("SET role.x = 1", &["set role.x"]),
        ("SET schema.x = 1", &["set schema.x"]),
        ("SET SESSION characteristics.x = 1", &["set characteristics.x"]),
        ("SET \"local\" = 1", &["set local"]),
        ("RESET session.x", &["reset session.x"]),
        ("RESET time.x", &["reset time.x"]),
        ("RESET \"all\"", &["reset all"]),
    ]);
    assert_eq!(read(b"RESET \"all\"", Dialect::default()).acts, [Act::Reset("all".into())]);
    assert_eq!(read(b"RESET ALL", Dialect::default()).acts, [Act::ResetAll]);
}

#[test]
fn what_ends_with_the_transaction_is_no_act() {
    check_nothing(&[
        "SET LOCAL x = 1",
        "SET LOCAL ROLE bob",
        "SET LOCAL SESSION AUTHORIZATION bob",
        "SET LOCAL search_path = pg_temp",
        "SET LOCAL TIME ZONE 'UTC'",
        "SET TRANSACTION READ ONLY",
        "SET TRANSACTION SNAPSHOT '00000003-0000001B-1'",
        "SET SESSION TRANSACTION READ ONLY",
        "SET CONSTRAINTS ALL DEFERRED",
        "RESET TRANSACTION ISOLATION LEVEL",
        "BEGIN; SET LOCAL x = 1; COMMIT",
        "SELECT set_config('a', 'b', true)",
        "SELECT set_config('a', 'b', TRUE::bool), set_config($1, $2, 't')",
        "select set_config('search_path', $1, true), set_config('role', $2, true)",
        "SELECT pg_advisory_xact_lock(1), pg_try_advisory_xact_lock_shared(1, 2)",
        "CREATE TEMP TABLE t (a int) ON COMMIT DROP",
        "CREATE TEMPORARY TABLE t ON COMMIT DROP AS SELECT 1",
        "DECLARE c CURSOR FOR SELECT 1",
        "DECLARE c SCROLL CURSOR WITHOUT HOLD FOR SELECT 1",
    ]);
}

#[test]
fn reset_names_the_setting() {
    check(&[
        ("RESET x", &["reset x"]),
        ("RESET app.x;", &["reset app.x"]),
        ("RESET ROLE", &["reset role"]),
        ("RESET SESSION AUTHORIZATION", &["reset session_authorization"]),
        ("RESET TIME ZONE", &["reset timezone"]),
        ("SET x TO DEFAULT", &["reset x"]),
        ("SET SESSION x = default ;", &["reset x"]),
        ("SET SESSION AUTHORIZATION DEFAULT", &["reset session_authorization"]),
        ("SET TIME ZONE LOCAL", &["reset timezone"]),
        ("SET TIME ZONE DEFAULT", &["reset timezone"]),
        ("SET NAMES", &["reset client_encoding"]),
        ("SET NAMES DEFAULT", &["reset client_encoding"]),
        ("SET ROLE NONE", &["reset role"]),
        ("DISCARD ALL", &["discard all"]),
        ("discard temp", &["ends temp"]),
        ("DISCARD TEMPORARY; DISCARD PLANS; DISCARD SEQUENCES", &["ends temp"]),
    ]);
}

#[test]
fn set_config_names_the_setting() {
    check(&[
        ("SELECT set_config('App.X', '1', false)", &["set_config app.x"]),
        ("SELECT pg_catalog.set_config('a', '1', 'f')", &["set_config a"]),
        ("SELECT \"pg_catalog\" . \"set_config\" /**/ ( 'a', '1', 'f')", &["set_config a"]),
        ("SELECT SET_CONFIG($2, $1, $3)", &["set_config $2"]),
        ("SELECT set_config('a'::text, '1', $1)", &["set_config a"]),
        ("SELECT set_config('a' || 'b', '1', false)", &["set_config ?"]),
        ("SELECT set_config(name, setting, false) FROM x", &["set_config ?"]),
        ("SELECT set_config(E'a\\x62', '1', false)", &["set_config ?"]),
        ("SELECT set_config(E'ab', '1', false)", &["set_config ab"]),
        ("SELECT set_config($$ab$$, '1', false)", &["set_config ab"]),
        ("SELECT set_config($q$a'b$q$, '1', false)", &["set_config a'b"]),
        ("SELECT set_config('a'\n'b', '1', false)", &["set_config ab"]),
        ("SELECT set_config(U&'a', '1', false)", &["set_config ?"]),
        ("SELECT set_config('a', '1', not true)", &["set_config a"]),
        ("SELECT set_config('a', '1', true and false)", &["set_config a"]),
        ("SELECT set_config('a', '1', \"true\")", &["set_config a"]),
        ("SELECT set_config('a', '1', (true))", &["set_config a"]),
        ("SELECT set_config('a', '1', true = false)", &["set_config a"]),
        ("SELECT set_config('a', '1', true::text::bool)", &["set_config a"]),
        ("SELECT set_config('a', f('x', 'y', true), false)", &["set_config a"]),
        ("SELECT set_config('a', (array['x', true])[1], false)", &["set_config a"]),
        ("SELECT set_config(setting_name => 'a', new_value => 'b', is_local => true)", &["set_config ?"]),
        ("SELECT set_config('a', set_config('b', 'c', true), false)", &["set_config a"]),
        ("SELECT set_config(set_config('b', 'c', false), 'x', true)", &["set_config ?", "set_config b"]),
        ("SELECT set_config(", &["set_config ?"]),
        ("SELECT set_config('a', '1'", &["set_config a"]),
        ("SELECT set_config('a', '1', true", &["set_config a"]),
        ("UPDATE pg_settings SET setting = '1' WHERE name = 'a'", &["set_config ?"]),
        ("UPDATE ONLY pg_catalog.\"pg_settings\" SET setting = 1", &["set_config ?"]),
        ("SELECT set_config('search_path', 'pg_temp', false)", &["set_config search_path", "uses temp"]),
        ("SELECT U&\"set\\005fconfig\"('a', '1', false)", &["?"]),
        ("SELECT U&\"set!005fconfig\" UESCAPE '!' ('a', '1', false)", &["?"]),
        ("SELECT U&\"set_config\"('a', '1', false)", &["set_config a"]),
        ("SELECT query_to_xml('SELECT set_config(...)', true, false, '')", &["?"]),
    ]);
}

#[test]
fn prepared_statements_have_their_ranges() {
    check(&[
        ("PREPARE p AS SELECT 1", &["prepare p<p> () SELECT 1"]),
        (
            "PREPARE \"P \"\"x\" (int, numeric(10, 2) ) AS\n SELECT $1, ';' /* x */ ; SELECT 2",
            &["prepare P \"x<\"P \"\"x\"> (int, numeric(10, 2)) SELECT $1, ';'"],
        ),
        ("prepare Foo(text)as(select $1);", &["prepare foo<Foo> (text) (select $1)"]),
        ("PREPARE p AS SELECT 'a' -- c", &["prepare p<p> () SELECT 'a'"]),
        ("PREPARE p AS SELECT 'a'\n'b' ", &["prepare p<p> () SELECT 'a'\n'b'"]),
        ("PREPARE transaction AS SELECT 1", &["prepare transaction<transaction> () SELECT 1"]),
        (
            "PREPARE p AS SELECT set_config('a', 'b', false)",
            &["set_config a", "prepare p<p> () SELECT set_config('a', 'b', false)"],
        ),
        ("PREPARE p", &["?"]),
        ("PREPARE p AS", &["?"]),
        ("PREPARE TRANSACTION 'x'", &[]),
        ("EXECUTE p", &["execute p<p>"]),
        ("EXECUTE P(1, 'a');EXECUTE \"P\"", &["execute p<P>", "execute P<\"P\">"]),
        ("EXPLAIN EXECUTE p", &["execute p<p>"]),
        ("EXPLAIN ANALYZE VERBOSE EXECUTE p(1)", &["execute p<p>"]),
        ("EXPLAIN (ANALYZE, BUFFERS off) EXECUTE p(1)", &["execute p<p>"]),
        ("CREATE TABLE t AS EXECUTE p(1)", &["execute p<p>"]),
        ("CREATE TEMP TABLE t AS EXECUTE p(1)", &["uses temp", "execute p<p>"]),
        ("CREATE TEMP TABLE t ON COMMIT DROP AS EXECUTE p(1)", &["execute p<p>"]),
        ("EXPLAIN ANALYZE CREATE TABLE t AS EXECUTE p(1)", &["execute p<p>"]),
        ("DEALLOCATE p", &["deallocate p<p>"]),
        ("DEALLOCATE PREPARE p", &["deallocate p<p>"]),
        ("DEALLOCATE prepare", &["deallocate prepare<prepare>"]),
        ("DEALLOCATE ALL", &["deallocate all"]),
        ("DEALLOCATE PREPARE ALL", &["deallocate all"]),
        ("DEALLOCATE \"all\"", &["deallocate all<\"all\">"]),
        ("EXECUTE U&\"a\\0062\"", &["?", "execute a\\0062<U&\"a\\0062\">"]),
    ]);
}

#[test]
fn names_are_cut_as_postgresql_cuts_them() {
    let name = |text: &str| match read(text.as_bytes(), Dialect::default()).acts.as_slice() {
        [Act::Execute(name)] => String::from_utf8(name.text.to_vec()).unwrap(),
        acts => panic!("{acts:?}"),
    };
    assert_eq!(name(&format!("EXECUTE {}", "A".repeat(63))), "a".repeat(63));
    assert_eq!(name(&format!("EXECUTE {}", "A".repeat(64))), "a".repeat(63));
    assert_eq!(name(&format!("EXECUTE \"{}\"", "A".repeat(500))), "A".repeat(63));
    assert_eq!(name(&format!("EXECUTE {}é", "a".repeat(62))), "a".repeat(62));
    assert_eq!(name(&format!("EXECUTE {}éa", "a".repeat(61))), format!("{}é", "a".repeat(61)));
}

#[test]
fn features_are_seen() {
    check(&[
        ("SELECT pg_advisory_lock(1)", &["uses lock"]),
        ("SELECT pg_catalog.pg_try_advisory_lock(1, 2) AS got", &["uses lock"]),
        ("SELECT \"pg_advisory_lock_shared\" (1)", &["uses lock"]),
        ("SELECT pg_try_advisory_lock_shared/**/(1)", &["uses lock"]),
        ("SELECT 1 WHERE 1=1and pg_advisory_lock(1)is null", &["uses lock"]),
        ("SELECT pg_advisory_unlock(1)", &["ends lock"]),
        ("SELECT pg_advisory_unlock_all(), pg_advisory_unlock_shared(1)", &["ends lock", "ends lock"]),
        ("CREATE TEMP TABLE t (a int)", &["uses temp"]),
        ("CREATE TEMPORARY TABLE t AS SELECT 1", &["uses temp"]),
        ("CREATE LOCAL TEMP TABLE t (a int) ON COMMIT DELETE ROWS", &["uses temp"]),
        ("CREATE GLOBAL TEMPORARY TABLE IF NOT EXISTS t (a int)", &["uses temp"]),
        ("CREATE OR REPLACE TEMP VIEW v AS SELECT 1", &["uses temp"]),
        ("CREATE TEMP SEQUENCE s", &["uses temp"]),
        ("CREATE TEMP TABLE t AS SELECT 1 AS \"on commit drop\" -- ON COMMIT DROP", &["uses temp"]),
        ("CREATE TEMP TABLE t AS SELECT (a on commit drop)", &["uses temp"]),
        ("CREATE TABLE pg_temp.t (a int)", &["uses temp"]),
        ("CREATE TABLE \"pg_temp\".t (a int)", &["uses temp"]),
        ("CREATE TABLE pg_temp_3 . t (a int)", &["uses temp"]),
        ("CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'select 1'", &["uses temp"]),
        ("CREATE EXTENSION x SCHEMA pg_temp", &["uses temp"]),
        ("IMPORT FOREIGN SCHEMA a FROM SERVER s INTO pg_temp", &["uses temp"]),
        ("EXPLAIN ANALYZE CREATE TEMP TABLE t AS SELECT 1", &["uses temp"]),
        ("SELECT 1 INTO TEMP t", &["uses temp"]),
        ("SELECT * INTO TEMPORARY TABLE t FROM x", &["uses temp"]),
        ("WITH x AS (SELECT 1) SELECT * INTO LOCAL TEMP t FROM x", &["uses temp"]),
        ("SELECT insert INTO TEMP t FROM x", &["uses temp"]),
        ("SELECT 1into temp t", &["uses temp"]),
        ("SELECT 1 INTO pg_temp.t", &["uses temp"]),
        ("SET search_path = pg_temp, public", &["set search_path", "uses temp"]),
        ("SET search_path = 'a', 'pg_temp'", &["set search_path", "uses temp"]),
        ("DROP TABLE t", &["ends temp"]),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", &["uses cursor"]),
        ("DECLARE \"for\" BINARY NO SCROLL CURSOR WITH /**/ HOLD FOR SELECT 1", &["uses cursor"]),
        ("DECLARE c CURSOR FOR WITH hold AS (SELECT 1) SELECT * FROM hold", &[]),
        ("CLOSE c", &["ends cursor"]),
        ("CLOSE ALL", &["ends cursor"]),
        ("LOAD 'auto_explain'", &["uses load"]),
        ("LISTEN Chan", &["listen chan"]),
        ("LISTEN \"Chan\"; UNLISTEN chan; UNLISTEN *", &["listen Chan", "unlisten chan", "unlisten *"]),
    ]);
    check_nothing(&[
        "INSERT INTO temp VALUES (1)",
        "INSERT INTO temp (a) VALUES (1)",
        "INSERT INTO temp.t VALUES (1)",
        "INSERT INTO temp SELECT 1",
        "MERGE INTO temp USING x ON true WHEN MATCHED THEN DO NOTHING",
        "WITH x AS (SELECT 1) INSERT INTO temp SELECT * FROM x",
        "SELECT 1 INTO temp",
        "SELECT temp FROM create_temp",
        "NOTIFY chan, 'x'",
        "SELECT pg_advisory_lock FROM t",
        "SELECT 'pg_advisory_lock(1)'",
        "SELECT \"PG_ADVISORY_LOCK\"(1)",
    ]);
}

#[test]
fn a_body_tells_its_settings() {
    check(&[
        ("CALL p()", &["?"]),
        ("DO $$ BEGIN PERFORM 1; END $$", &["?"]),
        ("DO $$ BEGIN SET x = 1; RESET y; SET LOCAL z = 1; END $$", &["?", "set x", "reset y"]),
        ("DO LANGUAGE plpgsql $body$ BEGIN SET app.x TO '1'; RESET ALL; END $body$", &["?", "set app.x", "reset all"]),
        ("DO 'begin set x = ''a''; end' LANGUAGE 'plpgsql'", &["?", "set x"]),
        ("DO E'begin\\nset x = \\'a\\'; end'", &["?", "set x"]),
        ("DO $$ SET x = $a$ SET y = 1 $a$; -- SET z = 1 $$", &["?", "set x"]),
        ("DO $a$ SET x = $$ SET y = 1; $ $a $$; SET z = 1 $a$; SET w = 1", &["?", "set x", "set z", "set w"]),
        ("DO $$ begin perform set_config('a', 'b', false); listen x; end $$", &["?"]),
        ("DO 'begin set x'\n'y = 1; end'", &["?", "set xy"]),
    ]);
}

#[test]
fn what_is_no_act() {
    check_nothing(&[
        "",
        " ",
        ";;",
        "-- SET x = 1",
        "/* SET x = 1; /* */ SET x = 1 */",
        "SELECT 1",
        "SELECT 'a; SET x = 1; --'",
        "SELECT 'a''; SET x = 1; --'",
        "SELECT E'a\\'; SET x = 1; --'",
        "SELECT e'a''; SET x = 1; --'",
        "SELECT $$; SET x = 1; $$",
        "SELECT $a$; SET x = 1; $$; SET x = 1; $b$ SET x = 1 $A$ ; $a; $a$",
        "SELECT 1 AS \"a\"\"; SET x = 1; \"",
        "SELECT a$b$ FROM c$b$",
        "SELECT a$$ FROM c$$",
        "SELECT U&'a; SET x = 1'",
        "SELECT U&\"a; SET x = 1\" FROM t",
        "SELECT N'a; SET x = 1', B'01', X'ff', b'', x''",
        "SELECT 'a'\n  'b; SET x = 1'",
        "SELECT E'a' -- c\n '\\'; SET x = 1; --'",
        "UPDATE t SET a = 1 WHERE b = $1",
        "ALTER SYSTEM SET x = 1",
        "ALTER ROLE bob SET x = 1",
        "ALTER DATABASE d RESET ALL",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET search_path = a, pg_temp AS 'SELECT 1'",
        "CREATE TRIGGER t BEFORE INSERT ON x FOR EACH ROW EXECUTE FUNCTION f()",
        "CREATE RULE r AS ON INSERT TO t DO ALSO (UPDATE x SET y = 1; DELETE FROM z)",
        "SELECT \"set_config\" FROM t",
        "INSERT INTO t (a, b) VALUES ($1, $2) ON CONFLICT (a) DO UPDATE SET b = excluded.b RETURNING a",
        "SELECT * FROM pg_settings WHERE name = 'x'",
        "COPY t FROM STDIN",
        "SHOW x",
        "BEGIN; SELECT 1; COMMIT",
        "SELECT 1 - -1, 2 /3, a->>'b', c @> '{}', 5 ! 3, a::int, b[1:2], .5, 1.5e10, 0x1f FROM t",
        "SAVEPOINT set; RELEASE reset; ROLLBACK TO listen",
        "EXPLAIN SELECT 1",
        "EXPLAIN (FORMAT json) (SELECT 1) UNION SELECT 2",
    ]);
}

#[test]
fn nothing_hides_an_act() {
    check(&[
        ("SELECT 1;SET x=1", &["set x"]),
        ("SELECT ';SET y=1';SET x=1", &["set x"]),
        ("SELECT '\\';SET x=1;--'", &["set x"]),
        ("SELECT E'\\\\';SET x=1;--'", &["set x"]),
        ("SELECT 'a' 'b\\'; SET x=1;--'", &["set x"]),
        ("SELECT E'a' '\\'; SET x=1;--'", &["set x"]),
        ("SELECT /* /* */ */ 1; SET x=1", &["set x"]),
        ("SELECT /*/ */ 1; SET x=1", &["set x"]),
        ("SELECT /***/ 1; SET x=1 /* **/", &["set x"]),
        ("SELECT 1 +-- c\n1; SET x=1", &["set x"]),
        ("SELECT 1 */* c */ 1; SET x=1", &["set x"]),
        ("SELECT a$a$; SET x=1; SELECT a$a$", &["set x"]),
        ("SELECT $a$ $a$a$ ; SET x=1; --$a$", &["set x"]),
        ("SELECT $a$ $b$a$ ; SET x=1", &["set x"]),
        ("SELECT $a$ $$a$ ; SET x=1", &["set x"]),
        ("SELECT B'0';SET x=1;--'", &["set x"]),
        ("SELECT B'0''; SET y=1;'; SET x=1", &["set x"]),
        ("SELECT \"a\\\"; SET x=1;--\"", &["set x"]),
        ("SELECT -- c\rSET; SET x=1", &["set x"]),
        ("SELECT 'é'; SET x=1", &["set x"]),
        ("-- c\n\n/* c */SET x=1", &["set x"]),
        ("\x0b\x0cSET\x0cx=1", &["set x"]),
        ("SELECT (1)); SET x=1", &["set x"]),
        ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END; SET x=1", &["set x"]),
        ("SELECT 1; SELECT 'x", &["?"]),
        ("SELECT $a$ SET x=1", &["?"]),
        ("SELECT \"x", &["?"]),
        ("SELECT /* x", &["?"]),
        ("SET x", &["?"]),
        ("SET", &["?"]),
        ("SET = 1", &["?"]),
        ("SELECT 1; SET x=1\0; SET y=1", &["set x"]),
    ]);
    let tag = "a".repeat(100);
    assert_eq!(acts(&format!("SELECT ${tag}$ x ${tag}$")), ["?"]);
}

#[test]
fn the_dialect_decides_about_backslashes() {
    let backslashes = Dialect { standard_strings: false, ..Dialect::default() };
    assert_eq!(read(b"SELECT '\\'; SET x=1; --'", backslashes).acts, []);
    assert_eq!(read(b"SELECT 'a\\\\'; SET x=1; --'", backslashes).acts, [Act::Set("x".into())]);
    assert_eq!(read(b"SELECT N'\\'; SET x=1; --'", backslashes).acts, []);
}

#[test]
fn the_dialect_decides_about_characters() {
    let pairs = Dialect { characters: Characters::Pairs, ..Dialect::default() };
    let sjis = Dialect { characters: Characters::ShiftJis, ..Dialect::default() };
    let set = [Act::Set("x".into())];
    assert_eq!(read(b"SELECT E'\x95\x5c'; SET x=1; --'", pairs).acts, set);
    assert_eq!(read(b"SELECT E'\x95\x5c'; SET x=1; --'", sjis).acts, set);
    assert_eq!(read(b"SELECT E'\x95\x5c'; SET x=1; --'", Dialect::default()).acts, []);
    assert_eq!(read(b"SELECT E'\xb1\x95\x5c'; SET x=1; --'", sjis).acts, set);
    assert_eq!(read(b"SELECT '\xb1'; SET x=1", sjis).acts, set);
    assert_eq!(read(b"SELECT \x95\x7c AS \"\x95\x5c\"; SET x=1", sjis).acts, set);
    assert_eq!(read(b"SELECT $\x95\x5a$';$\x95\x5a$; SET x=1", sjis).acts, set);
    assert_eq!(read(b"SELECT E'\\\x95\x5c'; SET x=1", sjis).acts, set);
    assert_eq!(Characters::of_encoding("SJIS"), Characters::ShiftJis);
    assert_eq!(Characters::of_encoding("Shift_JIS_2004"), Characters::ShiftJis);
    assert_eq!(Characters::of_encoding("gb-18030"), Characters::Pairs);
    assert_eq!(Characters::of_encoding("UTF8"), Characters::Plain);
}

#[test]
fn first_is_the_first_statement() {
    let first = |text: &str| {
        let script = read(text.as_bytes(), Dialect::default());
        (script.first, script.statements)
    };
    assert_eq!(first(""), (First::Empty, 0));
    assert_eq!(first(" ; -- x\n ;"), (First::Empty, 0));
    assert_eq!(first(";/**/commit"), (First::TransactionEnd, 1));
    assert_eq!(first("END; SELECT 1"), (First::TransactionEnd, 2));
    assert_eq!(first("ROLLBACK TO x;"), (First::TransactionEnd, 1));
    assert_eq!(first("ABORT"), (First::TransactionEnd, 1));
    assert_eq!(first("PREPARE TRANSACTION 'x'"), (First::TransactionEnd, 1));
    assert_eq!(first("SELECT 1; PREPARE TRANSACTION 'x'"), (First::Plain, 2));
    assert_eq!(first("PREPARE transaction AS SELECT 1"), (First::Other, 1));
    assert_eq!(first("\"commit\""), (First::Other, 1));
    for plain in ["SELECT", "insert", "UPDATE", "DELETE", "MERGE", "VALUES", "TABLE", "WITH", "("] {
        assert_eq!(first(plain), (First::Plain, 1), "{plain}");
    }
    assert_eq!(first("BEGIN; COMMIT"), (First::Other, 2));
    assert_eq!(first("CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); SELECT 3"), (First::Other, 2));
}

#[test]
fn parameters_are_counted_by_the_highest() {
    for (text, highest) in [
        ("select 1", 0),
        ("select $2::int + $1, '$7', \"$8\", a$9, $x$ $10 $x$", 2),
        ("insert into t values ($1, $3) -- $4", 3),
        ("select $1; select $65535", 65535),
        ("select $70000", u16::MAX),
    ] {
        assert_eq!(read(text.as_bytes(), Dialect::default()).parameters, highest, "{text}");
    }
}

#[test]
fn what_clients_send() {
    check(&[
        ("SET extra_float_digits = 3", &["set extra_float_digits"]),
        ("SET application_name = 'PostgreSQL JDBC Driver'", &["set application_name"]),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
            &[
                "set default_transaction_isolation",
                "set default_transaction_read_only",
                "set default_transaction_deferrable",
            ],
        ),
        ("SET client_min_messages TO 'warning'", &["set client_min_messages"]),
        (
            "SET standard_conforming_strings = on;SET intervalstyle = iso_8601",
            &["set standard_conforming_strings", "set intervalstyle"],
        ),
        ("SET SESSION timezone TO 'UTC'", &["set timezone"]),
        ("SELECT set_config('TimeZone', 'UTC', false)", &["set_config timezone"]),
        ("DEALLOCATE pdo_stmt_00000001", &["deallocate pdo_stmt_00000001<pdo_stmt_00000001>"]),
        ("SELECT pg_try_advisory_lock(2345, 678) AS locked", &["uses lock"]),
        ("DECLARE \"_django_curs_1\" NO SCROLL CURSOR WITH HOLD FOR SELECT 1", &["uses cursor"]),
        (
            "prepare P_0 (int) as select abalance from pgbench_accounts where aid = $1;",
            &["prepare p_0<P_0> (int) select abalance from pgbench_accounts where aid = $1"],
        ),
        ("set search_path to \"$user\", public", &["set search_path"]),
        ("/*app:web*/ SET statement_timeout = '30s'", &["set statement_timeout"]),
    ]);
    check_nothing(&[
        "BEGIN;",
        "UPDATE pgbench_accounts SET abalance = abalance + -3 WHERE aid = 1;",
        "SELECT \"users\".* FROM \"users\" WHERE \"users\".\"id\" = $1 LIMIT $2 /*action:show*/",
        "SELECT c.oid::pg_catalog.regclass FROM pg_catalog.pg_class c WHERE c.relname OPERATOR(pg_catalog.~) '^(t)$'",
    ]);
}

#[test]
fn the_acts_are_bounded() {
    let script = read("LISTEN a;".repeat(20_000).as_bytes(), Dialect::default());
    assert_eq!(script.acts.len(), 10_001);
    assert_eq!(script.acts.last(), Some(&Act::Opaque));
    assert_eq!(script.statements, 20_000);
    let name = format!("SET {} = 1", ["a"; 500].join("."));
    assert_eq!(acts(&name), ["?"]);
}
