"""psycopg 3: the extended protocol; it prepares a query by itself when it comes the sixth time."""

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
from cases import BACKENDS, EVERYTHING, Crowd, case, equal, fails, main
from psycopg.types.json import Json, Jsonb
from psycopg_pool import ConnectionPool
from session_cases import register


class Client:
    def __init__(self):
        self.connection = psycopg.connect("", autocommit=True)

    def rows(self, sql, parameters=None, **options):
        return [list(row) for row in self.connection.execute(sql, parameters, **options).fetchall()]

    def run(self, sql, parameters=None):
        self.connection.execute(sql, parameters)

    alone = run

    # Without autocommit the driver begins a transaction with the next statement.
    def begin(self):
        self.connection.autocommit = False

    def commit(self):
        self.connection.commit()
        self.connection.autocommit = True

    def rollback(self):
        self.connection.rollback()
        self.connection.autocommit = True

    def close(self):
        self.connection.close()


@case
def connect():
    with Crowd(Client) as crowd:
        for number, client in crowd.turns(2):
            equal(client.rows("select current_user::text, %s::int", (number,)), [["app", number]])
        equal(crowd.clients[0].connection.info.server_version >= 150000, True)


@case
def prepared():
    with Crowd(Client) as crowd:
        for number, client in crowd.turns(20):
            equal(client.rows("select %s::int + 1, %s::text", (number, "é'\\")), [[number + 1, "é'\\"]])
            equal(client.rows("select %b::int8", (2**40 + number,), binary=True), [[2**40 + number]])
        if not BACKENDS:  # the driver has prepared by itself
            equal(crowd.clients[0].rows("select count(*) from pg_prepared_statements"), [[2]])


@case
def prepared_many():
    """More statements than the driver keeps (100), so that it also closes some."""
    with Crowd(Client, 3) as crowd:
        for turn, (number, client) in enumerate(crowd.turns(3)):
            for n in range(130):
                query = f"select {n} + %s::int"
                equal(client.rows(query, (turn,), prepare=True), [[n + turn]])


@case
def prepared_concurrently():
    def work(number, client):
        for n in range(50):
            equal(client.rows("select %s::int * 2, %s::text", (n, str(number))), [[2 * n, str(number)]])
            with client.connection.transaction():
                equal(client.rows("select %s::int * 3", (n,)), [[3 * n]])

    with Crowd(Client, 6) as crowd, ThreadPoolExecutor(6) as workers:
        for done in [workers.submit(work, *pair) for pair in enumerate(crowd.clients)]:
            done.result()


@case
def prepared_and_failing():
    with Crowd(Client) as crowd:
        for number, client in crowd.turns(12):
            with fails("22012"):
                client.rows("select %s::int / 0", (number,))
            with fails("22P02"):
                client.rows("select %s::text::int", ("x",))
            equal(client.rows("select %s::int / 1", (number,)), [[number]])


@case
def prepared_after_drop():
    """The driver forgets its statements when it sees a DROP or a ROLLBACK."""
    with Crowd(Client, 3) as crowd:
        for number, client in crowd.turns(4):
            client.run(f"create table own_{number} (x int)")
            for n in range(8):
                equal(client.rows(f"select count(*) + %s::int from own_{number}", (n,)), [[n]])
            client.run(f"drop table own_{number}")
            for n in range(8):
                equal(client.rows("select %s::int", (n,)), [[n]])


def everything(binary):
    mark = "%b" if binary else "%t"
    columns = ", ".join(EVERYTHING)
    wrap = {"a_json": Json, "a_jsonb": Jsonb}
    sent = [wrap.get(name, lambda value: value)(value) for name, value in EVERYTHING.items()]
    with Crowd(Client) as crowd:
        crowd.clients[0].run("delete from everything")
        for number, client in crowd.turns(2):
            client.run("delete from everything where id = %s", (number,))
            marks = ", ".join([mark] * len(sent))
            client.run(f"insert into everything (id, {columns}) values (%s, {marks})", (number, *sent))
        for number, client in crowd.turns(8):
            query = f"select {columns} from everything where id = %s"
            equal(client.rows(query, (number,), binary=binary), [list(EVERYTHING.values())])


