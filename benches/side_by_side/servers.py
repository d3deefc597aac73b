"""The processes that are measured: a private PostgreSQL, PgBouncer and pgpool, on free ports and in a directory of their
own. Each is a context manager; when it is left, its process has ended."""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from workloads import POOL_SIZE, Workload

DATABASE = "bench"
USER = "bench"
PASSWORD = "bench"
START_TIMEOUT = 30
MAX_CLIENTS = 6000


def find_program(name: str) -> str | None:
    """In PATH, in /usr/sbin, or among PostgreSQL's own programs (the newest)."""
    named = Path(os.environ.get("PGPOOL_PG_BIN", "/nonexistent")) / name
    if named.is_file():
        return str(named)
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    if name in ("initdb", "postgres", "pgbench") and debian:
        return str(debian[-1])
    return found


def needed_program(name: str, package: str) -> str:
    found = find_program(name)
    if not found:
        raise SystemExit(f"{name} was not found; on Debian: apt-get install {package}")
    return found


def unprivileged(signal_at_parents_death: str) -> list[str]:
    """PostgreSQL and PgBouncer refuse root; and nothing may outlive this program."""
    prefix = ["setpriv", "--pdeathsig", signal_at_parents_death]
    if os.geteuid() == 0:
        prefix += ["--reuid=postgres", "--regid=postgres", "--clear-groups"]
    return prefix


