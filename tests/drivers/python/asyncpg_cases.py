"""asyncpg: the extended protocol, named prepared statements for every query, binary values."""

import asyncio
import json

import asyncpg
from cases import BACKENDS, EVERYTHING, Crowd, case, equal, fails, main
from session_cases import register


class Client:
    """A connection on an event loop of its own, for cases that are no coroutines."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        try:
            self.connection = self.wait(asyncpg.connect())
        except BaseException:
            self.loop.close()
            raise

    def wait(self, awaitable):
        return self.loop.run_until_complete(awaitable)

    def rows(self, sql, *parameters):
        return [list(row) for row in self.wait(self.connection.fetch(sql, *parameters))]

    def run(self, sql, *parameters):
        self.wait(self.connection.execute(sql, *parameters))

    alone = run

    def begin(self):
        self.transaction = self.connection.transaction()
        self.wait(self.transaction.start())

    def commit(self):
        self.wait(self.transaction.commit())

    def rollback(self):
        if self.connection.is_in_transaction():
            self.wait(self.transaction.rollback())

    def close(self):
        self.wait(self.connection.close(timeout=5))
        self.loop.close()


def coroutine_case(function):
    def run():
        asyncio.run(function())

    run.__name__ = function.__name__
    case(run)
    return function


async def several(work, count=6):
    """`work(number, connection)` on that many connections at the same time."""
    connections = [await asyncpg.connect() for _ in range(count)]
    try:
        await asyncio.gather(*(work(number, connection) for number, connection in enumerate(connections)))
    finally:
        await asyncio.gather(*(connection.close(timeout=5) for connection in connections))


@case
def connect():
    with Crowd(Client) as crowd:
        for number, client in crowd.turns(2):
            equal(client.rows("select current_user::text, $1::int", number), [["app", number]])
        equal(crowd.clients[0].connection.get_server_version().major >= 15, True)
        equal(crowd.clients[0].connection.get_settings().server_encoding, "UTF8")


@case
def prepared():
    with Crowd(Client) as crowd:
        for number, client in crowd.turns(20):
            equal(client.rows("select $1::int + 1, $2::text", number, "é'\\"), [[number + 1, "é'\\"]])
        if not BACKENDS:  # the driver has prepared by itself
            equal(crowd.clients[0].rows("select count(*) > 0 from pg_prepared_statements"), [[True]])


@case
def prepared_of_the_application():
    statements = {}
    with Crowd(Client) as crowd:
        for number, client in crowd.turns(10):
            if number not in statements:
                # The driver ends prepare() with a Flush: the backend is the client's until its first query's Sync.
                statements[number] = client.wait(client.connection.prepare(f"select $1::int + {100 * number}"))
            equal(client.wait(statements[number].fetchval(number)), 101 * number)


@case
def prepared_many():
    """More statements than the driver keeps (100), so that it also closes some."""
    with Crowd(Client, 3) as crowd:
        for number, client in crowd.turns(3):
            for n in range(130):
                equal(client.rows(f"select {n} + $1::int", number), [[n + number]])


@coroutine_case
async def prepared_concurrently():
    async def work(number, connection):
        for n in range(50):
            row = await connection.fetchrow("select $1::int * 2, $2::text", n, str(number))
            equal(tuple(row), (2 * n, str(number)))
            async with connection.transaction():
                equal(await connection.fetchval("select $1::int * 3", n), 3 * n)
                equal(await connection.fetchval(f"select $1::int * {number}", n), number * n)

    await several(work)


@case
def prepared_and_failing():
    with Crowd(Client) as crowd:
        for number, client in crowd.turns(6):
            with fails("22012"):
                client.rows("select $1::int / 0", number)
            with fails("42703"):
                client.rows("select no_such_column from account where id = $1", number)
            equal(client.rows("select $1::int / 1", number), [[number]])


@case
def prepared_after_alter():
    """The driver prepares again when PostgreSQL says that a statement's result type has changed."""
    with Crowd(Client, 3) as crowd:
        crowd.clients[0].run("drop table if exists changing")
        crowd.clients[0].run("create table changing (x int)")
        crowd.clients[0].run("insert into changing values (1)")
        for width, (number, client) in enumerate(crowd.turns(4), 1):
            for reader in crowd.clients:
                equal(len(reader.rows("select * from changing")[0]), width)
            client.run(f"alter table changing add column more_{width} text")


@case
def types_binary():
    columns = ", ".join(EVERYTHING)
    sent = [json.dumps(value) if "json" in name else value for name, value in EVERYTHING.items()]
    marks = ", ".join(f"${n + 2}" for n in range(len(sent)))
    with Crowd(Client) as crowd:
        crowd.clients[0].run("delete from everything")
        for number, client in crowd.turns(1):
            client.run(f"insert into everything (id, {columns}) values ($1, {marks})", number, *sent)
        for number, client in crowd.turns(4):
            [row] = client.rows(f"select {columns} from everything where id = $1", number)
            row[10:12] = map(json.loads, row[10:12])
            equal(row, list(EVERYTHING.values()))