@case
def types_text():
    everything(binary=False)


@case
def types_binary():
    everything(binary=True)


@case
def transaction_blocks():
    with Crowd(Client) as crowd:
        crowd.clients[0].run("delete from account")
        for number, client in crowd.turns(4):
            with client.connection.transaction():
                client.run("insert into account values (%s, 'a', 0) on conflict do nothing", (number,))
                with fails("23505"), client.connection.transaction():
                    client.run("insert into account values (%s, 'b', 0)", (number,))
                client.run("update account set balance = balance + 1 where id = %s", (number,))
            with client.connection.transaction() as block:
                client.run("update account set balance = -1 where id = %s", (number,))
                raise psycopg.Rollback(block)
        equal(crowd.clients[0].rows("select id, owner, balance from account order by id"),
              [[number, "a", 4] for number in range(5)])


@case
def pipeline():
    with Crowd(Client) as crowd:
        for number, client in crowd.turns(4):
            with client.connection.pipeline():
                cursors = [client.connection.execute("select %s::int + %s::int", (n, number)) for n in range(30)]
                equal([cursor.fetchone()[0] for cursor in cursors], [n + number for n in range(30)])


@case
def executemany():
    with Crowd(Client) as crowd:
        crowd.clients[0].run("delete from account")
        for number, client in crowd.turns(2):
            with client.connection.cursor() as cursor:
                cursor.executemany(
                    "insert into account values (%s, %s, %s) on conflict (id) do update set balance = 2 returning balance",
                    [(100 * number + n, "m", 1) for n in range(100)], returning=True)
                balances = {cursor.fetchone()[0]}
                while cursor.nextset():
                    balances.add(cursor.fetchone()[0])
                equal(len(balances), 1)
        equal(crowd.clients[0].rows("select count(*), sum(balance) from account"), [[500, 1000]])


@case
def copy():
    with Crowd(Client) as crowd:
        crowd.clients[0].run("delete from account")
        for number, client in crowd.turns(2):
            first = 1000 * number
            client.run("delete from account where id between %s and %s", (first, first + 499))
            with client.connection.cursor() as cursor:
                with cursor.copy("copy account from stdin (format binary)") as load:
                    load.set_types(["int4", "text", "int8"])
                    for n in range(500):
                        load.write_row((first + n, f"ähm {n}", n))
                with cursor.copy("copy (select * from account where id / 1000 = %s order by id) to stdout",
                                 (number,)) as unload:
                    unload.set_types(["int4", "text", "int8"])
                    equal(list(unload.rows()), [(first + n, f"ähm {n}", n) for n in range(500)])
            with fails("23505"), client.connection.cursor() as cursor, cursor.copy("copy account from stdin") as load:
                load.write_row((first, "twice", 0))
        equal(crowd.clients[0].rows("select count(*) from account"), [[2500]])


@case
def cursor():
    with Crowd(Client) as crowd:
        for number, client in crowd.turns(2):
            with client.connection.transaction(), client.connection.cursor("walk", scrollable=True) as walk:
                walk.itersize = 100
                walk.execute("select n + %s from generate_series(1, 1000) n", (number,))
                equal(sum(row[0] for row in walk), 500500 + 1000 * number)
                walk.scroll(9, mode="absolute")
                equal(walk.fetchone(), (10 + number,))


@case
def cursor_of_the_driver_with_hold():
    with Crowd(Client) as crowd:
        for client in crowd.clients:
            with client.connection.transaction():
                walk = client.connection.cursor("walk", withhold=True)
                walk.execute("select n from generate_series(1, 10) n")
                equal(walk.fetchmany(3), [(1,), (2,), (3,)])
            with crowd.held():
                equal(walk.fetchmany(3), [(4,), (5,), (6,)])
            equal(len(walk.fetchall()), 4)
            walk.close()


