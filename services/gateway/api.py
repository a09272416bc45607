"""The gateway's HTTP API: mails in, their status and timeline out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog
from fastapi import FastAPI

from services.gateway.accepting import Acceptor
from services.gateway.batch import setup_batch
from services.gateway.bodies import NewBatch, SimpleEmail
from services.gateway.bulk import BulkLimits, setup_bulk
from services.gateway.bulk_form import NewBulk
from services.gateway.cancelling import setup_cancelling
from services.gateway.counting import setup_counting
from services.gateway.idempotency import Idempotency
from services.gateway.idempotency_store import KeyStore
from services.gateway.key_routes import setup_keys
from services.gateway.list_store import ListStore
from services.gateway.listening import setup_listening
from services.gateway.listing import setup_listing
from services.gateway.readiness import ToleratedAbsence
from services.gateway.reading import setup_reading
from services.gateway.rereading import RecordReader
from services.gateway.retrier import Retrier
from services.gateway.retry_store import RetryStore
from services.gateway.retrying import RetryFilter, RetryOptions, setup_retrying
from services.gateway.sending import setup_sending
from services.gateway.settings import ApiSettings
from services.gateway.store import ReadModel
from services.gateway.tally_store import TallyStore
from services.gateway.templates import TemplateLookup, TemplateStore, setup_templates
from services.gateway.templates.routes import BODIES as TEMPLATE_BODIES
from shared.access import AccessStore, KeyLookup, LastUses
from shared.apidocs import ProblemDocument, add_schemas
from shared.composing.forms import NewEmail
from shared.database import LIST_PLANNING, Database
from shared.live import Feed, Live, Slots, TicketOffice
from shared.middlewares import Endpoint
from shared.process import calm_collector
from shared.publisher import Publisher
from shared.topics import Topics
from shared.web import setup_web

log = structlog.get_logger(__name__)

PREFIXES: tuple[str, ...] = ("/email", "/v1/emails", "/v1/events", "/v1/keys", "/v1/live", "/v1/stats", "/v1/templates")

_DESCRIPTION = "Send mail, and see for every recipient what has become of it."


def create_api(settings: ApiSettings) -> FastAPI:
    """Build the application. It starts with Kafka or PostgreSQL away, and is ready once they have come."""
    url = settings.database_url.get_secret_value()
    database = Database(url, pool_size=10, application_name="milena-gateway-api")
    # Lists have connections of their own: planned in their way, and never the last one of who looks up a key.
    lists = Database(url, pool_size=4, application_name="milena-gateway-lists", planning=LIST_PLANNING)
    publisher = _create_publisher(settings)
    access = AccessStore(database)
    uses = LastUses(access)
    keys = KeyLookup(access, on_use=uses.note)
    listening = _create_live(settings)

    @asynccontextmanager
    async def live(_app: FastAPI) -> AsyncIterator[None]:
        await publisher.start(wait=False)
        await uses.start()
        calm_collector()
        yield
        await listening.stop()
        await publisher.stop()
        await uses.stop()
        await database.close()
        await lists.close()

    app = FastAPI(title="Milena gateway", description=_DESCRIPTION, version="0.1.0", lifespan=live, redoc_url=None)
    # An address with a slash too many is a 404, not a redirect: that would name whatever host and scheme a proxy hides,
    # and a client that follows it takes its API key there.
    app.router.redirect_slashes = False
    hot_posts = _setup_mails(app, settings, keys, publisher, database)
    setup_listing(app, keys, ListStore(lists))
    setup_counting(app, keys, TallyStore(lists))
    setup_keys(app, keys, access, settings.master_secret, settings)
    setup_listening(app, keys, listening, _open_office(settings), settings.allowed_origins)
    _setup_edge(app, settings, keys, publisher, database, hot_posts)
    return app


def _setup_mails(
    app: FastAPI, settings: ApiSettings, keys: KeyLookup, publisher: Publisher, database: Database
) -> dict[str, Endpoint]:
    """The routes that send mail, and those of one mail; what may be served hot."""
    requested, emails = Topics(settings.topic_prefix).requested, ReadModel(database, settings.read_patience_s)
    acceptor = Acceptor(publisher, requested, settings.event_limit)
    templates = TemplateStore(database)
    once, stored, rules = Idempotency(KeyStore(database)), TemplateLookup(templates), settings.attachment_rules
    hot_posts = setup_sending(app, keys, acceptor, once, stored, rules)
    setup_batch(app, keys, acceptor, once, stored, rules)
    setup_bulk(app, keys, acceptor, once, stored, rules, BulkLimits(settings.event_limit, settings.batch_limit))
    setup_reading(app, keys, emails)
    setup_cancelling(app, keys, emails, publisher, requested)
    setup_templates(app, keys, templates)
    retries = RetryStore(database)
    reader = RecordReader(requested, kafka=settings.kafka, event_limit=settings.event_limit)
    setup_retrying(app, keys, emails, retries, Retrier(emails, retries, reader, acceptor, settings.event_limit), once)
    return hot_posts


def _setup_edge(
    app: FastAPI,
    settings: ApiSettings,
    keys: KeyLookup,
    publisher: Publisher,
    database: Database,
    hot_posts: dict[str, Endpoint],
) -> None:
    async def check_kafka() -> str | None:
        return None if publisher.available else "does not acknowledge: is the broker running?"

    setup_web(
        app,
        settings,
        {"kafka": check_kafka, "database": ToleratedAbsence(database.check, timedelta(minutes=15))},
        keys=keys,
        # JSON escapes and form encoding can make a body three times as long as its event.
        body_limit=3 * settings.event_limit,
        body_note=f"A mail may have at most {settings.event_limit} bytes as an event, everything included.",
        body_limits=dict.fromkeys(("/v1/emails/batch", "/v1/emails/bulk"), settings.batch_limit),
        hot_posts=hot_posts,
    )
    add_schemas(
        app, SimpleEmail, NewEmail, NewBatch, NewBulk, RetryOptions, RetryFilter, *TEMPLATE_BODIES, ProblemDocument
    )


def _create_publisher(settings: ApiSettings) -> Publisher:
    return Publisher(
        settings.kafka,
        client_id=f"milena-gateway-api-{settings.slot}",
        compress=True,
        event_limit=settings.event_limit,
    )


def _create_live(settings: ApiSettings) -> Live:
    topics = Topics(settings.topic_prefix)
    feed = Feed(
        (topics.sent, topics.failed),
        kafka=settings.kafka,
        client_id=f"milena-gateway-live-{settings.slot}",
        event_limit=settings.event_limit,
    )
    slots = Slots(per_process=settings.live_streams, per_account=settings.live_streams_per_account)
    return Live(feed, slots, most_records=settings.live_history)


def _open_office(settings: ApiSettings) -> TicketOffice:
    if settings.master_secret is None:
        log.info("no master secret: live tickets are good at this process only, until it ends")
        return TicketOffice(None)
    return TicketOffice(settings.master_secret.get_secret_value())
