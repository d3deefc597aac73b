#!/usr/bin/env python3
"""Too many pools for PostgreSQL's connection slots: what clients see of it behind PgBouncer and behind pgpool.

One pgbouncer.ini for both, with twelve databases and a pool of twenty for each; PostgreSQL has `max_connections = 20`.
400 clients, each a pgbench of its own, run short transactions for a while; counted are those that met an error, and its
texts. Meanwhile a superuser logs in to PostgreSQL ten times a second. With --stranger somebody else takes ten slots in the
middle; with --poolers 3 the clients are spread over three processes of each pooler; with --restart PostgreSQL comes back
with fewer slots (the queries that are running then fail at either pooler, and are counted apart)."""

import argparse
import collections
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from report import BASE, OURS, machine_facts
from run import find_pgbouncer, find_pgpool, raise_file_limit
from servers import DATABASE, PASSWORD, USER, Postgres, Server, free_port, give_to_postgres, needed_program, unprivileged, version

SLOTS, POOLS, POOL_SIZE, CLIENTS = 20, 12, 20, 400


class FewSlots(Postgres):
    def start(self) -> None:
        super().start()
        self.start_again(SLOTS)

    def start_again(self, slots: int) -> None:
        self.sql("postgres", f"alter system set max_connections = {slots}")
        self.stop()
        data = self.folder / "data"
        self.spawn(unprivileged("QUIT") + [needed_program("postgres", "postgresql"), "-D", str(data)])
        pid_file = data / "postmaster.pid"
        self.wait_for("readiness", lambda: pid_file.exists() and "ready" in pid_file.read_text())


class Pooler(Server):
    """Either of them, with the same file."""

    def __init__(self, name: str, folder: Path, command: list[str], backend_port: int):
        super().__init__(folder)
        self.name, self.command, self.backend_port = name, command, backend_port

    def start(self) -> None:
        self.port = free_port()
        (self.folder / "userlist.txt").write_text(f'"{USER}" "{PASSWORD}"\n')
        entries = "".join(
            f"d{number} = host=127.0.0.1 port={self.backend_port} dbname={DATABASE}\n" for number in range(POOLS))
        config = self.folder / "pgbouncer.ini"
        config.write_text(
            f"[databases]\n{entries}[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\n"
            f"unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {self.folder}/userlist.txt\n"
            f"pool_mode = transaction\ndefault_pool_size = {POOL_SIZE}\nmax_client_conn = 1000\n"
            "log_connections = 0\nlog_disconnections = 0\nlog_stats = 0\n")
        # The program may lie in a directory of root's.
        reads = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"] if os.geteuid() == 0 else []
        setpriv, *identity = unprivileged("KILL")
        self.spawn([setpriv, *reads, *identity, *self.command, str(config)])
        self.wait_for("its start", lambda: re.search("process up|pgpool is ready", self.log()))


class Administrator:
    """A superuser who logs in to PostgreSQL again and again."""

    def __init__(self, postgres: Postgres):
        self.postgres, self.ending = postgres, threading.Event()
        self.tried, self.refused = 0, 0
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        while not self.ending.wait(0.1):
            self.tried += 1
            try:
                self.postgres.sql("postgres", "select 1")
            except RuntimeError:
                self.refused += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.thread.join()


def client(port: int, number: int, seconds: int, script: Path) -> subprocess.Popen:
    command = [needed_program("pgbench", "postgresql-contrib"), "-n", "-h", "127.0.0.1", "-p", str(port), "-U", USER,
               "-c", "1", "-T", str(seconds), "-f", str(script), f"d{number % POOLS}"]
    return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, env=os.environ | {"PGPASSWORD": PASSWORD})


def strangers(postgres: Postgres, seconds: int) -> list[subprocess.Popen]:
    command = [needed_program("psql", "postgresql-client"), "-XAtq", "-h", "127.0.0.1", "-p", str(postgres.port), "-U", USER,
               "-d", DATABASE, "-c", f"select pg_sleep({seconds})"]
    environment = os.environ | {"PGPASSWORD": PASSWORD}
    found: list[subprocess.Popen] = []
    deadline = time.monotonic() + 5
    while len(found) < 10 and time.monotonic() < deadline:
        # Whoever is refused tries again.
        found = [one for one in found if one.poll() is None]
        found.append(subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL, env=environment))
        time.sleep(0.05)
    return found


def trial(name: str, command: list[str], arguments, folder: Path):
    script = folder / "script.sql"
    script.write_text("select pg_sleep(0.005)\n")
    with FewSlots(folder / f"{name}-postgres") as postgres:
        poolers = [Pooler(name, folder / f"{name}-{number}", command, postgres.port) for number in range(arguments.poolers)]
        for pooler in poolers:
            pooler.__enter__()
        try:
            with Administrator(postgres) as administrator:
                clients = [client(poolers[number % len(poolers)].port, number, arguments.seconds, script)
                           for number in range(CLIENTS)]
                others = []
                time.sleep(arguments.seconds / 3)
                if arguments.stranger:
                    others = strangers(postgres, arguments.seconds // 3)
                if arguments.restart:
                    administrator.ending.set()
                    postgres.start_again(15)
                texts, failed, done = collections.Counter(), 0, 0
                for one in clients:
                    out, error = one.communicate(timeout=arguments.seconds + 180)
                    found = re.search(r"actually processed: (\d+)", out)
                    done += int(found[1]) if found else 0
                    if one.returncode:
                        failed += 1
                        said = re.search(r"(FATAL|ERROR|server closed|terminat).*", error)
                        texts[said[0].strip() if said else error.strip()[-100:]] += 1
                for one in others:
                    one.wait()
        finally:
            for pooler in poolers:
                pooler.stop()
    return name, failed, done, administrator, texts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=9)
    parser.add_argument("--poolers", type=int, default=1)
    parser.add_argument("--stranger", action="store_true")
    parser.add_argument("--restart", action="store_true")
    parser.add_argument("--out", metavar="FILE.md")
    parser.add_argument("--pgpool", metavar="PATH")
    parser.add_argument("--pgbouncer", metavar="COMMAND")
    parser.set_defaults(pgpool_as_pgbouncer=False)
    arguments = parser.parse_args()
    commands = {BASE: find_pgbouncer(arguments.pgbouncer), OURS: find_pgpool(arguments.pgpool)}
    raise_file_limit()
    with tempfile.TemporaryDirectory(prefix="pgpool-slots-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        give_to_postgres(folder)
        trials = [trial(pooler, command, arguments, folder) for pooler, command in commands.items()]
    text = ["| pooler | clients | clients that met an error | transactions | logins of a superuser, refused |",
            "|---|--:|--:|--:|--:|"]
    for name, failed, done, administrator, _ in trials:
        text.append(f"| {name} | {CLIENTS} | {failed} | {done} | {administrator.tried}, {administrator.refused} |")
    for name, _, _, _, texts in trials:
        text += [f"\n{name}'s clients were told:\n"] if texts else []
        text += [f"- {count} x `{said}`" for said, count in texts.most_common(8)]
    facts = machine_facts({name: version(command) for name, command in commands.items()})
    text += ["", "## Machine and command", ""] + [f"- {name}: {value}" for name, value in facts.items()]
    report = "\n".join(text) + "\n"
    print(report)
    if arguments.out:
        Path(arguments.out).write_text("# Too many pools for twenty slots\n\n" + report)
    return int(not arguments.restart and any(failed for name, failed, *_ in trials if name == OURS))


if __name__ == "__main__":
    sys.exit(main())