@case
def stream():
    with Crowd(Client) as crowd:
        for number, client in crowd.turns(2):
            with client.connection.cursor() as cursor:
                rows = cursor.stream("select n * %s from generate_series(1, 3000) n", (number,))
                equal(sum(row[0] for row in rows), number * 4501500)


def payloads(client, seconds=10.0):
    return [notify.payload for notify in client.connection.notifies(timeout=seconds, stop_after=1)]


@case
def listen_notify():
    with Crowd(Client, 3) as crowd:
        listener, sender, other = crowd.clients
        listener.run("listen news")
        for number in range(8):
            sender.run("select pg_notify('news', %s)", (f"idle {number}",))
            equal(payloads(listener), [f"idle {number}"])
        with listener.connection.transaction():
            equal(listener.rows("select 'busy'"), [["busy"]])
            sender.run("notify news, 'in a transaction'")
        equal(payloads(listener), ["in a transaction"])
        other.run("select 1")
        equal(payloads(other, 0.1) + payloads(sender, 0.1), [])
        listener.run("listen last")
        listener.run("unlisten news")
        sender.run("notify news, 'nobody'")
        sender.run("notify last, 'the end'")
        equal(payloads(listener), ["the end"])
        listener.run("unlisten *")


@case
def listen_while_idle():
    """Delivery to a client that waits, while others keep all backends busy."""
    with Crowd(Client, 5) as crowd:
        listener, sender, *others = crowd.clients
        listener.run("listen idle_news")
        received = []
        waiting = threading.Thread(
            target=lambda: received.extend(n.payload for n in listener.connection.notifies(timeout=10, stop_after=3)))
        waiting.start()
        for number in range(3):
            for other in others:
                equal(other.rows("select %s::int", (number,)), [[number]])
            sender.run("select pg_notify('idle_news', %s)", (str(number),))
        waiting.join()
        equal(received, ["0", "1", "2"])


@case
def cancel():
    with Crowd(Client, 3) as crowd:
        for _, client in crowd.turns(2):
            timer = threading.Timer(0.3, client.connection.cancel_safe)
            timer.start()
            with fails("57014"):
                client.rows("select pg_sleep(10)::text")
            timer.join()
            equal(client.rows("select 'on'"), [["on"]])


@case
def pool():
    for _ in range(3):
        with ConnectionPool("", min_size=2, max_size=6, open=True) as pool, ThreadPoolExecutor(6) as workers:
            def work(number):
                with pool.connection() as connection:
                    return connection.execute("select %s::int", (number,)).fetchone()[0]

            equal(list(workers.map(work, range(60))), list(range(60)))


@case
def close_in_a_transaction():
    """A client that leaves in the middle takes nothing of the others with it."""
    for number in range(10):
        leaver = Client()
        leaver.begin()
        leaver.run("set local app.custom = 'left'")
        leaver.close()
        follower = Client()
        equal(follower.rows("select coalesce(current_setting('app.custom', true), '')"), [[""]])
        follower.close()


@case
def console():
    """The pooler's own database, which PostgreSQL has not."""
    if not BACKENDS:
        return
    with Crowd(Client, 1) as crowd:
        crowd.clients[0].run("select 1")
        connection = psycopg.connect("dbname=pgbouncer", autocommit=True)
        with connection.cursor() as cursor:
            for command in ("SHOW POOLS", "SHOW CLIENTS"):
                cursor.execute(command)
                columns = [described.name for described in cursor.description]
                rows = [dict(zip(columns, row)) for row in cursor.fetchall()]
                equal("app" in {row["user"] for row in rows}, True)
            cursor.execute("SHOW LISTS")
            equal({name: count > 0 for name, count in cursor.fetchall()}["pools"], True)
        connection.close()


register(Client)
main("psycopg", psycopg.__version__)
