"""What the Python programs share: registering and running cases, and several clients at work in turns."""

import contextlib
import os
import sys
import traceback
import uuid
from datetime import date, datetime, timezone
from decimal import Decimal

BACKENDS = int(os.environ.get("PGPOOL_BACKENDS", "0"))
CASES = {}

# A row for the table `everything`, in the order of its columns behind the id.
EVERYTHING = {
    "an_int": -2147483648,
    "a_bigint": 9007199254740993,
    "a_numeric": Decimal("12345678901234567890.000000001"),
    "a_float": 0.1,
    "a_bool": True,
    "a_text": "Grüße, 世界 🐘 '\"\\",
    "a_bytea": b"\x00\x01'\\\xfe\xff",
    "a_timestamptz": datetime(2024, 2, 29, 12, 34, 56, 789012, tzinfo=timezone.utc),
    "a_date": date(2024, 2, 29),
    "a_uuid": uuid.UUID("0b8f3c52-7d1e-4c55-9b1a-2f6f0c9d7e11"),
    "a_json": {"list": [1, None, "é"]},
    "a_jsonb": {"deep": {"x": 1.5}},
    "ints": [3, -1, 2],
    "texts": ["a b", 'ü,"', ""],
    "nothing": None,
}


def case(function):
    CASES[function.__name__] = function
    return function


def main(driver, version):
    chosen = sys.argv[1:] or list(CASES)
    print("plan", *chosen, flush=True)
    for name in chosen:
        try:
            CASES[name]()
        except Exception as error:  # whatever a driver raises
            print(f"not ok {name}: {explain(error)}", flush=True)
        else:
            print(f"ok {name}", flush=True)
    print(f"version {driver} {version}", flush=True)


def explain(error):
    where = traceback.extract_tb(error.__traceback__)
    ours = [entry for entry in where if os.path.dirname(__file__) == os.path.dirname(entry.filename)]
    place = f"{os.path.basename(ours[-1].filename)}:{ours[-1].lineno}" if ours else "?"
    return f"{place}: {type(error).__name__}: " + " ".join(str(error).split())[:400]


def equal(got, expected):
    if got != expected:
        raise AssertionError(f"got {got!r}, expected {expected!r}")


@contextlib.contextmanager
def fails(sqlstate):
    """The block has to fail with this SQLSTATE, which drivers keep in different places."""
    try:
        yield
    except Exception as error:
        if state_of(error) != sqlstate:
            raise
    else:
        raise AssertionError(f"there was no error {sqlstate}")


def state_of(error):
    while error is not None:
        state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        if state:
            return state
        error = getattr(error, "orig", None) or error.__cause__
    return None


class Crowd:
    """Clients that work in turns, one more of them than work: the last only holds a backend.

    A pool lends the backend that came back last, so clients that work one after the other would all use the same one.
    In every second turn of each client the last one is in a transaction, and so the client gets another backend than
    in its turn before.
    """

    def __init__(self, open_client, size=5):
        self.all = []
        try:
            for _ in range(size + 1):
                self.all.append(open_client())
        except BaseException:
            self.close()
            raise
        self.clients = self.all[:size]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for client in self.all:
            with contextlib.suppress(Exception):
                client.close()

    @contextlib.contextmanager
    def held(self):
        """Within the block a backend is taken."""
        holder = self.all[-1]
        holder.begin()
        holder.rows("select 1::text")
        yield
        holder.commit()

    def turns(self, rounds):
        for turn in range(rounds):
            for number, client in enumerate(self.clients):
                if (turn + number) % 2:
                    with self.held():
                        yield number, client
                else:
                    yield number, client
