//! Two hundred clients on ten backends, doing everything at random, and no row ever in the wrong hands.
//!
//! Each client has a token that it changes with each query. `PGPOOL_TEST_SEED` repeats what each client does, though not
//! in which order the system runs them.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    Cluster, Pooler, Raw, Table, eventually, for_each_worker_count,
    messages::{bind, cancel_request, describe_portal, execute, extended, parse, query, startup, sync, terminate},
    random::Random,
    reply::Message,
};

const CLIENTS: u64 = 200;
const BACKENDS: usize = 10;
const RUNS: Duration = Duration::from_secs(6);
const PATIENCE: Duration = Duration::from_secs(15);

/// What all clients share.
#[derive(Default)]
struct Shared {
    over: AtomicBool,
    rows: AtomicU64,
    errors: AtomicU64,
    logins: AtomicU64,
    transactions: AtomicU64,
    /// Ends without a word.
    silent: AtomicU64,
}

struct Client<'a> {
    port: u16,
    shared: &'a Shared,
    random: Random,
    stream: TcpStream,
    received: Vec<u8>,
    key: (u32, Vec<u8>),
}

/// Why a client has to connect again.
struct Lost;

#[test]
fn no_row_ever_reaches_another_client() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let random = Random::announced();
        let pooler = Pooler::trusting(
            &cluster,
            workers,
            &format!(
                "default_pool_size = {BACKENDS}\nlog_connections = false\nlog_disconnections = false\nlog_pooler_errors = false"
            ),
        );
        let shared = Shared::default();
        let port = pooler.port();
        thread::scope(|scope| {
            for number in 0..CLIENTS {
                let (shared, random) = (&shared, random.part(number));
                let run = move || Client::connect(port, shared, random).run();
                thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, run).unwrap();
            }
            let mut random = random.part(CLIENTS);
            let mut postgres = Raw::login(cluster.port(), "postgres", "", "postgres");
            let end = Instant::now() + RUNS;
            while Instant::now() < end {
                let victim = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'alice' \
                              order by random() limit 1";
                if random.below(10) == 0 {
                    // A panic here would leave the clients running for ever.
                    let _ = postgres.query(victim);
                }
                thread::park_timeout(Duration::from_millis(30));
            }
            shared.over.store(true, Relaxed);
        });
        let counts = [&shared.rows, &shared.errors, &shared.logins, &shared.transactions, &shared.silent]
            .map(|count| count.load(Relaxed));
        eprintln!("rows, errors, logins, transactions, silent ends: {counts:?}");
        assert!(counts[0] > 2000 && counts[1] > 20 && counts[2] > CLIENTS, "too little has happened: {counts:?}");
        assert_eq!(counts[4], 0, "clients were closed without a word");
        check_whole(&cluster, &pooler);
    });
}

/// The pool can be used to its full size, and everything that is counted agrees.
fn check_whole(cluster: &Cluster, pooler: &Pooler) {
    let mut console = pooler.console();
    let pool = |console: &mut Raw| {
        let table = Table::of(console, "SHOW POOLS").matching(&[("database", "app"), ("user", "alice")]);
        ["cl_active", "cl_waiting", "sv_active", "sv_being_canceled", "sv_login"].map(|name| table.number(name))
    };
    eventually(PATIENCE, "nothing goes on any more", || pool(&mut console) == [0; 5]);
    let mut clients: Vec<_> = (0..BACKENDS).map(|_| pooler.login("alice", "alicepw", "app")).collect();
    clients.iter_mut().for_each(|client| drop(client.query("begin").unwrap()));
    let size = BACKENDS as u64;
    assert_eq!(pool(&mut console), [size, 0, size, 0, 0]);
    assert_eq!(cluster.backend_pids("alice").len(), BACKENDS);
    let database = Table::of(&mut console, "SHOW DATABASES").matching(&[("name", "app")]);
    assert_eq!(database.number("current_connections"), size);
    assert_eq!(database.number("current_client_connections"), size);
}

