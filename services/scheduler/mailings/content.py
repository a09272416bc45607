"""What a mailing says: whether its templates are templates, and what they come to for a recipient. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.scheduler.mailings.variables import OWN, fill_in
from shared.template_checking import check_template
from shared.templates import TemplateError, render_content, render_field

TEMPLATES = ("subject", "text", "html")
_SAMPLE = fill_in("ann@example.org", "Ann", {})
_ENDLESS = "ran out of fuel"
Errors = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Needs:
    """The variables that a recipient must have beside his address and name, and those that are only asked for."""

    required: frozenset[str]
    optional: frozenset[str]

    @property
    def names(self) -> frozenset[str]:
        """All of them."""
        return self.required | self.optional


def list_templates(content: Mapping[str, Any]) -> dict[str, str]:
    """The fields that are templates, as far as there are any."""
    return {field: content[field] for field in TEMPLATES if content.get(field) is not None}


def check_content(content: Mapping[str, Any]) -> Errors:
    """What is wrong with the templates whoever it is for, with pointers into the content.

    One without variables is rendered, for it comes to the same for everybody; any other as far as fuel goes: a loop
    that has no end is found before it is met a million times.
    """
    errors: Errors = []
    for field, source in list_templates(content).items():
        try:
            needs = check_template(field, source)
            if "self" in needs.names:
                raise TemplateError(field, "a variable must not be called `self`")
            _try(field, source, needs.names)
        except TemplateError as exc:
            errors.append({"detail": exc.detail, "pointer": f"/{field}"})
    return errors


def _try(field: str, source: str, names: frozenset[str]) -> None:
    try:
        render_field(field, source, {**dict.fromkeys(names, "x"), **_SAMPLE})
    except TemplateError as exc:
        if names <= OWN or _ENDLESS in exc.detail:
            raise


def find_needs(content: Mapping[str, Any]) -> Needs:
    """What the templates ask for. Raises TemplateError where one is none."""
    required: set[str] = set()
    optional: set[str] = set()
    for field, source in list_templates(content).items():
        needs = check_template(field, source)
        required |= needs.names - needs.optional
        optional |= needs.optional
    return Needs(frozenset(required - OWN), frozenset(optional - required - OWN))


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a recipient would read; a field that cannot be rendered is None, and `errors` say why."""

    subject: str | None
    text: str | None
    html: str | None
    errors: tuple[TemplateError, ...]


def render(content: Mapping[str, Any], variables: Mapping[str, Any]) -> Rendered:
    """The content for one recipient, each field by itself."""
    errors: list[TemplateError] = []
    rendered: dict[str, str | None] = {}
    for field, source in list_templates(content).items():
        parts: dict[str, Any] = {"subject": "", "text": None, "html": None} | {field: source}
        try:
            rendered[field] = getattr(render_content(**parts, variables=variables), field)
        except TemplateError as exc:
            errors.append(exc if exc.field == field else TemplateError(field, exc.detail))
    return Rendered(rendered.get("subject"), rendered.get("text"), rendered.get("html"), tuple(errors))
