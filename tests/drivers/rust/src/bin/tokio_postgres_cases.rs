//! tokio-postgres: a named statement for each query, binary values.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, NaiveDate, Utc};
use futures_util::{SinkExt, StreamExt, TryStreamExt, future, pin_mut, stream};
use pgpool_drivers::{Client, Crowd, Failure, Fallible, case, equal, fails, main as run, session_cases, url};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
    time::timeout,
};
use tokio_postgres::{AsyncMessage, NoTls, SimpleQueryMessage, types::Json};
use uuid::Uuid;

struct Session {
    client: tokio_postgres::Client,
    notices: mpsc::UnboundedReceiver<String>,
    runtime: Arc<Runtime>,
}

fn open() -> Fallible<Session> {
    let runtime = Arc::new(Builder::new_multi_thread().worker_threads(1).enable_all().build()?);
    let (client, mut connection) = runtime.block_on(tokio_postgres::connect(&url(), NoTls))?;
    let (sender, notices) = mpsc::unbounded_channel();
    runtime.spawn(async move {
        let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(news) = message {
                let _ = sender.send(format!("{}: {}", news.channel(), news.payload()));
            }
        }
    });
    Ok(Session { client, notices, runtime })
}

impl Session {
    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    fn notified(&mut self, limit: Duration) -> Option<String> {
        let runtime = Arc::clone(&self.runtime);
        runtime.block_on(async { timeout(limit, self.notices.recv()).await.ok().flatten() })
    }
}

impl Client for Session {
    fn texts(&mut self, sql: &str) -> Fallible<Vec<Option<String>>> {
        // A cast to text is not enough for EXECUTE and FETCH: they are typed when they are described.
        Ok(self.wait(self.client.query(sql, &[]))?.iter().map(|row| row.get(0)).collect())
    }

    fn run(&mut self, sql: &str) -> Fallible<()> {
        Ok(self.wait(self.client.batch_execute(sql))?)
    }
}

fn connect() -> Fallible<()> {
    Crowd::open(5, open)?.turns(2, |session, number| {
        let number = number as i32;
        let row = session.wait(session.client.query_one("select current_user::text, $1::int", &[&number]))?;
        equal((row.get::<_, String>(0), row.get::<_, i32>(1)), ("app".to_owned(), number))
    })
}

fn prepared() -> Fallible<()> {
    let mut statements = Vec::new();
    let mut crowd = Crowd::open(5, open)?;
    for (number, session) in crowd.clients.iter().enumerate() {
        statements.push(session.wait(session.client.prepare(&format!("select $1::int + {}", 100 * number)))?);
    }
    crowd.turns(20, |session, number| {
        let row = session.wait(session.client.query_one(&statements[number], &[&(number as i32)]))?;
        equal(row.get::<_, i32>(0), 101 * number as i32)?;
        let row = session.wait(session.client.query_one("select $1::text", &[&"é'\\"]))?;
        equal(row.get::<_, String>(0), "é'\\")
    })?;
    // Dropped statements are closed with the next message.
    drop(statements);
    crowd.turns(2, |session, _| equal(session.text("select 'closed'")?, "closed"))
}

fn prepared_concurrently() -> Fallible<()> {
    let crowd = Crowd::open(6, open)?;
    let work = crowd.clients.iter().enumerate().map(|(number, session)| async move {
        let number = number as i32;
        let double = session.client.prepare("select $1::int * 2, $2::int").await?;
        for n in 0..50_i32 {
            let row = session.client.query_one(&double, &[&n, &number]).await?;
            equal((row.get::<_, i32>(0), row.get::<_, i32>(1)), (2 * n, number))?;
            session.client.batch_execute("begin").await?;
            let row = session.client.query_one("select $1::int * 3", &[&n]).await?;
            equal(row.get::<_, i32>(0), 3 * n)?;
            session.client.batch_execute("commit").await?;
        }
        Ok::<_, Failure>(())
    });
    crowd.last.wait(future::try_join_all(work)).map(drop)
}

fn prepared_and_failing() -> Fallible<()> {
    Crowd::open(5, open)?.turns(4, |session, number| {
        let divide = session.wait(session.client.prepare("select 6 / $1::int"))?;
        fails("22012", session.wait(session.client.query_one(&divide, &[&0_i32])).map_err(Into::into))?;
        fails(
            "42P01",
            session.wait(session.client.prepare("select * from no_such_table")).map_err(Into::into).map(drop),
        )?;
        let row = session.wait(session.client.query_one(&divide, &[&(number as i32 + 1)]))?;
        equal(row.get::<_, i32>(0), 6 / (number as i32 + 1))
    })
}

