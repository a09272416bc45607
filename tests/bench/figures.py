"""What a round of a scenario yields."""

Figures = dict[str, float]
"""By name; the unit ends the name: `mails_per_s`, `cpu_us`, `resident_mb`, `p99_ms`."""


class NotMeasured(Exception):
    """A scenario that could not be carried through: a part is not to be had, or mail did not come through in time."""
