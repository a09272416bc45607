"""The process that takes mail by SMTP: its parts, and the one that listens."""

import asyncio
import ssl
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog

from services.gateway.accepting import Acceptor
from services.gateway.readiness import ToleratedAbsence
from services.gateway.settings import SmtpSettings
from services.gateway.smtp.session import SmtpSession
from services.gateway.smtp.submission import Submission
from shared.access import AccessStore, KeyLookup, LastUses
from shared.database import Database
from shared.health import Check, HealthServer
from shared.metrics import SMTP_CONNECTIONS
from shared.networks import Address, contains
from shared.process import Part
from shared.publisher import Publisher
from shared.quotas import Quotas
from shared.topics import Topics

log = structlog.get_logger(__name__)

_CERTIFICATE = "MILENA_SMTP_INGEST_TLS_CERT"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_STOP_S = 20.0  # for mails at work; the acknowledgement of one takes 5 s at most
_DATA_AT_ONCE = 32  # messages being received; each may take up several times `size_limit`


class SmtpServer:
    """Listens, and knows every connection."""

    def __init__(self, settings: SmtpSettings, submission: Submission, tls: ssl.SSLContext | None) -> None:
        self.tls = tls
        # Quoted-printable and the lines of base64 make a message longer than its event; what still is too long is
        # told when the event has been made.
        self.size_limit = 2 * settings.event_limit
        self.timeout_s = settings.smtp_ingest_timeout
        self.hostname = settings.smtp_ingest_hostname
        self._data_room = asyncio.Semaphore(_DATA_AT_ONCE)
        self._rooms: defaultdict[str | None, asyncio.Semaphore] = defaultdict(  # by key
            lambda: asyncio.Semaphore(_DATA_AT_ONCE // 4)
        )
        self._settings = settings
        self._submission = submission
        self._sessions: set[SmtpSession] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. Raises OSError where the port is taken."""
        loop = asyncio.get_running_loop()
        host, port = self._settings.smtp_ingest_host, self._settings.smtp_ingest_port
        if self.tls is None and host not in _LOOPBACK:
            log.warning("no certificate, so keys are taken from the open networks only", setting=_CERTIFICATE)
        self._server = await loop.create_server(lambda: SmtpSession(self, self._submission, loop), host, port)

    async def stop(self) -> None:
        """Take nothing new, finish the mails at work, say goodbye."""
        if self._server:
            self._server.close()
        for session in list(self._sessions):
            session.dismiss()
        end = time.monotonic() + _STOP_S
        while self._sessions and time.monotonic() < end:
            await asyncio.sleep(0.05)

    def enter(self, session: SmtpSession, caller: Address | None) -> str | None:
        """A connection has begun; a reply where it is to end at once."""
        if caller is None or not contains(self._settings.allowed_networks, caller):
            return "554 5.7.1 Connections from this network are not allowed"
        if len(self._sessions) >= self._settings.smtp_ingest_connections:
            return "421 4.3.2 Too many connections; come again"
        self._sessions.add(session)
        SMTP_CONNECTIONS.set(len(self._sessions))
        return None

    @asynccontextmanager
    async def data_room(self, session: SmtpSession) -> AsyncIterator[None]:
        """A place for a mail that is coming in: of all places one key has a quarter at most."""
        async with self._rooms[session.secret], self._data_room:
            yield

    def leave(self, session: SmtpSession) -> None:
        """The connection has ended."""
        self._sessions.discard(session)
        SMTP_CONNECTIONS.set(len(self._sessions))

    def may_log_in_openly(self, caller: Address | None) -> bool:
        """Whether a key may come from there without TLS."""
        return caller is not None and contains(self._settings.smtp_ingest_open_networks, caller)

    async def log_in(self, session: SmtpSession, secret: str) -> str | None:
        """None where the key will do, a reply otherwise."""
        found = await self._submission.check_secret(secret, session.caller)
        return found if isinstance(found, str) else None


def create_ingest(settings: SmtpSettings) -> list[Part]:
    """The process's parts, in the order they start. Kafka and PostgreSQL may be away."""
    database = Database(settings.database_url.get_secret_value(), application_name="milena-gateway-smtp")
    publisher = Publisher(
        settings.kafka,
        client_id=f"milena-gateway-smtp-{settings.slot}",
        compress=True,
        event_limit=settings.event_limit,
    )
    acceptor = Acceptor(publisher, Topics(settings.topic_prefix).requested, settings.event_limit)
    access = AccessStore(database)
    uses = LastUses(access)
    keys = KeyLookup(access, on_use=uses.note)
    submission = Submission(keys, acceptor, Quotas(settings), settings.attachment_rules)

    async def check_kafka() -> str | None:
        return None if publisher.available else "does not acknowledge: is the broker running?"

    tolerated = ToleratedAbsence(database.check, timedelta(minutes=15))
    checks: dict[str, Check] = {"kafka": check_kafka, "database": tolerated}
    health = HealthServer(settings.health_host, settings.health_port, checks, settings.metrics_allowed_networks)
    server = SmtpServer(settings, submission, settings.load_tls())
    return [_Base(database, publisher), uses, health, server]


class _Base:
    """What the others stand on: begins with Kafka away, ends after everything that uses it."""

    def __init__(self, database: Database, publisher: Publisher) -> None:
        self._database = database
        self._publisher = publisher

    async def start(self) -> None:
        """Connect in the background."""
        await self._publisher.start(wait=False)

    async def stop(self) -> None:
        """Flush, then close."""
        await self._publisher.stop()
        await self._database.close()
