#!/usr/bin/env python3
"""Compares pgpool with PgBouncer as whole processes: the same PostgreSQL, equal settings, the same load in turns.

It starts and ends everything itself and needs `pgbouncer`, `pgbench` and PostgreSQL's server programs. A missed target is
marked in the report and is no failure; a workload that could not be measured is one."""

import argparse
import os
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import measure
from report import BASE, OURS, Result, machine_facts, markdown
from servers import (PgBouncer, PgPool, Postgres, follows_statements, give_to_postgres, make_certificate,
                     needed_program, version)
from workloads import Workload, chosen

ROOT = Path(__file__).resolve().parents[2]
# What scripts/newer_pgbouncer makes.
NEWER_PGBOUNCER = ROOT / "target" / "pgbouncer-newer" / "pgbouncer"


def main() -> int:
    arguments = parse_arguments()
    workloads = chosen(arguments.workloads)
    commands = {BASE: find_pgbouncer(arguments.pgbouncer)}
    commands[OURS] = commands[BASE] if arguments.pgpool_as_pgbouncer else find_pgpool(arguments.pgpool)
    for command in commands.values():
        print(f"{version(command)}: {shlex.join(command)}", file=sys.stderr, flush=True)
    raise_file_limit()
    # Ends as an exception, so that everything is ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="pgpool-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        give_to_postgres(folder)
        if any(workload.tls for workload in workloads):
            make_certificate(folder)
        with Postgres(folder / "postgres") as postgres:
            bench = Bench(arguments, commands, postgres, folder)
            results = [bench.run(workload) for workload in workloads]
            versions = bench.versions()
    text = markdown(results, machine_facts(versions))
    print(text)
    if arguments.out:
        Path(arguments.out).write_text(text)
    return 1 if any(result.error for result in results) else 0


class Bench:
    def __init__(self, arguments, commands: dict[str, list[str]], postgres: Postgres, folder: Path):
        self.arguments = arguments
        self.commands = commands
        self.postgres = postgres
        self.folder = folder
        self.count = 0
        self.kinds = {BASE: PgBouncer, OURS: PgBouncer if arguments.pgpool_as_pgbouncer else PgPool}

    def run(self, workload: Workload) -> Result:
        if workload.named and not follows_statements(self.commands[BASE]):
            reason = f"{version(self.commands[BASE])} cannot do it in transaction mode (see scripts/newer_pgbouncer)"
            print(f"{workload.name} in session mode: {reason}", file=sys.stderr, flush=True)
            workload = workload.in_session_mode(reason)
        result = Result(workload)
        try:
            if workload.idle:
                self.run_idle(result)
            else:
                self.run_load(result)
        except (RuntimeError, OSError, ValueError, subprocess.SubprocessError) as error:
            result.error = "".join(traceback.format_exception_only(error))
            print(f"{workload.name} failed: {result.error}", file=sys.stderr, flush=True)
        return result

    def run_load(self, result: Result) -> None:
        workload = result.workload
        with self.pooler(BASE, result) as base, self.pooler(OURS, result) as ours:
            for number in range(self.arguments.rounds):
                order = [(BASE, base), (OURS, ours)]
                if number % 2:
                    order.reverse()
                result.first.append(order[0][0])
                for name, pooler in order:
                    figures = measure.load(pooler, workload, self.arguments.seconds, self.new_folder())
                    result.figures[name].append(figures)
                    print(f"{workload.name} round {number + 1} {name}: {figures.tps:.0f} tps, p99 {figures.p99_ms:.3f} ms, "
                          f"CPU {figures.cpu_us:.2f} µs", file=sys.stderr, flush=True)

    def run_idle(self, result: Result) -> None:
        """Once: a process's memory hardly varies, and 5000 logins take a while."""
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if limit < result.workload.clients + 200:
            raise RuntimeError(f"only {limit} files may be open (ulimit -n)")
        for name in (BASE, OURS):
            with self.pooler(name, result) as pooler:
                figures = measure.idle_memory(pooler, result.workload)
                result.figures[name].append(figures)
                print(f"{result.workload.name} {name}: {figures.rss_each:.0f} B per client", file=sys.stderr, flush=True)

    def pooler(self, name: str, result: Result):
        return self.kinds[name](self.new_folder(), self.commands[name], self.postgres.port, result.workload)

    def versions(self) -> dict[str, str]:
        return {
            "PgBouncer": version(self.commands[BASE]),
            "pgpool": version(self.commands[OURS]),
            "PostgreSQL": self.postgres.sql("postgres", "show server_version"),
            "pgbench": subprocess.run([needed_program("pgbench", "postgresql-contrib"), "--version"],
                                      capture_output=True, text=True).stdout.strip(),
        }

    def new_folder(self) -> Path:
        self.count += 1
        return self.folder / str(self.count)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workloads", metavar="A,B", help="these only (see workloads.py)")
    parser.add_argument("--seconds", type=int, default=5, help="measured part of each run (default 5)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each pooler and workload (default 3)")
    parser.add_argument("--out", metavar="FILE.md", help="write the report there, too")
    parser.add_argument("--pgpool", metavar="PATH", help="instead of building it")
    parser.add_argument("--pgbouncer", metavar="COMMAND",
                        help="default: $PGBOUNCER, then what scripts/newer_pgbouncer made, then PATH")
    # PgBouncer beside itself: how far from 1.00 ratios come out by chance.
    parser.add_argument("--pgpool-as-pgbouncer", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.seconds < 1 or arguments.rounds < 1:
        parser.error("--seconds and --rounds are at least 1")
    return arguments


def find_pgbouncer(named: str | None) -> list[str]:
    named = named or os.environ.get("PGBOUNCER")
    if named:
        return shlex.split(named)
    return [str(NEWER_PGBOUNCER) if NEWER_PGBOUNCER.is_file() else needed_program("pgbouncer", "pgbouncer")]


def find_pgpool(named: str | None) -> list[str]:
    if named:
        return [str(Path(named).resolve())]
    subprocess.run(["cargo", "build", "--release", "--locked", "--bin", "pgpool"], cwd=ROOT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return [str((ROOT / target / "release" / "pgpool").resolve())]


def raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    sys.exit(main())
