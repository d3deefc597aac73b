//! The SQL of the scripts. `{mine}` is the client's own table, `{n}` a digit.

use super::generate::Group::{
    self, Copies, Discard, LocalSettings, MixedNames, OtherSettings, Queries, ReportedSettings, Roles, SqlByMessage,
    SqlPrepare, Transactions,
};

/// What the scripts stand on, in the database of either side.
pub(super) const TABLES: &str = "\
    create table plenty as select g as x, 'row ' || g as y from generate_series(1, 20) g; \
    create table mine_0 (id int, note text); \
    create table mine_1 (id int, note text); \
    create table mine_2 (id int, note text); \
    create table place as select 'nowhere' as name; \
    create schema here; create table here.place as select 'here' as name; \
    create schema there; create table there.place as select 'there' as name; \
    grant usage on schema here, there to public; \
    grant all on place, plenty, mine_0, mine_1, mine_2, here.place, there.place to public; \
    create role hat; grant hat to trusty";

pub(super) const EMPTY_TABLES: &str = "truncate mine_0, mine_1, mine_2";

/// A statement for Parse.
pub(super) struct Text {
    pub(super) group: Group,
    pub(super) sql: &'static str,
    pub(super) parameters: usize,
}

const fn text(group: Group, sql: &'static str, parameters: usize) -> Text {
    Text { group, sql, parameters }
}

pub(super) const PREPARED: &[Text] = &[
    text(Queries, "select $1::int + {n}", 1),
    text(Queries, "select $1::text || '{n}', $2::int", 2),
    text(Queries, "select x, y from plenty order by x", 0),
    text(Queries, "select x, y from plenty where x > $1 order by x", 1),
    text(Queries, "insert into {mine} values ($1, 'prepared {n}')", 1),
    text(Queries, "insert into {mine} values ($1, $2) returning id", 2),
    text(Queries, "select id, note from {mine} order by id, note", 0),
    text(Queries, "select 1 / $1::int", 1),
    text(Queries, "selekt", 0),
    text(Queries, "select x, z from plenty", 0),
    text(Queries, "select 1; select 2", 0),
    text(Queries, "", 0),
    text(Transactions, "begin", 0),
    text(Transactions, "commit", 0),
    text(Transactions, "rollback", 0),
    text(Copies, "copy (select x from plenty order by x limit 3) to stdout", 0),
    text(LocalSettings, "select set_config('app.x', $1, true)", 1),
    text(ReportedSettings, "set TimeZone to 'Asia/Kolkata'", 0),
    text(ReportedSettings, "select '2024-01-01 00:00+00'::timestamptz", 0),
    text(OtherSettings, "set app.x = 'by message {n}'", 0),
    text(OtherSettings, "select set_config('app.x', $1, false)", 1),
    text(OtherSettings, "select nullif(current_setting('app.x', true), '')", 0),
    text(OtherSettings, "select name from place", 0),
    text(Roles, "select current_user", 0),
    text(SqlByMessage, "prepare one as select $1::int + {n}", 0),
    text(SqlByMessage, "prepare one (int) as select 'by message', $1", 0),
    text(SqlByMessage, "prepare two as select x from plenty order by x limit {n}", 0),
    text(SqlByMessage, "prepare two as selekt", 0),
    text(SqlByMessage, "deallocate one", 0),
    text(SqlByMessage, "deallocate all", 0),
];

/// The same of statements that are bound right behind their Parse. How one that executes another is described goes on
/// PostgreSQL by what was there when it was parsed, and here by what is there.
pub(super) const AT_ONCE: &[Text] = &[
    text(SqlByMessage, "execute one(4)", 0),
    text(SqlByMessage, "execute two", 0),
    text(SqlByMessage, "execute s", 0),
];