def give_to_postgres(path: Path) -> None:
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        os.chown(path, account.pw_uid, account.pw_gid)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """A child process that logs to a file."""

    name = "server"
    stop_signal = signal.SIGTERM

    def __init__(self, folder: Path):
        self.folder = folder
        self.log_file = folder / "log"
        self.process: subprocess.Popen | None = None
        self.port = 0

    def __enter__(self):
        self.folder.mkdir()
        give_to_postgres(self.folder)
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self) -> None:
        raise NotImplementedError

    def spawn(self, command: list[str]) -> None:
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")

    def wait_for(self, what: str, ready) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name}: {what} did not come:\n{self.log()[-3000:]}")
            time.sleep(0.02)

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Postgres(Server):
    name = "PostgreSQL"
    stop_signal = signal.SIGQUIT

    def start(self) -> None:
        data = self.folder / "data"
        initdb = needed_program("initdb", "postgresql")
        subprocess.run(
            unprivileged("KILL") + [initdb, "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync",
                                    "-E", "UTF8", "--locale=C"],
            check=True, capture_output=True, cwd="/", timeout=120)
        (data / "pg_hba.conf").write_text(
            "local all postgres trust\nlocal all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n")
        self.port = free_port()
        settings = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.folder,
            "max_connections": 4 * POOL_SIZE + 20, "fsync": "off", "full_page_writes": "off", "jit": "off",
            "synchronous_commit": "off", "autovacuum": "off", "shared_buffers": "128MB",
        }
        with open(data / "postgresql.auto.conf", "a") as conf:
            conf.writelines(f"{key} = '{value}'\n" for key, value in settings.items())
        postgres = needed_program("postgres", "postgresql")
        self.spawn(unprivileged("QUIT") + [postgres, "-D", str(data)])
        pid_file = data / "postmaster.pid"

        def ready() -> bool:
            lines = pid_file.read_text().splitlines() if pid_file.exists() else []
            return len(lines) > 7 and lines[7].strip() == "ready"

        self.wait_for("readiness", ready)
        self.sql("postgres", f"create role {USER} login password '{PASSWORD}'")
        self.sql("postgres", f"create database {DATABASE} owner {USER}")
        subprocess.run(
            [needed_program("pgbench", "postgresql-contrib"), "-i", "-q", "-s", "5", "-h", "127.0.0.1",
             "-p", str(self.port), "-U", USER, DATABASE],
            env=os.environ | {"PGPASSWORD": PASSWORD}, check=True, capture_output=True, timeout=120)
        self.sql(DATABASE, "vacuum analyze")
        self.sql(DATABASE, "checkpoint")

    def sql(self, database: str, text: str) -> str:
        done = subprocess.run(
            [needed_program("psql", "postgresql-client"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", str(self.folder),
             "-p", str(self.port), "-U", "postgres", "-d", database, "-c", text],
            capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise RuntimeError(f"psql: {done.stderr}")
        return done.stdout.strip()


class Pooler(Server):
    """What both poolers have in common: equal settings in front of the same PostgreSQL."""

    # A pooler has nothing to save, and which of the other signals end one depends on its version.
    stop_signal = signal.SIGKILL

    def __init__(self, folder: Path, command: list[str], backend_port: int, workload: Workload):
        super().__init__(folder)
        self.command = command
        self.backend_port = backend_port
        self.pool_mode = workload.pool_mode
        self.tls = workload.tls

    def certificate(self) -> dict[str, str]:
        """The settings of TLS with clients; both poolers have the same names for them."""
        if not self.tls:
            return {}
        return {"client_tls_sslmode": "require", "client_tls_key_file": str(self.folder.parent / "server.key"),
                "client_tls_cert_file": str(self.folder.parent / "server.crt")}


def make_certificate(folder: Path) -> None:
    """`server.key` and `server.crt`, as most have them: RSA with 2048 bits."""
    subprocess.run(
        [needed_program("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-keyout", str(folder / "server.key"), "-out", str(folder / "server.crt")],
        check=True, capture_output=True, timeout=60)
    for name in ("server.key", "server.crt"):
        give_to_postgres(folder / name)


def version(command: list[str]) -> str:
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=10)
    return (done.stdout.strip().splitlines() or ["unknown"])[0]


def follows_statements(pgbouncer: list[str]) -> bool:
    """Whether it keeps prepared statements of the protocol over transactions."""
    number = re.search(r"(\d+)\.(\d+)", version(pgbouncer))
    return bool(number) and (int(number[1]), int(number[2])) >= (1, 21)


class PgBouncer(Pooler):
    name = "pgbouncer"

    def start(self) -> None:
        self.port = free_port()
        (self.folder / "userlist.txt").write_text(f'"{USER}" "{PASSWORD}"\n')
        config = self.folder / "pgbouncer.ini"
        config.write_text(
            "[databases]\n"
            f"{DATABASE} = host=127.0.0.1 port={self.backend_port} dbname={DATABASE}\n"
            "[pgbouncer]\n"
            "listen_addr = 127.0.0.1\n"
            f"listen_port = {self.port}\n"
            f"unix_socket_dir = {self.folder}\n"
            "auth_type = scram-sha-256\n"
            f"auth_file = {self.folder}/userlist.txt\n"
            f"pool_mode = {self.pool_mode}\n"
            f"default_pool_size = {POOL_SIZE}\n"
            f"max_client_conn = {MAX_CLIENTS}\n"
            "log_connections = 0\nlog_disconnections = 0\nlog_stats = 0\n"
            + "".join(f"{name} = {value}\n" for name, value in self.certificate().items())
            # pgpool's default, and PgBouncer's since 1.24.
            + ("max_prepared_statements = 200\n" if follows_statements(self.command) else ""))
        self.spawn(unprivileged("KILL") + [*self.command, str(config)])
        self.wait_for("«process up»", lambda: "process up" in self.log())
        if f"listening on 127.0.0.1:{self.port}" not in self.log():
            raise RuntimeError(f"PgBouncer has no TCP listener:\n{self.log()}")


class PgPool(Pooler):
    name = "pgpool"
    # Further lines of [pgpool].
    settings = ""

    def start(self) -> None:
        config = self.folder / "pgpool.toml"
        config.write_text(
            "[pgpool]\n"
            'listen_addr = "127.0.0.1"\n'
            "listen_port = 0\n"
            f'unix_socket_dir = "{self.folder}"\n'
            'auth_type = "scram-sha-256"\n'
            f'pool_mode = "{self.pool_mode}"\n'
            f"default_pool_size = {POOL_SIZE}\n"
            "min_pool_size = 0\n"
            f"max_client_conn = {MAX_CLIENTS}\n"
            "log_connections = false\nlog_disconnections = false\nlog_stats = false\n"
            "worker_threads = 1\n" + self.settings
            + "".join(f'{name} = "{value}"\n' for name, value in self.certificate().items()) +
            f"[databases.{DATABASE}]\n"
            f'host = "127.0.0.1"\nport = {self.backend_port}\ndbname = "{DATABASE}"\n'
            f"[users.{USER}]\n"
            f'password = "{PASSWORD}"\n')
        # The program may lie in a directory of root's.
        reads = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"] if os.geteuid() == 0 else []
        setpriv, *identity = unprivileged("KILL")
        self.spawn([setpriv, *reads, *identity, *self.command, str(config)])
        self.wait_for("«pgpool is ready»", lambda: "pgpool is ready" in self.log())
        listening = re.search(r"listening on 127\.0\.0\.1:(\d+)", self.log())
        if not listening:
            raise RuntimeError(f"pgpool has no TCP listener:\n{self.log()}")
        self.port = int(listening[1])
