//! Diesel on libpq: named statements for its queries, kept by the connection; binary values.

use std::{
    io::Read,
    thread,
    time::{Duration, Instant},
};

use bigdecimal::BigDecimal;
use chrono::{DateTime, NaiveDate, Utc};
use diesel::{
    connection::SimpleConnection,
    deserialize::{self, FromSql},
    dsl::{insert_into, sql, sum},
    pg::{CopyFormat, Pg, PgConnection, PgRowByRowLoadingMode},
    prelude::*,
    result::{DatabaseErrorKind, Error},
    row::{Field, NamedRow},
    sql_query, sql_types,
};
use pgpool_drivers::{Client, Crowd, Failure, Fallible, backends, case, equal, fails, main as run, session_cases, url};
use serde_json::Value;
use uuid::Uuid;

diesel::table! {
    account (id) {
        id -> Integer,
        owner -> Text,
        balance -> BigInt,
    }
}

diesel::table! {
    everything (id) {
        id -> Integer,
        an_int -> Integer,
        a_bigint -> BigInt,
        a_numeric -> Numeric,
        a_float -> Double,
        a_bool -> Bool,
        a_text -> Text,
        a_bytea -> Binary,
        a_timestamptz -> Timestamptz,
        a_date -> Date,
        a_uuid -> Uuid,
        a_json -> Json,
        a_jsonb -> Jsonb,
        ints -> Array<Integer>,
        texts -> Array<Text>,
        nothing -> Nullable<Text>,
    }
}

struct Session(PgConnection);

fn open() -> Fallible<Session> {
    Ok(Session(PgConnection::establish(&url())?))
}

/// Diesel does not tell the SQLSTATE, only a kind for some.
fn failed(error: Error) -> Failure {
    let state = match &error {
        Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => "23505",
        Error::DatabaseError(_, information) => match information.message() {
            "division by zero" => "22012",
            "canceling statement due to statement timeout" => "57014",
            text if text.starts_with("current transaction is aborted") => "25P02",
            text if text.starts_with("relation") && text.ends_with("does not exist") => "42P01",
            text if text.starts_with("prepared statement") && text.ends_with("does not exist") => "26000",
            text if text.starts_with("cursor") && text.ends_with("does not exist") => "34000",
            _ => "",
        },
        _ => "",
    };
    Failure { sqlstate: Some(state.to_owned()), text: error.to_string() }
}

struct FirstText(Option<String>);

impl QueryableByName<Pg> for FirstText {
    fn build<'a>(row: &impl NamedRow<'a, Pg>) -> deserialize::Result<Self> {
        let field = diesel::row::Row::get(row, 0).ok_or("a row without columns")?;
        Ok(Self(field.value().map(<String as FromSql<sql_types::Text, Pg>>::from_sql).transpose()?))
    }
}

impl Client for Session {
    fn texts(&mut self, text: &str) -> Fallible<Vec<Option<String>>> {
        let rows = sql_query(text).load::<FirstText>(&mut self.0).map_err(failed)?;
        Ok(rows.into_iter().map(|FirstText(text)| text).collect())
    }

    fn run(&mut self, text: &str) -> Fallible<()> {
        self.0.batch_execute(text).map_err(failed)
    }
}

fn connect() -> Fallible<()> {
    Crowd::open(5, open)?.turns(2, |session, number| {
        let query = diesel::select((
            sql::<sql_types::Text>("current_user::text"),
            (number as i32).into_sql::<sql_types::Integer>(),
        ));
        equal(query.first::<(String, i32)>(&mut session.0)?, ("app".to_owned(), number as i32))
    })
}

fn prepared() -> Fallible<()> {
    let mut crowd = Crowd::open(5, open)?;
    crowd.last.run("delete from account")?;
    crowd.turns(20, |session, number| {
        let id = number as i32;
        let row = (account::id.eq(id), account::owner.eq("é'\\"), account::balance.eq(1));
        insert_into(account::table)
            .values(row)
            .on_conflict(account::id)
            .do_update()
            .set(account::balance.eq(account::balance + 1))
            .execute(&mut session.0)?;
        let found = account::table.filter(account::id.eq(id)).select(account::owner).first::<String>(&mut session.0)?;
        equal(found, "é'\\")
    })?;
    equal(crowd.last.text("select sum(balance)::text from account")?, "100")?;
    if backends() == 0 {
        // The driver has prepared by itself.
        equal(crowd.clients[0].text("select (count(*) > 0)::text from pg_prepared_statements")?, "true")?;
    }
    Ok(())
}

