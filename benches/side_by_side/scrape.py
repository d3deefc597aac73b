#!/usr/bin/env python3
"""What being watched costs: pgbench through one pgpool, with `/metrics` scraped many times a second and without, in turns.

Both halves of a round are the same process, so that nothing differs but the scraping. Besides the pool that is measured
there are others, whose series make an answer longer. CPU is the whole process's, scrapes included. It wants a machine
that does nothing else: where others want the processors too, the rate tells who got them, and only CPU can be believed."""

import argparse
import http.client
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import measure
from report import machine_facts
from run import find_pgpool, raise_file_limit
from servers import DATABASE, PASSWORD, USER, PgPool, Postgres, free_port, give_to_postgres, needed_program, version
from workloads import Workload

WORKLOADS = [
    Workload("point", "read of one row by its key (`-S`)", 16, script=None, arguments=[]),
    Workload("prepared", "the same, prepared (`-S -M prepared`)", 16, script=None, arguments=["-M", "prepared"]),
]
# The ratio that is wanted.
WANTED = 0.99


class Scraper:
    """Asks for `/metrics` every so often, while it is a context."""

    def __init__(self, port: int, every: float):
        self.port, self.every = port, every
        self.over = threading.Event()
        self.times: list[float] = []
        self.size = 0
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def run(self) -> None:
        due = time.monotonic()
        while not self.over.wait(max(0, due - time.monotonic())):
            due += self.every
            begin = time.monotonic()
            self.size = len(scrape(self.port))
            self.times.append(time.monotonic() - begin)


def scrape(port: int, path: str = "/metrics") -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{path}: {answer.status} {body[:500]!r}")
    return body


def open_all(port: int) -> None:
    """A busy machine may need longer than one answer waits."""
    deadline = time.monotonic() + 60
    while True:
        try:
            scrape(port, "/readyz")
            return
        except RuntimeError:
            if time.monotonic() > deadline:
                raise


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=5, help="measured part of each half of a round")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--every", type=float, default=0.1, help="seconds between two scrapes")
    parser.add_argument("--pools", type=int, default=20, help="other pools")
    parser.add_argument("--out", metavar="FILE.md")
    parser.add_argument("--pgpool", metavar="PATH")
    arguments = parser.parse_args()
    command = find_pgpool(arguments.pgpool)
    raise_file_limit()
    with tempfile.TemporaryDirectory(prefix="pgpool-scrape-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        give_to_postgres(folder)
        with Postgres(folder / "postgres") as postgres:
            found = [(workload, *run(workload, arguments, command, postgres, folder)) for workload in WORKLOADS]
            facts = machine_facts({
                "pgpool": version(command), "PostgreSQL": postgres.sql("postgres", "show server_version"),
                "pgbench": subprocess.run([needed_program("pgbench", "postgresql-contrib"), "--version"],
                                          capture_output=True, text=True).stdout.strip()})
    text = report(found, arguments, facts)
    print(text)
    if arguments.out:
        Path(arguments.out).write_text(text)
    return 0


def run(workload: Workload, arguments, command: list[str], postgres: Postgres, folder: Path):
    """Transactions per second and the pooler's CPU per transaction of each half, without and with, and what scrapes
    took."""
    http_port = free_port()
    others = "".join(
        f'[databases.other{number}]\nhost = "127.0.0.1"\nport = {postgres.port}\ndbname = "{DATABASE}"\n'
        f'user = "{USER}"\npassword = "{PASSWORD}"\n' for number in range(arguments.pools))
    kind = type("Watched", (PgPool,), {"settings": f'http_addr = "127.0.0.1:{http_port}"\n{others}'})
    figures = {False: [], True: []}
    times, size = [], 0
    with kind(folder / workload.name, command, postgres.port, workload) as pooler:
        # Opens a connection of each of the others.
        open_all(http_port)
        for number in range(arguments.rounds):
            for watched in (False, True) if number % 2 == 0 else (True, False):
                place = folder / f"{workload.name}-{number}-{watched}"
                if watched:
                    with Scraper(http_port, arguments.every) as scraper:
                        load = measure.load(pooler, workload, arguments.seconds, place)
                    times += scraper.times
                    size = scraper.size
                else:
                    load = measure.load(pooler, workload, arguments.seconds, place)
                figures[watched].append((load.tps, load.cpu_us))
                print(workload.name, number + 1, "scraped" if watched else "alone", f"{load.tps:.0f} tps",
                      f"{load.cpu_us:.2f} µs", file=sys.stderr, flush=True)
    return figures, times, size


def report(found, arguments, facts: dict[str, str]) -> str:
    lines = ["# Scraped and left alone", "",
             f"The same process, `/metrics` every {arguments.every * 1000:.0f} ms and not at all, in turns; "
             f"{arguments.pools} other pools. The ratio is the median of the rounds' own ratios; wanted are {WANTED}.", "",
             "| workload | tps alone | tps scraped | ratio | CPU alone, µs | CPU scraped, µs | ratio | scrapes | bytes | median, ms |",
             "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"]
    raw = []
    for workload, figures, times, size in found:
        pairs = list(zip(figures[False], figures[True]))
        ratio = statistics.median(scraped[0] / alone[0] for alone, scraped in pairs)
        cpu = statistics.median(scraped[1] / alone[1] for alone, scraped in pairs)
        median = {(watched, at): statistics.median(row[at] for row in figures[watched]) for watched in figures for at in (0, 1)}
        mark = "" if ratio >= WANTED else " (missed)"
        lines.append(f"| {workload.name} | {median[False, 0]:.0f} | {median[True, 0]:.0f} | **{ratio:.3f}**{mark} | "
                     f"{median[False, 1]:.2f} | {median[True, 1]:.2f} | **{cpu:.3f}** | {len(times)} | {size} | "
                     f"{statistics.median(times) * 1000:.2f} |")
        for watched, name in ((False, "alone"), (True, "scraped")):
            numbers = "; ".join(f"{tps:.0f}, {cpu:.2f}" for tps, cpu in figures[watched])
            raw.append(f"- {workload.name}, {name} (tps, CPU in µs per transaction): {numbers}")
    lines += ["", *(f"- `{workload.name}`: {workload.about}; {workload.clients} clients" for workload, *_ in found), "", *raw,
              "", "## Machine and command", ""] + [f"- {name}: {value}" for name, value in facts.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
