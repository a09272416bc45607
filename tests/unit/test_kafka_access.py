"""How Kafka is reached: which settings go together, what clients are given, and that no secret is shown."""

from pathlib import Path

import pytest
import trustme
from pydantic import ValidationError

from shared.consuming.consumer import _build_credentials
from shared.kafka_access import KafkaAccess
from shared.settings import KafkaSettings, describe_errors

LOGIN = {"kafka_sasl_username": "milena", "kafka_sasl_password": "secret-4711"}


def complain(**settings: str) -> str:
    with pytest.raises(ValidationError) as caught:
        KafkaSettings(**settings)  # type: ignore[arg-type]
    return "\n".join(describe_errors(caught.value))


def test_without_any_setting_clients_are_given_addresses_only() -> None:
    assert KafkaSettings().kafka.options() == {"bootstrap_servers": "127.0.0.1:19092"}


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_login_reaches_aiokafka_and_faust_alike(mechanism: str) -> None:
    settings = KafkaSettings(kafka_security_protocol="SASL_SSL", kafka_sasl_mechanism=mechanism, **LOGIN)  # type: ignore[arg-type]
    options, credentials = settings.kafka.options(), _build_credentials(settings.kafka)
    assert options["security_protocol"] == credentials.protocol.value == "SASL_SSL"  # type: ignore[union-attr]
    assert options["sasl_mechanism"] == credentials.mechanism.value == mechanism  # type: ignore[union-attr]
    assert options["sasl_plain_password"] == credentials.password == "secret-4711"  # type: ignore[union-attr]
    assert options["ssl_context"] is credentials.ssl_context is not None  # type: ignore[union-attr]


def test_tls_needs_no_login_and_believes_only_the_named_authority(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    settings = KafkaSettings(kafka_security_protocol="SSL", kafka_tls_ca=str(tmp_path / "ca.pem"))
    context = settings.kafka.options()["ssl_context"]
    assert len(context.get_ca_certs()) == 1
    assert context.check_hostname
    assert _build_credentials(settings.kafka).context is context  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kafka_security_protocol": "SASL_SSL"}, "MILENA_KAFKA_SASL_USERNAME: is needed with"),
        (
            {"kafka_security_protocol": "SASL_PLAINTEXT", "kafka_sasl_username": "milena"},
            "MILENA_KAFKA_SASL_PASSWORD: is needed with MILENA_KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT",
        ),
        (LOGIN, "MILENA_KAFKA_SASL_USERNAME: needs MILENA_KAFKA_SECURITY_PROTOCOL=SASL_SSL or SASL_PLAINTEXT"),
        ({"kafka_tls_ca": "ca.pem"}, "MILENA_KAFKA_TLS_CA: needs MILENA_KAFKA_SECURITY_PROTOCOL=SSL or SASL_SSL"),
        ({"kafka_security_protocol": "SSL", "kafka_tls_ca": "/no/such.pem"}, "MILENA_KAFKA_TLS_CA: no PEM file"),
        ({"kafka_security_protocol": "SSL", "kafka_tls_key": "key.pem"}, "MILENA_KAFKA_TLS_CERT: is needed with"),
        ({"kafka_security_protocol": "SSL", "kafka_tls_cert": __file__}, "MILENA_KAFKA_TLS_CERT, _TLS_KEY: no PEM"),
        ({"kafka_security_protocol": "TLS"}, "MILENA_KAFKA_SECURITY_PROTOCOL: Input should be 'PLAINTEXT', 'SSL'"),
    ],
)
def test_settings_that_do_not_go_together_are_named(settings: dict[str, str], said: str) -> None:
    complaint = complain(**settings)
    assert complaint.startswith(said)
    assert "4711" not in complaint


def test_the_password_is_not_shown() -> None:
    assert "4711" not in repr(KafkaAccess("k:9092", "SASL_SSL", username="milena", password="secret-4711"))
