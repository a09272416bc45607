"""A Kafka with TLS and SASL, reached by all that ever speaks to Kafka; and what is said where it is not reached."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
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
        services = ServiceRunner({**settings, "MILENA_LOG_LEVEL": "DEBUG"})
        sender = services.start("services.sender", "worker")
        try:
            await publish_json(stack, SIMPLE)
            await read_results(stack, count=1, timeout_s=40)
        finally:
            services.stop_all()
        assert len(relay.taken) == 1
    assert PASSWORD not in sender.read_log()


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
        "MILENA_KAFKA_TLS_CA": replace(scram, tls_ca=other),
        "MILENA_KAFKA_SASL_MECHANISM": replace(scram, mechanism="PLAIN"),
        "MILENA_KAFKA_SECURITY_PROTOCOL": KafkaAccess(scram.bootstrap_servers),
        "MILENA_KAFKA_SECURITY_PROTOCOL,": replace(scram, bootstrap_servers=secured.plain),
        "MILENA_KAFKA_TLS_CERT": replace(secured.mutual, tls_cert=None),
        "MILENA_KAFKA_BOOTSTRAP_SERVERS": replace(scram, bootstrap_servers=f"127.0.0.1:{find_free_port()}"),
    }
    explained = {name: await kafka.explain_absence() for name, kafka in wrong.items()}
    assert {name for name, absence in explained.items() if name not in absence.why} == set(), explained
    assert explained["MILENA_KAFKA_TLS_CA"].lasting
    assert not explained["MILENA_KAFKA_BOOTSTRAP_SERVERS"].lasting
