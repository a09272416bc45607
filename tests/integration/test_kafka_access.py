"""A Kafka with TLS and SASL, reached by all that ever speaks to Kafka; and what is said where it is not reached."""

import asyncio
import smtplib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trustme
from typer.testing import CliRunner

from deploy.local.ports import find_free_port
from deploy.local.topics import create_topics
from services.gateway import __main__ as gateway
from services.gateway.replaying import Replay
from shared.batching import BatchConsumer, Record
from shared.kafka_access import KafkaAccess
from shared.producing import Message
from shared.publisher import Publisher
from shared.survey import observe_cluster
from shared.topics import TopicPlan, Topics, prepare_topics
from tests.support.events import SIMPLE, publish_json, read_results
from tests.support.gateway import mint
from tests.support.outage import frozen
from tests.support.secured_kafka import PASSWORD, SecuredKafka, run_secured_kafka
from tests.support.services import ServiceRunner
from tests.support.smtp import run_smtp
from tests.support.stack import Stack

LIMIT = 64 * 1024


@pytest.fixture(scope="module")
def secured() -> Iterator[SecuredKafka]:
    with run_secured_kafka() as kafka:
        yield kafka


def describe(kafka: KafkaAccess) -> dict[str, str]:
    """The environment that says the same."""
    values = {
        "BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "SECURITY_PROTOCOL": kafka.protocol,
        "SASL_MECHANISM": kafka.mechanism if kafka.has_login else None,
        "SASL_USERNAME": kafka.username,
        "SASL_PASSWORD": kafka.password,
        "TLS_CA": kafka.tls_ca,
        "TLS_CERT": kafka.tls_cert,
    }
    return {f"MILENA_KAFKA_{name}": value for name, value in values.items() if value}


async def go_round(kafka: KafkaAccess, prefix: str) -> bytes | None:
    """Topics, a publisher, a group's consumer, a reader without a group, the survey."""
    topics = Topics(prefix)
    await prepare_topics(kafka, topics, "create", TopicPlan(partitions=1))
    publisher = Publisher(kafka, client_id="t", compress=True, event_limit=LIMIT, ack_timeout_s=30)
    await publisher.start()
    try:
        await publisher.publish(Message(topics.sent, b"key", b"value", []))
    finally:
        await publisher.stop()
    got: asyncio.Future[Sequence[Record]] = asyncio.get_running_loop().create_future()

    async def take(records: Sequence[Record]) -> None:
        got.set_result(records)

    consumer = BatchConsumer(f"{prefix}g", [topics.sent], take, kafka=kafka, slot=0, event_limit=LIMIT)
    await consumer.start()
    records = await asyncio.wait_for(got, 20)
    await consumer.stop()
    replay = Replay([topics.sent], kafka=kafka, event_limit=LIMIT)
    await replay.start()
    assert sum(replay.ends.values()) == 1
    await replay.stop()
    assert (await observe_cluster(kafka, topics.all())).broker_count == 1
    return records[0].value


async def test_every_client_gets_in_at_every_kind_of_listener(secured: SecuredKafka) -> None:
    accesses = secured.list_accesses()
    rounds = [go_round(kafka, f"{name}.") for name, kafka in accesses.items()]
    assert await asyncio.gather(*rounds) == [b"value"] * len(accesses)


async def test_a_mail_goes_the_whole_way_over_tls_and_scram(secured: SecuredKafka, database_url: str) -> None:
    stack = Stack(secured.plain, "mail.", database_url)
    await create_topics(secured.scram, stack.topics, "create")
    async with run_smtp() as relay:
        settings = {**stack.env(), **describe(secured.scram), "MILENA_SMTP_PORT": str(relay.port)}
        services = ServiceRunner({**settings, "MILENA_LOG_LEVEL": "DEBUG"}, preloaded=True)
        sender = services.start("services.sender", "worker")
        try:
            await publish_json(stack, SIMPLE)
            await read_results(stack, count=1, timeout_s=40)
        finally:
            services.stop_all()
        assert len(relay.taken) == 1
    assert PASSWORD not in sender.read_log()


async def test_an_outage_is_451_for_whoever_gives_mail_by_smtp(secured: SecuredKafka, database_url: str) -> None:
    stack, port = Stack(secured.plain, "smtp.", database_url), find_free_port()
    await create_topics(secured.scram, stack.topics, "create")
    settings = {**stack.env(), **describe(secured.scram), "MILENA_SMTP_INGEST_PORT": str(port)}
    services = ServiceRunner(settings, preloaded=True)
    try:
        ingest = services.start("services.gateway", "smtp")
        key = await mint(database_url)
        await ingest.wait_ready(60)
        give = partial(asyncio.to_thread, give_by_smtp, port, key.secret)
        assert (await give()).startswith("250 2.0.0 queued as ")
        with frozen(secured.pid):
            unknown, refused = await give(), await give()
        assert unknown.startswith("451 4.3.0 Kafka has not confirmed in time; it may still be sent as ")
        assert refused == "451 4.3.0 Kafka is away; nothing was written, try again"
        async with asyncio.timeout(30):
            while not (taken := await give()).startswith("250"):
                await asyncio.sleep(0.5)
        assert taken.split()[-1] in unknown  # the same mail, which the ledger sends once
    finally:
        services.stop_all()


def give_by_smtp(port: int, secret: str) -> str:
    """One mail, always the same; the reply to its content."""
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        client.login("milena", secret)
        client.mail("no-reply@example.com")
        client.rcpt("ann@example.org")
        head = "From: no-reply@example.com\nTo: ann@example.org\nMessage-ID: <a@example.com>"
        code, said = client.data(f"{head}\n\nHello\n")
        return f"{code} {said.decode()}"


def test_a_wrong_password_is_named_as_what_it_may_be_and_not_repeated(
    secured: SecuredKafka, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gateway, "set_up_logs", lambda *_args, **_fields: None)
    env = describe(replace(secured.scram, password="a-wrong-secret-4711"))
    with caplog.at_level("DEBUG"):
        result = CliRunner().invoke(gateway.app, ["topics"], env=env)
    assert result.exit_code == 1
    assert "look at MILENA_KAFKA_SASL_USERNAME, _SASL_PASSWORD" in result.output
    assert "4711" not in result.output + caplog.text


async def test_each_way_not_to_get_in_names_its_setting(secured: SecuredKafka, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    scram, other = secured.scram, str(tmp_path / "other.pem")
    wrong = {
        "MILENA_KAFKA_TLS_CA": [replace(scram, tls_ca=other)],
        "MILENA_KAFKA_SASL_MECHANISM": [replace(scram, mechanism="PLAIN")],
        "MILENA_KAFKA_SECURITY_PROTOCOL": [
            KafkaAccess(scram.bootstrap_servers),
            replace(scram, bootstrap_servers=secured.plain),
        ],
        "MILENA_KAFKA_TLS_CERT": [replace(secured.mutual, tls_cert=None)],
        "MILENA_KAFKA_BOOTSTRAP_SERVERS": [replace(scram, bootstrap_servers=f"127.0.0.1:{find_free_port()}")],
    }
    for name, accesses in wrong.items():
        for kafka in accesses:
            absence = await kafka.explain_absence()
            assert name in absence.why
            assert not (absence.lasting and name == "MILENA_KAFKA_BOOTSTRAP_SERVERS")