fn pipelined() -> Fallible<()> {
    Crowd::open(5, open)?.turns(4, |session, number| {
        let client = &session.client;
        let queries = (0..30_i32).map(|n| async move {
            Ok::<_, Failure>(
                client.query_one("select $1::int + $2::int", &[&n, &(number as i32)]).await?.get::<_, i32>(0),
            )
        });
        let answers = session.wait(future::try_join_all(queries))?;
        equal(answers, (0..30).map(|n| n + number as i32).collect::<Vec<_>>())
    })
}

const COLUMNS: &str = "an_int, a_bigint, a_float, a_bool, a_text, a_bytea, a_timestamptz, a_date, a_uuid, a_json, a_jsonb, \
                       ints, texts, nothing";

fn types_binary() -> Fallible<()> {
    let time: DateTime<Utc> = "2024-02-29T12:34:56.789012Z".parse()?;
    let date: NaiveDate = "2024-02-29".parse()?;
    let uuid: Uuid = "0b8f3c52-7d1e-4c55-9b1a-2f6f0c9d7e11".parse()?;
    let json = serde_json::json!({"list": [1, null, "é"]});
    let (text, bytes) = ("Grüße, 世界 🐘 '\"\\".to_owned(), vec![0_u8, 1, 39, 92, 254, 255]);
    let (ints, texts) = (vec![3, -1, 2], vec!["a b".to_owned(), "ü,\"".to_owned(), String::new()]);
    let mut crowd = Crowd::open(5, open)?;
    crowd.last.run("delete from everything")?;
    crowd.turns(1, |session, number| {
        let insert = format!(
            "insert into everything (id, {COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"
        );
        let made = session.wait(session.client.execute(
            &insert,
            &[
                &(number as i32), &i32::MIN, &9_007_199_254_740_993_i64, &0.1_f64, &true, &text, &bytes, &time, &date, &uuid,
                &Json(&json), &Json(&json), &ints, &texts, &None::<String>,
            ],
        ))?;
        equal(made, 1)
    })?;
    crowd.turns(4, |session, number| {
        let query = format!("select {COLUMNS} from everything where id = $1");
        let row = session.wait(session.client.query_one(&query, &[&(number as i32)]))?;
        equal((row.get(0), row.get(1), row.get(2), row.get(3)), (i32::MIN, 9_007_199_254_740_993_i64, 0.1_f64, true))?;
        equal((row.get::<_, String>(4), row.get::<_, Vec<u8>>(5)), (text.clone(), bytes.clone()))?;
        equal((row.get(6), row.get(7), row.get(8)), (time, date, uuid))?;
        equal(
            (row.get::<_, Json<serde_json::Value>>(9).0, row.get::<_, serde_json::Value>(10)),
            (json.clone(), json.clone()),
        )?;
        equal((row.get::<_, Vec<i32>>(11), row.get::<_, Vec<String>>(12)), (ints.clone(), texts.clone()))?;
        equal(row.get::<_, Option<String>>(13), None)
    })
}

fn types_text() -> Fallible<()> {
    Crowd::open(5, open)?.turns(4, |session, number| {
        let query = format!("select {number}, 0.1::float8, true, 'ü', '\\x00ff'::bytea, null; select 'second'");
        let mut texts = Vec::new();
        for message in session.wait(session.client.simple_query(&query))? {
            if let SimpleQueryMessage::Row(row) = message {
                texts.extend((0..row.len()).map(|at| row.get(at).unwrap_or("NULL").to_owned()));
            }
        }
        equal(texts, vec![number.to_string().as_str(), "0.1", "t", "ü", "\\x00ff", "NULL", "second"])
    })
}

