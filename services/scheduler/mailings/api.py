"""The API's part about mailings."""

from services.scheduler.mailings.bodies import MailingChanges, NewMailing
from services.scheduler.mailings.commands import Mailings
from services.scheduler.mailings.routes import PATH, setup_mailing_routes
from services.scheduler.mailings.store import MailingStore
from services.scheduler.settings import ApiSettings
from shared.apidocs import add_schemas
from shared.applications import DatabaseApi

PREFIXES = (PATH,)


def setup_mailings(api: DatabaseApi, settings: ApiSettings) -> None:
    """Add the routes under `/v1/mailings`, a line for each kind of them."""
    store = MailingStore(api.database)
    setup_mailing_routes(api.app, api.keys, store, Mailings(store, settings.event_limit))
    add_schemas(api.app, NewMailing, MailingChanges)
