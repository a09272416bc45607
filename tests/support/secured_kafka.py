"""A Kafka that wants to know who comes: listeners with TLS and SCRAM, with PLAIN, and with client certificates."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization

from deploy.local.kafka import EmbeddedKafka
from deploy.local.ports import find_free_port
from deploy.local.settings import read_cache_settings
from shared.kafka_access import KafkaAccess

USERNAME, PASSWORD, PLAIN_PASSWORD = "milena", "a-scram-secret-4711", "a-plain-secret-4711"
_SASL = "org.apache.kafka.common.security"
_PROPERTIES = """
listeners=PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},\
SCRAM://127.0.0.1:{scram},PLAIN://127.0.0.1:{login},MUTUAL://127.0.0.1:{mutual}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},\
SCRAM://127.0.0.1:{scram},PLAIN://127.0.0.1:{login},MUTUAL://127.0.0.1:{mutual}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,\
SCRAM:SASL_SSL,PLAIN:SASL_PLAINTEXT,MUTUAL:SSL
ssl.keystore.type=PEM
ssl.keystore.location={files}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={files}/ca.pem
listener.name.mutual.ssl.client.auth=required
listener.name.scram.sasl.enabled.mechanisms=SCRAM-SHA-512,SCRAM-SHA-256
listener.name.scram.scram-sha-512.sasl.jaas.config={sasl}.scram.ScramLoginModule required;
listener.name.scram.scram-sha-256.sasl.jaas.config={sasl}.scram.ScramLoginModule required;
listener.name.plain.sasl.enabled.mechanisms=PLAIN
listener.name.plain.plain.sasl.jaas.config={sasl}.plain.PlainLoginModule required user_milena="{secret}";
"""


@dataclass(frozen=True)
class SecuredKafka:
    """One access for each listener. `plain` is the one without any security, for the tests' own helpers."""

    pid: int
    plain: str
    scram: KafkaAccess
    login: KafkaAccess
    mutual: KafkaAccess

    def list_accesses(self) -> dict[str, KafkaAccess]:
        """All that our clients are tried with."""
        return {
            "scram-512": self.scram,
            "scram-256": replace(self.scram, mechanism="SCRAM-SHA-256"),
            "plain": self.login,
            "mutual-tls": self.mutual,
        }


@contextlib.contextmanager
def run_secured_kafka() -> Iterator[SecuredKafka]:
    """Start it, and stop it with all its data."""
    root = Path(tempfile.mkdtemp(prefix="milena-secured-"))
    ports = {name: find_free_port() for name in ("plain", "controller", "scram", "login", "mutual")}
    _write_certificates(root)
    cache = read_cache_settings()
    kafka = EmbeddedKafka(
        root / "kafka",
        ports["plain"],
        ports["controller"],
        cache_dir=cache.directory,
        java_home=cache.java_home,
        properties=_PROPERTIES.format(**ports, files=root, sasl=_SASL, secret=PLAIN_PASSWORD),
        format_options=[
            option
            for mechanism in ("SCRAM-SHA-512", "SCRAM-SHA-256")
            for option in ("--add-scram", f"{mechanism}=[name={USERNAME},password={PASSWORD}]")
        ],
    )
    try:
        kafka.prepare()
        kafka.start()
        kafka.wait_until_ready()
        yield _describe(kafka.pid or 0, root, ports)
    finally:
        kafka.stop()
        shutil.rmtree(root, ignore_errors=True)


def _describe(pid: int, root: Path, ports: dict[str, int]) -> SecuredKafka:
    address, ca = {name: f"127.0.0.1:{port}" for name, port in ports.items()}, str(root / "ca.pem")
    return SecuredKafka(
        pid,
        address["plain"],
        KafkaAccess(address["scram"], "SASL_SSL", "SCRAM-SHA-512", USERNAME, PASSWORD, tls_ca=ca),
        KafkaAccess(address["login"], "SASL_PLAINTEXT", "PLAIN", USERNAME, PLAIN_PASSWORD),
        KafkaAccess(address["mutual"], "SSL", tls_ca=ca, tls_cert=str(root / "client.pem")),
    )


def _write_certificates(directory: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    for name, host in (("broker", "127.0.0.1"), ("client", "milena.example.org")):
        issued = authority.issue_cert(host)
        key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
        # Kafka reads keys in PKCS #8 only.
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        (directory / f"{name}.pem").write_bytes(pem + chain)
