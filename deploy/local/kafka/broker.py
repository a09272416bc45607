"""One Kafka node, broker and controller in one process."""

import shutil
import signal
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path

from deploy.local.children import spawn, stop, wait_until
from deploy.local.errors import StackError
from deploy.local.kafka.jars import Say, prepare_jars
from deploy.local.kafka.java import find_java
from deploy.local.kafka.probe import answers

_LOGGING = Path(__file__).parent / "log4j2.xml"
_START_TIMEOUT_S = 90
_STOP_GRACE_S = 20

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={log_dir}
num.partitions=12
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=12
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
transaction.max.timeout.ms=60000
auto.create.topics.enable=false
log.message.timestamp.type=LogAppendTime
log.cleaner.enable=true
log.cleaner.dedupe.buffer.size=8388608
offsets.retention.minutes=129600
group.initial.rebalance.delay.ms=0
# A killed node is let in again once its last session has run out; the default is 9 s.
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
"""


class EmbeddedKafka:
    """Apache Kafka in KRaft mode: one node on loopback, its data under ``data_dir``.

    ``properties`` are lines that follow, and outdo, our own; ``format_options`` are for the tool that formats.

    ``prepare`` may run in any thread, ``start`` must run in the main one (``deploy.local.children``).
    All three raise StackError with a sentence for people.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int,
        controller_port: int,
        *,
        cache_dir: Path,
        java_home: Path | None,
        say: Say = print,
        properties: str = "",
        format_options: Sequence[str] = (),
    ) -> None:
        self._data_dir = data_dir.absolute()
        self._port = port
        self._controller_port = controller_port
        self._cache_dir = cache_dir.absolute()
        self._java_home = java_home
        self._say = say
        self._more_properties = properties
        self._format_options = format_options
        self._command: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """Give the address clients connect to."""
        return f"127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        """Give the broker's process id, None before ``start``."""
        return self._process.pid if self._process else None

    @property
    def log_file(self) -> Path:
        """Give the file that holds the broker's own log."""
        return self._data_dir / "kafka.log"

    def prepare(self) -> None:
        """Fetch the jars, write the configuration and, once in the life of ``data_dir``, format it."""
        java = find_java(self._java_home)
        self._command = [
            str(java),
            *("-Xmx512m", "-Xms128m", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-Djava.awt.headless=true"),
            # Without the optimising compiler a start takes 5 s of CPU time instead of 9, and 150,000 records of
            # 2 kB take about 50 µs of it each instead of 110: a broker here never lives long enough for it to pay.
            "-XX:TieredStopAtLevel=1",
            f"-Dlog4j2.configurationFile={_LOGGING}",
            *("-cp", f"{prepare_jars(self._cache_dir, java, self._say)}/*"),
        ]
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # mail lies in it
        own = _PROPERTIES.format(port=self._port, controller_port=self._controller_port, log_dir=self._log_dir)
        self._properties.write_text(own + self._more_properties)
        if not (self._log_dir / "meta.properties").exists():
            self._format()

    def start(self) -> None:
        """Start the broker; it answers a moment later (``wait_until_ready``)."""
        with self.log_file.open("ab") as log:
            self._process = spawn([*self._command, "kafka.Kafka", self._properties], stdout=log, cwd=self._data_dir)

    def wait_until_ready(self) -> None:
        """Wait until the broker answers requests. Raises StackError when it ends or stays silent."""

        def settled() -> bool:
            return not self.is_running() or answers("127.0.0.1", self._port)

        if not wait_until(settled, timeout_s=_START_TIMEOUT_S) or not self.is_running():
            raise StackError(f"Kafka did not start; the end of {self.log_file}:\n{self._read_log_end()}")

    def is_running(self) -> bool:
        """Say whether the broker's process is alive."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Shut the broker down in order; after a grace of 20 s it is killed."""
        if self._process is not None:
            stop(self._process, first=signal.SIGTERM, grace_s=_STOP_GRACE_S)

    @property
    def _log_dir(self) -> Path:
        return self._data_dir / "log"

    @property
    def _properties(self) -> Path:
        return self._data_dir / "server.properties"

    def _format(self) -> None:
        # A format that was cut short leaves a directory the tool refuses to touch again.
        shutil.rmtree(self._log_dir, ignore_errors=True)
        command = [
            *self._command,
            "kafka.tools.StorageTool",
            "format",
            "-t",
            mint_cluster_id(),
            "-c",
            str(self._properties),
            *self._format_options,
        ]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode != 0:
            raise StackError(f"Kafka's storage in {self._log_dir} could not be formatted:\n{done.stdout[-2000:]}")

    def _read_log_end(self) -> str:
        return self.log_file.read_text(errors="replace")[-2000:].strip()


def mint_cluster_id() -> str:
    """Give a random id as Kafka writes one: never with a dash in front, which its tools take for an option."""
    while True:
        text = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text
