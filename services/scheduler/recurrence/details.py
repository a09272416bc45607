"""The fields of a recurring interval, as a user gives them: an object, or a JSON string that holds one."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from services.scheduler.recurrence.errors import InvalidSchedule
from services.scheduler.recurrence.fields import FIELDS, Field

_NAMES = tuple(field.name for field in FIELDS)
_LONGEST = 4_000


@dataclass(frozen=True, slots=True)
class RecurringDetails:
    """What was written in each field; `*` where nothing was."""

    minute: str = "*"
    hour: str = "*"
    day_of_month: str = "*"
    month_of_year: str = "*"
    day_of_week: str = "*"

    @classmethod
    def read(cls, given: object) -> "RecurringDetails":
        """Raises InvalidSchedule with everything that is wrong. None and an empty object are all `*`."""
        fields = _read_object(given)
        errors = [(f"recurring_details/{name}", _explain_unknown(name)) for name in fields if name not in _NAMES]
        texts = {}
        for field in FIELDS:
            try:
                texts[field.name] = _read_field(field, fields.get(field.name))
            except ValueError as exc:
                errors.append((f"recurring_details/{field.name}", str(exc)))
        if errors:
            raise InvalidSchedule(errors)
        return cls(**texts)

    def to_dict(self) -> dict[str, str]:
        """As an answer shows them: what was given, not what an interval made of it."""
        return asdict(self)


def _read_object(given: object) -> Mapping[str, object]:
    if isinstance(given, str):
        if len(given) > _LONGEST:
            raise InvalidSchedule([("recurring_details", f"is longer than {_LONGEST} characters")])
        try:
            given = json.loads(given)
        except (ValueError, RecursionError) as exc:
            detail = f"must be a JSON object, or a string that holds one; this string is no JSON: {exc}"
            raise InvalidSchedule([("recurring_details", detail)]) from exc
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise InvalidSchedule([("recurring_details", "must be a JSON object, or a string that holds one")])
    return given


def _read_field(field: Field, given: object) -> str:
    text = _to_text(given)
    field.parse(text)
    return text


def _to_text(given: object) -> str:
    if given is None:
        return "*"
    if isinstance(given, int) and not isinstance(given, bool):
        return str(given) if -9999 <= given <= 9999 else "?"
    if isinstance(given, str):
        return given.strip()
    if isinstance(given, list) and given and not any(isinstance(each, list) for each in given):
        return ",".join(_to_text(each) for each in given)
    raise ValueError('must be a number or a text such as "*", "2,4", "8-18" or "*/15"')


def _explain_unknown(name: object) -> str:
    return f"is no field of a schedule; there are {', '.join(_NAMES)}" if len(str(name)) < 100 else "is no field"
