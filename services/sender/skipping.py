"""The operator's command on records that have ended their readers (R4)."""

import sys

from services.sender.store import PartitionStore, Suspect
from services.sender.suspects import HOLD_AFTER
from shared.database import Database


async def skip_record(database_url: str, topic: str, partition: int | None, offset: int | None) -> int:
    """Print what is suspected, or mark one record as given up. Returns the exit code; raises DatabaseUnavailable."""
    database = Database(database_url, pool_size=1, application_name="milena-sender-skip")
    store = PartitionStore(database)
    try:
        suspects = await store.list_suspects(topic)
        if partition is None and offset is None:
            _show(topic, suspects)
            return 0
        if not any((each.partition, each.offset) == (partition, offset) for each in suspects):
            print("That record has ended no process; only these can be skipped:", file=sys.stderr)
            _show(topic, suspects)
            return 1
        assert partition is not None and offset is not None
        await store.skip(topic, partition, offset)
        print(f"{topic} partition {partition} offset {offset} is given up: once a sender holds it, that answers with")
        print("email.failed, reason invalid_request, and the partition goes on.")
        return 0
    finally:
        await database.close()


def _show(topic: str, suspects: list[Suspect]) -> None:
    if not suspects:
        print(f"No record of {topic} has ended a process.")
    for each in suspects:
        state = "given up" if each.skipped else "held" if each.deaths >= HOLD_AFTER else "watched"
        print(f"partition {each.partition} offset {each.offset}: {each.deaths} deaths, {state}")
