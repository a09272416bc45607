"""The scheduler's HTTP API: what waits for its time, tasks, batches, contacts, mailings, and who wants none."""

from fastapi import FastAPI

from services.scheduler import task_api
from services.scheduler.batches import api as batch_api
from services.scheduler.contacts import api as contact_api
from services.scheduler.lists import api as list_api
from services.scheduler.mailings import api as mailing_api
from services.scheduler.settings import ApiSettings
from services.scheduler.unsubscribing import api as unsubscribing_api
from services.scheduler.views import Views
from services.scheduler.waiting.routes import setup_scheduled
from shared.applications import create_database_api

PREFIXES = (
    "/v1/scheduled",
    *task_api.PREFIXES,
    *batch_api.PREFIXES,
    *contact_api.PREFIXES,
    *mailing_api.PREFIXES,
    *list_api.PREFIXES,
    *unsubscribing_api.PREFIXES,
)
_BODY_LIMIT = 512 * 1024  # a task holds a whole mail


def create_api(settings: ApiSettings) -> FastAPI:
    """The application; its lifespan closes the database."""
    uploads = {
        batch_api.UPLOADS: settings.batch_bytes,
        contact_api.UPLOADS: settings.contact_import_bytes,
        list_api.UPLOADS: settings.list_bytes,
    }
    api = create_database_api(
        "scheduler",
        settings,
        settings.database_url.get_secret_value(),
        body_limit=_BODY_LIMIT,
        body_limits=uploads,
        streamed=tuple(uploads),
        public={unsubscribing_api.OPEN_PREFIX: settings.public_networks},
    )
    setup_scheduled(api)
    task_api.setup_tasks(api, settings)
    views = Views(api, settings)
    batch_api.setup_batches(api, settings, views)
    contact_api.setup_contacts(api, settings)
    mailing_api.setup_mailings(api, settings, views)
    list_api.setup_lists(api, settings)
    unsubscribing_api.setup_unsubscribing(api, settings)
    return api.app