impl<'a> Client<'a> {
    fn connect(port: u16, shared: &'a Shared, random: Random) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut client = Self { port, shared, random, stream, received: Vec::new(), key: (0, Vec::new()) };
        client.send(&startup(3 << 16, &[("user", "alice"), ("database", "app")]));
        loop {
            let message = client.read().unwrap_or_else(|Lost| panic!("the login ended"));
            match message.tag {
                b'K' => {
                    client.key = (u32::from_be_bytes(message.body[..4].try_into().unwrap()), message.body[4..].to_vec())
                }
                b'E' => panic!("login: {:?}", message.error()),
                b'Z' => break,
                _ => {}
            }
        }
        shared.logins.fetch_add(1, Relaxed);
        client
    }

    fn run(mut self) {
        while !self.shared.over.load(Relaxed) {
            let done = match self.random.below(16) {
                0..=3 => self.simple(),
                4..=6 => self.extended(),
                7 | 8 => self.transaction(),
                9 => self.fails(),
                10 | 11 => self.pipeline(),
                12 => self.copy_out(),
                13 => self.canceled(),
                14 => self.vanish(),
                _ => self.failed_pipeline(),
            };
            self.shared.transactions.fetch_add(1, Relaxed);
            if let Err(Lost) = done {
                self = Self::connect(self.port, self.shared, self.random);
            }
        }
        self.send(&terminate());
    }

    fn token(&mut self) -> String {
        format!("{:016x}", self.random.next())
    }

    fn simple(&mut self) -> Result<(), Lost> {
        let (token, rows) = (self.token(), 1 + self.random.below(200));
        self.send(&query(&format!("select '{token}' from generate_series(1, {rows})")));
        self.expect(&token, rows)
    }

    fn extended(&mut self) -> Result<(), Lost> {
        let token = self.token();
        self.send(&extended("select $1::text, length($1)", &[Some(&token)]));
        self.expect(&token, 1)
    }

    fn transaction(&mut self) -> Result<(), Lost> {
        let (token, end) = (self.token(), ["commit", "rollback"][self.random.below(2)]);
        self.send(&query("begin"));
        self.expect(&token, 0)?;
        self.send(&query(&format!("set local application_name = '{token}'")));
        self.expect(&token, 0)?;
        if self.random.below(3) == 0 {
            thread::yield_now();
        }
        self.send(&query("select current_setting('application_name')"));
        self.expect(&token, 1)?;
        self.send(&query(end));
        self.expect(&token, 0)
    }

    /// An error in a transaction, which a rollback ends.
    fn fails(&mut self) -> Result<(), Lost> {
        let token = self.token();
        self.send(&query(&format!("begin; select '{token}'; select 1/0")));
        self.expect_error(&token, "22012")?;
        self.send(&query("select 'never'"));
        self.expect_error(&token, "25P02")?;
        self.send(&query("rollback"));
        self.expect(&token, 0)
    }

    /// Several Syncs sent before the first answer is read.
    fn pipeline(&mut self) -> Result<(), Lost> {
        let tokens: Vec<_> = (0..2 + self.random.below(6)).map(|_| self.token()).collect();
        let bytes: Vec<u8> = tokens.iter().flat_map(|token| extended("select $1::text", &[Some(token)])).collect();
        let (first, second) = bytes.split_at(self.random.below(bytes.len()));
        self.send(first);
        self.send(second);
        tokens.iter().try_for_each(|token| self.expect(token, 1))
    }

    /// The first of two Syncs fails, what follows it does not.
    fn failed_pipeline(&mut self) -> Result<(), Lost> {
        let token = self.token();
        let bad = [parse("", "select 1/$1::int", &[]), bind("", "", &[Some("0")]), describe_portal(""), execute("", 0)];
        let skipped = extended("select 'never'", &[]);
        self.send(&[bad.concat(), skipped, extended("select $1::text", &[Some(&token)]), sync()].concat());
        self.expect_error(&token, "22012")?;
        self.expect(&token, 1)?;
        self.expect(&token, 0)
    }

    fn copy_out(&mut self) -> Result<(), Lost> {
        let (token, rows) = (self.token(), 1 + self.random.below(500));
        self.send(&query(&format!("copy (select '{token}' from generate_series(1, {rows})) to stdout")));
        self.expect(&token, rows)
    }

