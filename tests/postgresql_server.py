"""A PostgreSQL server of the tests' own: a fresh data directory, a private socket, no network."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

PATIENCE = 120
ROLE = "pybench"


def programs() -> Path | None:
    """Debian's folder of the newest server's programs, or that of `initdb` on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    elsewhere = shutil.which("initdb")
    return found[-1].parent if found else Path(elsewhere).parent if elsewhere else None


class PostgresqlServer:
    """A server that can be stopped and started again."""

    def __init__(self, folder: Path, binaries: Path, account: pwd.struct_passwd, *, durable: bool) -> None:
        self._folder = folder
        self._durable = durable
        self._binaries = binaries
        # The server refuses to run as root.
        self._identity: dict[str, int | list[int]] = {}
        if os.geteuid() == 0:
            self._identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._databases = 0

    @property
    def data(self) -> Path:
        """The data directory."""
        return self._folder / "data"

    def initialise(self) -> None:
        """Make the data directory."""
        command = [
            *(self._binaries / "initdb", "--pgdata", self.data, "--username", ROLE, "--auth", "trust"),
            *("--no-locale", "--encoding", "UTF8", "--no-sync", "--no-instructions"),
        ]
        subprocess.run(
            command,
            check=True,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            **self._identity,  # type: ignore[call-overload]
        )

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        command = [
            *(self._binaries / "postgres", "-D", self.data, "-k", self._folder),
            *("-c", f"fsync={'on' if self._durable else 'off'}"),
            *("-c", "listen_addresses=", "-c", "shared_buffers=16MB", "-c", "max_connections=20"),
            *("-c", "log_destination=stderr", "-c", "logging_collector=off", "-c", "lc_messages=C"),
        ]
        self._process = subprocess.Popen(
            command,
            cwd=self._folder,
            stderr=subprocess.PIPE,
            text=True,
            **self._identity,  # type: ignore[call-overload]
        )
        assert self._process is not None
        assert self._process.stderr is not None
        told = []
        for line in self._process.stderr:
            told.append(line)
            if "ready to accept connections" in line:
                break
        else:
            raise AssertionError(f"PostgreSQL did not start: {''.join(told)}")
        # Nobody reads on, but a full pipe would stop it.
        self._reader = threading.Thread(target=_drain, args=(self._process.stderr,))
        self._reader.start()

    def stop(self) -> None:
        """End it at once, as an administrator would; verified."""
        if self._process is None:
            return
        family = [self._process.pid, *(each.pid for each in psutil.Process(self._process.pid).children())]
        # "Fast": it ends every session (PostgreSQL manual, section 19.5).
        self._process.send_signal(signal.SIGINT)
        self._process.wait(PATIENCE)
        assert self._reader is not None
        self._reader.join(PATIENCE)
        assert not [pid for pid in family if psutil.pid_exists(pid)]
        self._process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let none of its processes do anything meanwhile; the kernel still takes what they are sent."""
        assert self._process is not None
        # The first of them stops before it could make another.
        parent = psutil.Process(self._process.pid)
        stopped: list[psutil.Process] = []
        try:
            _stop(parent, stopped)
            for child in parent.children(recursive=True):
                _stop(child, stopped)
            yield
        finally:
            for process in stopped:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGCONT)

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        self._databases += 1
        name = f"store{self._databases}"
        with psycopg.connect(self._dsn("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def url(self, database: str, role: str = ROLE) -> str:
        """The URL of a database."""
        return f"postgresql+psycopg://{role}@/{database}?host={quote(str(self._folder), safe='')}"

    def connect(self, url: str) -> psycopg.Connection:
        """A connection past the store, to the database of a URL."""
        return psycopg.connect(self._dsn(url.rpartition("/")[2].partition("?")[0]), autocommit=True)

    def _dsn(self, database: str) -> str:
        return f"host={self._folder} user={ROLE} dbname={database}"


@contextmanager
def postgresql_server(*, durable: bool = False) -> Iterator[PostgresqlServer]:
    """A running server; it and its files are gone at the end.

    Only a durable one would survive a power cut, which no test causes and which costs minutes.
    """
    binaries = programs()
    assert binaries is not None, "PostgreSQL is not installed: .ci/setup test"
    account = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    # The path of a socket has at most 107 bytes, which pytest's folders can exceed.
    with tempfile.TemporaryDirectory(prefix="pybench-pg-", dir="/tmp") as name:
        folder = Path(name)
        os.chown(folder, account.pw_uid, account.pw_gid)
        server = PostgresqlServer(folder, binaries, account, durable=durable)
        server.initialise()
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _stop(process: psutil.Process, stopped: list[psutil.Process]) -> None:
    """Stop a process, unless it has ended, and wait until it has stopped."""
    with suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGSTOP)
        stopped.append(process)
        deadline = time.monotonic() + PATIENCE
        while process.status() not in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def _drain(stream: IO[str]) -> None:
    with stream:
        for _ in stream:
            pass