/// Never `current_setting('app.x', true)` as it is: once a backend has seen the setting, NULL is the empty string.
pub(super) const QUERIES: &[(Group, &str)] = &[
    (Queries, "select {n}, 'two', null::int"),
    (Queries, "select x, y from plenty order by x"),
    (Queries, "insert into {mine} values ({n}, 'simple')"),
    (Queries, "select id, note from {mine} order by id, note"),
    (Queries, "insert into {mine} values ({n}, 'first'); select count(*) from {mine}"),
    (Queries, "insert into {mine} values ({n}, 'lost'); select 1 / 0; select 2"),
    (Queries, "selekt"),
    (Queries, "select {n}; selekt"),
    (Queries, "select * from nosuch"),
    (Queries, "select 1 / 0"),
    (Queries, ""),
    (Queries, " ; "),
    (Queries, "delete from {mine} where id < {n}"),
    (Queries, "do $$ begin raise notice 'heard {n}'; end $$"),
    (Queries, "show work_mem"),
    (Queries, "show TimeZone"),
    (Queries, "select nullif(current_setting('app.x', true), '')"),
    (Queries, "select current_user"),
    (Queries, "drop table if exists nosuch"),
    (Transactions, "begin"),
    (Transactions, "begin"),
    (Transactions, "begin read only"),
    (Transactions, "commit"),
    (Transactions, "rollback"),
    (Transactions, "savepoint a"),
    (Transactions, "rollback to a"),
    (Transactions, "release a"),
    (Transactions, "begin; insert into {mine} values ({n}, 'kept'); commit"),
    (Transactions, "begin; insert into {mine} values ({n}, 'undone'); rollback; select {n}"),
    (Transactions, "commit; begin"),
    (Transactions, "commit and chain"),
    (Transactions, "declare c cursor for select x from plenty order by x"),
    (Transactions, "fetch 3 from c"),
    (LocalSettings, "set local work_mem = '{n}MB'"),
    (LocalSettings, "set local app.x = 'local {n}'"),
    (LocalSettings, "set local TimeZone to 'America/Lima'"),
    (LocalSettings, "begin; set local app.x = 'mine {n}'; select nullif(current_setting('app.x', true), '')"),
    (LocalSettings, "select set_config('app.x', 'for now {n}', true)"),
    (ReportedSettings, "set TimeZone to 'Europe/Berlin'"),
    (ReportedSettings, "set TimeZone to 'nowhere'"),
    (ReportedSettings, "set DateStyle to 'german'; select '2024-02-0{n}'::date"),
    (ReportedSettings, "set application_name to 'differential {n}'"),
    (ReportedSettings, "reset TimeZone"),
    (ReportedSettings, "reset DateStyle"),
    (ReportedSettings, "begin; set TimeZone to 'Asia/Tokyo'"),
    (ReportedSettings, "begin; set TimeZone to 'Asia/Tokyo'; rollback; show TimeZone"),
    (ReportedSettings, "select '2024-01-01 00:00+00'::timestamptz, '2024-02-01'::date"),
    (ReportedSettings, "show application_name"),
    (OtherSettings, "set work_mem = '{n}MB'"),
    (OtherSettings, "set app.x = 'set {n}'"),
    (OtherSettings, "set app.y = 'set {n}'; select 1 / 0"),
    (OtherSettings, "begin; set app.x = 'begun {n}'"),
    (OtherSettings, "begin; set app.x = 'undone {n}'; rollback"),
    (OtherSettings, "savepoint a; set app.x = 'undone {n}'; rollback to a"),
    (OtherSettings, "reset app.x"),
    (OtherSettings, "reset work_mem"),
    (OtherSettings, "reset all"),
    (OtherSettings, "select set_config('app.x', 'config {n}', false)"),
    (OtherSettings, "set search_path to here, public"),
    (OtherSettings, "set search_path to there, public"),
    (OtherSettings, "reset search_path"),
    (OtherSettings, "select name from place"),
    (OtherSettings, "set extra_float_digits = {n}; select 1.1::float4"),
    (OtherSettings, "select nullif(current_setting('app.x', true), ''), nullif(current_setting('app.y', true), '')"),
    (OtherSettings, "select current_setting('work_mem'), current_setting('search_path')"),
    (Roles, "set role hat"),
    (Roles, "set role none"),
    (Roles, "reset role"),
    (Roles, "set local role hat"),
    (Roles, "set role nobody"),
    (Roles, "begin; set role hat; rollback; select current_user"),
    (Roles, "select current_user, session_user"),
    (SqlPrepare, "prepare one as select $1::int + {n}"),
    (SqlPrepare, "prepare two as select x from plenty order by x limit {n}"),
    (SqlPrepare, "prepare two as selekt"),
    (SqlPrepare, "begin; prepare one as select $1::int * {n}; rollback"),
    (SqlPrepare, "execute one(4)"),
    (SqlPrepare, "execute two"),
    (SqlPrepare, "deallocate one"),
    (SqlPrepare, "deallocate two"),
    (SqlPrepare, "deallocate all"),
    (SqlPrepare, "prepare one as select {n}; execute one; deallocate one"),
    (MixedNames, "execute s"),
    (MixedNames, "execute t(1)"),
    (MixedNames, "deallocate s"),
    (MixedNames, "prepare t as select $1::int"),
    (MixedNames, "prepare s as select '{n}'"),
    (Discard, "discard all"),
    (Discard, "discard plans"),
    (Discard, "discard all; select 1"),
];

/// Functions by OID with their arguments; `ascii(text)` is 1620.
pub(super) const FUNCTIONS: &[(u32, &[&str])] = &[(1620, &["A"]), (1620, &[]), (1, &[]), (1620, &["B"])];