    /// A cancel request at any moment: before, in, or after the query, which may or may not fail by it.
    fn canceled(&mut self) -> Result<(), Lost> {
        let (token, hundredths) = (self.token(), self.random.below(4));
        self.send(&query(&format!("select '{token}', pg_sleep(0.0{hundredths})")));
        thread::park_timeout(Duration::from_millis(self.random.below(30) as u64));
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connect");
        stream.write_all(&cancel_request(self.key.0, &self.key.1)).expect("send a cancel request");
        let answer = self.answer(&token)?;
        let _ = stream.read(&mut [0]);
        match answer {
            (_, Some(code)) => assert_eq!(code, "57014"),
            (rows, None) => assert_eq!(rows, 1),
        }
        // A request that comes late must not hit what runs next.
        self.send(&query(&format!("select '{token}', pg_sleep(0.01)")));
        self.expect(&token, 1)
    }

    /// Closes in the middle of something.
    fn vanish(&mut self) -> Result<(), Lost> {
        let token = self.token();
        let bytes = match self.random.below(4) {
            0 => query(&format!("select '{token}', pg_sleep(0.05)")),
            1 => query("begin"),
            2 => query(&format!("select repeat('{token}', 1000) from generate_series(1, 1000)")),
            _ => extended("select $1::text", &[Some(&token)]),
        };
        let part = if self.random.below(3) == 0 { self.random.below(bytes.len()) } else { bytes.len() };
        self.send(&bytes[..part]);
        if self.random.below(2) == 0 {
            self.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            let _ = self.stream.read(&mut [0; 100]);
        }
        Err(Lost)
    }

    fn expect(&mut self, token: &str, rows: usize) -> Result<(), Lost> {
        assert_eq!(self.answer(token)?, (rows, None), "{token}");
        Ok(())
    }

    fn expect_error(&mut self, token: &str, code: &str) -> Result<(), Lost> {
        assert_eq!(self.answer(token)?.1.as_deref(), Some(code), "{token}");
        Ok(())
    }

    /// Reads up to ReadyForQuery: how many rows with the token, and the SQLSTATE of an error. Any other row is a failure.
    fn answer(&mut self, token: &str) -> Result<(usize, Option<String>), Lost> {
        let (mut rows, mut code) = (0, None);
        loop {
            let message = self.read()?;
            match message.tag {
                b'D' => {
                    assert_eq!(message.row()[0].as_deref(), Some(token), "another client's row");
                    rows += 1;
                }
                b'd' => {
                    assert_eq!(message.body, format!("{token}\n").into_bytes(), "another client's data");
                    rows += 1;
                }
                b'E' => {
                    self.shared.errors.fetch_add(1, Relaxed);
                    let error = message.error();
                    if error.severity == "FATAL" {
                        let why = (error.code.as_str(), error.message.as_str());
                        assert!(matches!(why.0, "57P01" | "08006"), "{why:?}");
                        return Err(Lost);
                    }
                    code = Some(error.code);
                }
                b'Z' => {
                    self.shared.rows.fetch_add(rows as u64, Relaxed);
                    return Ok((rows, code));
                }
                _ => {}
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        // What went wrong is said by what can be read.
        let _ = self.stream.write_all(bytes);
    }

    fn read(&mut self) -> Result<Message, Lost> {
        loop {
            if let Some(header) = self.received.get(..5) {
                let end = 1 + u32::from_be_bytes(header[1..].try_into().unwrap()) as usize;
                if let Some(body) = self.received.get(5..end) {
                    let message = Message { tag: header[0], body: body.to_vec() };
                    self.received.drain(..end);
                    return Ok(message);
                }
            }
            let mut chunk = [0; 16_384];
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    self.shared.silent.fetch_add(1, Relaxed);
                    return Err(Lost);
                }
                Ok(read) => self.received.extend_from_slice(&chunk[..read]),
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                    return Err(Lost);
                }
                Err(error) => panic!("no answer within {PATIENCE:?}: {error}"),
            }
        }
    }
}