fn prepared_concurrently() -> Fallible<()> {
    let crowd = Crowd::open(6, open)?;
    let workers: Vec<_> = crowd
        .clients
        .into_iter()
        .map(|mut session| {
            thread::spawn(move || -> Fallible<()> {
                for n in 0..50_i32 {
                    let double = diesel::select(n.into_sql::<sql_types::Integer>() * 2);
                    equal(double.first::<i32>(&mut session.0)?, 2 * n)?;
                    let triple = |connection: &mut PgConnection| {
                        diesel::select(n.into_sql::<sql_types::Integer>() * 3).first::<i32>(connection)
                    };
                    equal(session.0.transaction(triple)?, 3 * n)?;
                }
                Ok(())
            })
        })
        .collect();
    workers.into_iter().try_for_each(|worker| worker.join().expect("a worker that ends"))
}

fn prepared_and_failing() -> Fallible<()> {
    Crowd::open(5, open)?.turns(6, |session, number| {
        let divide = |by: i32| sql_query("select (6 / $1)::text").bind::<sql_types::Integer, _>(by);
        fails("22012", divide(0).load::<FirstText>(&mut session.0).map_err(failed).map(drop))?;
        fails("42P01", session.texts("select * from no_such_table"))?;
        let found = divide(number as i32 + 1).get_result::<FirstText>(&mut session.0).map_err(failed)?;
        equal(found.0, Some((6 / (number + 1)).to_string()))
    })
}

#[derive(Clone, Debug, PartialEq, Insertable, Queryable)]
#[diesel(table_name = everything)]
struct Everything {
    id: i32,
    an_int: i32,
    a_bigint: i64,
    a_numeric: BigDecimal,
    a_float: f64,
    a_bool: bool,
    a_text: String,
    a_bytea: Vec<u8>,
    a_timestamptz: DateTime<Utc>,
    a_date: NaiveDate,
    a_uuid: Uuid,
    a_json: Value,
    a_jsonb: Value,
    ints: Vec<i32>,
    texts: Vec<String>,
    nothing: Option<String>,
}

fn types() -> Fallible<()> {
    let row = Everything {
        id: 0,
        an_int: i32::MIN,
        a_bigint: 9_007_199_254_740_993,
        a_numeric: "12345678901234567890.000000001".parse()?,
        a_float: 0.1,
        a_bool: true,
        a_text: "Grüße, 世界 🐘 '\"\\".to_owned(),
        a_bytea: vec![0, 1, 39, 92, 254, 255],
        a_timestamptz: "2024-02-29T12:34:56.789012Z".parse()?,
        a_date: "2024-02-29".parse()?,
        a_uuid: "0b8f3c52-7d1e-4c55-9b1a-2f6f0c9d7e11".parse()?,
        a_json: serde_json::json!({"list": [1, null, "é"]}),
        a_jsonb: serde_json::json!({"deep": {"x": 1.5}}),
        ints: vec![3, -1, 2],
        texts: vec!["a b".to_owned(), "ü,\"".to_owned(), String::new()],
        nothing: None,
    };
    let mut crowd = Crowd::open(5, open)?;
    crowd.last.run("delete from everything")?;
    let of = |number| Everything { id: number as i32, ..row.clone() };
    crowd.turns(1, |session, number| {
        equal(insert_into(everything::table).values(of(number)).execute(&mut session.0)?, 1)
    })?;
    crowd.turns(6, |session, number| {
        equal(everything::table.find(number as i32).first::<Everything>(&mut session.0)?, of(number))
    })
}

