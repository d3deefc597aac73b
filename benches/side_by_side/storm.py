#!/usr/bin/env python3
"""A storm of logins beside running queries: what it costs those, and how many logins come through.

Eight clients that have logged in ask `select 1` at a fixed rate; then the same while others log in with TLS and SCRAM, a
new connection for each query, as fast as they can. The storm itself needs most of a machine with few cores, so the 99th
percentile is also taken while it is directed at the other pooler: what is left beyond that is the pooler's own doing."""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import measure
from report import BASE, OURS, machine_facts
from run import Bench, find_pgbouncer, find_pgpool, raise_file_limit
from servers import DATABASE, PASSWORD, USER, Postgres, give_to_postgres, make_certificate, needed_program
from workloads import SELECT_1, Workload

QUERIES = Workload("beside", "`select 1` at 1000 per second, 8 clients", 8, arguments=["-R", "1000"], sampling=1.0, tls=True)
# Logins of one run of pgbench; it is repeated while the queries run.
STORMERS, LOGINS_EACH = 40, 50


class Storm:
    """Logins as fast as they come through, until it is told to end."""

    def __init__(self, pooler, folder: Path):
        self.pooler, self.script = pooler, folder / "storm.sql"
        self.script.write_text(SELECT_1)
        self.logins, self.seconds = 0, 0.0
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        command = [needed_program("pgbench", "postgresql-contrib"), "-n", "-C", "-h", "127.0.0.1", "-p",
                   str(self.pooler.port), "-U", USER, "-c", str(STORMERS), "-t", str(LOGINS_EACH), "-f", str(self.script)]
        while not self.ending.is_set():
            begin = time.monotonic()
            done = subprocess.run(["setpriv", "--pdeathsig", "KILL", *command, DATABASE], capture_output=True, timeout=300,
                                  env=os.environ | {"PGPASSWORD": PASSWORD, "PGSSLMODE": "require"})
            if done.returncode:
                raise RuntimeError(done.stderr.decode(errors="replace")[-1000:])
            self.logins += STORMERS * LOGINS_EACH
            self.seconds += time.monotonic() - begin

    @contextmanager
    def raging(self):
        self.thread.start()
        try:
            yield self
        finally:
            self.ending.set()
            self.thread.join()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--out", metavar="FILE.md")
    parser.add_argument("--pgpool", metavar="PATH")
    parser.add_argument("--pgbouncer", metavar="COMMAND")
    parser.set_defaults(pgpool_as_pgbouncer=False)
    arguments = parser.parse_args()
    commands = {BASE: find_pgbouncer(arguments.pgbouncer), OURS: find_pgpool(arguments.pgpool)}
    raise_file_limit()
    rows, text = [], []
    with tempfile.TemporaryDirectory(prefix="pgpool-storm-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        give_to_postgres(folder)
        make_certificate(folder)
        with Postgres(folder / "postgres") as postgres:
            bench = Bench(arguments, commands, postgres, folder)
            result = type("Result", (), {"workload": QUERIES})
            with bench.pooler(BASE, result) as base, bench.pooler(OURS, result) as ours:
                for name, pooler, other in ((BASE, base, ours), (OURS, ours, base)):
                    quiet = measure.load(pooler, QUERIES, arguments.seconds, bench.new_folder())
                    with Storm(other, folder).raging():
                        beside = measure.load(pooler, QUERIES, arguments.seconds, bench.new_folder())
                    with Storm(pooler, folder).raging() as storm:
                        within = measure.load(pooler, QUERIES, arguments.seconds, bench.new_folder())
                    rows.append((name, quiet.p99_ms, beside.p99_ms, within.p99_ms, storm.logins,
                                 storm.logins / storm.seconds))
            facts = machine_facts(bench.versions())
    text.append("| pooler | p99 ms, quiet | p99 ms, storm at the other pooler | p99 ms, storm at this one | ratio to quiet "
                "| ratio to the storm elsewhere | logins | logins/s |")
    text.append("|---|--:|--:|--:|--:|--:|--:|--:|")
    for name, quiet, beside, within, logins, rate in rows:
        text.append(f"| {name} | {quiet:.3f} | {beside:.3f} | {within:.3f} | {within / quiet:.2f} | {within / beside:.2f} "
                    f"| {logins} | {rate:.0f} |")
    text += ["", "## Machine and command", ""] + [f"- {name}: {value}" for name, value in facts.items()]
    report = "\n".join(text) + "\n"
    print(report)
    if arguments.out:
        Path(arguments.out).write_text("# A storm of logins with TLS and SCRAM\n\n" + report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