@case
def types_introspected():
    """Types that the driver looks up by queries of its own, and a codec set by the application."""
    with Crowd(Client, 4) as crowd:
        crowd.clients[0].run("drop type if exists mood cascade; create type mood as enum ('good', 'bad')")
        crowd.clients[0].run("drop type if exists pair cascade; create type pair as (n int, m mood)")
        for number, client in crowd.turns(4):
            client.wait(client.connection.set_type_codec(
                "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads))
            [[moods, pair, doc]] = client.rows(
                "select $1::mood[], row($2::int, 'bad')::pair, $3::jsonb", ["good", "bad"], number, {"n": number})
            equal((moods, tuple(pair), doc), (["good", "bad"], (number, "bad"), {"n": number}))


@coroutine_case
async def transaction_blocks():
    setup = await asyncpg.connect()
    await setup.execute("delete from account")

    async def work(number, connection):
        for _ in range(10):
            async with connection.transaction():
                await connection.execute("insert into account values ($1, 'a', 0) on conflict do nothing", number)
                with fails("23505"):
                    async with connection.transaction():
                        await connection.execute("insert into account values ($1, 'b', 0)", number)
                await connection.execute("update account set balance = balance + 1 where id = $1", number)
            with fails("22012"):
                async with connection.transaction(isolation="serializable"):
                    await connection.execute("update account set balance = -1 where id = $1", number)
                    await connection.fetchval("select 1 / 0")

    await several(work)
    rows = [tuple(row) for row in await setup.fetch("select id, owner, balance from account order by id")]
    await setup.close()
    equal(rows, [(number, "a", 10) for number in range(6)])


@case
def copy():
    with Crowd(Client) as crowd:
        crowd.clients[0].run("delete from account")
        for number, client in crowd.turns(2):
            first = 1000 * number
            client.run("delete from account where id between $1 and $2", first, first + 499)
            records = [(first + n, f"ähm {n}", n) for n in range(500)]
            status = client.wait(client.connection.copy_records_to_table("account", records=records))
            equal(status, "COPY 500")
            out = []

            async def collect(data):
                out.append(data)

            client.wait(client.connection.copy_from_query(
                "select id, owner from account where id between $1 and $1 + 499 order by id", first, output=collect))
            equal(b"".join(out).decode(), "".join(f"{n}\t{owner}\n" for n, owner, _ in records))
            with fails("23505"):
                client.wait(client.connection.copy_records_to_table("account", records=records[:1]))
        equal(crowd.clients[0].rows("select count(*) from account"), [[2500]])


@coroutine_case
async def cursor():
    async def work(number, connection):
        for _ in range(3):
            async with connection.transaction():
                total = 0
                async for row in connection.cursor("select n + $1 from generate_series(1, 1000) n", number, prefetch=70):
                    total += row[0]
                equal(total, 500500 + 1000 * number)
                walk = await connection.cursor("select n from generate_series(1, 100) n")
                equal(await walk.forward(10), 10)
                equal([row[0] for row in await walk.fetch(2)], [11, 12])

    await several(work)


@coroutine_case
async def executemany():
    setup = await asyncpg.connect()
    await setup.execute("delete from account")

    async def work(number, connection):
        for _ in range(3):
            await connection.executemany(
                "insert into account values ($1, $2, 1) on conflict (id) do update set balance = account.balance + 1",
                [(1000 * number + n, "m") for n in range(200)])

    await several(work)
    equal(tuple(await setup.fetchrow("select count(*), sum(balance)::int from account")), (1200, 3600))
    await setup.close()


@coroutine_case
async def listen_notify():
    listener, sender, other = [await asyncpg.connect() for _ in range(3)]
    got = asyncio.Queue()

    def note(_connection, _pid, channel, payload):
        got.put_nowait((channel, payload))

    async def receive():
        return await asyncio.wait_for(got.get(), 10)

    try:
        await listener.add_listener("news", note)
        for number in range(6):
            await sender.execute("select pg_notify('news', $1)", f"idle {number}")
            equal(await receive(), ("news", f"idle {number}"))
            equal(await other.fetchval("select $1::int", number), number)
        async with listener.transaction():
            equal(await listener.fetchval("select 'busy'"), "busy")
            await sender.execute("notify news, 'in a transaction'")
        equal(await receive(), ("news", "in a transaction"))
        await listener.add_listener("last", note)
        await listener.remove_listener("news", note)
        await sender.execute("notify news, 'nobody'")
        await sender.execute("notify last, 'the end'")
        equal(await receive(), ("last", "the end"))
        await listener.remove_listener("last", note)
    finally:
        await asyncio.gather(*(connection.close(timeout=5) for connection in (listener, sender, other)))


@coroutine_case
async def cancel():
    """A time limit of the driver: it sends a cancel request."""

    async def work(number, connection):
        for _ in range(2):
            try:
                await connection.fetchval("select pg_sleep(10)", timeout=0.3)
            except asyncio.TimeoutError:
                pass
            else:
                raise AssertionError("there was no timeout")
            equal(await connection.fetchval("select $1::int", number), number)

    await several(work, 3)


@coroutine_case
async def pool():
    """The pool resets a connection that comes back: advisory locks, cursors, UNLISTEN, RESET ALL."""
    for _ in range(3):
        async with asyncpg.create_pool(min_size=2, max_size=6) as pool:

            async def work(number):
                async with pool.acquire() as connection:
                    async with connection.transaction():
                        equal(await connection.fetchval("select coalesce(current_setting('app.custom', true), '')"), "")
                        await connection.execute(f"set app.custom = 'value {number}'")
                    equal(await connection.fetchval("select current_setting('app.custom')"), f"value {number}")
                    return await connection.fetchval("select $1::int", number)

            equal(await asyncio.gather(*(work(number) for number in range(60))), list(range(60)))


register(Client)
main("asyncpg", asyncpg.__version__)
