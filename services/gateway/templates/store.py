"""Every SQL statement on stored templates. Raises DatabaseUnavailable.

A version never changes, and its number is never used for another one: a deleted template leaves its row behind, and
one saved under its name again goes on counting.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import orjson

from services.gateway.templates.content import Content, StoredTemplate, Variable
from shared.database import Database

# `oldest`: what is older belongs to a template of this name that was deleted.
_SAVE = """
    WITH head AS (
        INSERT INTO gateway.templates AS kept (account, name, digest) VALUES ($1, $2, $3)
        ON CONFLICT (account, name) DO UPDATE SET
            latest = kept.latest + 1, digest = excluded.digest, updated_at = now(), deleted = false,
            oldest = CASE WHEN kept.deleted THEN kept.latest + 1 ELSE kept.oldest END,
            created_at = CASE WHEN kept.deleted THEN now() ELSE kept.created_at END
        WHERE kept.deleted OR (NOT $4 AND kept.digest <> excluded.digest)
        RETURNING latest, oldest)
    INSERT INTO gateway.template_versions (account, name, version, subject, text, html, variables, api_key_id)
    SELECT $1, $2, head.latest, $5, $6, $7, $8::text::json, $9 FROM head
    RETURNING *, version = (SELECT oldest FROM head) AS is_first
"""
_FIND = """
    SELECT version.* FROM gateway.templates AS head JOIN gateway.template_versions AS version USING (account, name)
    WHERE account = $1 AND name = $2 AND NOT head.deleted
      AND version.version = coalesce($3, head.latest) AND version.version >= head.oldest
"""
_FIND_AT = """
    SELECT version.* FROM gateway.templates AS head JOIN gateway.template_versions AS version USING (account, name)
    WHERE account = $1 AND name = $2 AND NOT head.deleted AND version.version >= head.oldest
    ORDER BY version.created_at <= $3 DESC,
             CASE WHEN version.created_at <= $3 THEN version.version ELSE -version.version END DESC LIMIT 1
"""
_LIST = """
    SELECT head.name, head.latest AS version, version.subject, head.created_at, head.updated_at
    FROM gateway.templates AS head JOIN gateway.template_versions AS version
      ON version.account = head.account AND version.name = head.name AND version.version = head.latest
    WHERE head.account = $1 AND head.name > $2 AND NOT head.deleted ORDER BY head.name LIMIT $3
"""
_LIST_VERSIONS = """
    SELECT version.version, version.subject, version.created_at, version.api_key_id
    FROM gateway.templates AS head JOIN gateway.template_versions AS version USING (account, name)
    WHERE account = $1 AND name = $2 AND NOT head.deleted AND version.version >= head.oldest AND version.version < $3
    ORDER BY version.version DESC LIMIT $4
"""
_DELETE = """
    WITH head AS (
        UPDATE gateway.templates SET deleted = true, updated_at = now()
        WHERE account = $1 AND name = $2 AND NOT deleted RETURNING name),
    versions AS (
        DELETE FROM gateway.template_versions WHERE account = $1 AND name IN (SELECT name FROM head))
    SELECT name FROM head
"""


@dataclass(frozen=True, slots=True)
class TemplateSummary:
    """A template in a list; `version` is its latest."""

    name: str
    version: int
    subject: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class VersionSummary:
    """A version in a list."""

    version: int
    subject: str
    created_at: datetime
    api_key_id: str


@dataclass(frozen=True, slots=True)
class Saved:
    """A version that was just made; `is_first` of its template."""

    template: StoredTemplate
    is_first: bool


class TemplateStore:
    """The tables `gateway.templates` and `gateway.template_versions`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(
        self, account: str, name: str, content: Content, api_key_id: str, *, only_new: bool = False
    ) -> Saved | None:
        """Make a version; None where the latest one is equal, or with `only_new` where there is one at all."""
        fields = (content.subject, content.text, content.html, _write_variables(content.variables))
        rows = await self._database.fetch(_SAVE, account, name, content.compute_digest(), only_new, *fields, api_key_id)
        return Saved(_read(rows[0]), rows[0]["is_first"]) if rows else None

    async def find(self, account: str, name: str, version: int | None = None) -> StoredTemplate | None:
        """One version, the latest where none is named."""
        rows = await self._database.fetch(_FIND, account, name, version)
        return _read(rows[0]) if rows else None

    async def find_at(self, account: str, name: str, moment: datetime) -> StoredTemplate | None:
        """The version that was the latest at a moment; the first one where there was none yet."""
        rows = await self._database.fetch(_FIND_AT, account, name, moment)
        return _read(rows[0]) if rows else None

    async def list_some(self, account: str, after: str, limit: int) -> list[TemplateSummary]:
        """Templates by name, from behind `after`."""
        return [TemplateSummary(**row) for row in await self._database.fetch(_LIST, account, after, limit)]

    async def list_versions(self, account: str, name: str, before: int, limit: int) -> list[VersionSummary]:
        """Versions below `before`, newest first; none where there is no such template."""
        rows = await self._database.fetch(_LIST_VERSIONS, account, name, before, limit)
        return [VersionSummary(**row) for row in rows]

    async def delete(self, account: str, name: str) -> bool:
        """Delete a template with all its versions; False where there is none."""
        return bool(await self._database.fetch(_DELETE, account, name))


def _read(row: Any) -> StoredTemplate:
    told = row["variables"]
    variables = orjson.loads(told) if isinstance(told, str) else told
    content = Content(
        row["subject"], row["text"], row["html"], {name: Variable(**each) for name, each in variables.items()}
    )
    return StoredTemplate(row["name"], row["version"], content, row["created_at"], row["api_key_id"])


def _write_variables(variables: Mapping[str, Variable]) -> str:
    return orjson.dumps({name: asdict(each) for name, each in variables.items()}).decode()
