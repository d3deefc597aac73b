"""SQLAlchemy, core and ORM, on psycopg or on asyncpg (the argument says which), each with the dialect's defaults."""

import asyncio
import contextlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa
from cases import EVERYTHING, Crowd, case, equal, fails, main
from session_cases import register
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext import asyncio as sa_async

DRIVER = sys.argv.pop(1)
URL = sa.URL.create(
    f"postgresql+{DRIVER}", os.environ["PGUSER"], os.environ["PGPASSWORD"], os.environ["PGHOST"],
    int(os.environ["PGPORT"]), os.environ["PGDATABASE"])


class Base(orm.DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "account"
    id = orm.mapped_column(sa.Integer, primary_key=True, autoincrement=False)
    owner = orm.mapped_column(sa.Text)
    balance = orm.mapped_column(sa.BigInteger)


everything = sa.Table(
    "everything", Base.metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("an_int", sa.Integer),
    sa.Column("a_bigint", sa.BigInteger), sa.Column("a_numeric", sa.Numeric), sa.Column("a_float", sa.Double),
    sa.Column("a_bool", sa.Boolean), sa.Column("a_text", sa.Text), sa.Column("a_bytea", sa.LargeBinary),
    sa.Column("a_timestamptz", sa.DateTime(timezone=True)), sa.Column("a_date", sa.Date), sa.Column("a_uuid", sa.Uuid),
    sa.Column("a_json", pg.JSON), sa.Column("a_jsonb", pg.JSONB), sa.Column("ints", pg.ARRAY(sa.Integer)),
    sa.Column("texts", pg.ARRAY(sa.Text)), sa.Column("nothing", sa.Text))


class Client:
    """A connection of an engine of its own; of an asynchronous engine it runs the same methods on a loop."""

    def __init__(self):
        self.loop = None
        if DRIVER == "asyncpg":
            self.loop = asyncio.new_event_loop()
            self.engine = sa_async.create_async_engine(URL)
            self.connection = self.loop.run_until_complete(self.engine.connect())
        else:
            self.engine = sa.create_engine(URL)
            self.connection = self.engine.connect()
        self.in_block = False

    def call(self, work, *arguments):
        """`work(connection, ...)` with the synchronous connection."""
        if self.loop:
            return self.loop.run_until_complete(self.connection.run_sync(work, *arguments))
        return work(self.connection, *arguments)

    def execute(self, statement, parameters=None):
        def work(connection):
            try:
                result = connection.execute(statement, parameters)
                rows = [list(row) for row in result] if result.returns_rows else []
            except BaseException:
                if not self.in_block:
                    connection.rollback()
                raise
            if not self.in_block:
                connection.commit()
            return rows

        return self.call(work)

    def rows(self, sql, parameters=None):
        return self.execute(sa.text(sql.replace(":", "\\:")), parameters)

    def run(self, sql):
        self.rows(sql)

    def alone(self, sql):
        def work(connection):
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(sa.text(sql))
            connection.commit()
            connection.execution_options(isolation_level="READ COMMITTED")

        self.call(work)

    # The connection begins by itself with its next statement.
    def begin(self):
        self.in_block = True

    def commit(self):
        self.in_block = False
        self.call(lambda connection: connection.commit())

    def rollback(self):
        self.in_block = False
        self.call(lambda connection: connection.rollback())

    def close(self):
        if self.loop:
            self.loop.run_until_complete(self.connection.close())
            self.loop.run_until_complete(self.engine.dispose())
            self.loop.close()
        else:
            self.connection.close()
            self.engine.dispose()


@case
def connect():
    with Crowd(Client) as crowd:
        for number, client in crowd.turns(2):
            equal(client.execute(sa.select(sa.func.current_user(), sa.literal(number))), [["app", number]])


@case
def prepared():
    with Crowd(Client) as crowd:
        for number, client in crowd.turns(20):
            statement = sa.select(sa.literal(number) + 1, sa.literal("é'\\"))
            equal(client.execute(statement), [[number + 1, "é'\\"]])


@case
def types():
    columns = [everything.c[name] for name in EVERYTHING]
    with Crowd(Client) as crowd:
        crowd.clients[0].execute(sa.delete(everything))
        for number, client in crowd.turns(1):
            client.execute(sa.insert(everything), {"id": number, **EVERYTHING})
        for number, client in crowd.turns(8):
            row = client.execute(sa.select(*columns).where(everything.c.id == number))
            equal(row, [list(EVERYTHING.values())])


@case
def orm_unit_of_work():
    def work(connection, number, turn):
        with orm.Session(connection) as session:
            for account in session.scalars(sa.select(Account).where(Account.id // 100 == number)):
                session.delete(account)
            session.flush()
            session.add_all(Account(id=100 * number + n, owner=f"o{n}", balance=n) for n in range(20))
            session.commit()
            first = session.get(Account, 100 * number)
            first.balance += 1000 + turn
            session.commit()
            session.expunge_all()
            session.add(Account(id=100 * number, owner="twice", balance=0))
            with fails("23505"):
                session.flush()
            session.rollback()
            with session.begin_nested():
                session.get(Account, 100 * number + 1).owner = "nested"
            session.commit()
            query = sa.select(sa.func.sum(Account.balance), sa.func.max(Account.owner)).where(Account.id // 100 == number)
            equal(tuple(session.execute(query).one()), (1190 + turn, "o9"))
            session.commit()

    with Crowd(Client) as crowd:
        crowd.clients[0].execute(sa.delete(Account))
        for turn in range(4):
            for number, client in crowd.turns(1):
                client.call(work, number + 1, turn)


@case
def insert_many():
    """INSERT ... RETURNING in batches, and executemany."""
    rows = [{"id": n, "owner": "m", "balance": n} for n in range(1500)]

    def work(connection):
        connection.execute(sa.delete(Account))
        ids = connection.scalars(sa.insert(Account).returning(Account.id, sort_by_parameter_order=True), rows).all()
        equal(ids, [row["id"] for row in rows])
        connection.execute(sa.update(Account).where(Account.id == sa.bindparam("one")).values(balance=0),
                           [{"one": row["id"]} for row in rows[:100]])
        equal(connection.scalar(sa.select(sa.func.count()).where(Account.balance == 0)), 100)
        connection.commit()

    with Crowd(Client, 3) as crowd:
        for _, client in crowd.turns(2):
            client.call(work)


@case
def cursor():
    """Server-side cursors."""
    series = sa.text("select n from generate_series(1, 1000) n")

    def total(connection):
        with connection.execution_options(yield_per=100).execute(series) as result:
            found = sum(row[0] for row in result)
        connection.commit()
        return found

    async def streamed(connection):
        async with connection.stream(series) as result:
            found = sum([row[0] async for row in result])
        await connection.commit()
        return found

    with Crowd(Client) as crowd:
        for _, client in crowd.turns(2):
            if client.loop:
                equal(client.loop.run_until_complete(streamed(client.connection)), 500500)
            else:
                equal(total(client.connection), 500500)


@case
def isolation_levels():
    query = "select current_setting('transaction_isolation')"
    levels = ["SERIALIZABLE", "REPEATABLE READ", "READ COMMITTED", "AUTOCOMMIT", "SERIALIZABLE"]
    with Crowd(Client) as crowd:
        for number, client in enumerate(crowd.clients):
            client.call(lambda connection, level: connection.execution_options(isolation_level=level) and None,
                        levels[number])
        for number, client in crowd.turns(4):
            equal(client.rows(query), [[levels[number].lower().replace("autocommit", "read committed")]])
        equal(crowd.all[-1].rows(query), [["read committed"]])


@case
def inspector():
    def work(connection):
        found = sa.inspect(connection)
        columns = {column["name"]: str(column["type"]) for column in found.get_columns("account")}
        equal(columns, {"id": "INTEGER", "owner": "TEXT", "balance": "BIGINT"})
        equal(found.get_pk_constraint("account")["constrained_columns"], ["id"])
        connection.commit()

    with Crowd(Client, 3) as crowd:
        for _, client in crowd.turns(2):
            client.call(work)


@case
def listen_notify():
    with Crowd(Client, 2) as crowd:
        listener, sender = crowd.clients
        if DRIVER == "psycopg":
            raw = listener.connection.connection.driver_connection
            listener.run("listen news")

            def receive():
                return [notify.payload for notify in raw.notifies(timeout=10, stop_after=1)]
        else:
            got = asyncio.Queue()
            raw = listener.loop.run_until_complete(listener.connection.get_raw_connection()).driver_connection
            listener.loop.run_until_complete(raw.add_listener("news", lambda *news: got.put_nowait(news[3])))

            def receive():
                return [listener.loop.run_until_complete(asyncio.wait_for(got.get(), 10))]

        for number in range(6):
            sender.run(f"notify news, 'number {number}'")
            equal(receive(), [f"number {number}"])
            equal(listener.rows("select 'works'"), [["works"]])
        listener.run("unlisten *")


@case
def pool():
    """An engine's pool: connections are reset when they come back, and replaced when they are invalid."""
    query = sa.select(sa.literal(1) + sa.bindparam("n", type_=sa.Integer))
    if DRIVER == "asyncpg":
        asyncio.run(pool_of_the_asynchronous_engine(query))
        return
    engine = sa.create_engine(URL, pool_pre_ping=True)

    def work(number):
        with engine.begin() as connection:
            equal(connection.scalar(query, {"n": number}), number + 1)
        with contextlib.suppress(ZeroDivisionError), engine.connect() as connection:
            connection.execute(sa.text("set app.custom = 'not committed'"))
            raise ZeroDivisionError
        with engine.connect() as connection:
            equal(connection.scalar(sa.text("select coalesce(current_setting('app.custom', true), '')")), "")

    for _ in range(2):
        with ThreadPoolExecutor(8) as workers:
            list(workers.map(work, range(40)))
        engine.dispose()


async def pool_of_the_asynchronous_engine(query):
    engine = sa_async.create_async_engine(URL, pool_pre_ping=True)

    async def work(number):
        async with engine.begin() as connection:
            equal(await connection.scalar(query, {"n": number}), number + 1)
        with contextlib.suppress(ZeroDivisionError):
            async with engine.connect() as connection:
                await connection.execute(sa.text("set app.custom = 'not committed'"))
                raise ZeroDivisionError
        async with engine.connect() as connection:
            equal(await connection.scalar(sa.text("select coalesce(current_setting('app.custom', true), '')")), "")

    for _ in range(2):
        await asyncio.gather(*(work(number) for number in range(40)))
        await engine.dispose()


register(Client)
main(f"sqlalchemy_{DRIVER}", sa.__version__)
