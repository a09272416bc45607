"""What the records say of every id, kept in little room; and which requests nobody can read wait for an answer."""

from collections.abc import Collection, Iterable
from datetime import datetime
from uuid import UUID

from services.gateway.dossiers import Dossier, open_dossier, unpack
from services.gateway.lines import Observation
from services.gateway.observing import observe
from shared.batching import Record
from shared.events import EmailFailed, EventType, UnreadableEvent, open_record, read_model
from shared.states import FailureReason
from shared.topics import Topics

Spot = tuple[int, int]
"""Partition and offset of a record of email.requested."""

# Of what nobody can read, these the sender answers; a cancellation and what is of another type it need not.
_ANSWERED = (EventType.REQUESTED, EventType.BULK_REQUESTED)


class Gathering:
    """Adds up records. One dossier per id (services/gateway/dossiers.py says what it costs), packed.

    `unreadable` has the time of each request record that nobody can read, `answered` those for which there is an
    `email.failed`; about 150 bytes each. `records` counts what was taken.
    """

    def __init__(self, topics: Topics, cluster_id: str, event_limit: int) -> None:
        self.records = 0
        self.unreadable: dict[Spot, datetime] = {}
        self.answered: set[Spot] = set()
        self._topics = topics
        self._cluster_id = cluster_id
        self._event_limit = event_limit
        self._packed: dict[bytes, bytes] = {}

    def take(self, records: Iterable[Record]) -> None:
        """Add what records say."""
        for record in records:
            self.records += 1
            observed = observe(record, self._cluster_id, self._event_limit)
            for each in observed:
                self._add(each)
            if not observed and record.topic == self._topics.requested and self._expects_answer(record):
                self.unreadable[record.partition, record.offset] = record.coordinates.time
            self._take_answer(record)

    def take_news(self, records: Iterable[Record], of: Collection[UUID]) -> None:
        """Add what later records say of some ids only, and answers."""
        for record in records:
            for observed in observe(record, self._cluster_id, self._event_limit):
                if observed.line.email_id in of:
                    self._add(observed)
            self._take_answer(record)

    def list_ids(self) -> list[bytes]:
        """Every id, as 16 bytes."""
        return list(self._packed)

    def find(self, email_id: UUID) -> Dossier:
        """What is known of an id that was seen."""
        return unpack(self._packed[email_id.bytes], email_id)

    def _add(self, observed: Observation) -> None:
        email_id = observed.line.email_id
        dossier = open_dossier(observed)
        known = self._packed.get(email_id.bytes)
        if known:
            dossier = unpack(known, email_id).merge(dossier)
        self._packed[email_id.bytes] = dossier.pack()

    def _expects_answer(self, record: Record) -> bool:
        try:
            return open_record(record.value, record.header("ce_type"), self._event_limit).type in _ANSWERED
        except UnreadableEvent:
            return True

    def _take_answer(self, record: Record) -> None:
        if record.topic != self._topics.failed or not record.value or b'"source"' not in record.value:
            return
        try:
            opened = open_record(record.value, record.header("ce_type"), self._event_limit)
            event = read_model(opened, EmailFailed) if opened.type is EventType.FAILED else None
        except UnreadableEvent:
            return
        if event is None or event.source is None or event.reason is not FailureReason.INVALID_REQUEST:
            return
        if event.source.topic == self._topics.requested:
            self.answered.add((event.source.partition, event.source.offset))
