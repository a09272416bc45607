"""What a stored template holds, and what it makes of variables. Pure."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson

from shared.composing.composer import UnacceptableFields, point_at_error
from shared.template_checking import check_template
from shared.templates import TemplateError, render_content

VARIABLES_LIMIT = 200


@dataclass(frozen=True, slots=True)
class Variable:
    """A declared variable. One without a default may still be optional: the template then does without it."""

    required: bool = True
    has_default: bool = False
    default: Any = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """Subject, text and html as templates, and the variables they ask for."""

    subject: str
    text: str | None
    html: str | None
    variables: Mapping[str, Variable]

    def list_fields(self) -> dict[str, str]:
        """The fields there are."""
        fields = {"subject": self.subject, "text": self.text, "html": self.html}
        return {name: source for name, source in fields.items() if source is not None}

    def compute_digest(self) -> str:
        """Equal for equal content, so that saving it again makes no version."""
        told = [self.subject, self.text, self.html, dict(self.variables)]
        return hashlib.blake2b(orjson.dumps(told, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()

    def find_missing(self, given: Mapping[str, Any]) -> list[str]:
        """Required variables that are not given."""
        return [name for name, each in self.variables.items() if each.required and name not in given]

    def fill_in(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The given variables, and the defaults of those that are not."""
        return {name: each.default for name, each in self.variables.items() if each.has_default} | dict(given)


@dataclass(frozen=True, slots=True)
class StoredTemplate:
    """One version of a template, which never changes."""

    name: str
    version: int
    content: Content
    created_at: datetime
    api_key_id: str

    @property
    def size(self) -> int:
        """About its bytes in memory."""
        return 500 + sum(len(source) for source in self.content.list_fields().values())


@dataclass(frozen=True, slots=True)
class Preview:
    """What the fields come to; one that cannot be rendered is None, and `errors` say why."""

    subject: str | None
    text: str | None
    html: str | None
    missing: list[str]
    errors: list[dict[str, str]]


def complete(content: Content) -> Content:
    """The content with all its variables declared. Raises UnacceptableFields where a field is no template.

    A variable that is used and not declared is required, unless the template says what to do without it.
    """
    errors: list[dict[str, str]] = []
    found: dict[str, Variable] = {}
    for field, source in content.list_fields().items():
        try:
            needs = check_template(field, source)
        except TemplateError as exc:
            errors.append(point_at_error(exc))
            continue
        for name in sorted(needs.names):
            optional = name in needs.optional or (name in found and not found[name].required)
            found[name] = Variable(required=not optional)
    variables = dict(content.variables) | {name: each for name, each in found.items() if name not in content.variables}
    if len(variables) > VARIABLES_LIMIT:
        errors.append({"detail": f"a template may have at most {VARIABLES_LIMIT} variables", "pointer": "/variables"})
    if "self" in variables:
        errors.append({"detail": "a variable must not be called `self`", "pointer": "/variables/self"})
    if errors:
        raise UnacceptableFields(errors)
    return replace(content, variables=variables)


def preview(content: Content, given: Mapping[str, Any]) -> Preview:
    """Render with what is given; where a required variable is missing, its name stands as the template has it."""
    missing = content.find_missing(given)
    values = content.fill_in(given) | {name: f"{{{{ {name} }}}}" for name in missing}
    rendered: dict[str, str | None] = {}
    errors: list[dict[str, str]] = []
    for field, source in content.list_fields().items():
        parts: dict[str, Any] = {"subject": "", "text": None, "html": None} | {field: source}
        try:
            rendered[field] = getattr(render_content(**parts, variables=values), field)
        except TemplateError as exc:
            errors.append(point_at_error(exc))
    return Preview(rendered.get("subject"), rendered.get("text"), rendered.get("html"), missing, errors)
