"""What can be watched of this service as it runs: all of it shares the process's streams, and its tickets."""

from uuid import UUID

import structlog

from services.scheduler.settings import ApiSettings
from shared.applications import DatabaseApi
from shared.live import Door, Poller, Sight, Slots, TicketOffice, setup_sight

log = structlog.get_logger(__name__)


class Views:
    """Lets things be watched, each kind under an address of its own."""

    def __init__(self, api: DatabaseApi, settings: ApiSettings) -> None:
        self._api = api
        self._slots = Slots(per_process=settings.live_streams, per_account=settings.live_streams_per_account)
        self._office = _open_office(settings)
        self._origins = settings.allowed_origins

    def add(self, sight: Sight) -> None:
        """Add a kind."""
        poller: Poller[UUID] = Poller(sight.look, self._slots)
        self._api.leaving.append(poller.stop)
        setup_sight(self._api.app, sight, poller, Door(self._api.keys, self._office, sight.scope, self._origins))


def _open_office(settings: ApiSettings) -> TicketOffice:
    if settings.master_secret is None:
        log.info("no master secret: the gateway's live tickets are not good here")
        return TicketOffice(None)
    return TicketOffice(settings.master_secret.get_secret_value())
