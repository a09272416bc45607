"""`/v1/mailings/{id}/preview`, `/test` and `/check`: looking before sending."""

from fastapi import FastAPI, Request

from services.scheduler.mailings.answers import MailingCheck, MailingPreview, TestAccepted
from services.scheduler.mailings.bodies import RecipientChoice, TestRequest
from services.scheduler.mailings.examples import CHOICE, TEST
from services.scheduler.mailings.routes import PATH, SCOPE, TAG, MailingId, describe_answers
from services.scheduler.mailings.trials.trials import Trials
from shared.access import KeyLookup
from shared.apidocs import IDEMPOTENCY_KEY, describe_body
from shared.authenticating import authenticate, take_mails
from shared.bodies import read_model
from shared.idempotency_key import read_idempotency_key


def setup_trials(app: FastAPI, keys: KeyLookup, trials: Trials) -> None:
    """Add the routes."""

    @app.post(
        f"{PATH}/{{mailing_id}}/preview",
        tags=TAG,
        summary="What a recipient would read",
        responses=describe_answers(404),
        openapi_extra=describe_body({"application/json": (RecipientChoice, CHOICE)}, required=False),
    )
    async def preview_mailing(request: Request, mailing_id: MailingId) -> MailingPreview:
        """Renders subject, text and html as that recipient's mail would have them. Nothing is sent."""
        key = await authenticate(request, keys, SCOPE)
        return await trials.preview(key, mailing_id, await read_model(request, RecipientChoice))

    @app.post(
        f"{PATH}/{{mailing_id}}/test",
        tags=TAG,
        summary="Send a test of it",
        status_code=202,
        responses=describe_answers(400, 404, 413),
        openapi_extra=describe_body({"application/json": (TestRequest, TEST)}) | IDEMPOTENCY_KEY,
    )
    async def test_mailing(request: Request, mailing_id: MailingId) -> TestAccepted:
        """Sends it now to addresses of yours, each a mail of its own, as a recipient would read it.

        The subject begins with `[Test]`, the mail has the tag `mailing-test`, and it counts neither in the mailing nor
        for the recipient it was rendered for. Asked again with the same `Idempotency-Key` within 24 hours, the mails
        are the same and nobody gets them twice.
        """
        key = await authenticate(request, keys, SCOPE)
        wanted = await read_model(request, TestRequest)
        mails = await trials.compose_tests(key, mailing_id, wanted, read_idempotency_key(request))
        take_mails(request, len(mails))
        return await trials.send_tests(mails, wanted.to)

    @app.post(
        f"{PATH}/{{mailing_id}}/check",
        tags=TAG,
        summary="What would become of it",
        responses=describe_answers(404),
    )
    async def check_mailing(request: Request, mailing_id: MailingId) -> MailingCheck:
        """Counts the audience, tries the templates for some of it, and says what is in the way. Nothing is sent.

        Who lacks a variable is counted over the whole audience; other faults of rendering are found for up to 500
        recipients drawn by lot.
        """
        return await trials.check(await authenticate(request, keys, SCOPE), mailing_id)
