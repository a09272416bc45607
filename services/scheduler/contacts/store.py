"""The statements on contacts. All times are PostgreSQL's."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import orjson

from services.scheduler.contacts.contact import Contact, ContactFilter
from services.scheduler.importing.recipients import ATTRIBUTES_LIMIT, MOST_ATTRIBUTES, TAG_SEPARATOR, Recipient
from shared.database import PLAN_EACH_TIME, Database

_FIELDS = """
    id, address, name, timezone, tags, attributes, created_at, changed_at,
    (SELECT unsubscribed_at FROM scheduler.unsubscription WHERE recipient = contact.id) AS unsubscribed_at
"""
_GIVEN = f"""
    SELECT id, address, name, timezone, string_to_array(tags, '{TAG_SEPARATOR}') AS tags,
           attributes::jsonb AS attributes, ARRAY(SELECT jsonb_array_elements_text(dropped::jsonb)) AS dropped
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
        AS given(id, address, name, timezone, tags, attributes, dropped)
"""
_INSERT = f"""
    INSERT INTO scheduler.contact (id, account, address, name, timezone, tags, attributes)
    SELECT id, $8, address, coalesce(name, ''), nullif(timezone, ''), coalesce(tags, '{{}}'), attributes
    FROM ({_GIVEN}) AS given ORDER BY id ON CONFLICT DO NOTHING RETURNING id
"""
_MERGED = "(contact.attributes || given.attributes) - given.dropped"
# Of the row as it is when it is locked: another import may have changed it meanwhile.
_CHANGED = {
    "address": "given.address",
    "name": "coalesce(given.name, contact.name)",
    "timezone": "CASE WHEN given.timezone IS NULL THEN contact.timezone ELSE nullif(given.timezone, '') END",
    "tags": "coalesce(given.tags, contact.tags)",
    "attributes": _MERGED,
}
_WRITTEN = {**_CHANGED, "changed_at": "now()"}


def _measure(attributes: str) -> str:
    """Bytes of JSON without the spaces that PostgreSQL writes between values. It writes 1e300 out, and so it counts."""
    between = f"""regexp_replace(({attributes})::text, '"(\\\\.|[^"\\\\])*"', '', 'g')"""
    return f"(octet_length(({attributes})::text) - length({between}) + length(replace({between}, ' ', '')))"


def _count(attributes: str) -> str:
    return f"(SELECT count(*) FROM jsonb_object_keys({attributes}))"


# What is small is not counted: an attribute has 8 bytes at least. Whoever has more than the limits from before they
# held for the whole keeps it, and may change all else of it.
_FITS = f"""
    CASE WHEN octet_length(({_MERGED})::text) <= least({ATTRIBUTES_LIMIT}, 8 * {MOST_ATTRIBUTES}) THEN true
         ELSE {_count(_MERGED)} <= greatest({MOST_ATTRIBUTES}, {_count("contact.attributes")})
          AND {_measure(_MERGED)} <= greatest({ATTRIBUTES_LIMIT}, {_measure("contact.attributes")}) END
"""
# A row that would be too large is written as it was, and so tells that it lacks what was given.
_UPDATE = f"""
    UPDATE scheduler.contact AS contact
    SET ({", ".join(_WRITTEN)}) = (
        SELECT {", ".join(f"CASE WHEN fits THEN {value} ELSE contact.{name} END" for name, value in _WRITTEN.items())}
        FROM (SELECT {_FITS} AS fits OFFSET 0) AS judged)
    FROM ({_GIVEN}) AS given WHERE contact.id = given.id
      AND ({", ".join(f"contact.{column}" for column in _CHANGED)})
          IS DISTINCT FROM ({", ".join(_CHANGED.values())})
    RETURNING contact.id, contact.attributes IS DISTINCT FROM {_MERGED} AS refused
"""


def open_contact_lists(database_url: str) -> Database:
    """The database for lists and exports; a large one never takes the last connection of somebody else.

    Whether an index helps depends on the tag or value that is asked for, so each is planned by itself.
    """
    return Database(database_url, pool_size=2, application_name="milena-scheduler-contacts", planning=PLAN_EACH_TIME)


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of the recipients that were given; the others were so already.

    `refused`: with the attributes they have, those given would be more than a contact may have; nothing was changed.
    """

    created: frozenset[UUID] = frozenset()
    changed: frozenset[UUID] = frozenset()
    refused: frozenset[UUID] = frozenset()


