"""The routes by which an account's API keys are made, listed, changed, rotated and revoked."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import Body, Depends, FastAPI, Query, Request, Response
from pydantic import SecretStr

from services.gateway.granting import check_widening, read_change, read_grant, refuse, refuse_past
from services.gateway.key_bodies import Key, KeyChanges, KeyPage, MintedKey, NewKey, Rotation
from shared.access import AccessStore, ApiKey, ApiScope, KeyLookup, derive_webhook_secret
from shared.access.grants import find_excess, rights_of
from shared.access.store import KeyNotUsable, LastAdminKey
from shared.apidocs import describe_problems
from shared.authenticating import authenticate
from shared.cursors import read_time_cursor, write_time_cursor
from shared.problems import Problem
from shared.settings import QuotaSettings

PATH = "/v1/keys"

Admit = Callable[[Request], Awaitable[ApiKey]]
"""The key of a caller who may administer keys. Raises Problem 401, 403 or 503."""

_EXAMPLES: dict[int, tuple[str, dict[str, Any]]] = {
    403: (
        "The key lacks the scope `keys:admin`, may not be used from here, or would grant what it does not have",
        {
            "type": "/problems/grant-not-allowed",
            "title": "Not allowed",
            "status": 403,
            "detail": "An API key grants only what it has itself; see errors.",
            "errors": [{"detail": "your key does not have the scope operate itself", "pointer": "/scopes"}],
        },
    ),
    409: (
        "It is the account's last key that may administer keys, or it is revoked or has expired; `type` says which",
        {
            "type": "/problems/last-admin-key",
            "title": "Conflict",
            "status": 409,
            "detail": "Without this key nobody could administer the account's keys; make another one with keys:admin.",
        },
    ),
}


def _describe(*statuses: int) -> dict[int | str, dict[str, Any]]:
    described = describe_problems(*statuses)
    for status, (meaning, example) in _EXAMPLES.items():
        if status in described:
            described[status]["description"] = meaning
            (content,) = described[status]["content"].values()
            described[status]["content"] = {"application/problem+json": {**content, "example": example}}
    return described


def setup_keys(
    app: FastAPI, keys: KeyLookup, store: AccessStore, master_secret: SecretStr | None, usual: QuotaSettings
) -> None:
    """Add `/v1/keys`. Every route needs the scope `keys:admin`, and knows the account's own keys only.

    With a `master_secret` a new key comes with its account's webhook secret. `usual`: the rates of a key that has none.
    """

    async def admit(request: Request) -> ApiKey:
        return await authenticate(request, keys, ApiScope.KEYS_ADMIN)

    _setup_listing(app, admit, store)
    _setup_minting(app, admit, store, master_secret, usual)
    _setup_changing(app, admit, store, usual)


def _setup_listing(app: FastAPI, admit: Admit, store: AccessStore) -> None:
    @app.get(
        PATH,
        tags=["Keys"],
        summary="List API keys",
        response_model_exclude_none=True,
        responses=_describe(401, 403, 422, 503),
    )
    async def list_keys(
        admin: Annotated[ApiKey, Depends(admit)],
        after: Annotated[str | None, Query(max_length=200, description="`next` of the page before")] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> KeyPage:
        """The account's keys, newest first, revoked and expired ones too (`state`). No secret is ever shown again."""
        position = read_time_cursor(after, "/query/after") if after else None
        found = await store.list_page(admin.account, position, limit)
        now = datetime.now(UTC)
        end = found[-1] if len(found) == limit else None
        return KeyPage(
            data=[Key.describe(key, now) for key in found],
            next=write_time_cursor(end.created_at, UUID(end.id)) if end else None,
        )

    @app.get(
        f"{PATH}/{{key_id}}",
        tags=["Keys"],
        summary="One API key",
        response_model_exclude_none=True,
        responses=_describe(401, 403, 404, 422, 503),
    )
    async def read_key(key_id: UUID, admin: Annotated[ApiKey, Depends(admit)]) -> Key:
        """One key, without its secret."""
        return Key.describe(await _find(store, key_id, admin), datetime.now(UTC))


