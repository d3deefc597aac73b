#!/usr/bin/env python3
"""What `prepare_unnamed` gains: statements without a name, parsed each time, with it and without, in turns.

PostgreSQL's CPU is that of all its processes from the first login to the last transaction, so a little more than the
transactions' own; the ratio is what counts."""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure
from report import machine_facts
from run import find_pgpool, raise_file_limit
from servers import PgPool, Postgres, give_to_postgres, needed_program, version
from workloads import Workload

JOIN = """\\set aid random(1, 100000)
select a.abalance, b.bbalance, t.tbalance from pgbench_accounts a join pgbench_branches b on b.bid = a.bid
join pgbench_tellers t on t.bid = b.bid where a.aid = :aid and t.tid < 3;
"""
WORKLOADS = [
    Workload("point", "read of one row by its key (`-S -M extended`)", 32, script=None, arguments=["-M", "extended"]),
    Workload("join", "the same with two joins (`-M extended`)", 32, script=JOIN, arguments=["-M", "extended"]),
]


def postgres_cpu(postgres: Postgres) -> float:
    """Seconds of all backends, those that have ended too."""
    parent = str(postgres.process.pid)
    ended = Path(f"/proc/{parent}/stat").read_text().rsplit(")", 1)[1].split()
    total = int(ended[13]) + int(ended[14])
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if fields[1] == parent:
            total += int(fields[11]) + int(fields[12])
    return total / measure.TICKS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", metavar="FILE.md")
    parser.add_argument("--pgpool", metavar="PATH")
    arguments = parser.parse_args()
    command = find_pgpool(arguments.pgpool)
    raise_file_limit()
    rows = []
    with tempfile.TemporaryDirectory(prefix="pgpool-unnamed-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        give_to_postgres(folder)
        with Postgres(folder / "postgres") as postgres:
            for workload in WORKLOADS:
                figures = {"auto": [], "off": []}
                for number in range(arguments.rounds):
                    for mode in sorted(figures, reverse=number % 2 == 1):
                        kind = type("PgPoolWith", (PgPool,), {"settings": f'prepare_unnamed = "{mode}"\n'})
                        place = folder / f"{workload.name}-{number}-{mode}"
                        with kind(place, command, postgres.port, workload) as pooler:
                            before, begin = postgres_cpu(postgres), time.monotonic()
                            load = measure.load(pooler, workload, arguments.seconds, place / "load")
                            spent = (postgres_cpu(postgres) - before) / (time.monotonic() - begin)
                        figures[mode].append((load.tps, spent / load.tps * 1e6, load.cpu_us))
                        print(workload.name, number + 1, mode, *(f"{figure:.1f}" for figure in figures[mode][-1]),
                              file=sys.stderr, flush=True)
                rows.append((workload, figures))
            facts = machine_facts({
                "pgpool": version(command), "PostgreSQL": postgres.sql("postgres", "show server_version"),
                "pgbench": subprocess.run([needed_program("pgbench", "postgresql-contrib"), "--version"],
                                          capture_output=True, text=True).stdout.strip()})
    text = ["# Plans for statements without a name", "",
            "Medians of the rounds, `prepare_unnamed = \"auto\"` beside `\"off\"`; CPU in µs per transaction.", "",
            "| workload | tps off | tps auto | ratio | PostgreSQL's CPU off | auto | ratio | pgpool's CPU off | auto | ratio |",
            "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"]
    for workload, figures in rows:
        cells = [workload.name]
        for column, digits in ((0, 0), (1, 1), (2, 1)):
            off, auto = (statistics.median(row[column] for row in figures[mode]) for mode in ("off", "auto"))
            cells += [f"{off:.{digits}f}", f"{auto:.{digits}f}", f"**{auto / off:.2f}**"]
        text.append("| " + " | ".join(cells) + " |")
    text += ["", *(f"- `{workload.name}`: {workload.about}; 32 clients" for workload, _ in rows), ""]
    for workload, figures in rows:
        for mode, all_rounds in figures.items():
            raw = "; ".join(", ".join(f"{figure:.1f}" for figure in figures) for figures in all_rounds)
            text.append(f"- {workload.name}, {mode} (tps, PostgreSQL's CPU, pgpool's CPU): {raw}")
    text += ["", "## Machine and command", ""] + [f"- {name}: {value}" for name, value in facts.items()]
    report = "\n".join(text) + "\n"
    print(report)
    if arguments.out:
        Path(arguments.out).write_text(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
