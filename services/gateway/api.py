"""The gateway's HTTP API: mails in, their status and timeline out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from fastapi import FastAPI

from services.gateway.accepting import Acceptor
from services.gateway.batch import setup_batch
from services.gateway.bodies import NewBatch, NewEmail, SimpleEmail
from services.gateway.cancelling import setup_cancelling
from services.gateway.idempotency import Idempotency
from services.gateway.idempotency_store import KeyStore
from services.gateway.key_routes import setup_keys
from services.gateway.readiness import ToleratedAbsence
from services.gateway.reading import setup_reading
from services.gateway.rereading import RecordReader
from services.gateway.retrier import Retrier
from services.gateway.retry_store import RetryStore
from services.gateway.retrying import RetryFilter, RetryOptions, setup_retrying
from services.gateway.sending import setup_sending
from services.gateway.settings import ApiSettings
from services.gateway.store import ReadModel
from services.gateway.templates import TemplateLookup, TemplateStore, setup_templates
from services.gateway.templates.routes import BODIES as TEMPLATE_BODIES
from shared.access import AccessStore, KeyLookup, LastUses
from shared.apidocs import ProblemDocument, add_schemas
from shared.database import Database
from shared.process import calm_collector
from shared.publisher import Publisher
from shared.topics import Topics
from shared.web import setup_web

PREFIXES: tuple[str, ...] = ("/email", "/v1/emails", "/v1/keys", "/v1/templates")

_DESCRIPTION = "Send mail, and see for every recipient what has become of it."


def create_api(settings: ApiSettings) -> FastAPI:
    """Build the application. It starts with Kafka or PostgreSQL away, and is ready once they have come."""
    database = Database(settings.database_url.get_secret_value(), pool_size=10, application_name="milena-gateway-api")
    publisher = Publisher(
        settings.kafka_bootstrap_servers,
        client_id=f"milena-gateway-api-{settings.slot}",
        compress=True,
        event_limit=settings.event_limit,
    )
    access = AccessStore(database)
    uses = LastUses(access)
    keys = KeyLookup(access, on_use=uses.note)

    @asynccontextmanager
    async def live(_app: FastAPI) -> AsyncIterator[None]:
        await publisher.start(wait=False)
        await uses.start()
        calm_collector()
        yield
        await publisher.stop()
        await uses.stop()
        await database.close()

    async def check_kafka() -> str | None:
        return None if publisher.available else "does not acknowledge: is the broker running?"

    app = FastAPI(title="Milena gateway", description=_DESCRIPTION, version="0.1.0", lifespan=live, redoc_url=None)
    # An address with a slash too many is a 404, not a redirect: that would name whatever host and scheme a proxy hides,
    # and a client that follows it takes its API key there.
    app.router.redirect_slashes = False
    requested, emails = Topics(settings.topic_prefix).requested, ReadModel(database)
    templates = TemplateStore(database)
    acceptor = Acceptor(publisher, requested, settings.event_limit)
    once, rules = Idempotency(KeyStore(database)), settings.attachment_rules
    stored = TemplateLookup(templates)
    hot_posts = setup_sending(app, keys, acceptor, once, stored, rules)
    setup_batch(app, keys, acceptor, once, stored, rules)
    setup_reading(app, keys, emails)
    setup_cancelling(app, keys, emails, publisher, requested)
    setup_templates(app, keys, templates)
    retries = RetryStore(database)
    reader = RecordReader(
        requested, bootstrap_servers=settings.kafka_bootstrap_servers, event_limit=settings.event_limit
    )
    retrier = Retrier(emails, retries, reader, acceptor, settings.event_limit)
    setup_retrying(app, keys, emails, retries, retrier, once)
    setup_keys(app, keys, access, settings.master_secret, settings)
    setup_web(
        app,
        settings,
        {"kafka": check_kafka, "database": ToleratedAbsence(database.check, timedelta(minutes=15))},
        # JSON escapes and form encoding can make a body three times as long as its event.
        body_limit=3 * settings.event_limit,
        body_note=f"A mail may have at most {settings.event_limit} bytes as an event, everything included.",
        body_limits={"/v1/emails/batch": settings.batch_limit},
        hot_posts=hot_posts,
    )
    add_schemas(app, SimpleEmail, NewEmail, NewBatch, RetryOptions, RetryFilter, *TEMPLATE_BODIES, ProblemDocument)
    return app
