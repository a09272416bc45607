"""Whether what Kafka keeps, and what our tables keep, is enough for the promises (P13). Pure.

A redelivered mail is recognised by a row; a mail that waits is carried by a record. So records must outlive the longest
expiry, and rows must outlive records.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from math import inf

from shared.topics import EVENT_HEADROOM

MARGIN = timedelta(days=7)  # between the longest expiry and the end of the topic's retention
_TRANSACTION_MS = 60_000
_DAY_S = 86_400

Config = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Memory:
    """Rows by which records of `topics` are recognised when they come again; `setting` says how long they are kept."""

    setting: str
    kept: timedelta
    topics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Demand:
    """What one process relies on.

    `topics`: those it reads. `expiring`: the topic whose mails wait up to `longest_expiry` after their record, None
    for a process that reads no mails. `event_limit` in bytes.
    """

    topics: tuple[str, ...]
    event_limit: int
    expiring: str | None = None
    longest_expiry: timedelta = timedelta(days=7)
    memories: tuple[Memory, ...] = ()


@dataclass(frozen=True, slots=True)
class Observed:
    """What the cluster says of itself. `unseen`: what it would not tell, and why."""

    topics: Mapping[str, Config]
    brokers: Mapping[str, Config]
    broker_count: int
    unseen: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Breach:
    """One setting that endangers a promise."""

    setting: str
    value: str
    required: str
    consequence: str


def find_breaches(demand: Demand, observed: Observed) -> list[Breach]:
    """Every breach; what could not be seen is none."""
    return [
        *_check_topics(demand, observed),
        *_check_memories(demand, observed),
        *_check_brokers(demand, observed),
    ]


def _check_topics(demand: Demand, observed: Observed) -> Iterator[Breach]:
    for topic in demand.topics:
        config = observed.topics.get(topic)
        if config is None:
            continue
        yield from _check_topic(topic, config, demand)
        if observed.broker_count > 1:
            yield from _check_replication(topic, config)


def _check_topic(topic: str, config: Config, demand: Demand) -> Iterator[Breach]:
    least = demand.longest_expiry + MARGIN
    if topic == demand.expiring and _read_retention_s(config) < least.total_seconds():
        why = "a mail may be deleted before it is sent or expires"
        yield Breach(f"{topic} retention.ms", str(config.get("retention.ms")), f"at least {_to_ms(least)}", why)
    most = demand.event_limit + EVENT_HEADROOM
    wanted = {
        "retention.bytes": ("-1", "the topic's size deletes events that nobody has read yet"),
        "cleanup.policy": ("delete", "compaction drops events, several of which share one key"),
        "message.timestamp.type": ("LogAppendTime", "publishers' clocks decide how long an event is kept, and its id"),
    }
    for name, (required, why) in wanted.items():
        value = config.get(name)
        if value is not None and value != required:
            yield Breach(f"{topic} {name}", value, required, why)
    if (size := _read_int(config, "max.message.bytes")) is not None and size < most:
        yield Breach(f"{topic} max.message.bytes", str(size), f"at least {most}", "events within the limit are refused")


def _check_replication(topic: str, config: Config) -> Iterator[Breach]:
    if (replicas := _read_int(config, "min.insync.replicas")) is not None and replicas < 2:
        why = "an acknowledged mail may lie on one broker only, and be lost with it"
        yield Breach(f"{topic} min.insync.replicas", str(replicas), "at least 2", why)
    if config.get("unclean.leader.election.enable") == "true":
        why = "a broker that lacks acknowledged mails may become leader, and they are lost"
        yield Breach(f"{topic} unclean.leader.election.enable", "true", "false", why)


def _check_memories(demand: Demand, observed: Observed) -> Iterator[Breach]:
    for memory in demand.memories:
        longest = _find_longest_s(memory.topics, observed)
        if longest is not None and memory.kept.total_seconds() <= longest:
            names = ", ".join(memory.topics)
            required = f"longer than the retention ({_say_days(longest)}) of {names}"
            if longest == inf:
                required = f"a limited retention of {names}"
            why = "an event that comes again is no longer recognised, and is acted on twice"
            yield Breach(memory.setting, _say_days(memory.kept.total_seconds()), required, why)


def _check_brokers(demand: Demand, observed: Observed) -> Iterator[Breach]:
    longest = _find_longest_s(demand.topics, observed)
    minutes = _read_all(observed, "offsets.retention.minutes")
    if minutes and longest is not None and min(minutes) * 60 < longest:
        required = "a limited retention of the topics" if longest == inf else f"at least {longest / 60:.0f}"
        why = "a service that was away for long starts from the earliest record, and reads everything again"
        yield Breach("offsets.retention.minutes", str(min(minutes)), required, why)
    timeouts = _read_all(observed, "transaction.max.timeout.ms")
    if timeouts and max(timeouts) > _TRANSACTION_MS:
        why = "a publisher's open transaction may hold up all mail behind it for as long"
        yield Breach("transaction.max.timeout.ms", str(max(timeouts)), f"at most {_TRANSACTION_MS}", why)


def _find_longest_s(topics: Iterable[str], observed: Observed) -> float | None:
    known = [_read_retention_s(observed.topics[topic]) for topic in topics if topic in observed.topics]
    return max(known, default=None)


def _read_retention_s(config: Config) -> float:
    """Seconds; unlimited (-1) and unknown count as for ever."""
    milliseconds = _read_int(config, "retention.ms")
    return inf if milliseconds is None or milliseconds < 0 else milliseconds / 1000


def _read_all(observed: Observed, name: str) -> list[int]:
    found = (_read_int(config, name) for config in observed.brokers.values())
    return [value for value in found if value is not None]


def _read_int(config: Config, name: str) -> int | None:
    value = config.get(name)
    return int(value) if value else None


def _to_ms(duration: timedelta) -> int:
    return int(duration.total_seconds() * 1000)


def _say_days(seconds: float) -> str:
    return "for ever" if seconds == inf else f"{seconds / _DAY_S:g} days"