fn transaction_blocks() -> Fallible<()> {
    let mut crowd = Crowd::open(5, open)?;
    crowd.last.run("delete from account")?;
    crowd.turns(4, |session, number| {
        let id = number as i32;
        let runtime = Arc::clone(&session.runtime);
        runtime.block_on(async {
            let mut transaction = session.client.transaction().await?;
            transaction.execute("insert into account values ($1, 'a', 0) on conflict do nothing", &[&id]).await?;
            let nested = transaction.transaction().await?;
            let twice = nested.execute("insert into account values ($1, 'b', 0)", &[&id]).await;
            fails("23505", twice.map_err(Into::into))?;
            nested.rollback().await?;
            transaction.execute("update account set balance = balance + 1 where id = $1", &[&id]).await?;
            transaction.commit().await?;
            // Rolled back when dropped.
            let transaction = session.client.transaction().await?;
            transaction.execute("update account set balance = -1 where id = $1", &[&id]).await?;
            drop(transaction);
            Ok(())
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
        session.wait(async {
            let sink = session.client.copy_in::<_, Bytes>("copy account from stdin").await?;
            pin_mut!(sink);
            sink.send(Bytes::from(lines.clone())).await?;
            equal(sink.finish().await?, 500)?;
            let query = format!("copy (select * from account where id / 1000 = {number} order by id) to stdout");
            let chunks: Vec<Bytes> = session.client.copy_out(&query).await?.try_collect().await?;
            equal(String::from_utf8(chunks.concat())?, lines.clone())?;
            let sink = session.client.copy_in::<_, Bytes>("copy account from stdin").await?;
            pin_mut!(sink);
            sink.send(Bytes::from(lines.lines().next().unwrap_or_default().to_owned())).await?;
            fails("23505", sink.finish().await.map_err(Into::into))
        })
    })?;
    equal(crowd.last.text("select count(*)::text from account")?, "2500")
}

/// Portals of a transaction, read in parts.
fn cursor() -> Fallible<()> {
    Crowd::open(5, open)?.turns(2, |session, number| {
        let runtime = Arc::clone(&session.runtime);
        runtime.block_on(async {
            let transaction = session.client.transaction().await?;
            let query = "select n + $1::int from generate_series(1, 1000) n";
            let portal = transaction.bind(query, &[&(number as i32)]).await?;
            let mut total = 0;
            loop {
                let rows = transaction.query_portal(&portal, 90).await?;
                if rows.is_empty() {
                    break;
                }
                total += rows.iter().map(|row| row.get::<_, i32>(0)).sum::<i32>();
            }
            transaction.commit().await?;
            equal(total, 500_500 + 1000 * number as i32)
        })
    })
}

fn listen_notify() -> Fallible<()> {
    let soon = Duration::from_secs(10);
    let mut crowd = Crowd::open(3, open)?;
    crowd.clients[0].run("listen news")?;
    for number in 0..6 {
        crowd.clients[1].text(&format!("select pg_notify('news', 'idle {number}')::text"))?;
        equal(crowd.clients[2].text("select 'somebody else'")?, "somebody else")?;
        equal(crowd.clients[0].notified(soon), Some(format!("news: idle {number}")))?;
    }
    crowd.clients[0].run("begin")?;
    equal(crowd.clients[0].text("select 'busy'")?, "busy")?;
    crowd.clients[1].run("notify news, 'in a transaction'")?;
    crowd.clients[0].run("commit")?;
    equal(crowd.clients[0].notified(soon), Some("news: in a transaction".to_owned()))?;
    crowd.clients[0].run("listen last; unlisten news")?;
    crowd.clients[1].run("notify news, 'nobody'")?;
    crowd.clients[1].run("notify last, 'the end'")?;
    equal(crowd.clients[0].notified(soon), Some("last: the end".to_owned()))?;
    for other in &mut crowd.clients[1..] {
        equal(other.notified(Duration::from_millis(50)), None)?;
    }
    crowd.clients[0].run("unlisten *")
}

fn cancel() -> Fallible<()> {
    Crowd::open(3, open)?.turns(2, |session, _| {
        let token = session.client.cancel_token();
        let slept = session.wait(async {
            let cancel = async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                token.cancel_query(NoTls).await
            };
            let (slept, cancelled) = future::join(session.client.query("select pg_sleep(10)::text", &[]), cancel).await;
            cancelled?;
            Ok::<_, Failure>(slept)
        })?;
        fails("57014", slept.map_err(Into::into).map(|_| ()))?;
        equal(session.text("select 'on'")?, "on")
    })
}

fn main() {
    let mut cases = vec![
        case("connect", connect),
        case("prepared", prepared),
        case("prepared_concurrently", prepared_concurrently),
        case("prepared_and_failing", prepared_and_failing),
        case("pipelined", pipelined),
        case("types_binary", types_binary),
        case("types_text", types_text),
        case("transaction_blocks", transaction_blocks),
        case("copy", copy),
        case("cursor", cursor),
        case("listen_notify", listen_notify),
        case("cancel", cancel),
    ];
    cases.extend(session_cases::all(open));
    run("tokio-postgres", cases);
}
