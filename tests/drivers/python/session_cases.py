"""The cases that are SQL and therefore the same for all Python drivers.

`register` takes a function that opens a client:

    rows(sql)    the rows of a query, whose columns are all text, as lists
    run(sql)     a statement without rows
    alone(sql)   a statement that PostgreSQL refuses in a transaction
    begin(), commit(), rollback(), close()
"""

import threading

from cases import BACKENDS, Crowd, case, equal, fails


def register(open_client):
    for part in (clients, transactions, settings, statements, belongings):
        part(open_client)


def clients(open_client):
    @case
    def clients_share_backends():
        seen = {}
        with Crowd(open_client) as crowd:
            for number, client in crowd.turns(4):
                seen.setdefault(number, set()).add(client.rows("select pg_backend_pid()::text")[0][0])
        equal([len(backends) for backends in seen.values()], [2 if BACKENDS else 1] * 5)
        equal(len(set.union(*seen.values())), BACKENDS or 5)

    @case
    def many_connections():
        for number in range(40):
            client = open_client()
            equal(client.rows(f"select {number}::text"), [[str(number)]])
            client.close()
        with Crowd(open_client, 12) as crowd:
            for number, client in crowd.turns(2):
                equal(client.rows(f"select {number}::text"), [[str(number)]])


def transactions(open_client):
    @case
    def commit_and_rollback():
        with Crowd(open_client) as crowd:
            crowd.clients[0].run("delete from account")
            for number, client in crowd.turns(4):
                client.begin()
                client.run(f"insert into account values ({number}, 'kept', 1) on conflict (id) do update set "
                           "balance = account.balance + 1")
                client.commit()
                client.begin()
                client.run(f"update account set owner = 'lost' where id = {number}")
                client.rollback()
            rows = crowd.clients[4].rows("select id::text, owner, balance::text from account order by id")
            equal(rows, [[str(number), "kept", "4"] for number in range(5)])

    @case
    def failed_statement():
        with Crowd(open_client) as crowd:
            for number, client in crowd.turns(4):
                client.begin()
                with fails("22012"):
                    client.rows("select (1 / 0)::text")
                with fails("25P02"):
                    client.rows("select 1::text")
                client.rollback()
                with fails("42P01"):
                    client.rows("select x::text from no_such_table")
                client.rollback()
                equal(client.rows(f"select {number}::text"), [[str(number)]])

    @case
    def savepoints():
        with Crowd(open_client) as crowd:
            crowd.clients[0].run("delete from account")
            for number, client in crowd.turns(2):
                client.begin()
                client.run(f"insert into account values ({number}, 'a', 1) on conflict do nothing")
                client.run("savepoint before")
                with fails("23505"):
                    client.run(f"insert into account values ({number}, 'b', 2)")
                client.run("rollback to savepoint before")
                client.run(f"update account set balance = balance + 10 where id = {number}")
                client.commit()
            equal(crowd.clients[0].rows("select sum(balance)::text, min(owner) from account"), [["105", "a"]])

    @case
    def concurrent_transactions():
        problems = []

        def work(number, client):
            try:
                for _ in range(20):
                    client.begin()
                    client.run("update account set balance = balance + 1 where id = 100")
                    client.run(f"update account set balance = balance + 1 where id = {number}")
                    client.commit()
                    equal(client.rows(f"select '{number}'"), [[str(number)]])
            except Exception as error:
                problems.append(error)

        with Crowd(open_client, 6) as crowd:
            crowd.clients[0].run("delete from account")
            crowd.clients[0].run("insert into account select n, 'x', 0 from generate_series(0, 5) n union values "
                                 "(100, 'all', 0)")
            threads = [threading.Thread(target=work, args=pair) for pair in enumerate(crowd.clients)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            if problems:
                raise problems[0]
            equal(crowd.clients[0].rows("select string_agg(balance::text, ' ' order by id) from account"),
                  [["20 20 20 20 20 20 120"]])


SETTINGS = (
    "select current_setting('TimeZone'), current_setting('statement_timeout'), "
    "coalesce(current_setting('app.custom', true), '')"
)
ZONES = ["Europe/Berlin", "Asia/Tokyo", "America/New_York", "Africa/Cairo", "Australia/Sydney"]


def settings(open_client):
    def expected(number):
        return [[ZONES[number], f"{10001 + number}ms", f"value {number}"]]

    def each_sees_its_own(crowd):
        for number, client in crowd.turns(6):
            equal(client.rows(SETTINGS), expected(number))
        # The one that only held a backend has set nothing.
        equal(crowd.all[-1].rows(SETTINGS), [["UTC", "0", ""]])
        for client in crowd.clients:
            client.run("reset timezone")
            client.run("reset statement_timeout")
            client.run("reset app.custom")
        for _, client in crowd.turns(2):
            equal(client.rows(SETTINGS), [["UTC", "0", ""]])

    @case
    def set_settings():
        with Crowd(open_client) as crowd:
            for number, client in crowd.turns(1):
                client.run(f"set timezone to '{ZONES[number]}'")
                client.run(f"set statement_timeout = {10001 + number}")
                client.run(f"set app.custom = 'value {number}'")
            each_sees_its_own(crowd)

    @case
    def set_config():
        with Crowd(open_client) as crowd:
            for number, client in crowd.turns(1):
                client.rows(f"select set_config('TimeZone', '{ZONES[number]}', false)")
                client.rows(f"select set_config('statement_timeout', '{10001 + number}', false)")
                client.rows(f"select set_config('app.custom', 'value {number}', false)")
            each_sees_its_own(crowd)

    @case
    def set_in_transactions():
        custom = "select coalesce(current_setting('app.custom', true), '')"
        with Crowd(open_client) as crowd:
            for number, client in crowd.turns(1):
                client.begin()
                client.run(f"set app.custom = 'kept {number}'")
                client.commit()
            for number, client in crowd.turns(2):
                client.begin()
                client.run("set app.custom = 'rolled back'")
                equal(client.rows(custom), [["rolled back"]])
                client.rollback()
                client.begin()
                client.run("set local app.custom = 'local'")
                equal(client.rows(custom), [["local"]])
                client.commit()
            for number, client in crowd.turns(2):
                equal(client.rows(custom), [[f"kept {number}"]])

    @case
    def search_path():
        with Crowd(open_client) as crowd:
            for number, client in crowd.turns(1):
                client.run(f"create schema if not exists tenant_{number}")
                client.run(f"create table if not exists tenant_{number}.thing as select 'of {number}'::text as name")
                client.run(f"set search_path = tenant_{number}")
            for number, client in crowd.turns(8):
                equal(client.rows("select name from thing"), [[f"of {number}"]])
            with fails("42P01"):
                crowd.all[-1].rows("select name from thing")


def statements(open_client):
    @case
    def sql_prepare():
        with Crowd(open_client) as crowd:
            for number, client in crowd.turns(1):
                client.run(f"prepare plan_a (int) as select ($1 + {100 * number})::text")
            for number, client in crowd.turns(4):
                equal(client.rows("execute plan_a(1)"), [[str(100 * number + 1)]])
            with fails("26000"):
                crowd.all[-1].rows("execute plan_a(1)")
            crowd.clients[0].run("deallocate plan_a")
            with fails("26000"):
                crowd.clients[0].rows("execute plan_a(2)")
            for number, client in list(enumerate(crowd.clients))[1:]:
                equal(client.rows("execute plan_a(3)"), [[str(100 * number + 3)]])
            crowd.clients[0].run("prepare plan_a as select 'again'")
            with crowd.held():
                equal(crowd.clients[0].rows("execute plan_a"), [["again"]])

    @case
    def statement_timeout():
        with Crowd(open_client, 2) as crowd:
            hasty, patient = crowd.clients
            hasty.run("set statement_timeout = 100")
            with crowd.held(), fails("57014"):
                hasty.rows("select pg_sleep(10)::text")
            equal(patient.rows("select 'slept' || pg_sleep(0.3)::text"), [["slept"]])
            with fails("57014"):
                hasty.rows("select pg_sleep(10)::text")
            hasty.run("set statement_timeout = 0")
            with crowd.held():
                equal(hasty.rows("select 'slept' || pg_sleep(0.3)::text"), [["slept"]])


def belongings(open_client):
    """What PostgreSQL keeps for a session: one client at a time has some, so that the others have a backend left."""

    @case
    def temp_table():
        exists = "select (to_regclass('pg_temp.scratch') is not null)::text"
        with Crowd(open_client) as crowd:
            for owner, other in zip(crowd.clients, crowd.clients[1:]):
                owner.run("create temp table scratch (n int)")
                for count in range(1, 5):
                    with crowd.held():
                        owner.begin()
                        owner.run(f"insert into scratch values ({count})")
                        owner.commit()
                        equal(owner.rows("select string_agg(n::text, ' ' order by n) from scratch"),
                              [[" ".join(str(n) for n in range(1, count + 1))]])
                    equal(other.rows(exists), [["false"]])
                owner.run("drop table scratch")
                for client in crowd.clients:
                    equal(client.rows(exists), [["false"]])

    @case
    def advisory_lock():
        with Crowd(open_client) as crowd:
            for owner, other in zip(crowd.clients, crowd.clients[1:]):
                owner.rows("select pg_advisory_lock(4711)::text")
                for _ in range(3):
                    with crowd.held():
                        equal(owner.rows("select 'still here'"), [["still here"]])
                    equal(other.rows("select pg_try_advisory_xact_lock(4711)::text"), [["false"]])
                with crowd.held():
                    equal(owner.rows("select pg_advisory_unlock(4711)::text"), [["true"]])
                equal(other.rows("select pg_try_advisory_lock(4711)::text"), [["true"]])
                equal(other.rows("select pg_advisory_unlock(4711)::text"), [["true"]])

    @case
    def cursor_with_hold():
        with Crowd(open_client) as crowd:
            for owner, other in zip(crowd.clients, crowd.clients[1:]):
                owner.begin()
                owner.run("declare held cursor with hold for select n::text from generate_series(1, 9) n")
                equal(owner.rows("fetch 2 from held"), [["1"], ["2"]])
                owner.commit()
                with crowd.held():
                    equal(owner.rows("fetch 3 from held"), [["3"], ["4"], ["5"]])
                with fails("34000"):
                    other.rows("fetch 1 from held")
                other.rollback()
                owner.run("close held")
                with fails("34000"):
                    owner.rows("fetch 1 from held")
                owner.rollback()

    @case
    def discard_all():
        with Crowd(open_client) as crowd:
            first, second = crowd.clients[:2]
            second.run("set app.custom = 'of the second'")
            first.run("set app.custom = 'of the first'")
            first.run("prepare plan_b as select 'b'")
            first.run("create temp table scratch (n int)")
            first.rows("select pg_advisory_lock(4712)::text")
            first.alone("discard all")
            for _ in range(2):
                with crowd.held():
                    equal(first.rows("select coalesce(current_setting('app.custom', true), '')"), [[""]])
                    equal(first.rows("select (to_regclass('pg_temp.scratch') is null)::text"), [["true"]])
                equal(second.rows("select current_setting('app.custom')"), [["of the second"]])
            with fails("26000"):
                first.rows("execute plan_b")
            first.rollback()
            equal(second.rows("select pg_try_advisory_lock(4712)::text"), [["true"]])
            second.rows("select pg_advisory_unlock(4712)::text")
            second.rows("select set_config('app.custom', '', false)")
