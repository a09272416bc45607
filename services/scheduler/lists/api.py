"""The API's part that takes lists of recipients in."""

from services.scheduler.lists.reading_routes import setup_list_reading
from services.scheduler.lists.receiving import ListReceiver
from services.scheduler.lists.routes import PATH, setup_list_routes
from services.scheduler.lists.store import ListStore
from services.scheduler.settings import ApiSettings
from shared.applications import DatabaseApi
from shared.uploads import UploadSlots

PREFIXES = (PATH,)
UPLOADS = PATH


def setup_lists(api: DatabaseApi, settings: ApiSettings) -> None:
    """Add the routes under `/v1/lists`."""
    store = ListStore(api.database)
    receiver = ListReceiver(store, settings.list_rows)
    setup_list_routes(api.app, api.keys, store, receiver, UploadSlots(settings.list_uploads, "lists"))
    setup_list_reading(api.app, api.keys, store)