class ContactStore:
    """Every method raises DatabaseUnavailable, and may be repeated. `lists`: see open_contact_lists."""

    def __init__(self, database: Database, lists: Database) -> None:
        self._database = database
        self._lists = lists

    async def merge(self, account: str, recipients: Sequence[Recipient]) -> Merged:
        """Make these contacts, or change them as far as they say something; each recipient is named once.

        Nothing is written for those that are so already. In the order of ids, so that two imports do not deadlock.
        """
        written = [_write(each) for each in sorted(recipients, key=lambda each: each.id)]
        rows = await self._database.fetch(_INSERT, *_transpose(written), account)
        created = frozenset(row["id"] for row in rows)
        others = [each for each in written if each[0] not in created]
        return replace(await self._update(others), created=created) if others else Merged(created)

    async def change(self, recipient: Recipient) -> Merged:
        """Change a contact as far as something is said; one that is not there is not made."""
        return await self._update([_write(recipient)])

    async def _update(self, written: list[tuple[Any, ...]]) -> Merged:
        rows = await self._database.fetch(_UPDATE, *_transpose(written))
        changed, refused = (frozenset(row["id"] for row in rows if row["refused"] is so) for so in (False, True))
        return Merged(changed=changed, refused=refused)

    async def find(self, account: str, contact_id: UUID) -> Contact | None:
        """One contact of this account."""
        query = f"SELECT {_FIELDS} FROM scheduler.contact WHERE id = $1 AND account = $2"
        rows = await self._database.fetch(query, contact_id, account)
        return Contact(*rows[0].values()) if rows else None

    async def list_page(self, account: str, wanted: ContactFilter, after: UUID | None, limit: int) -> Sequence[Contact]:
        """Contacts by their ids, after one of them."""
        args: list[Any] = [account]
        conditions = _list_conditions(wanted, args)
        if after:
            args.append(after)
            conditions.append(f"id > ${len(args)}")
        where = " AND ".join(["account = $1", *conditions])
        query = f"SELECT {_FIELDS} FROM scheduler.contact WHERE {where} ORDER BY id LIMIT {limit:d}"
        return [Contact(*row.values()) for row in await self._lists.fetch(query, *args)]

    async def list_attribute_names(self, account: str, wanted: ContactFilter, limit: int) -> list[str]:
        """The names that these contacts have attributes of, sorted. Reads all of them: seconds for a million."""
        args: list[Any] = [account]
        where = " AND ".join(["account = $1", *_list_conditions(wanted, args)])
        query = f"""
            SELECT DISTINCT jsonb_object_keys(attributes) AS name FROM scheduler.contact WHERE {where} LIMIT {limit:d}
        """
        return sorted(row["name"] for row in await self._lists.fetch(query, *args))


def _list_conditions(wanted: ContactFilter, args: list[Any]) -> list[str]:
    conditions: list[str] = []
    if wanted.tags:
        args.append(list(wanted.tags))
        conditions.append(f"tags @> ${len(args)}::text[]")
    for choices in wanted.attributes:
        given = []
        for choice in choices:
            args.append(orjson.dumps(choice).decode())
            given.append(f"attributes @> ${len(args)}::jsonb")
        conditions.append(f"({' OR '.join(given)})")
    return conditions


def _write(recipient: Recipient) -> tuple[Any, ...]:
    given = recipient.attributes or {}
    dropped = [name for name, value in given.items() if value is None]
    if dropped:
        given = {name: value for name, value in given.items() if value is not None}
    return (
        recipient.id,
        recipient.address,
        recipient.name,
        recipient.timezone,
        None if recipient.tags is None else TAG_SEPARATOR.join(recipient.tags),
        orjson.dumps(given).decode(),
        orjson.dumps(dropped).decode(),
    )


def _transpose(written: Iterable[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*written, strict=True)]
