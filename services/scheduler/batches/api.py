"""The API's part that takes batches in and tells how they stand."""

from uuid import UUID

import structlog

from services.scheduler.batches.control import Control, setup_control
from services.scheduler.batches.item_store import BatchItemStore
from services.scheduler.batches.reading import setup_reading
from services.scheduler.batches.store import BatchStore
from services.scheduler.batches.uploading import Uploads, setup_uploading
from services.scheduler.batches.watching import BatchLook, setup_watching
from services.scheduler.pacing.bulk_store import BulkStore
from services.scheduler.settings import ApiSettings
from shared.access import ApiScope
from shared.apidocs import add_schemas
from shared.applications import DatabaseApi
from shared.composing.forms import NewEmail
from shared.live import Door, Poller, Slots, TicketOffice

log = structlog.get_logger(__name__)

PREFIXES = ("/v1/batches",)
UPLOADS = "/v1/batches"


def setup_batches(api: DatabaseApi, settings: ApiSettings) -> None:
    """Add the routes under `/v1/batches`."""
    app, keys, store = api.app, api.keys, BatchStore(api.database)
    bulk, items = BulkStore(api.database), BatchItemStore(api.database)
    setup_uploading(app, keys, Uploads(store, bulk, settings))
    setup_reading(app, keys, store, items)
    setup_control(app, keys, Control(store, items, bulk))
    slots = Slots(per_process=settings.live_streams, per_account=settings.live_streams_per_account)
    poller: Poller[UUID] = Poller(BatchLook(store).look, slots)
    api.leaving.append(poller.stop)
    setup_watching(
        app, store, poller, Door(keys, _open_office(settings), ApiScope.EMAILS_READ, settings.allowed_origins)
    )
    add_schemas(app, NewEmail)


def _open_office(settings: ApiSettings) -> TicketOffice:
    if settings.master_secret is None:
        log.info("no master secret: the gateway's live tickets are not good here")
        return TicketOffice(None)
    return TicketOffice(settings.master_secret.get_secret_value())
