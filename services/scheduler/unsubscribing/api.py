"""The API's part about unsubscribing."""

from services.scheduler.settings import ApiSettings
from services.scheduler.unsubscribing import links
from services.scheduler.unsubscribing.answering import LinkAnswers
from services.scheduler.unsubscribing.links import LinkReader
from services.scheduler.unsubscribing.public_routes import setup_links
from services.scheduler.unsubscribing.routes import PATH, NewUnsubscriptions, setup_unsubscriptions
from services.scheduler.unsubscribing.store import UnsubscriptionStore
from services.scheduler.unsubscribing.throttle import Throttle
from shared.apidocs import add_schemas
from shared.applications import DatabaseApi

PREFIXES = (PATH, links.PATH)
OPEN_PREFIX = f"{links.PATH}/"


def setup_unsubscribing(api: DatabaseApi, settings: ApiSettings) -> None:
    """Add the routes under `/v1/unsubscriptions` and `/unsubscribe`."""
    store = UnsubscriptionStore(api.database)
    secret = settings.master_secret
    # Links are good as long as the secret is, also once no more are made.
    reader = LinkReader(secret.get_secret_value()) if secret else None
    setup_links(api.app, LinkAnswers(store, reader, Throttle(settings.unsubscribe_rate)))
    setup_unsubscriptions(api.app, api.keys, store)
    add_schemas(api.app, NewUnsubscriptions)
