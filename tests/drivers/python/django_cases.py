"""Django's ORM on psycopg, with its default settings: persistent for a request, client-side binding, own cursors."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import django
from cases import EVERYTHING, Crowd, case, equal, fails, main
from django.conf import settings
from django.db import IntegrityError, connections, models, transaction
from django.db.models import F, Sum
from session_cases import register

NAMES = ["default"] + [f"client_{n}" for n in range(14)]
ENTRY = {
    "ENGINE": "django.db.backends.postgresql",
    "HOST": os.environ["PGHOST"],
    "PORT": os.environ["PGPORT"],
    "USER": os.environ["PGUSER"],
    "PASSWORD": os.environ["PGPASSWORD"],
    "NAME": os.environ["PGDATABASE"],
}
settings.configure(DATABASES={name: dict(ENTRY) for name in NAMES}, USE_TZ=True, TIME_ZONE="UTC",
                   INSTALLED_APPS=["django.contrib.postgres"])
django.setup()

from django.contrib.postgres.fields import ArrayField  # noqa: E402 - needs the settings


class Account(models.Model):
    id = models.IntegerField(primary_key=True)
    owner = models.TextField()
    balance = models.BigIntegerField()

    class Meta:
        app_label = "drivers"
        db_table = "account"


class Everything(models.Model):
    id = models.IntegerField(primary_key=True)
    an_int = models.IntegerField()
    a_bigint = models.BigIntegerField()
    a_numeric = models.DecimalField(max_digits=40, decimal_places=9)
    a_float = models.FloatField()
    a_bool = models.BooleanField()
    a_text = models.TextField()
    a_bytea = models.BinaryField()
    a_timestamptz = models.DateTimeField()
    a_date = models.DateField()
    a_uuid = models.UUIDField()
    a_jsonb = models.JSONField()
    ints = ArrayField(models.IntegerField())
    texts = ArrayField(models.TextField())
    nothing = models.TextField(null=True)

    class Meta:
        app_label = "drivers"
        db_table = "everything"


class Client:
    """One of the configured databases, which are all the same: each has a connection of its own."""

    free = list(reversed(NAMES))
    lock = threading.Lock()

    def __init__(self):
        with self.lock:
            self.name = self.free.pop()
        self.connection = connections[self.name]
        self.connection.inc_thread_sharing()
        try:
            self.connection.ensure_connection()
        except BaseException:
            self.close()
            raise

    def rows(self, sql, parameters=None):
        with self.connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return [list(row) for row in cursor.fetchall()]

    def run(self, sql):
        with self.connection.cursor() as cursor:
            cursor.execute(sql)

    alone = run

    def begin(self):
        self.connection.set_autocommit(False)

    def commit(self):
        self.connection.commit()
        self.connection.set_autocommit(True)

    def rollback(self):
        if not self.connection.get_autocommit():
            self.connection.rollback()
            self.connection.set_autocommit(True)

    def close(self):
        self.connection.close()
        self.connection.dec_thread_sharing()
        if not self.connection.get_autocommit():
            self.connection.autocommit = True
        with self.lock:
            self.free.append(self.name)


@case
def connect():
    with Crowd(Client) as crowd:
        for number, client in crowd.turns(2):
            equal(client.rows("select current_user::text, %s", (number,)), [["app", number]])
        equal(crowd.clients[0].connection.pg_version >= 150000, True)


@case
def queries():
    with Crowd(Client) as crowd:
        crowd.clients[0].run("delete from account")
        for number, client in crowd.turns(20):
            accounts = Account.objects.using(client.name)
            account, created = accounts.get_or_create(id=number, defaults={"owner": "é'\\", "balance": 0})
            accounts.filter(id=number).update(balance=F("balance") + 1)
            account.refresh_from_db()
            equal((account.owner, account.balance - created >= 0, accounts.filter(owner="é'\\").exists()),
                  ("é'\\", True, True))
        equal(crowd.clients[0].rows("select sum(balance), count(*) from account"), [[100, 5]])


@case
def types():
    values = {name: value for name, value in EVERYTHING.items() if name != "a_json"}
    with Crowd(Client) as crowd:
        crowd.clients[0].run("delete from everything")
        for number, client in crowd.turns(1):
            Everything(id=number, **values).save(using=client.name, force_insert=True)
        for number, client in crowd.turns(8):
            row = Everything.objects.using(client.name).values(*values).get(id=number)
            row["a_bytea"] = bytes(row["a_bytea"])
            equal(row, values)
            found = Everything.objects.using(client.name).filter(ints__contains=[-1], a_jsonb__deep__x=1.5, id=number)
            equal(found.count(), 1)


@case
def atomic():
    with Crowd(Client) as crowd:
        crowd.clients[0].run("delete from account")
        for number, client in crowd.turns(4):
            accounts = Account.objects.using(client.name)
            with transaction.atomic(using=client.name):
                accounts.get_or_create(id=number, defaults={"owner": "a", "balance": 0})
                try:
                    with transaction.atomic(using=client.name):
                        accounts.create(id=number, owner="b", balance=0)
                except IntegrityError:
                    pass
                else:
                    raise AssertionError("there was no IntegrityError")
                locked = accounts.select_for_update().get(id=number)
                locked.balance += 1
                locked.save()
            with fails("22012"), transaction.atomic(using=client.name):
                accounts.filter(id=number).update(balance=-1)
                client.run("select 1 / 0")
        equal(list(Account.objects.order_by("id").values_list("id", "owner", "balance")),
              [(number, "a", 4) for number in range(5)])


@case
def bulk():
    with Crowd(Client) as crowd:
        crowd.clients[0].run("delete from account")
        for number, client in crowd.turns(2):
            accounts = Account.objects.using(client.name)
            accounts.filter(id__gte=1000 * number, id__lt=1000 * number + 500).delete()
            made = accounts.bulk_create(Account(id=1000 * number + n, owner=f"o{n}", balance=n) for n in range(500))
            for account in made:
                account.balance += 1
            accounts.bulk_update(made, ["balance"], batch_size=100)
            equal(accounts.filter(id__in=[one.id for one in made]).aggregate(total=Sum("balance"))["total"], 125250)


@case
def cursor():
    """iterator() reads through a server-side cursor: WITH HOLD outside of a transaction."""
    with Crowd(Client) as crowd:
        crowd.clients[0].run("delete from account")
        crowd.clients[0].run("insert into account select n, 'i', n from generate_series(1, 1000) n")
        for _, client in crowd.turns(2):
            with transaction.atomic(using=client.name):
                accounts = Account.objects.using(client.name).order_by("id")
                equal(sum(one.balance for one in accounts.iterator(chunk_size=100)), 500500)
        for client in crowd.clients:
            found = Account.objects.using(client.name).order_by("id").iterator(chunk_size=100)
            equal(next(found).id, 1)
            with crowd.held():
                equal(sum(one.balance for one in found), 500499)


@case
def copy():
    with Crowd(Client) as crowd:
        crowd.clients[0].run("delete from account")
        for number, client in crowd.turns(2):
            client.run(f"delete from account where id / 1000 = {number}")
            with client.connection.cursor() as cursor:
                with cursor.copy("copy account from stdin") as load:
                    for n in range(300):
                        load.write_row((1000 * number + n, "ähm", n))
                with cursor.copy(f"copy (select id from account where id / 1000 = {number} order by id) to stdout") as out:
                    equal([int(row[0]) for row in out.rows()], [1000 * number + n for n in range(300)])


@case
def listen_notify():
    with Crowd(Client, 2) as crowd:
        listener, sender = crowd.clients
        listener.run("listen news")
        for number in range(6):
            sender.run(f"notify news, 'number {number}'")
            came = [notify.payload for notify in listener.connection.connection.notifies(timeout=10, stop_after=1)]
            equal(came, [f"number {number}"])
            equal(listener.rows("select 'works'"), [["works"]])
        listener.run("unlisten *")


@case
def requests():
    """Each request of a web server has a thread and opens and closes its connection."""

    def request(number):
        try:
            with transaction.atomic():
                Account.objects.filter(id=number).delete()
                Account.objects.create(id=number, owner="request", balance=number)
            return Account.objects.get(id=number).balance
        finally:
            connections.close_all()

    with ThreadPoolExecutor(6) as workers:
        equal(list(workers.map(request, range(60))), list(range(60)))


register(Client)
main("django", django.__version__)
