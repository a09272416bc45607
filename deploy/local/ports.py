"""Every port of the local stack; one offset moves them all."""

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from deploy.local.errors import StackError

_HTTP, _MAIL_PAGE, _MAIL_SMTP, _SMTP_INGEST = 8000, 8025, 2525, 2587
_KAFKA, _KAFKA_CONTROLLER = 19092, 19093
_GATEWAY_WORKER, _SCHEDULER_WORKER, _CALLBACK_WORKER, _GATEWAY_SMTP = 8001, 8002, 8003, 8004
_SCHEDULER_JOBS, _FIRST_SENDER = 8005, 8010
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Ports:
    """The ports of one stack, all on loopback."""

    http: int
    mail_page: int
    mail_smtp: int
    smtp_ingest: int
    kafka: int
    kafka_controller: int
    gateway_worker: int
    scheduler_worker: int
    scheduler_jobs: int
    callback_worker: int
    gateway_smtp: int
    first_sender: int

    @classmethod
    def from_offset(cls, offset: int) -> Self:
        """Give the default ports, each moved by ``offset``."""
        return cls(
            http=_HTTP + offset,
            mail_page=_MAIL_PAGE + offset,
            mail_smtp=_MAIL_SMTP + offset,
            smtp_ingest=_SMTP_INGEST + offset,
            kafka=_KAFKA + offset,
            kafka_controller=_KAFKA_CONTROLLER + offset,
            gateway_worker=_GATEWAY_WORKER + offset,
            scheduler_worker=_SCHEDULER_WORKER + offset,
            scheduler_jobs=_SCHEDULER_JOBS + offset,
            callback_worker=_CALLBACK_WORKER + offset,
            gateway_smtp=_GATEWAY_SMTP + offset,
            first_sender=_FIRST_SENDER + offset,
        )

    def sender(self, slot: int) -> int:
        """Give the health port of sender number ``slot``, stepping over the catcher's page."""
        port = self.first_sender + slot
        return port if port < self.mail_page else port + 1


def find_free_port() -> int:
    """Give a TCP port on loopback that nobody listens on at this moment."""
    with socket.socket() as candidate:
        candidate.bind((LOOPBACK, 0))
        return int(candidate.getsockname()[1])


def is_free(port: int) -> bool:
    """Say whether a server could listen on this port of loopback."""
    with socket.socket() as candidate:
        # As servers do it: a connection in TIME_WAIT from the last run does not make a port busy.
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def require_free(wanted: Iterable[tuple[str, int]]) -> None:
    """Raise StackError naming every busy port of ``wanted``, pairs of what for and which."""
    busy = [f"{port} (for {purpose})" for purpose, port in wanted if not is_free(port)]
    if busy:
        raise StackError(
            f"busy port{'s' if len(busy) > 1 else ''}: {', '.join(busy)}."
            " Stop what listens there, or set MILENA_PORT_OFFSET (for example 100) to move all ports."
        )
