"""The API's part about mailings."""

from services.scheduler.mailings.audience_store import open_audiences
from services.scheduler.mailings.bodies import MailingChanges, NewMailing, RecipientChoice, RetryRequest, TestRequest
from services.scheduler.mailings.commands import Mailings
from services.scheduler.mailings.control.control import MailingControl
from services.scheduler.mailings.control.routes import setup_control
from services.scheduler.mailings.control.store import ControlStore
from services.scheduler.mailings.course.asking_store import AskingStore
from services.scheduler.mailings.routes import PATH, setup_mailing_routes
from services.scheduler.mailings.standing.outcome_store import OutcomeStore
from services.scheduler.mailings.standing.reasons_store import ReasonStore
from services.scheduler.mailings.standing.routes import setup_recipients, setup_stats
from services.scheduler.mailings.standing.sight import MailingLook, make_sight
from services.scheduler.mailings.standing.store import StandingStore
from services.scheduler.mailings.store import MailingStore
from services.scheduler.mailings.trials.recipient_store import RecipientStore
from services.scheduler.mailings.trials.routes import setup_trials
from services.scheduler.mailings.trials.trials import Trials
from services.scheduler.settings import ApiSettings
from services.scheduler.views import Views
from services.scheduler.waiting.store import SchedulerStore
from shared.apidocs import add_schemas
from shared.applications import DatabaseApi

PREFIXES = (PATH,)


def setup_mailings(api: DatabaseApi, settings: ApiSettings, views: Views) -> None:
    """Add the routes under `/v1/mailings`, a line for each kind of them."""
    store, limit = MailingStore(api.database), settings.event_limit
    audiences = open_audiences(settings.database_url.get_secret_value())
    api.leaving.append(audiences.close)
    trials = Trials(store, RecipientStore(audiences), SchedulerStore(api.database), settings.make_links(), limit)
    standings = StandingStore(api.database)
    setup_stats(api.app, api.keys, standings, ReasonStore(api.database))  # before /{id}
    setup_mailing_routes(api.app, api.keys, store, standings, Mailings(store, limit))
    views.add(make_sight(MailingLook(standings)))
    setup_recipients(api.app, api.keys, store, OutcomeStore(audiences))
    setup_trials(api.app, api.keys, trials)
    asking = AskingStore(api.database)
    control = MailingControl(store, ControlStore(api.database), asking, trials, settings.mailing_check_interval)
    setup_control(api.app, api.keys, control)
    add_schemas(api.app, NewMailing, MailingChanges, RecipientChoice, TestRequest, RetryRequest)
