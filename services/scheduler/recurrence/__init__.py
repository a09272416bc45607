"""When a task falls due: intervals, fields, cron lines, time zones and the change of the clock. Pure: no clock, no I/O.

`Schedule.build(...)` reads what a user wrote and says all that is wrong with it; `Schedule.next_after(instant)` is the
arithmetic. docs/scheduling.md says the rules in plain words.
"""

from services.scheduler.recurrence.details import RecurringDetails
from services.scheduler.recurrence.errors import InvalidSchedule
from services.scheduler.recurrence.intervals import RecurringInterval
from services.scheduler.recurrence.schedule import Schedule

__all__ = ["InvalidSchedule", "RecurringDetails", "RecurringInterval", "Schedule"]
