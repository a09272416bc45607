"""Which settings of the broker, and of ours, endanger a promise (P13)."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.retention import Breach, Demand, Memory, Observed, find_breaches
from shared.topics import TopicPlan

TOPIC = "email.requested"
DAY_MS = 86_400_000
GOOD_BROKER = {"offsets.retention.minutes": "20160", "transaction.max.timeout.ms": "60000"}
SAFE = {"min.insync.replicas": "2", "unclean.leader.election.enable": "false"}


def make_demand(**fields: object) -> Demand:
    memory = Memory("MILENA_LEDGER_RETENTION_DAYS", timedelta(days=30), (TOPIC,))
    demand = Demand((TOPIC,), 1024 * 1024, expiring=TOPIC, memories=(memory,))
    return replace(demand, **fields)  # type: ignore[arg-type]


def judge(
    topic: Mapping[str, str] | None = None,
    broker: Mapping[str, str] | None = None,
    *,
    brokers: int = 1,
    demand: Demand | None = None,
) -> list[Breach]:
    config = {**TopicPlan().config(), **SAFE, **(topic or {})}
    nodes = {str(node): GOOD_BROKER for node in range(brokers)}
    nodes["0"] = {**GOOD_BROKER, **(broker or {})}
    return find_breaches(demand or make_demand(), Observed({TOPIC: config}, nodes, brokers))


@pytest.mark.parametrize("brokers", [1, 3])
def test_what_the_topic_plan_creates_is_no_breach(brokers: int) -> None:
    assert judge(brokers=brokers) == []


@pytest.mark.parametrize(
    ("topic", "required"),
    [
        ({"retention.ms": str(14 * DAY_MS - 1)}, f"at least {14 * DAY_MS}"),
        ({"retention.bytes": "1073741824"}, "-1"),
        ({"cleanup.policy": "compact,delete"}, "delete"),
        ({"message.timestamp.type": "CreateTime"}, "LogAppendTime"),
        ({"max.message.bytes": "1048588"}, "at least 1114112"),
    ],
)
def test_a_topic_that_keeps_too_little_or_the_wrong_way(topic: dict[str, str], required: str) -> None:
    (breach,) = judge(topic)
    ((name, value),) = topic.items()
    assert (breach.setting, breach.value, breach.required) == (f"{TOPIC} {name}", value, required)
    assert breach.consequence


def test_the_longest_expiry_is_what_the_setting_says() -> None:
    (breach,) = judge(demand=make_demand(longest_expiry=timedelta(days=8)))
    assert breach.required == f"at least {15 * DAY_MS}"


def test_only_the_topic_whose_mails_expire_must_outlive_an_expiry() -> None:
    assert judge({"retention.ms": str(DAY_MS)}, demand=make_demand(expiring=None)) == []


@pytest.mark.parametrize(
    ("broker", "required"),
    [
        ({"offsets.retention.minutes": "10080"}, "at least 20160"),
        ({"transaction.max.timeout.ms": "900000"}, "at most 60000"),
    ],
)
def test_a_broker_whose_defaults_do_not_do(broker: dict[str, str], required: str) -> None:
    (breach,) = judge(broker=broker, brokers=3)
    ((name, value),) = broker.items()
    assert (breach.setting, breach.value, breach.required) == (name, value, required)


@pytest.mark.parametrize(
    ("topic", "required"),
    [({"min.insync.replicas": "1"}, "at least 2"), ({"unclean.leader.election.enable": "true"}, "false")],
)
def test_replication_counts_where_there_is_any(topic: dict[str, str], required: str) -> None:
    (breach,) = judge(topic, brokers=3)
    assert breach.required == required
    assert judge(topic, brokers=1) == [], "the embedded broker has nobody to replicate to"


@pytest.mark.parametrize("days", [14, 7])
def test_rows_that_recognise_a_repeat_must_outlive_their_records(days: int) -> None:
    memory = Memory("MILENA_LEDGER_RETENTION_DAYS", timedelta(days=days), (TOPIC,))
    (breach,) = judge(demand=make_demand(memories=(memory,)))
    assert (breach.setting, breach.value) == ("MILENA_LEDGER_RETENTION_DAYS", f"{days} days")
    assert breach.required == f"longer than the retention (14 days) of {TOPIC}"


def test_no_row_outlives_a_topic_that_is_kept_for_ever() -> None:
    breaches = judge({"retention.ms": "-1"})
    assert [breach.setting for breach in breaches] == ["MILENA_LEDGER_RETENTION_DAYS", "offsets.retention.minutes"]
    assert all("limited retention" in breach.required for breach in breaches)


def test_what_cannot_be_seen_is_no_breach() -> None:
    unseen = Observed({}, {}, 3, {TOPIC: "TopicAuthorizationFailedError"})
    assert find_breaches(make_demand(), unseen) == []
    assert find_breaches(make_demand(), Observed({TOPIC: {"retention.ms": str(20 * DAY_MS)}}, {"0": {}}, 3)) == []
