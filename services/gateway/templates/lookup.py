"""From `template` in a mail to the mail's content, without asking PostgreSQL for each mail.

A version is asked for again after 3 s, so a new latest one, and a deletion, act within 5. With PostgreSQL away what is
known goes on, as keys do.
"""

from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from services.gateway.templates.content import StoredTemplate
from services.gateway.templates.store import TemplateStore
from shared.composing.forms import TemplateChoice
from shared.events import list_errors
from shared.events.requested import TemplateRef
from shared.problems import Problem, invalid_content
from shared.recent import Recent
from shared.retrying import Unavailable, answer_within

_ACTS_WITHIN, _LOOK_S = timedelta(seconds=5), 1.5
_CAPACITY = 32 * 1024 * 1024  # about bytes
_GIVEN_BY_TEMPLATE = ("subject", "text", "html")

_Key = tuple[str, str, int | None]


class TemplateLookup:
    """Fills in what a mail takes from a stored template."""

    def __init__(self, store: TemplateStore) -> None:
        self._store = store

        async def ask(key: _Key) -> StoredTemplate | None:
            return await store.find(*key)

        self._recent: Recent[_Key, StoredTemplate] = Recent(ask, capacity=_CAPACITY, weigh=lambda found: found.size)

    async def resolve(self, account: str, fields: dict[str, Any], moment: datetime | None = None) -> dict[str, Any]:
        """A mail's fields with the content of its `template`, where it names one; without, they come back as they are.

        With `moment` the latest version is the one that acted then, so that a repeated request is the same mail.
        Raises Problem 422 with a pointer to each fault (`/variables/name` for one that is missing), 503.
        """
        if fields.get("template") is None:
            return fields
        given = fields.get("variables") or {}
        found, fields = await self.take_content(account, fields, moment)
        missing = found.content.find_missing(given)
        if missing:
            raise invalid_content([complain(found, name) for name in missing])
        return {**fields, "variables": found.content.fill_in(given)}

    async def take_content(
        self, account: str, fields: dict[str, Any], moment: datetime | None = None
    ) -> tuple[StoredTemplate, dict[str, Any]]:
        """The template that `fields` name, and the fields with its content; the variables are left to the caller.

        Raises Problem 422, 503.
        """
        choice = _read_choice(fields["template"])
        _check_neighbours(fields, fields.get("variables"))
        found = await self._find(account, choice, moment)
        content = found.content
        own = {"subject": content.subject, "text": content.text, "html": content.html}
        return found, {**fields, **own, "template": TemplateRef(name=found.name, version=found.version)}

    async def _find(self, account: str, choice: TemplateChoice, moment: datetime | None) -> StoredTemplate:
        try:
            found = await self._recent.find((account, choice.name, choice.version))
            if found and moment and choice.version is None and found.created_at > moment - _ACTS_WITHIN:
                then = self._store.find_at(account, choice.name, moment - _ACTS_WITHIN)
                found = await answer_within(then, _LOOK_S)
            if found:
                return found
            exists = choice.version is not None and await self._recent.find((account, choice.name, None))
        except Unavailable as exc:
            detail = "PostgreSQL is away, and this template was not used lately; try again."
            raise Problem(503, "unavailable", detail, outcome="refused") from exc
        if exists:
            error = {"detail": f"`{choice.name}` has no such version", "pointer": "/template/version"}
        else:
            error = {"detail": "there is no template of this name", "pointer": "/template/name"}
        raise invalid_content([error])


def _read_choice(value: Any) -> TemplateChoice:
    try:
        return TemplateChoice.model_validate(value)
    except ValidationError as exc:
        raise invalid_content(list_errors(exc, "/template")) from None


def _check_neighbours(fields: dict[str, Any], variables: Any) -> None:
    errors = [
        {"detail": "is the template's; leave it out", "pointer": f"/{name}"}
        for name in _GIVEN_BY_TEMPLATE
        if fields.get(name) is not None
    ]
    if variables is not None and not isinstance(variables, dict):
        errors.append({"detail": "must be an object: names and their values", "pointer": "/variables"})
    if errors:
        raise invalid_content(errors)


def complain(template: StoredTemplate, name: str) -> dict[str, str]:
    """The error of a variable that a template needs and that is not given."""
    description = template.content.variables[name].description
    detail = f"is needed by the template `{template.name}`" + (f": {description}" if description else "")
    return {"detail": detail, "pointer": f"/variables/{name}"}
