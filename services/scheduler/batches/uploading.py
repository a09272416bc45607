"""`POST /v1/batches`: the route by which a batch comes in."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import FastAPI, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from services.scheduler.batches.answers import BatchAccepted, ItemProblem, link
from services.scheduler.batches.body import HashedBody
from services.scheduler.batches.examples import ARRAY_EXAMPLES, LINE_EXAMPLES
from services.scheduler.batches.judging import Judge
from services.scheduler.batches.progress import BatchState
from services.scheduler.batches.receiving import Received, Receiver, Terms, show_problem
from services.scheduler.batches.splitting import ArraySplitter, LineSplitter, Splitter
from services.scheduler.batches.store import BatchStore, EarlierBatch, NewBatch
from services.scheduler.pacing.bulk_store import BulkStore
from services.scheduler.settings import ApiSettings
from shared.access import ApiKey, ApiScope, KeyLookup
from shared.apidocs import IDEMPOTENCY_KEY, describe_once
from shared.authenticating import authenticate, take_mails
from shared.events import new_email_id
from shared.events.requested import Label
from shared.idempotency_key import read_idempotency_key, refuse_in_flight, refuse_reused
from shared.problems import Problem
from shared.tracing import continue_trace
from shared.uploads import UploadSlots, refuse_encoded

_SPLITTERS: Mapping[str, type[LineSplitter | ArraySplitter]] = {
    "application/x-ndjson": LineSplitter,
    "application/jsonl": LineSplitter,
    "application/json": ArraySplitter,
}
_LINES: dict[str, Any] = {
    "schema": {"type": "string", "description": "a mail a line, as JSON"},
    "examples": LINE_EXAMPLES,
}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-ndjson": _LINES,
            "application/json": {
                "schema": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/NewEmail"}},
                "examples": ARRAY_EXAMPLES,
            },
        },
    }
}


class UploadQuery(BaseModel):
    """What may be said of a batch beside its mails."""

    model_config = ConfigDict(extra="forbid")

    name: Label | None = Field(default=None, description="to find it again by")
    all_or_nothing: bool = Field(default=False, description="true: where one item is no mail, nothing is sent")


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload as it was asked for."""

    key: ApiKey
    query: UploadQuery
    idempotency_key: str | None
    splitter: Splitter
    stream: HashedBody


class Uploads:
    """Takes uploads in, a bounded number at once."""

    def __init__(self, store: BatchStore, bulk: BulkStore, settings: ApiSettings) -> None:
        self._store = store
        self._settings = settings
        self._receiver = Receiver(store, bulk)
        self.slots = UploadSlots(settings.batch_uploads, "batches")

    def choose_splitter(self, media: str) -> Splitter:
        """What takes this media type apart. Raises Problem 415."""
        kind = _SPLITTERS.get(media.partition(";")[0].strip().lower())
        if kind is None:
            detail = "Send a mail a line with Content-Type: application/x-ndjson, or an array with application/json."
            raise Problem(415, "unsupported-media-type", detail)
        return kind(3 * self._settings.event_limit)  # as of the body of POST /v1/emails

    async def take(self, request: Request, upload: Upload) -> Response:
        """Take one in. Raises Problem, Unavailable."""
        batch_id, key = new_email_id(), upload.key
        earlier = await self._store.begin(NewBatch(batch_id, key, upload.query.name, upload.idempotency_key))
        if earlier:
            return await self._repeat(earlier, upload)
        judge = self._create_judge(batch_id, key, request)
        received = Received()
        async with self._receiver.guard(judge, received):
            await self._receiver.open_lane(judge)
            terms = Terms(self._settings.batch_items, all_or_nothing=upload.query.all_or_nothing)
            await self._receiver.receive(upload.stream.read(), upload.splitter, judge, terms, received)
            take_mails(request, received.accepted)
            await self._start(batch_id, received, upload)
        return _accept(batch_id, upload.query.name, received)

    async def _start(self, batch_id: UUID, received: Received, upload: Upload) -> None:
        if not await self._store.start(batch_id, received.items, received.invalid, upload.stream.fingerprint):
            detail = "The upload came too slowly, and was given up. Nothing was sent; send it again."
            raise Problem(408, "too-slow", detail, batch_id=str(batch_id))

    def _create_judge(self, batch_id: UUID, key: ApiKey, request: Request) -> Judge:
        now = datetime.now(UTC)
        return Judge(
            batch_id,
            key,
            now.replace(microsecond=now.microsecond // 1000 * 1000),
            continue_trace(request.headers.get("traceparent")),
            self._settings.attachment_rules,
            self._settings.event_limit,
            3 * self._settings.event_limit,
            self._settings.batch_bytes,
        )

    async def _repeat(self, earlier: EarlierBatch, upload: Upload) -> Response:
        """The answer there was, for the same upload. Raises Problem 409, 422."""
        if not earlier.is_received:
            raise refuse_in_flight()
        async for _ in upload.stream.read():
            pass
        if earlier.fingerprint != upload.stream.fingerprint:
            raise refuse_reused()
        found = await self._store.find(earlier.id, upload.key.account)
        if found is None:
            raise refuse_in_flight()
        received = Received(found.accepted, found.invalid)
        response = _accept(found.id, found.name, received, found.state)
        response.headers["idempotent-replayed"] = "true"
        return response


def setup_uploading(app: FastAPI, keys: KeyLookup, uploads: Uploads) -> None:
    """Add `POST /v1/batches`."""

    @app.post(
        "/v1/batches",
        tags=["Batches"],
        summary="Upload up to 100,000 mails",
        status_code=202,
        response_model=BatchAccepted,
        responses=describe_once(400, 401, 403, 408, 413, 415, 422, 503),
        openapi_extra=_BODY | IDEMPOTENCY_KEY,
    )
    async def upload_batch(request: Request, query: Annotated[UploadQuery, Query()]) -> Response:
        """Takes mails as `POST /v1/emails` does, a mail a line or in an array, and sends them in the background.

        202: the whole upload is stored, and its mails leave in their turn; single mails overtake them. Items that are
        no mails are left out, unless `all_or_nothing` is true: `problems` has the first, `links.items` the id or the
        problem of each. Nothing leaves before all has been read: an upload that is cut off sends nothing, and its
        batch says `aborted`. What mails share (subject, text, html, attachments …) is stored once, and sent at a third
        of the cost; a first item `{"content": {…}}` says it once. With `variables` it may be a template; stored
        templates (`template`) cannot be used here.
        422: nothing was sent. 429: it has more mails than the key may have now, and nothing was sent.
        """
        key = await authenticate(request, keys, ApiScope.EMAILS_SEND)
        refuse_encoded(request)
        splitter = uploads.choose_splitter(request.headers.get("content-type", ""))
        wanted = read_idempotency_key(request)
        with uploads.slots.hold():
            return await uploads.take(
                request, Upload(key, query, wanted, splitter, HashedBody(request, key, query.model_dump_json()))
            )


def _accept(batch_id: UUID, name: str | None, received: Received, state: BatchState = BatchState.RUNNING) -> Response:
    answer = BatchAccepted(
        id=batch_id,
        name=name,
        state=state,
        accepted=received.accepted,
        invalid=received.invalid,
        problems=[ItemProblem.model_validate(show_problem(bad)) for bad in received.shown],
        links=link(batch_id),
    )
    headers = {"location": answer.links.self}
    return Response(answer.model_dump_json(exclude_none=True), 202, headers, "application/json")
