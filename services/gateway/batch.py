"""`POST /v1/emails/batch`: many mails in one request, each judged by itself, all published in one go."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from fastapi import FastAPI, Request, Response

from services.gateway.accepting import Acceptor
from services.gateway.acknowledging import MAIL_UNKNOWN, explain
from services.gateway.answers import BatchAccepted
from services.gateway.bodies import Batch, NewBatch, read_batch
from services.gateway.examples import BATCH_EXAMPLES
from services.gateway.idempotency import Idempotency, StillOpen, find_moment
from services.gateway.telling import answer, show_end, show_problem
from services.gateway.templates import TemplateLookup
from shared.access import ApiKey, ApiScope, KeyLookup
from shared.apidocs import IDEMPOTENCY_KEY, describe_body, describe_once
from shared.authenticating import authenticate, take_mails
from shared.bodies import read_object
from shared.composing.attachments import AttachmentRules
from shared.composing.composer import Identity, TooLarge, compose_full
from shared.composing.forms import read_full
from shared.composing.refusing import compose, explain_size
from shared.events import derive_batch_entry_id
from shared.problems import Problem, invalid_content
from shared.producing import Message
from shared.publisher import PublishError
from shared.tracing import SpanKind, begin_hop
from shared.turns import take_turns

_TURN_S = 0.005  # between mails; single requests are not to wait for a thousand of them
_BODY = describe_body({"application/json": (NewBatch, BATCH_EXAMPLES)})


@dataclass(frozen=True, slots=True)
class Judged:
    """A batch's mails in their order: the record of each, or why there is none."""

    batch_id: str
    mails: Sequence[Message | Problem]

    @property
    def acceptable(self) -> list[Message]:
        """The records to publish."""
        return [mail for mail in self.mails if isinstance(mail, Message)]


def setup_batch(
    app: FastAPI,
    keys: KeyLookup,
    acceptor: Acceptor,
    once: Idempotency,
    templates: TemplateLookup,
    rules: AttachmentRules,
) -> None:
    """Add `POST /v1/emails/batch`."""

    @app.post(
        "/v1/emails/batch",
        tags=["Emails"],
        summary="Send up to 1,000 mails",
        status_code=202,
        response_model=BatchAccepted,
        responses=describe_once(400, 401, 403, 413, 422, 503),
        openapi_extra=_BODY | IDEMPOTENCY_KEY,
    )
    async def send_batch(request: Request) -> Response:
        """Takes mails as `POST /v1/emails` does, and answers for each, in order: its id, or the problem with it.

        202: at least one was accepted, so look at `refused` and `unknown`. Mails are accepted although others are
        refused, unless `all_or_nothing` is true. 422: none was, `results` has each one's problem, with pointers into
        that mail. 503: Kafka is away; with `outcome: unknown` mails may still be sent, under the ids in `results`.
        All have the same `batch_id`. With an Idempotency-Key a batch may be asked for again whatever became of it:
        mails that are accepted are not sent twice. 429: they are more than the key may have now; none was sent.
        """
        key = await authenticate(request, keys, ApiScope.EMAILS_SEND)
        fields = await read_object(request)
        batch = read_batch(fields)
        send = partial(_send, request, acceptor, templates, key, batch, rules=rules)
        return await once.run(request, key, fields, send)


async def _send(
    request: Request,
    acceptor: Acceptor,
    templates: TemplateLookup,
    key: ApiKey,
    batch: Batch,
    identity: Identity,
    *,
    rules: AttachmentRules,
) -> Response | StillOpen:
    hop = begin_hop("publish email.requested", SpanKind.PRODUCER, request.headers.get("traceparent"))
    judge = partial(_judge, acceptor, rules, key, hop.traceparent)
    batch_id = str(identity.id)
    mails = [
        judge(
            await _resolve(templates, key, fields, find_moment(request, identity)),
            Identity(derive_batch_entry_id(identity.id, index), identity.requested_at, batch_id),
        )
        async for index, fields in take_turns(enumerate(batch.emails), turn_s=_TURN_S)
    ]
    judged = Judged(batch_id, mails)
    acceptable = judged.acceptable
    try:
        if not acceptable or (batch.all_or_nothing and len(acceptable) < len(mails)):
            raise _refuse(judged)
        take_mails(request, len(acceptable))
        ends = await acceptor.accept_all(acceptable)
    except Problem as problem:
        hop.end(error=problem.slug)
        raise
    except PublishError as exc:
        hop.end(error=type(exc).__name__)
        raise explain(exc, judged.batch_id, MAIL_UNKNOWN) from exc
    hop.end(attributes={"messaging.batch.message_count": len(acceptable)})
    left = iter(ends)
    results = [
        show_end(_read_id(mail), next(left)) if isinstance(mail, Message) else show_problem(mail) for mail in mails
    ]
    return answer(judged.batch_id, results, is_open=any(ends))


async def _resolve(templates: TemplateLookup, key: ApiKey, fields: Any, moment: datetime | None) -> Any:
    """A mail with the content of the template it names, or the problem with that."""
    if not isinstance(fields, dict) or "template" not in fields:
        return fields
    try:
        return await templates.resolve(key.account, fields, moment)
    except Problem as problem:
        return problem


def _judge(
    acceptor: Acceptor, rules: AttachmentRules, key: ApiKey, traceparent: str, fields: Any, identity: Identity
) -> Message | Problem:
    if isinstance(fields, Problem):
        return fields
    if not isinstance(fields, dict):
        return invalid_content([{"detail": "a mail must be a JSON object", "pointer": ""}])
    try:
        event = compose(partial(compose_full, rules=rules), read_full(fields, key.only_sender), key, identity)
        return acceptor.prepare(event, traceparent)
    except Problem as problem:
        return problem
    except TooLarge as exc:
        return explain_size(exc)


def _refuse(judged: Judged) -> Problem:
    """None is sent; with `all_or_nothing` because of some."""
    acceptable, count = len(judged.acceptable), len(judged.mails)
    detail = f"None was sent: {count - acceptable} of {count} cannot be accepted; `results` says why."
    innocent = Problem(422, "batch-refused", "This mail is acceptable; it was not sent because others are not.")
    results = [show_problem(innocent if isinstance(mail, Message) else mail) for mail in judged.mails]
    return Problem(422, "batch-refused", detail, results=results)


def _read_id(mail: Message) -> str:
    assert mail.key is not None
    return mail.key.decode()
