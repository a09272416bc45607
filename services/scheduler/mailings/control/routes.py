"""`/v1/mailings/{id}/start`, `/pause`, `/resume`, `/cancel` and `/retry`."""

from typing import Any

from fastapi import FastAPI, Request

from services.scheduler.mailings.answers import MailingView, show_mailing
from services.scheduler.mailings.bodies import RetryRequest
from services.scheduler.mailings.control.control import MailingControl
from services.scheduler.mailings.examples import RETRY
from services.scheduler.mailings.routes import PATH, SCOPE, TAG, MailingId, describe_answers
from shared.access import KeyLookup
from shared.apidocs import describe_body
from shared.authenticating import authenticate
from shared.bodies import read_model


def setup_control(app: FastAPI, keys: KeyLookup, control: MailingControl) -> None:
    """Add the routes."""
    _setup_begin(app, keys, control)
    _setup_stop(app, keys, control)


def _describe(action: str, summary: str, **options: Any) -> dict[str, Any]:
    return {
        "path": f"{PATH}/{{mailing_id}}/{action}",
        "tags": TAG,
        "summary": summary,
        "status_code": 202,
        "response_model_exclude_none": True,
        "responses": describe_answers(404, 409),
        **options,
    }


def _setup_begin(app: FastAPI, keys: KeyLookup, control: MailingControl) -> None:
    @app.post(**_describe("start", "Start it"))
    async def start_mailing(request: Request, mailing_id: MailingId) -> MailingView:
        """It begins at once, or at its `start_at`; then its recipients are those of that moment.

        What `POST …/check` calls problems is refused. Started twice is started.
        """
        key = await authenticate(request, keys, SCOPE)
        return show_mailing(await control.start(key, mailing_id), with_content=False)

    @app.post(
        **_describe(
            "retry",
            "Try the failed mails again",
            openapi_extra=describe_body({"application/json": (RetryRequest, RETRY)}, required=False),
        )
    )
    async def retry_mailing(request: Request, mailing_id: MailingId) -> MailingView:
        """Those whose mail has failed or expired until now get another one, and nobody else: a new round.

        Each of these mails has an id of its own, with `retry_of`. A mailing that was finished runs until they have
        their end.
        """
        key = await authenticate(request, keys, SCOPE)
        wanted = await read_model(request, RetryRequest)
        return show_mailing(await control.retry(key, mailing_id, wanted), with_content=False)


def _setup_stop(app: FastAPI, keys: KeyLookup, control: MailingControl) -> None:
    @app.post(**_describe("pause", "Pause it"))
    async def pause_mailing(request: Request, mailing_id: MailingId) -> MailingView:
        """Nothing more of it leaves, at once; what is with the senders is sent. Paused twice is paused."""
        key = await authenticate(request, keys, SCOPE)
        return show_mailing(await control.pause(key, mailing_id), with_content=False)

    @app.post(**_describe("resume", "Let it go on"))
    async def resume_mailing(request: Request, mailing_id: MailingId) -> MailingView:
        """It goes on where it was."""
        key = await authenticate(request, keys, SCOPE)
        return show_mailing(await control.resume(key, mailing_id), with_content=False)

    @app.post(**_describe("cancel", "Cancel it"))
    async def cancel_mailing(request: Request, mailing_id: MailingId) -> MailingView:
        """What has not left is not sent and ends as cancelled; what is with the senders goes on. There is no way back.

        One that waits for its `start_at` is over at once.
        """
        key = await authenticate(request, keys, SCOPE)
        return show_mailing(await control.cancel(key, mailing_id), with_content=False)