fn transaction_blocks() -> Fallible<()> {
    let mut crowd = Crowd::open(5, open)?;
    crowd.last.run("delete from account")?;
    crowd.turns(4, |session, number| {
        let own = (account::id.eq(number as i32), account::owner.eq("a"), account::balance.eq(0));
        session.0.build_transaction().repeatable_read().run(|connection| {
            insert_into(account::table).values(own).on_conflict_do_nothing().execute(connection)?;
            let twice =
                connection.transaction(|connection| insert_into(account::table).values(own).execute(connection));
            fails("23505", twice.map_err(failed))?;
            let mine = account::table.find(number as i32);
            diesel::update(mine).set(account::balance.eq(account::balance + 1)).execute(connection)?;
            Ok::<_, Failure>(())
        })?;
        let undone = session.0.transaction(|connection| {
            diesel::update(account::table).set(account::balance.eq(-1)).execute(connection)?;
            Err::<(), _>(Error::RollbackTransaction)
        });
        equal(undone, Err(Error::RollbackTransaction))
    })?;
    equal(account::table.select(sum(account::balance)).first::<Option<BigDecimal>>(&mut crowd.last.0)?, Some(20.into()))
}

fn copy() -> Fallible<()> {
    let mut crowd = Crowd::open(5, open)?;
    crowd.last.run("delete from account")?;
    crowd.turns(2, |session, number| {
        session.run(&format!("delete from account where id / 1000 = {number}"))?;
        let rows: Vec<_> = (0..500_i32)
            .map(|n| {
                let id = 1000 * number as i32 + n;
                (account::id.eq(id), account::owner.eq(format!("ähm {n}")), account::balance.eq(i64::from(n)))
            })
            .collect();
        equal(diesel::copy_from(account::table).from_insertable(&rows).execute(&mut session.0)?, 500)?;
        let mut text = String::new();
        let copy = diesel::copy_to(account::table).with_format(CopyFormat::Csv);
        copy.load_raw(&mut session.0)?.read_to_string(&mut text)?;
        let own =
            text.lines().filter(|line| line.starts_with(&format!("{},", 1000 * number + 499))).collect::<Vec<_>>();
        equal(own, vec![format!("{},ähm 499,499", 1000 * number + 499)])
    })?;
    equal(crowd.last.text("select count(*)::text from account")?, "2500")
}

fn row_by_row() -> Fallible<()> {
    let mut crowd = Crowd::open(5, open)?;
    crowd.last.run("delete from account")?;
    crowd.last.run("insert into account select n, 'r', n from generate_series(1, 1000) n")?;
    crowd.turns(3, |session, _| {
        let rows = account::table.select(account::balance).load_iter::<i64, PgRowByRowLoadingMode>(&mut session.0)?;
        let mut total = 0;
        for row in rows {
            total += row?;
        }
        equal(total, 500_500)
    })
}

/// The next notification, or nothing when the time is over.
fn notified(session: &mut Session, limit: Duration) -> Fallible<Option<String>> {
    let end = Instant::now() + limit;
    loop {
        if let Some(news) = session.0.notifications_iter().next() {
            let news = news.map_err(failed)?;
            return Ok(Some(format!("{}: {}", news.channel, news.payload)));
        }
        if Instant::now() > end {
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn listen_notify() -> Fallible<()> {
    let soon = Duration::from_secs(10);
    let mut crowd = Crowd::open(3, open)?;
    crowd.clients[0].run("listen news")?;
    for number in 0..6 {
        crowd.clients[1].run(&format!("notify news, 'idle {number}'"))?;
        equal(crowd.clients[2].text("select 'somebody else'")?, "somebody else")?;
        equal(notified(&mut crowd.clients[0], soon)?, Some(format!("news: idle {number}")))?;
    }
    crowd.clients[0].run("begin")?;
    equal(crowd.clients[0].text("select 'busy'")?, "busy")?;
    crowd.clients[1].run("notify news, 'in a transaction'")?;
    crowd.clients[0].run("commit")?;
    equal(notified(&mut crowd.clients[0], soon)?, Some("news: in a transaction".to_owned()))?;
    for other in &mut crowd.clients[1..] {
        equal(notified(other, Duration::from_millis(50))?, None)?;
    }
    crowd.clients[0].run("unlisten *")
}

fn main() {
    let mut cases = vec![
        case("connect", connect),
        case("prepared", prepared),
        case("prepared_concurrently", prepared_concurrently),
        case("prepared_and_failing", prepared_and_failing),
        case("types", types),
        case("transaction_blocks", transaction_blocks),
        case("copy", copy),
        case("row_by_row", row_by_row),
        case("listen_notify", listen_notify),
    ];
    cases.extend(session_cases::all(open));
    run("diesel", cases);
}
