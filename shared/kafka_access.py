"""How Kafka is reached: addresses, and who we say we are. One value that is handed to every client.

Also why it could not be reached: aiokafka keeps that to its own log, and says only that it could not connect.
"""

import asyncio
import ssl
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import IllegalSaslStateError, KafkaError, SaslAuthenticationFailed, UnsupportedSaslMechanismError

from shared.certificates import load_certificate

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

_PROBE_S = 5.0
_NAME, _PROTOCOL = "MILENA_KAFKA_", "MILENA_KAFKA_SECURITY_PROTOCOL"


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """`tls_ca`, `tls_cert`, `tls_key`: PEM files; without `tls_ca` the system's authorities are trusted."""

    bootstrap_servers: str
    protocol: Protocol = "PLAINTEXT"
    mechanism: Mechanism = "SCRAM-SHA-512"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None

    @property
    def has_login(self) -> bool:
        """Whether we log in (SASL)."""
        return self.protocol.startswith("SASL_")

    @property
    def has_tls(self) -> bool:
        """Whether the connections are encrypted."""
        return self.protocol.endswith("SSL")

    @property
    def tls(self) -> ssl.SSLContext | None:
        """The TLS context, None where nothing is encrypted. Raises ValueError for files that will not do."""
        return _create_context(self.tls_ca, self.tls_cert, self.tls_key) if self.has_tls else None

    def check(self) -> None:
        """Raises ValueError, which names the setting, where they do not go together.

        One without the other is no whim: its owner believes to be safe, or would be refused at every attempt.
        """
        for name, value in (("SASL_USERNAME", self.username), ("SASL_PASSWORD", self.password)):
            if self.has_login and not value:
                raise ValueError(f"{_NAME}{name}: is needed with {_PROTOCOL}={self.protocol}")
            if value and not self.has_login:
                raise ValueError(f"{_NAME}{name}: needs {_PROTOCOL}=SASL_SSL or SASL_PLAINTEXT")
        for name, value in (("TLS_CA", self.tls_ca), ("TLS_CERT", self.tls_cert), ("TLS_KEY", self.tls_key)):
            if value and not self.has_tls:
                raise ValueError(f"{_NAME}{name}: needs {_PROTOCOL}=SSL or SASL_SSL")
        if self.tls_key and not self.tls_cert:
            raise ValueError(f"{_NAME}TLS_CERT: is needed with {_NAME}TLS_KEY")
        _ = self.tls

    def options(self) -> dict[str, Any]:
        """What any of aiokafka's clients takes."""
        return {"bootstrap_servers": self.bootstrap_servers, **self._security()}

    def _security(self) -> dict[str, Any]:
        if self.protocol == "PLAINTEXT":
            return {}
        security: dict[str, Any] = {"security_protocol": self.protocol, "ssl_context": self.tls}
        if self.has_login:
            security["sasl_mechanism"] = self.mechanism
            security["sasl_plain_username"], security["sasl_plain_password"] = self.username, self.password
        return security

    async def explain_absence(self) -> "Absence":
        """Why no connection comes about; by trying one."""
        host, port, _ = collect_hosts(self.bootstrap_servers, randomize=False)[0]
        try:
            async with asyncio.timeout(_PROBE_S):
                connection = await create_conn(host, port, **self._security())
        except (OSError, KafkaError, TimeoutError) as exc:
            return _explain(exc, self.protocol)
        connection.close()
        return Absence("the first broker answers, the others or its answers do not", lasting=False)


class Absence(NamedTuple):
    """Why there is no connection. `lasting`: trying again does not help; somebody has to change something."""

    why: str
    lasting: bool


class KafkaAbsent(Exception):
    """There is no connection; the message says which settings to look at."""


@lru_cache(maxsize=16)
def _create_context(ca: str | None, cert: str | None, key: str | None) -> ssl.SSLContext:
    """One for all clients of a process: reading the system's authorities takes 20 ms."""
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as exc:
        raise ValueError(
            f"{_NAME}TLS_CA: no PEM file of certificates that can be read ({exc.strerror or exc})"
        ) from None
    if cert:
        load_certificate(context, cert, key, _NAME)
    return context


def _explain(exc: Exception, protocol: Protocol) -> Absence:
    why = _describe(exc, protocol)
    return Absence(why, lasting=isinstance(exc, ssl.SSLError | KafkaError))


def _describe(exc: Exception, protocol: Protocol) -> str:
    match exc:
        case SaslAuthenticationFailed() | IllegalSaslStateError():
            return "kafka refused the login: look at MILENA_KAFKA_SASL_USERNAME, _SASL_PASSWORD and _SASL_MECHANISM"
        case UnsupportedSaslMechanismError():
            return "the listener does not offer this mechanism: look at MILENA_KAFKA_SASL_MECHANISM"
        case ssl.SSLCertVerificationError():
            return (
                f"kafka's certificate is not trusted ({exc.verify_message}): look at MILENA_KAFKA_TLS_CA and the host"
            )
        case ssl.SSLError() | KafkaError() | ConnectionResetError() | TimeoutError():
            wants = ", or it wants a certificate (MILENA_KAFKA_TLS_CERT)" if protocol.endswith("SSL") else ""
            return f"the listener does not speak {protocol}: look at MILENA_KAFKA_SECURITY_PROTOCOL and the port{wants}"
    return "nobody answers there: look at MILENA_KAFKA_BOOTSTRAP_SERVERS"
