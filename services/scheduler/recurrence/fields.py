"""One field of a schedule, as cron and Celery know it: `*`, a number or name, a list, a range, a step."""

import re
from dataclasses import dataclass

_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_LONGEST = 200
# What every cron reads as we do: anything else is spelled out.
_PLAIN = re.compile(r"(\*|(?P<start>\d+)-(?P<end>\d+))(/\d+)?|\d+")


@dataclass(frozen=True, slots=True)
class Field:
    """What may stand in a field: numbers from `first` to `last`, or names, of which `names[0]` means `first`.

    `highest` is the highest that may be written: weekdays count from Sunday, which is 0 and 7.
    """

    name: str
    first: int
    last: int
    highest: int
    names: tuple[str, ...] = ()

    def parse(self, text: str) -> frozenset[int]:
        """The numbers that are meant. Raises ValueError, its message for the one who wrote it."""
        if len(text) > _LONGEST:
            raise ValueError(f"is longer than {_LONGEST} characters")
        return frozenset(number for part in text.split(",") for number in self._parse_part(part.strip().lower()))

    def spell(self, text: str) -> str:
        """The same for a cron line: as it was written where cron reads it so, else the numbers."""
        parts = [_PLAIN.fullmatch(part.strip()) for part in text.split(",")]
        if all(part and (part["start"] is None or int(part["start"]) < int(part["end"])) for part in parts):
            return ",".join(part.group() for part in parts if part)
        return ",".join(map(str, sorted(self.parse(text))))

    def _parse_part(self, part: str) -> list[int]:
        wanted, slash, step = part.partition("/")
        numbers = self._parse_range(wanted, open_ended=bool(slash))
        if not slash:
            return numbers
        most = self.last - self.first + 1
        if not _is_number(step) or not 1 <= int(step) <= most:
            raise ValueError(f"{part!r}: behind / stands a step, a number from 1 to {most}")
        return numbers[:: int(step)]

    def _parse_range(self, text: str, open_ended: bool) -> list[int]:
        if text == "*":
            return list(range(self.first, self.last + 1))
        start, dash, end = text.partition("-")
        number = self._parse_number(start or text)
        if dash:
            return self._span(number, self._parse_number(end or text))
        return self._span(number, max(number, self.last)) if open_ended else [self._fold(number)]

    def _span(self, start: int, end: int) -> list[int]:
        """As in Celery, a range goes on behind the last number: `fri-mon` is four days."""
        if start > end:
            start = self._fold(start)
        if start <= end:
            return [self._fold(number) for number in range(start, end + 1)]
        return [*range(start, self.last + 1), *range(self.first, end + 1)]

    def _fold(self, number: int) -> int:
        return self.first if number > self.last else number

    def _parse_number(self, text: str) -> int:
        if _is_number(text) and self.first <= int(text) <= self.highest:
            return int(text)
        for number, name in enumerate(self.names, self.first):
            if text in (name, name[:3]):
                return number
        hint = f", or {self.names[0][:3]} to {self.names[-1][:3]}" if self.names else ""
        raise ValueError(f"{text!r} is not from {self.first} to {self.highest}{hint}")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 4


MINUTE = Field("minute", 0, 59, 59)
HOUR = Field("hour", 0, 23, 23)
DAY_OF_MONTH = Field("day_of_month", 1, 31, 31)
MONTH_OF_YEAR = Field("month_of_year", 1, 12, 12, _MONTHS)
DAY_OF_WEEK = Field("day_of_week", 0, 6, 7, _DAYS)

# In the order of a cron line.
FIELDS = (MINUTE, HOUR, DAY_OF_MONTH, MONTH_OF_YEAR, DAY_OF_WEEK)
