//! sqlx: named statements for each query, kept by the connection; binary values; a pool.

use std::{future::Future, sync::Arc, time::Duration};

use bigdecimal::BigDecimal;
use chrono::{DateTime, NaiveDate, Utc};
use futures_util::{TryStreamExt, future};
use pgpool_drivers::{Client, Crowd, Failure, Fallible, backends, case, equal, fails, main as run, session_cases, url};
use serde_json::Value;
use sqlx::{
    Connection, Executor, PgConnection, Row,
    postgres::{PgListener, PgPoolOptions},
    types::Json,
};
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};
use uuid::Uuid;

struct Session {
    connection: PgConnection,
    runtime: Arc<Runtime>,
}

fn runtime() -> Fallible<Runtime> {
    Ok(Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}

fn open() -> Fallible<Session> {
    let runtime = Arc::new(runtime()?);
    let connection = runtime.block_on(PgConnection::connect(&url()))?;
    Ok(Session { connection, runtime })
}

impl Session {
    /// Runs what `work` makes of the connection.
    fn wait<'a, T, F: Future<Output = T> + 'a>(&'a mut self, work: impl FnOnce(&'a mut PgConnection) -> F) -> T {
        self.runtime.block_on(work(&mut self.connection))
    }
}

impl Client for Session {
    fn texts(&mut self, sql: &str) -> Fallible<Vec<Option<String>>> {
        let rows = self.wait(|connection| sqlx::query(sql).fetch_all(connection))?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    fn run(&mut self, sql: &str) -> Fallible<()> {
        Ok(self.wait(|connection| connection.execute(sql)).map(drop)?)
    }
}

fn connect() -> Fallible<()> {
    Crowd::open(5, open)?.turns(2, |session, number| {
        let query = sqlx::query_as("select current_user::text, $1").bind(number as i32);
        let row: (String, i32) = session.wait(|connection| query.fetch_one(connection))?;
        equal(row, ("app".to_owned(), number as i32))
    })
}

fn prepared() -> Fallible<()> {
    let mut crowd = Crowd::open(5, open)?;
    crowd.turns(20, |session, number| {
        let query = sqlx::query_as("select $1 + 1, $2").bind(number as i32).bind("é'\\");
        let row: (i32, String) = session.wait(|connection| query.fetch_one(connection))?;
        equal(row, (number as i32 + 1, "é'\\".to_owned()))
    })?;
    if backends() == 0 {
        // The driver has prepared by itself.
        equal(crowd.clients[0].text("select (count(*) > 0)::text from pg_prepared_statements")?, "true")?;
    }
    Ok(())
}

/// More statements than the driver keeps (100), so that it also closes some.
fn prepared_many() -> Fallible<()> {
    Crowd::open(3, open)?.turns(3, |session, number| {
        for n in 0..130_i32 {
            let text = format!("select {n} + $1");
            let query = sqlx::query_scalar(&text).bind(number as i32);
            let sum: i32 = session.wait(|connection| query.fetch_one(connection))?;
            equal(sum, n + number as i32)?;
        }
        Ok(())
    })
}

fn prepared_concurrently() -> Fallible<()> {
    let mut crowd = Crowd::open(6, open)?;
    let runtime = runtime()?;
    let work = crowd.clients.iter_mut().enumerate().map(|(number, session)| async move {
        let connection = &mut session.connection;
        for n in 0..50_i32 {
            let query = sqlx::query_as("select $1 * 2, $2").bind(n).bind(number as i32);
            let row: (i32, i32) = query.fetch_one(&mut *connection).await?;
            equal(row, (2 * n, number as i32))?;
            let mut transaction = connection.begin().await?;
            let triple: i32 = sqlx::query_scalar("select $1 * 3").bind(n).fetch_one(&mut *transaction).await?;
            equal(triple, 3 * n)?;
            transaction.commit().await?;
        }
        Ok::<_, Failure>(())
    });
    runtime.block_on(future::try_join_all(work)).map(drop)
}

fn prepared_and_failing() -> Fallible<()> {
    Crowd::open(5, open)?.turns(6, |session, number| {
        let divide = |by: i32| sqlx::query_scalar::<_, i32>("select 6 / $1").bind(by);
        fails("22012", session.wait(|connection| divide(0).fetch_one(connection)).map_err(Into::into))?;
        fails("42P01", session.texts("select * from no_such_table"))?;
        let answer = session.wait(|connection| divide(number as i32 + 1).fetch_one(connection))?;
        equal(answer, 6 / (number as i32 + 1))
    })
}

type Everything = (i32, i64, BigDecimal, f64, bool, String, Vec<u8>, DateTime<Utc>, NaiveDate);
type More = (Uuid, Json<Value>, Json<Value>, Vec<i32>, Vec<String>, Option<String>);

fn types() -> Fallible<()> {
    let numeric: BigDecimal = "12345678901234567890.000000001".parse()?;
    let time: DateTime<Utc> = "2024-02-29T12:34:56.789012Z".parse()?;
    let date: NaiveDate = "2024-02-29".parse()?;
    let uuid: Uuid = "0b8f3c52-7d1e-4c55-9b1a-2f6f0c9d7e11".parse()?;
    let json = Json(serde_json::json!({"list": [1, null, "é"]}));
    let (text, bytes) = ("Grüße, 世界 🐘 '\"\\".to_owned(), vec![0_u8, 1, 39, 92, 254, 255]);
    let (ints, texts) = (vec![3, -1, 2], vec!["a b".to_owned(), "ü,\"".to_owned(), String::new()]);
    let big = 9_007_199_254_740_993_i64;
    let mut crowd = Crowd::open(5, open)?;
    crowd.last.run("delete from everything")?;
    crowd.turns(1, |session, number| {
        let insert =
            "insert into everything values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
        let query = sqlx::query(insert).bind(number as i32).bind(i32::MIN).bind(big).bind(&numeric).bind(0.1_f64);
        let query = query.bind(true).bind(&text).bind(&bytes).bind(time).bind(date).bind(uuid).bind(&json).bind(&json);
        let query = query.bind(&ints).bind(&texts).bind(None::<String>);
        let done = session.wait(|connection| query.execute(connection))?;
        equal(done.rows_affected(), 1)
    })?;
    crowd.turns(6, |session, number| {
        let first = "select an_int, a_bigint, a_numeric, a_float, a_bool, a_text, a_bytea, a_timestamptz, a_date \
                     from everything where id = $1";
        let query = sqlx::query_as(first).bind(number as i32);
        let row: Everything = session.wait(|connection| query.fetch_one(connection))?;
        equal(row, (i32::MIN, big, numeric.clone(), 0.1, true, text.clone(), bytes.clone(), time, date))?;
        let second = "select a_uuid, a_json, a_jsonb, ints, texts, nothing from everything where id = $1";
        let query = sqlx::query_as(second).bind(number as i32);
        let row: More = session.wait(|connection| query.fetch_one(connection))?;
        equal(row, (uuid, json.clone(), json.clone(), ints.clone(), texts.clone(), None))
    })
}

/// A type that the driver looks up by queries of its own.
fn types_looked_up() -> Fallible<()> {
    #[derive(sqlx::Type, Debug, PartialEq)]
    #[sqlx(type_name = "mood", rename_all = "lowercase")]
    enum Mood {
        Good,
        Bad,
    }
    let mut crowd = Crowd::open(5, open)?;
    crowd.last.run("drop type if exists mood cascade; create type mood as enum ('good', 'bad')")?;
    crowd.turns(4, |session, number| {
        let mood = if number % 2 == 0 { Mood::Good } else { Mood::Bad };
        let query = sqlx::query_scalar("select $1").bind(&mood);
        let got: Mood = session.wait(|connection| query.fetch_one(connection))?;
        equal(got, mood)
    })
}

fn transaction_blocks() -> Fallible<()> {
    let mut crowd = Crowd::open(5, open)?;
    crowd.last.run("delete from account")?;
    crowd.turns(4, |session, number| {
        let id = number as i32;
        session.wait(|connection| async move {
            let mut transaction = connection.begin().await?;
            let insert =
                |owner: &'static str| sqlx::query("insert into account values ($1, $2, 0)").bind(id).bind(owner);
            sqlx::query("delete from account where id = $1 and owner = 'b'")
                .bind(id)
                .execute(&mut *transaction)
                .await?;
            let known: i64 = sqlx::query_scalar("select count(*) from account where id = $1")
                .bind(id)
                .fetch_one(&mut *transaction)
                .await?;
            if known == 0 {
                insert("a").execute(&mut *transaction).await?;
            }
            let mut nested = transaction.begin().await?;
            fails("23505", insert("b").execute(&mut *nested).await.map_err(Into::into))?;
            nested.rollback().await?;
            sqlx::query("update account set balance = balance + 1 where id = $1")
                .bind(id)
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
            // Rolled back when dropped, with the connection's next query.
            let mut transaction = connection.begin().await?;
            sqlx::query("update account set balance = -1 where id = $1").bind(id).execute(&mut *transaction).await?;
            drop(transaction);
            let one: i32 = sqlx::query_scalar("select 1").fetch_one(connection).await?;
            equal(one, 1)
        })
    })?;
    equal(crowd.last.text("select string_agg(owner || balance, ' ') from account")?, "a4 a4 a4 a4 a4")
}

fn copy() -> Fallible<()> {
    let mut crowd = Crowd::open(5, open)?;
    crowd.last.run("delete from account")?;
    crowd.turns(2, |session, number| {
        session.run(&format!("delete from account where id / 1000 = {number}"))?;
        let lines: String = (0..500).map(|n| format!("{}\tähm {n}\t{n}\n", 1000 * number + n)).collect();
        session.wait(|connection| async move {
            let mut sink = connection.copy_in_raw("copy account from stdin").await?;
            sink.send(lines.as_bytes()).await?;
            equal(sink.finish().await?, 500)?;
            let query = format!("copy (select * from account where id / 1000 = {number} order by id) to stdout");
            let chunks: Vec<_> = connection.copy_out_raw(&query).await?.try_collect().await?;
            equal(String::from_utf8(chunks.concat())?, lines)?;
            let sink = connection.copy_in_raw("copy account from stdin").await?;
            sink.abort("changed my mind").await?;
            let after: i32 = sqlx::query_scalar("select $1").bind(number as i32).fetch_one(connection).await?;
            equal(after, number as i32)
        })
    })?;
    equal(crowd.last.text("select count(*)::text from account")?, "2500")
}

/// Rows as they come, and a stream that is left early.
fn streams() -> Fallible<()> {
    Crowd::open(5, open)?.turns(3, |session, number| {
        session.wait(|connection| async move {
            let query = "select n + $1 from generate_series(1, 3000) n";
            let mut total = 0;
            let mut rows = sqlx::query(query).bind(number as i32).fetch(&mut *connection);
            while let Some(row) = rows.try_next().await? {
                total += row.try_get::<i32, _>(0)?;
            }
            drop(rows);
            equal(total, 4_501_500 + 3000 * number as i32)?;
            let mut rows = sqlx::query(query).bind(number as i32).fetch(&mut *connection);
            equal(rows.try_next().await?.map(|row| row.get::<i32, _>(0)), Some(number as i32 + 1))?;
            drop(rows);
            let after: i32 = sqlx::query_scalar("select $1").bind(number as i32).fetch_one(connection).await?;
            equal(after, number as i32)
        })
    })
}

fn listen_notify() -> Fallible<()> {
    runtime()?.block_on(async {
        let soon = Duration::from_secs(10);
        let mut listener = PgListener::connect(&url()).await?;
        let mut sender = PgConnection::connect(&url()).await?;
        listener.listen_all(["news", "more"]).await?;
        for number in 0..6 {
            let channel = if number % 2 == 0 { "news" } else { "more" };
            sqlx::query("select pg_notify($1, $2)").bind(channel).bind(number.to_string()).execute(&mut sender).await?;
            let news = timeout(soon, listener.recv()).await??;
            equal((news.channel(), news.payload()), (channel, number.to_string().as_str()))?;
        }
        listener.listen("last").await?;
        listener.unlisten("news").await?;
        sender.execute("notify news, 'nobody'").await?;
        sender.execute("notify last, 'the end'").await?;
        let news = timeout(soon, listener.recv()).await??;
        equal(news.payload(), "the end")?;
        listener.unlisten_all().await?;
        Ok(())
    })
}

/// The pool's connections after futures that were dropped in the middle of a query.
fn pool_and_dropped_queries() -> Fallible<()> {
    for _ in 0..2 {
        runtime()?.block_on(async {
            let pool = PgPoolOptions::new().max_connections(6).connect(&url()).await?;
            let work = (0..60_i32).map(|number| {
                let pool = pool.clone();
                async move {
                    if number % 10 == 9 {
                        let nap = sqlx::query("select pg_sleep(0.2)").execute(&pool);
                        equal(timeout(Duration::from_millis(50), nap).await.is_err(), true)?;
                    }
                    let mut transaction = pool.begin().await?;
                    sqlx::query("select set_config('app.custom', $1, true)")
                        .bind(number.to_string())
                        .execute(&mut *transaction)
                        .await?;
                    let custom: String =
                        sqlx::query_scalar("select current_setting('app.custom')").fetch_one(&mut *transaction).await?;
                    transaction.commit().await?;
                    equal(custom, number.to_string())
                }
            });
            future::try_join_all(work).await?;
            pool.close().await;
            Ok::<_, Failure>(())
        })?;
    }
    Ok(())
}

fn main() {
    let mut cases = vec![
        case("connect", connect),
        case("prepared", prepared),
        case("prepared_many", prepared_many),
        case("prepared_concurrently", prepared_concurrently),
        case("prepared_and_failing", prepared_and_failing),
        case("types", types),
        case("types_looked_up", types_looked_up),
        case("transaction_blocks", transaction_blocks),
        case("copy", copy),
        case("streams", streams),
        case("listen_notify", listen_notify),
        case("pool_and_dropped_queries", pool_and_dropped_queries),
    ];
    cases.extend(session_cases::all(open));
    run("sqlx", cases);
}
