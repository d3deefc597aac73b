"""One measurement of one pooler: pgbench's figures and the pooler's own CPU, or the memory of idle clients.

The first second of each run is left out: in it pgbench's clients have just logged in, which costs a pooler far more than
their transactions. CPU and rate are taken over the same rest of the run. pgbench's own limit of time counts logins, so it
is ended from here after as many seconds of transactions as were asked for."""

import os
import re
import select
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from servers import DATABASE, PASSWORD, USER, Pooler, needed_program
from workloads import Workload

# What starting, logging in and ending may take, in seconds.
PATIENCE = 90
TICKS = os.sysconf("SC_CLK_TCK")
PROGRESS = re.compile(r"progress: [\d.]+ s, ([\d.]+) tps(?:.*?, (\d+) failed)?")


@dataclass(frozen=True)
class Load:
    """What pgbench saw and what the pooler paid."""

    tps: float
    mean_ms: float
    p99_ms: float
    cpu_us: float


@dataclass(frozen=True)
class Memory:
    """Of the pooler without clients and with them, in bytes."""

    clients: int
    rss_before: int
    rss_after: int
    pss_before: int
    pss_after: int

    @property
    def rss_each(self) -> float:
        return (self.rss_after - self.rss_before) / self.clients

    @property
    def pss_each(self) -> float:
        return (self.pss_after - self.pss_before) / self.clients


def load(pooler: Pooler, workload: Workload, seconds: int, folder: Path) -> Load:
    folder.mkdir()
    command = [needed_program("pgbench", "postgresql-contrib"), "-n", "-h", "127.0.0.1", "-p", str(pooler.port),
               "-U", USER, "-c", str(workload.clients), "-j", str(workload.threads), "-T", str(seconds + PATIENCE), "-P", "1",
               "-l", f"--log-prefix={folder / 'log'}", f"--sampling-rate={workload.sampling}", *workload.arguments]
    if workload.script is None:
        command.append("-S")
    else:
        script = folder / "script.sql"
        script.write_text(workload.script)
        command += ["-f", str(script)]
    samples = run_pgbench(command + [DATABASE], pooler, seconds + 1)
    (start, cpu_start, _), *rest = samples
    end, cpu_end, _ = rest[-1]
    tps = statistics.fmean(rate for _, _, rate in rest)
    latencies = logged_latencies(folder)
    return Load(
        tps=tps,
        mean_ms=statistics.fmean(latencies) / 1000,
        p99_ms=latencies[min(len(latencies) - 1, int(len(latencies) * 0.99))] / 1000,
        cpu_us=(cpu_end - cpu_start) / (end - start) / tps * 1e6,
    )


def run_pgbench(command: list[str], pooler: Pooler, count: int) -> list[tuple[float, float, float]]:
    """Runs pgbench for `count` of its progress lines, one a second; gives for each (when, the pooler's CPU seconds,
    transactions per second since the line before)."""
    deadline = time.monotonic() + count + PATIENCE
    samples, other = [], []
    pgbench = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               env=os.environ | {"PGPASSWORD": PASSWORD, "PGSSLMODE": sslmode(pooler)})
    try:
        while len(samples) < count:
            if not select.select([pgbench.stderr], [], [], max(0, deadline - time.monotonic()))[0]:
                raise RuntimeError(f"pgbench made {len(samples)} seconds of {count} within {count + PATIENCE} s")
            # One line a second and no buffer in between, so that select() tells the truth.
            lines = os.read(pgbench.stderr.fileno(), 65_536).decode(errors="replace")
            if not lines:
                raise RuntimeError(f"pgbench ended early: {''.join(other)[-1500:]}")
            progress = PROGRESS.search(lines)
            if progress:
                samples.append((time.monotonic(), cpu_seconds(pooler.process.pid), float(progress[1])))
            if not progress or int(progress[2] or 0):
                other.append(lines)
            if "aborted" in lines or progress and int(progress[2] or 0):
                raise RuntimeError(f"transactions failed: {''.join(other)[-1500:]}")
    finally:
        pgbench.terminate()
        pgbench.wait()
        pgbench.stderr.close()
    return samples


def sslmode(pooler: Pooler) -> str:
    """libpq's default where there is no TLS: it asks, and is told so."""
    return "require" if pooler.tls else "prefer"


def logged_latencies(folder: Path) -> list[int]:
    """Microseconds, in order, of the logged transactions after the first second."""
    rows = []
    for file in folder.glob("log.*"):
        with open(file) as lines:
            for line in lines:
                fields = line.split()
                if len(fields) < 6 or not line.endswith("\n"):
                    continue  # Cut off when pgbench was ended.
                rows.append((int(fields[4]) + int(fields[5]) / 1e6, int(fields[2])))
    if not rows:
        raise RuntimeError("pgbench logged no transactions")
    begin = min(when for when, _ in rows) + 1
    return sorted(latency for when, latency in rows if when >= begin)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process with all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def idle_memory(pooler: Pooler, workload: Workload) -> Memory:
    # One client first, so that the pool is warm in both readings.
    with IdleClients(pooler, 1):
        pass
    rss_before, pss_before = memory(pooler.process.pid)
    with IdleClients(pooler, workload.clients):
        rss_after, pss_after = memory(pooler.process.pid)
    return Memory(workload.clients, rss_before, rss_after, pss_before, pss_after)


class IdleClients:
    def __init__(self, pooler: Pooler, count: int):
        self.command = ["setpriv", "--pdeathsig", "KILL", sys.executable, str(Path(__file__).with_name("idle.py")),
                        str(pooler.port), str(count), USER, PASSWORD, DATABASE, sslmode(pooler)]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        stderr=subprocess.PIPE)
        try:
            ready = select.select([self.process.stdout], [], [], 2 * PATIENCE)[0]
            if not ready or self.process.stdout.readline() != "ready\n":
                self.process.kill()
                raise RuntimeError(f"idle clients did not log in: {self.process.stderr.read()[-1500:]}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        try:
            self.process.communicate(timeout=30)
        except (subprocess.TimeoutExpired, ValueError):
            self.process.kill()
            self.process.wait()


def memory(pid: int) -> tuple[int, int]:
    """Resident and proportional set size in bytes."""
    sizes = dict.fromkeys(("Rss", "Pss"), 0)
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in sizes:
            sizes[name] = int(rest.split()[0]) * 1024
    return sizes["Rss"], sizes["Pss"]
