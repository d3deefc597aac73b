//! A real driver, which prepares everything and reads binary values only.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::*;

/// Lets tokio-postgres in without asking who it is, as the frontend would do, and serves it.
async fn connect(pooler: &Pooler, role: Role) -> Client {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let listed = pooler.client("operator", "pgpool");
    let context = pooler.context();
    tokio::spawn(async move {
        let length = theirs.read_u32().await.unwrap();
        theirs.read_exact(&mut vec![0; length as usize - 4]).await.unwrap();
        theirs.write_all(&[b'R', 0, 0, 0, 8, 0, 0, 0, 0]).await.unwrap();
        serve(Stream::from(theirs), listed.record(), role, context).await
    });
    let (client, connection) = tokio_postgres::Config::new().user("operator").connect_raw(ours, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn tokio_postgres_can_use_the_console() {
    let pooler = Pooler::new();
    let client = connect(&pooler, Role::Admin).await;
    let rows = client.query("SHOW POOLS", &[]).await.unwrap();
    assert_eq!((rows[0].get::<_, &str>("database"), rows[0].get::<_, i32>("cl_active")), ("pgbouncer", 1));
    assert_eq!(rows[0].get::<_, Option<&str>>("load_balance_hosts"), None);
    let statement = client.prepare("SHOW STATS").await.unwrap();
    assert_eq!(statement.columns()[1].type_().name(), "numeric");
    assert_eq!(client.query(&statement, &[]).await.unwrap().len(), 1);
    assert_eq!(client.execute("PAUSE one", &[]).await.unwrap(), 0);
    let error = client.query("SHOW POOLZ", &[]).await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().hint(), Some("Did you mean SHOW POOLS?"));
    let answers = client.simple_query("SHOW VERSION; SHOW STATE").await.unwrap();
    let rows = answers.iter().filter(|answer| matches!(answer, SimpleQueryMessage::Row(_))).count();
    assert_eq!(rows, 12);
    assert!(pooler.pools.database_paused("one"));
}
