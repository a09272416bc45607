"""The sender's HTTP API: the operator's hand on sending. Every route needs the scope `operate`."""

from fastapi import FastAPI

from services.sender.routes.operators import create_authorize
from services.sender.routes.relays import setup_relays
from services.sender.routes.sending import setup_sending
from services.sender.routes.suppressions import IMPORT_LIMIT, IMPORT_PATH, setup_suppressions
from services.sender.routes.unknown import setup_unknown
from services.sender.settings import ApiSettings
from services.sender.store import PauseStore, SuppressionStore, UnknownStore
from services.sender.store.shares import ShareStore
from shared.applications import create_database_api

PREFIXES = ("/v1/sending", "/v1/unknown", "/v1/suppressions", "/v1/relays")


def create_api(settings: ApiSettings) -> FastAPI:
    """The application; its lifespan closes the database.

    It only writes down what operators want. The senders look for it twice a second, or find it on a due row.
    """
    url = settings.database_url.get_secret_value()
    api = create_database_api("sender", settings, url, body_limits={IMPORT_PATH: IMPORT_LIMIT})
    authorize = create_authorize(api.keys)
    setup_sending(api.app, authorize, PauseStore(api.database))
    setup_unknown(api.app, authorize, UnknownStore(api.database))
    setup_suppressions(api.app, authorize, SuppressionStore(api.database))
    setup_relays(api.app, authorize, ShareStore(api.database))
    return api.app