def _setup_minting(
    app: FastAPI, admit: Admit, store: AccessStore, master_secret: SecretStr | None, usual: QuotaSettings
) -> None:
    def reveal(secret: str, key: ApiKey, response: Response) -> MintedKey:
        response.headers["location"] = f"{PATH}/{key.id}"
        response.headers["cache-control"] = "no-store"
        webhooks = derive_webhook_secret(master_secret.get_secret_value(), key.account) if master_secret else None
        return MintedKey.reveal(secret, webhooks, key, datetime.now(UTC))

    @app.post(
        PATH,
        tags=["Keys"],
        summary="Make an API key",
        status_code=201,
        response_model_exclude_none=True,
        responses=_describe(401, 403, 422, 503),
    )
    async def create_key(wanted: NewKey, admin: Annotated[ApiKey, Depends(admit)], response: Response) -> MintedKey:
        """Makes a key for the account and shows its secret: this once.

        It can have nothing that the asking key does not have: no further scope or sender, no network beyond its own,
        no later end, no higher rate; a test key makes test keys. With `test`, mail goes the whole way and is simulated
        at its end.
        """
        grant = read_grant(wanted, admin)
        refuse(find_excess(grant, rights_of(admin), usual))
        secret, key = await store.create_key(
            admin.account,
            wanted.name,
            scopes=wanted.scopes,
            senders=grant.senders,
            networks=grant.networks,
            test=grant.test,
            expires_at=grant.expires_at,
            request_rate=grant.request_rate,
            mail_rate=grant.mail_rate,
        )
        return reveal(secret, key, response)

    @app.post(
        f"{PATH}/{{key_id}}/rotate",
        tags=["Keys"],
        summary="Give an API key a successor",
        status_code=201,
        response_model_exclude_none=True,
        responses=_describe(401, 403, 404, 409, 422, 503),
    )
    async def rotate_key(
        key_id: UUID,
        admin: Annotated[ApiKey, Depends(admit)],
        response: Response,
        wanted: Annotated[Rotation | None, Body()] = None,
    ) -> MintedKey:
        """Makes a new key with the same rights, which `replaces` the old one. The old secret works on for `overlap`.

        The asking key must have all these rights itself; it may rotate itself. 409 `key-not-usable`: the key is
        revoked, or has expired.
        """
        wanted = wanted or Rotation()
        key = await _find_to_change(store, key_id, admin)
        refuse_past(wanted.expires_at)
        grant = replace(rights_of(key), expires_at=wanted.expires_at or key.expires_at)
        refuse(find_excess(grant, rights_of(admin), usual))
        overlap = timedelta(seconds=wanted.overlap)
        with _answer_conflicts():
            rotated = await store.rotate_key(key.id, overlap, expires_at=wanted.expires_at)
        if rotated is None:
            raise _unknown()
        return reveal(*rotated, response)


def _setup_changing(app: FastAPI, admit: Admit, store: AccessStore, usual: QuotaSettings) -> None:
    @app.patch(
        f"{PATH}/{{key_id}}",
        tags=["Keys"],
        summary="Change an API key",
        response_model_exclude_none=True,
        responses=_describe(401, 403, 404, 409, 422, 503),
    )
    async def change_key(key_id: UUID, wanted: KeyChanges, admin: Annotated[ApiKey, Depends(admit)]) -> Key:
        """Changes what is given; it acts within 5 s. Taking rights away is always allowed, but for the account's last
        usable `keys:admin` (409 `last-admin-key`). Where a key gets more than it had, the asking key must have all that
        it has then.
        """
        key = await _find_to_change(store, key_id, admin)
        check_widening(key, wanted, admin, usual)
        with _answer_conflicts():
            return Key.describe(await store.change_key(key, read_change(wanted)), datetime.now(UTC))

    @app.delete(
        f"{PATH}/{{key_id}}",
        tags=["Keys"],
        summary="Revoke an API key",
        status_code=204,
        responses=_describe(401, 403, 404, 409, 422, 503),
    )
    async def revoke_key(key_id: UUID, admin: Annotated[ApiKey, Depends(admit)]) -> Response:
        """Revokes a key for good; it stops working within 5 s. Once more is no error.

        The account's last usable key with `keys:admin` stays: whoever is on the machine can revoke it all the same,
        with `python -m services.gateway keys revoke`.
        """
        key = await _find_to_change(store, key_id, admin)
        with _answer_conflicts():
            await store.revoke_key(key.id, keep_admin=True)
        return Response(status_code=204)


async def _find(store: AccessStore, key_id: UUID, admin: ApiKey) -> ApiKey:
    key = await store.read_key(str(key_id), admin.account)
    if key is None:
        raise _unknown()
    return key


async def _find_to_change(store: AccessStore, key_id: UUID, admin: ApiKey) -> ApiKey:
    key = await _find(store, key_id, admin)
    if admin.test and not key.test:
        raise Problem(403, "test-key", "A test key administers test keys only.")
    return key


def _unknown() -> Problem:
    return Problem(404, "key-not-found", "There is no API key with this id in this account.")


@contextmanager
def _answer_conflicts() -> Iterator[None]:
    try:
        yield
    except LastAdminKey:
        detail = (
            "Without this key nobody could administer the account's keys over HTTP; make another one with keys:admin "
            "first. On the machine: python -m services.gateway keys revoke."
        )
        raise Problem(409, "last-admin-key", detail) from None
    except KeyNotUsable:
        detail = "This key is revoked or has expired; make a new one: POST /v1/keys."
        raise Problem(409, "key-not-usable", detail) from None
