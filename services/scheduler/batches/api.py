"""The API's part that takes batches in and tells how they stand."""

from services.scheduler.batches.control import Control, setup_control
from services.scheduler.batches.item_store import BatchItemStore
from services.scheduler.batches.reading import setup_reading
from services.scheduler.batches.store import BatchStore
from services.scheduler.batches.uploading import Uploads, setup_uploading
from services.scheduler.batches.watching import BatchLook, make_sight
from services.scheduler.pacing.bulk_store import BulkStore
from services.scheduler.settings import ApiSettings
from services.scheduler.views import Views
from shared.apidocs import add_schemas
from shared.applications import DatabaseApi
from shared.composing.forms import NewEmail

PREFIXES = ("/v1/batches",)
UPLOADS = "/v1/batches"


def setup_batches(api: DatabaseApi, settings: ApiSettings, views: Views) -> None:
    """Add the routes under `/v1/batches`."""
    app, keys, store = api.app, api.keys, BatchStore(api.database)
    bulk, items = BulkStore(api.database), BatchItemStore(api.database)
    setup_uploading(app, keys, Uploads(store, bulk, settings))
    setup_reading(app, keys, store, items)
    setup_control(app, keys, Control(store, items, bulk))
    views.add(make_sight(BatchLook(store)))
    add_schemas(app, NewEmail)
