"""A PostgreSQL and a pgpool for `run`, and processes that end with it. Only processes started here are ended, by id."""

import contextlib
import os
import pwd
import queue
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

USER = "app"
PASSWORD = "app secret"
STARTS = 30.0

CONF = """
listen_addresses = '127.0.0.1'
fsync = off
full_page_writes = off
synchronous_commit = off
shared_buffers = 32MB
autovacuum = off
jit = off
max_connections = 400
timezone = 'UTC'
logging_collector = off
"""

HBA = """
local all postgres trust
host all all 127.0.0.1/32 scram-sha-256
"""


class Cluster:
    """A PostgreSQL in a directory of its own, which goes with it."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="pgpool-drivers-")
        self.identity = []
        self.reader = []
        self.processes = []
        if os.getuid() == 0:
            postgres = pwd.getpwnam("postgres")
            os.chown(self.dir, postgres.pw_uid, postgres.pw_gid)
            self.identity = ["--reuid=postgres", "--regid=postgres", "--clear-groups"]
            # The same for a program and files that lie in a directory of root's.
            self.reader = [*self.identity, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        self.data = os.path.join(self.dir, "data")
        self.port = None

    def start(self):
        initdb = ["setpriv", *self.identity, pg_program("initdb"), "-D", self.data, "-U", "postgres", "-A", "trust"]
        made = subprocess.run(
            [*initdb, "--no-sync", "-E", "UTF8", "--no-locale"], capture_output=True, text=True, cwd="/"
        )
        if made.returncode:
            sys.exit(f"initdb failed: {made.stdout}{made.stderr}")
        self._append("postgresql.conf", f"{CONF}unix_socket_directories = '{self.dir}'\n")
        with open(os.path.join(self.data, "pg_hba.conf"), "w") as hba:
            hba.write(HBA)
        for _ in range(20):
            self.port = free_port()
            if self._start_on_port():
                break
        else:
            sys.exit(f"PostgreSQL did not start:\n{read(self.log)}")
        self.sql("postgres", f"create role {USER} login password '{PASSWORD}'")

    @property
    def log(self):
        return os.path.join(self.dir, "postgres.log")

    def _append(self, name, text):
        with open(os.path.join(self.data, name), "a") as file:
            file.write(text)

    def _start_on_port(self):
        command = [pg_program("postgres"), "-D", self.data, "-p", str(self.port)]
        process = start(["setpriv", *self.identity, "--pdeathsig", "QUIT", *command], self.log)
        self.processes.append((process, signal.SIGQUIT))
        status = os.path.join(self.data, "postmaster.pid")
        # The eighth line is the postmaster's own word.
        return wait_until(process, lambda: "ready" in "".join(read(status).splitlines()[7:8]))

    def sql(self, database, text, *more):
        arguments = ["-XAtq", "-v", "ON_ERROR_STOP=1", "-h", self.dir, "-p", str(self.port), "-U", "postgres"]
        done = subprocess.run(
            [pg_program("psql"), *arguments, "-d", database, "-c", text, *more], capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"psql failed on {text}: {done.stderr}")

    def make_database(self, name, schema):
        self.sql("postgres", f"create database {name} owner {USER}")
        self.sql(name, f"set role {USER}", "-f", schema)

    def environment(self, database, port):
        """The programs' environment: no setting of the machine's own reaches them."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return kept | {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(port),
            "PGUSER": USER,
            "PGPASSWORD": PASSWORD,
            "PGDATABASE": database,
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
        }

    def stop(self):
        """Ends what was started on this cluster's behalf, the last first, and removes the directory."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        while self.processes:
            stop(*self.processes.pop())
        shutil.rmtree(self.dir, ignore_errors=True)


class Pooler:
    def __init__(self, program, cluster, mode, pool_size, databases):
        self.log = os.path.join(cluster.dir, "pgpool.log")
        for _ in range(20):
            self.port = free_port()
            file = os.path.join(cluster.dir, "pgpool.toml")
            with open(file, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as config:
                config.write(self.config(cluster, mode, pool_size, databases))
            self.process = start(["setpriv", *cluster.reader, "--pdeathsig", "TERM", program, file], self.log)
            cluster.processes.append((self.process, signal.SIGQUIT))
            if wait_until(self.process, lambda: "pgpool is ready" in read(self.log)):
                return
        self.print_log()
        sys.exit("pgpool did not start")

    def config(self, cluster, mode, pool_size, databases):
        return pooler_config(self.port, cluster, mode, pool_size, databases)

    def running(self):
        return self.process.poll() is None

    def panicked(self):
        return "panicked at" in read(self.log)

    def print_log(self):
        print("\n".join(read(self.log).splitlines()[-40:]))


def pooler_config(port, cluster, mode, pool_size, databases):
    entries = "\n".join(f'[databases.{name}]\nhost = "127.0.0.1"\nport = {cluster.port}' for name in databases)
    # A case that waits for a backend in vain fails with an error instead of hanging.
    return f"""
[pgpool]
listen_addr = "127.0.0.1"
listen_port = {port}
unix_socket_dir = ""
auth_type = "scram-sha-256"
pool_mode = "{mode}"
default_pool_size = {pool_size}
max_pinned = {pool_size}
query_wait_timeout = 15
admin_users = ["{USER}"]

{entries}

[users.{USER}]
password = "{PASSWORD}"
"""


def spawn(command, environment):
    """A program whose output is read by `read_lines`; the kernel ends it with this one."""
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


def read_lines(process, deadline):
    """The program's lines until it ends, or `None` when `deadline()` has come first."""
    lines = queue.Queue()
    end = object()

    def pump():
        for line in process.stdout:
            lines.put(line.rstrip("\n"))
        lines.put(end)

    threading.Thread(target=pump, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=max(0.01, deadline() - time.monotonic()))
        except queue.Empty:
            yield None
            return
        if line is end:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            return
        yield line


def start(command, log):
    with open(log, "a") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/")


def stop(process, number):
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(process, condition):
    """`False` when the process ends first, or in STARTS."""
    deadline = time.monotonic() + STARTS
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def pg_program(name):
    """Where PostgreSQL's program is, found as scripts/lib.sh does it."""
    lib = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts", "lib.sh")
    found = subprocess.run(["bash", "-c", '. "$1"; pg_program "$2"', "bash", lib, name], capture_output=True, text=True)
    return found.stdout.strip() or sys.exit(f"{name} is missing: scripts/test --drivers installs it")


def free_port():
    """Below the range that the kernel gives to outgoing connections."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


def read(file):
    try:
        with open(file, errors="replace") as opened:
            return opened.read()
    except FileNotFoundError:
        return ""
