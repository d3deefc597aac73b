"""psycopg2: the simple protocol, parameters put into the text by the client."""

import io
import select
import threading
import time

import psycopg2
import psycopg2.extras
import psycopg2.pool
from cases import BACKENDS, EVERYTHING, Crowd, case, equal, fails, main
from session_cases import register

psycopg2.extras.register_uuid()


class Client:
    def __init__(self):
        self.connection = psycopg2.connect("")
        self.connection.autocommit = True

    def rows(self, sql, parameters=None):
        with self.connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return [list(row) for row in cursor.fetchall()]

    def run(self, sql, parameters=None):
        with self.connection.cursor() as cursor:
            cursor.execute(sql, parameters)

    alone = run

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
            equal(client.rows("select current_user::text, %s", (number,)), [["app", number]])
        equal(crowd.clients[0].connection.server_version >= 150000, True)
        equal(crowd.clients[0].connection.encoding, "UTF8")


@case
def queries():
    with Crowd(Client) as crowd:
        for number, client in crowd.turns(20):
            equal(client.rows("select %s + 1, %s", (number, "é'\\")), [[number + 1, "é'\\"]])


@case
def types():
    columns = ", ".join(EVERYTHING)
    sent = {name: psycopg2.extras.Json(value) if "json" in name else value for name, value in EVERYTHING.items()}
    with Crowd(Client) as crowd:
        crowd.clients[0].run("delete from everything")
        for number, client in crowd.turns(1):
            client.run(f"insert into everything (id, {columns}) values %s", ((number, *sent.values()),))
        for number, client in crowd.turns(2):
            [row] = client.rows(f"select {columns} from everything where id = %s", (number,))
            row[6] = bytes(row[6])
            equal(row, list(EVERYTHING.values()))


@case
def copy():
    with Crowd(Client) as crowd:
        crowd.clients[0].run("delete from account")
        for number, client in crowd.turns(2):
            with client.connection.cursor() as cursor:
                first = 1000 * number
                client.run("delete from account where id between %s and %s", (first, first + 499))
                lines = "".join(f"{first + n}\tähm {n}\t{n}\n" for n in range(500))
                cursor.copy_expert("copy account from stdin", io.StringIO(lines))
                out = io.StringIO()
                cursor.copy_expert(f"copy (select * from account where id / 1000 = {number} order by id) to stdout", out)
                equal(out.getvalue(), lines)
            with fails("23505"), client.connection.cursor() as cursor:
                cursor.copy_expert("copy account from stdin", io.StringIO(f"{first}\tx\t1\n"))
        equal(crowd.clients[0].rows("select count(*) from account"), [[2500]])


@case
def cursor():
    with Crowd(Client) as crowd:
        for number, client in crowd.turns(2):
            client.begin()
            with client.connection.cursor(name="walk") as walk:
                walk.itersize = 100
                walk.execute("select n + %s from generate_series(1, 1000) n", (number,))
                equal(sum(row[0] for row in walk), 500500 + 1000 * number)
            client.commit()


@case
def cursor_of_the_driver_with_hold():
    with Crowd(Client) as crowd:
        client = crowd.clients[0]
        client.begin()
        walk = client.connection.cursor(name="walk", withhold=True)
        walk.execute("select n from generate_series(1, 10) n")
        equal(walk.fetchmany(3), [(1,), (2,), (3,)])
        client.connection.commit()
        with crowd.held():
            equal(walk.fetchmany(3), [(4,), (5,), (6,)])
            client.connection.commit()
        equal(len(walk.fetchall()), 4)
        walk.close()
        client.commit()


def notified(client, seconds=10.0):
    """The payloads that have come, once there are some."""
    deadline = time.monotonic() + seconds
    while not client.connection.notifies and time.monotonic() < deadline:
        select.select([client.connection], [], [], 0.2)
        client.connection.poll()
    payloads = [notify.payload for notify in client.connection.notifies]
    client.connection.notifies.clear()
    return payloads


@case
def listen_notify():
    with Crowd(Client, 3) as crowd:
        listener, sender, other = crowd.clients
        listener.run("listen news")
        for number in range(4):
            sender.run(f"notify news, 'idle {number}'")
            equal(notified(listener), [f"idle {number}"])
        listener.begin()
        equal(listener.rows("select 'busy'"), [["busy"]])
        sender.run("notify news, 'in a transaction'")
        listener.commit()
        equal(notified(listener), ["in a transaction"])
        other.rows("select 1")
        equal(other.connection.notifies + sender.connection.notifies, [])
        listener.run("listen last")
        listener.run("unlisten news")
        sender.run("notify news, 'nobody'")
        sender.run("notify last, 'the end'")
        equal(notified(listener), ["the end"])
        listener.run("unlisten *")


@case
def cancel():
    with Crowd(Client, 3) as crowd:
        for _, client in crowd.turns(2):
            timer = threading.Timer(0.3, client.connection.cancel)
            timer.start()
            with fails("57014"):
                client.rows("select pg_sleep(10)")
            timer.join()
            equal(client.rows("select 'on'"), [["on"]])


@case
def pool():
    for _ in range(3):
        pool = psycopg2.pool.ThreadedConnectionPool(2, 5, "")
        taken = [pool.getconn() for _ in range(5)]
        for number, connection in enumerate(taken):
            with connection, connection.cursor() as cursor:
                cursor.execute("select %s", (number,))
                equal(cursor.fetchone(), (number,))
        for connection in taken:
            connection.reset()  # ABORT; RESET ALL; SET SESSION AUTHORIZATION DEFAULT
            pool.putconn(connection)
        pool.closeall()


@case
def console():
    """The pooler's own database, which PostgreSQL has not."""
    if not BACKENDS:
        return
    with Crowd(Client, 1) as crowd:
        crowd.clients[0].run("select 1")
        connection = psycopg2.connect("dbname=pgbouncer")
        connection.autocommit = True
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
main("psycopg2", psycopg2.__version__.split()[0])
