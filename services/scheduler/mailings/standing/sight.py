"""`GET /v1/mailings/{id}/events`: a mailing as it runs, over SSE or a WebSocket."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from services.scheduler.mailings.examples import EVENTS
from services.scheduler.mailings.routes import PATH, SCOPE
from services.scheduler.mailings.standing.answers import show_progress
from services.scheduler.mailings.standing.standing import MailingStanding
from services.scheduler.mailings.standing.store import StandingStore
from shared.access import ApiKey
from shared.live import Message, Sight, Snapshot

_PROGRESS, _FINISHED = "mailing.progress", "mailing.finished"
_DESCRIPTION = """\
Server-Sent Events: `mailing.progress`, first at once and then about every second while something changes,
and `mailing.finished` once every mail has its end, also of one that was cancelled; then the stream ends. `data` is
what changes of a mailing, as `GET /v1/mailings/{id}` has it. Events are how it stands, no history: who comes back is
told how it stands then, unless the id he was told last says that he knows. The same address takes a WebSocket; a
message is then `{id, type, data}`. A page uses a ticket (`POST /v1/live/tickets?scope=mailings:admin`)."""


class MailingLook:
    """What viewers are shown, looked up for all of them at once. Both raise Unavailable."""

    def __init__(self, standings: StandingStore) -> None:
        self._standings = standings

    async def look(self, ids: Sequence[UUID]) -> Mapping[UUID, Snapshot]:
        """How mailings stand."""
        return {each.id: make_snapshot(each) for each in (await self._standings.find(ids)).values()}

    async def find(self, mailing_id: UUID, key: ApiKey) -> Snapshot | None:
        """How a mailing of the key's account stands."""
        found = (await self._standings.find([mailing_id])).get(mailing_id)
        return make_snapshot(found) if found and found.account == key.account else None


def make_snapshot(standing: MailingStanding) -> Snapshot:
    """What is told of a mailing; the last of one that is over."""
    payload = show_progress(standing).model_dump_json(exclude_none=True).encode()
    kind = _FINISHED if standing.finished_at else _PROGRESS
    return Snapshot(Message(standing.mark, kind, payload), is_last=standing.finished_at is not None)


def make_sight(look: MailingLook) -> Sight:
    """A mailing, to be watched."""
    return Sight(
        noun="mailing",
        path=f"{PATH}/{{mailing_id}}/events",
        tag="Mailings",
        summary="A mailing as it runs",
        description=_DESCRIPTION,
        example=EVENTS,
        scope=SCOPE,
        find=look.find,
        look=look.look,
    )
