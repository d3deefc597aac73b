"""What is measured, one entry per workload, and what pgpool has to reach."""

from dataclasses import dataclass, field, replace

POOL_SIZE = 20
SELECT_1 = "select 1;\n"


@dataclass(frozen=True)
class Target:
    """A bound on one figure: `cpu` is a ratio of CPU per transaction, `memory` is bytes per idle client."""

    figure: str
    at_most: float


@dataclass(frozen=True)
class Workload:
    name: str
    about: str
    clients: int
    pool_mode: str = "transaction"
    # A script of pgbench's; None is its built-in read of one row by primary key (-S).
    script: str | None = SELECT_1
    arguments: list[str] = field(default_factory=list)
    threads: int = 1
    # The part of all transactions that pgbench logs, for the percentiles.
    sampling: float = 0.1
    target: Target | None = None
    # Counts memory of idle clients instead of running pgbench.
    idle: bool = False
    # Names statements that are to outlive a transaction.
    named: bool = False
    # Clients come with TLS, to the same certificate of RSA with 2048 bits.
    tls: bool = False

    def in_session_mode(self, reason: str) -> "Workload":
        """The same load where each client can have a backend to itself."""
        return replace(self, pool_mode="session", clients=min(self.clients, POOL_SIZE), about=f"{self.about}; {reason}")


WORKLOADS = [
    Workload("select1-32", "`select 1`, 32 clients on 20 backends", 32, target=Target("cpu", 1.0)),
    Workload("select1-1000", "`select 1`, 1000 clients on 20 backends", 1000, threads=2,
             target=Target("cpu", 1.0)),
    Workload("prepared", "read of one row, prepared once and executed often (`-S -M prepared`)", 32, script=None,
             arguments=["-M", "prepared"], named=True, target=Target("cpu", 0.9)),
    Workload("prepared-session", "the same with a backend for each client", POOL_SIZE, pool_mode="session", script=None,
             arguments=["-M", "prepared"]),
    Workload("extended", "read of one row, parsed each time (`-S -M extended`)", 32, script=None,
             arguments=["-M", "extended"]),
    Workload("set", "`set app.x` to one of 100 values, then `select 1`, each a transaction of its own", 32,
             script="\\set value random(1, 100)\nset app.x = :value;\n" + SELECT_1),
    Workload("transaction", "begin, two selects, end", 32, script="begin;\nselect 1;\nselect 2;\nend;\n"),
    Workload("pipeline8", "eight `select 1` in one pipeline", 32, arguments=["-M", "extended"],
             script="\\startpipeline\n" + SELECT_1 * 8 + "\\endpipeline\n"),
    Workload("rows1000", "1000 rows of 100 bytes", 8, sampling=1.0, target=Target("cpu", 0.5),
             script="select repeat('x', 100) from generate_series(1, 1000);\n"),
    Workload("latency1", "`select 1`, one client", 1, sampling=1.0),
    Workload("reconnect", "a SCRAM login for each `select 1` (`-C`)", 4, arguments=["-C"], sampling=1.0,
             target=Target("cpu", 1.0)),
    Workload("select1-tls", "`select 1` through TLS, 32 clients on 20 backends", 32, tls=True, target=Target("cpu", 1.0)),
    Workload("rows1000-tls", "1000 rows of 100 bytes through TLS", 8, sampling=1.0, tls=True,
             script="select repeat('x', 100) from generate_series(1, 1000);\n"),
    Workload("reconnect-tls", "a TLS handshake and a SCRAM login for each `select 1` (`-C`)", 4, arguments=["-C"],
             sampling=1.0, tls=True, target=Target("cpu", 0.7)),
    Workload("idle2000-tls", "memory of idle clients with TLS that have logged in and asked once", 2000, idle=True,
             tls=True),
    Workload("idle5000", "memory of idle clients that have logged in and asked once", 5000, idle=True,
             target=Target("memory", 4096)),
]


def chosen(names: str | None) -> list[Workload]:
    """The workloads of a comma list, in its order; all without one."""
    if not names:
        return list(WORKLOADS)
    known = {workload.name: workload for workload in WORKLOADS}
    unknown = [name for name in names.split(",") if name not in known]
    if unknown:
        raise SystemExit(f"no workload {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names.split(",")]
