"""One mail on its way through the pipeline."""

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import getrandbits
from uuid import UUID

from services.sender.classify import Outcome
from services.sender.form import FormMemo
from services.sender.ledger import LedgerEntry
from services.sender.parcel import Troubles
from shared.consuming import FaustTicket
from shared.due import DueRow
from shared.events import EmailRequested, make_uuid


def new_token() -> UUID:
    """A claim's token: distinct, not secret; uuid4 would ask the kernel for each."""
    return make_uuid(getrandbits(128))


@dataclass(slots=True, eq=False)
class Work:
    """A mail, who waits for it (tickets of the lane, or a due row), and what has become of it so far.

    Several tickets: further events with the same id that came while this one was at work; they end with it.
    """

    mail: EmailRequested
    entry: LedgerEntry
    traceparent: str | None
    tickets: list[FaustTicket] = field(default_factory=list)
    due: DueRow | None = None
    token: UUID = field(default_factory=new_token)
    refused: dict[str, Outcome] = field(default_factory=dict)  # known before sending: suppressed recipients
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    pending: list[str] = field(default_factory=list)
    relay: str = ""
    troubles: Troubles | None = None  # met in this attempt, by parcels that came back
    must_hold: bool = False  # cancelled, while nobody knows whether the relay has it: it is not sent again
    must_not_send: bool = False  # taken over once too often, or under `hold`: its outcome stays unknown
    began: float = field(default_factory=time.monotonic)
    lease_confirmed: float = 0.0  # monotonic time of the last claim or renewal PostgreSQL has acknowledged
    database_time: datetime | None = None  # PostgreSQL's clock when last heard
    database_time_at: float = 0.0
    memo: FormMemo | None = None  # shared by the mails of a bulk event
    attempt_announced: int | None = None  # publish this attempt only; None: all of them

    @property
    def id(self) -> UUID:
        """The email id."""
        return self.entry.id

    def confirm_lease(self, asked: float, database_time: datetime, answered: float | None = None) -> None:
        """A claim or renewal asked for at monotonic time `asked` has been acknowledged, just now or at `answered`."""
        if not self.lease_confirmed:
            self.began = asked  # what it waited for before does not make it late
        self.lease_confirmed = asked
        self.database_time = database_time
        self.database_time_at = time.monotonic() if answered is None else answered

    def now(self) -> datetime:
        """PostgreSQL's clock, carried on by ours."""
        assert self.database_time is not None, "only after a claim"
        return self.database_time + timedelta(seconds=time.monotonic() - self.database_time_at)
