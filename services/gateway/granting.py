"""What a request asks to grant, and whether the key that asks may grant it. The rule is in shared/access/grants.py."""

from collections.abc import Iterable
from datetime import UTC, datetime

from services.gateway.key_bodies import KeyChanges, NewKey
from shared.access import ApiKey, ApiScope
from shared.access.grants import Excess, Grant, find_excess, rights_of
from shared.access.rows import KeyChange
from shared.problems import Problem, invalid_content
from shared.settings import QuotaSettings


def read_grant(wanted: NewKey, admin: ApiKey) -> Grant:
    """What the new key is to have. Raises Problem 422."""
    given = wanted.model_fields_set
    refuse_past(wanted.expires_at)
    grant = Grant(
        scopes=frozenset(wanted.scopes),
        senders=admin.senders if wanted.senders is None else tuple(wanted.senders),
        networks=admin.networks if wanted.networks is None else tuple(wanted.networks),
        test=admin.test if wanted.test is None else wanted.test,
        expires_at=wanted.expires_at if "expires_at" in given else admin.expires_at,
        request_rate=wanted.request_rate if "request_rate" in given else admin.request_rate,
        mail_rate=wanted.mail_rate if "mail_rate" in given else admin.mail_rate,
    )
    _require_sender(grant)
    return grant


def check_widening(key: ApiKey, wanted: KeyChanges, admin: ApiKey, usual: QuotaSettings) -> None:
    """Raises Problem 403 where the key would get what the asking one does not have, 422 where it makes no sense."""
    given = wanted.model_fields_set
    if wanted.expires_at and wanted.expires_at != key.expires_at:
        refuse_past(wanted.expires_at)
    grant = Grant(
        scopes=key.scopes if wanted.scopes is None else frozenset(wanted.scopes),
        senders=key.senders if wanted.senders is None else tuple(wanted.senders),
        networks=key.networks if wanted.networks is None else tuple(wanted.networks),
        test=key.test,
        expires_at=wanted.expires_at if "expires_at" in given else key.expires_at,
        request_rate=wanted.request_rate if "request_rate" in given else key.request_rate,
        mail_rate=wanted.mail_rate if "mail_rate" in given else key.mail_rate,
    )
    if wanted.scopes is not None or wanted.senders is not None:
        _require_sender(grant)
    if find_excess(grant, rights_of(key), usual):
        refuse(find_excess(grant, rights_of(admin), usual))


def read_change(wanted: KeyChanges) -> KeyChange:
    """What is to be written."""
    return KeyChange(
        name=wanted.name,
        scopes=wanted.scopes,
        senders=wanted.senders,
        networks=wanted.networks,
        ends="expires_at" in wanted.model_fields_set,
        expires_at=wanted.expires_at,
        rates=wanted.model_dump(include={"request_rate", "mail_rate"}, exclude_unset=True),
    )


def _require_sender(grant: Grant) -> None:
    if ApiScope.EMAILS_SEND in grant.scopes and not grant.senders:
        detail = "a key with emails:send needs at least one: an address, *@domain, or * for any"
        raise invalid_content([{"detail": detail, "pointer": "/senders"}])


def refuse_past(expires_at: datetime | None) -> None:
    """Raises Problem 422."""
    if expires_at and expires_at <= datetime.now(UTC):
        detail = "is over; to end a key at once, revoke it: DELETE /v1/keys/{id}"
        raise invalid_content([{"detail": detail, "pointer": "/expires_at"}])


def refuse(excess: Iterable[Excess]) -> None:
    """Raises Problem 403 where there is any."""
    errors = [{"detail": each.detail, "pointer": f"/{each.field}"} for each in excess]
    if errors:
        detail = "An API key grants only what it has itself; see errors."
        raise Problem(403, "grant-not-allowed", detail, errors=errors)
