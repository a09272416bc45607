"""The fields of a recurring interval, as a user gives them: an object, or a JSON string that holds one."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import orjson

from services.scheduler.recurrence.errors import InvalidSchedule
from services.scheduler.recurrence.fields import FIELDS

_NAMES = tuple(field.name for field in FIELDS)
_LONGEST = 4_000
_BAD_TYPE = 'must be a number, or a text such as "*", "2,4", "8-18" or "*/15"'
_BAD_OBJECT = "must be a JSON object, or a string that holds one"


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
        errors = [
            (f"recurring_details/{str(name)[:50]}", f"is no field of a schedule; there are {', '.join(_NAMES)}")
            for name in fields
            if name not in _NAMES
        ]
        texts = {}
        for field in FIELDS:
            try:
                texts[field.name] = _read_text(fields.get(field.name))
                field.parse(texts[field.name])
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
        given = _parse(given)
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise InvalidSchedule([("recurring_details", _BAD_OBJECT)])
    return given


def _parse(text: str) -> object:
    if len(text) > _LONGEST:
        raise InvalidSchedule([("recurring_details", f"is longer than {_LONGEST} characters")])
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        detail = f"{_BAD_OBJECT}; this string is no JSON: {exc}"
        raise InvalidSchedule([("recurring_details", detail)]) from exc


def _read_text(given: object) -> str:
    if given is None:
        return "*"
    if isinstance(given, list):
        return ",".join(map(_read_one, given))
    return _read_one(given)


def _read_one(given: object) -> str:
    if isinstance(given, str):
        return given.strip()
    if isinstance(given, int) and not isinstance(given, bool) and abs(given) < 10_000:
        return str(given)
    raise ValueError(_BAD_TYPE)
