"""The API's part that keeps contacts."""

from services.scheduler.contacts.bodies import ContactChanges, ErasureRequest, NewContact
from services.scheduler.contacts.erasing_routes import setup_erasing, setup_erasure_reading
from services.scheduler.contacts.erasing_store import ErasureStore
from services.scheduler.contacts.export_routes import setup_exporting
from services.scheduler.contacts.import_routes import IMPORT_PATH, setup_import_reading, setup_importing
from services.scheduler.contacts.import_store import ImportStore
from services.scheduler.contacts.queries import PATH
from services.scheduler.contacts.receiving import ContactImporter
from services.scheduler.contacts.routes import setup_contact_making, setup_contact_routes
from services.scheduler.contacts.store import ContactStore, open_contact_lists
from services.scheduler.settings import ApiSettings
from shared.apidocs import add_schemas
from shared.applications import DatabaseApi
from shared.uploads import UploadSlots

PREFIXES = (PATH,)
UPLOADS = IMPORT_PATH


def setup_contacts(api: DatabaseApi, settings: ApiSettings) -> None:
    """Add the routes under `/v1/contacts`; those with names of their own before those of one contact."""
    lists = open_contact_lists(settings.database_url.get_secret_value())
    api.leaving.append(lists.close)
    contacts, imports, erasures = (
        ContactStore(api.database, lists),
        ImportStore(api.database),
        ErasureStore(api.database),
    )
    slots = UploadSlots(settings.contact_imports, "files of contacts")
    setup_contact_making(api.app, api.keys, contacts)
    setup_importing(api.app, api.keys, ContactImporter(contacts, imports), slots)
    setup_import_reading(api.app, api.keys, imports)
    setup_exporting(api.app, api.keys, contacts)
    setup_erasure_reading(api.app, api.keys, erasures)
    setup_erasing(api.app, api.keys, erasures)
    setup_contact_routes(api.app, api.keys, contacts)
    add_schemas(api.app, NewContact, ContactChanges, ErasureRequest)
