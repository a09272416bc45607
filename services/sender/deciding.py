"""The operator's commands on records that have ended their readers (R4)."""

import sys

from services.sender.store import PartitionStore, Suspect, Verdict
from services.sender.suspects import HOLD_AFTER
from shared.database import Database

_MEANING: dict[Verdict, str] = {
    "skip": "is given up: whoever holds it answers with email.failed (invalid_request), and its partition goes on",
    "release": "is read again by whoever holds it; if that ends its reader, the counting begins anew",
}


async def decide_on_record(
    database_url: str, topic: str, verdict: Verdict, partition: int | None, offset: int | None
) -> int:
    """Print what is suspected, or decide on one record. Returns the exit code; raises DatabaseUnavailable."""
    database = Database(database_url, pool_size=1, application_name="milena-sender-skip")
    store = PartitionStore(database)
    try:
        suspects = await store.list_suspects(topic)
        if partition is None and offset is None:
            _show(topic, suspects)
            return 0
        if not any((each.partition, each.offset) == (partition, offset) for each in suspects):
            print("That record has ended no process; only these can be decided on:", file=sys.stderr)
            _show(topic, suspects)
            return 1
        assert partition is not None and offset is not None
        await store.decide(topic, partition, offset, verdict)
        print(f"{topic} partition {partition} offset {offset} {_MEANING[verdict]}")
        return 0
    finally:
        await database.close()


def _show(topic: str, suspects: list[Suspect]) -> None:
    if not suspects:
        print(f"No record of {topic} has ended a process.")
    for each in suspects:
        state = "given up" if each.skipped else "held" if each.deaths >= HOLD_AFTER else "watched"
        print(f"partition {each.partition} offset {each.offset}: {each.deaths} deaths, {state}")
