"""What is wrong with a schedule."""

from collections.abc import Sequence


class InvalidSchedule(ValueError):
    """Nothing can be run by this schedule.

    `errors` holds `(field, detail)` for everything that was found, `field` as a path without its leading slash:
    `timezone`, `recurring_details/day_of_month`.
    """

    def __init__(self, errors: Sequence[tuple[str, str]]) -> None:
        self.errors = list(errors)
        super().__init__("; ".join(f"{field}: {detail}" for field, detail in self.errors))
