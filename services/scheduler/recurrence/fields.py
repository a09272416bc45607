"""One field of a schedule, as cron and Celery know it: `*`, a number or name, a list, a range, a step."""

from dataclasses import dataclass

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Field:
    """What may stand in a field. `names[0]` means `first`; weekdays count from Sunday, which is 0 and 7."""

    name: str
    first: int
    last: int
    names: tuple[str, ...] = ()

    @property
    def highest(self) -> int:
        """The highest number that may be written."""
        return 7 if self.names is _DAYS else self.last

    def parse(self, text: str) -> frozenset[int]:
        """The numbers that are meant. Raises ValueError, its message for the one who wrote it."""
        if len(text) > _LONGEST:
            raise ValueError(f"is longer than {_LONGEST} characters")
        return frozenset(number for part in text.lower().split(",") for number in self._parse_part(part.strip()))

    def _parse_part(self, part: str) -> list[int]:
        wanted, slash, step = part.partition("/")
        numbers = self._parse_range(wanted, open_ended=bool(slash))
        if not slash:
            return numbers
        if not _is_number(step) or not 1 <= int(step) <= self.last:
            raise ValueError(f"{part!r}: the step behind / must be a number from 1 to {self.last}")
        return numbers[:: int(step)]

    def _parse_range(self, text: str, open_ended: bool) -> list[int]:
        """As Celery does, a range goes on behind the last number: `fri-mon` is four days."""
        if text == "*":
            return list(range(self.first, self.last + 1))
        start, dash, end = text.partition("-")
        if not dash:
            number = self._parse_number(start)
            return self._span(number, self.last) if open_ended else [self._fold(number)]
        return self._span(self._parse_number(start), self._parse_number(end))

    def _span(self, start: int, end: int) -> list[int]:
        if start <= end:
            return [self._fold(number) for number in range(start, end + 1)]
        return [*range(self._fold(start), self.last + 1), *range(self.first, end + 1)]

    def _fold(self, number: int) -> int:
        return 0 if number > self.last else number

    def _parse_number(self, text: str) -> int:
        if _is_number(text) and self.first <= int(text) <= self.highest:
            return int(text)
        if self.names and text[:3] in self.names and text.isascii() and text.isalpha():
            return self.names.index(text[:3]) + self.first
        hint = f", or {self.names[0]} to {self.names[-1]}" if self.names else ""
        raise ValueError(f"{text!r} is not from {self.first} to {self.highest}{hint}")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 4


MINUTE = Field("minute", 0, 59)
HOUR = Field("hour", 0, 23)
DAY_OF_MONTH = Field("day_of_month", 1, 31)
MONTH_OF_YEAR = Field("month_of_year", 1, 12, _MONTHS)
DAY_OF_WEEK = Field("day_of_week", 0, 6, _DAYS)

# In the order of a cron line.
FIELDS = (MINUTE, HOUR, DAY_OF_MONTH, MONTH_OF_YEAR, DAY_OF_WEEK)
