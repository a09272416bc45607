"""`import_beat.py REPORT`: rows of a real django_celery_beat, imported; when Celery itself would run them.

MILENA_URL and MILENA_API_KEY name a real API of tasks.
"""

import io
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import django
from django.conf import settings
from django.core.management import CommandError, call_command

AFTER = datetime(2026, 6, 1, 12, 30, tzinfo=UTC)
DUE_TIMES = 10
# minute, hour, day of month, month, day of week, zone. None of these is due in an hour in which a clock changes.
CRONTABS = """
* * * * * UTC
*/5 * * * * UTC
*/7 * * * * Europe/Berlin
0 * * * * America/New_York
15,45 * * * * Asia/Kathmandu
3-59/10 * * * * UTC
0 */2 * * * UTC
0 */5 * * * UTC
30 8 * * * Europe/Berlin
0 0 * * * America/New_York
59 23 * * * Asia/Tokyo
0 8-18 * * * Europe/London
0 8-18/3 * * * Europe/London
*/15 9-17 * * mon-fri Europe/Berlin
0 9 * * 1-5 America/Chicago
0 9 * * sun UTC
0 9 * * 0 UTC
0 9 * * 0,6 UTC
0 10 * * fri-mon UTC
0 10 * * monday,Thursday UTC
0 10 * * */2 UTC
0 22-4 * * * UTC
50-10/5 * * * * UTC
10-10/5 6 * * * UTC
0 12 1 * * UTC
0 12 1,15 * * Australia/Lord_Howe
0 12 31 * * UTC
0 12 */10 * * UTC
0 12 28-31 * * America/Sao_Paulo
0 12 25-5 * * UTC
0 12 1 jan * UTC
0 12 1 1,4,7,10 * Africa/Casablanca
0 12 1 */3 * UTC
0 12 29 2 * UTC
0 12 1 nov-feb * UTC
30 6 2,4,5,8 * 1 UTC
* * 2,4,5,8 * mon Europe/Berlin
*/30 * 13 * fri America/New_York
0 12 1-7 * 1 UTC
0 12 1-7 1,7 sat UTC
0 12 */2 * */3 UTC
0 12 1-31 * 3 UTC
"""
INTERVALS = """
1 minutes, 5 minutes, 10 minutes, 30 minutes, 7 minutes, 120 seconds, 90 seconds, 10 seconds, 250 microseconds,
1 hours, 6 hours, 24 hours, 5 hours, 1 days, 7 days, 2 days
"""


def configure() -> None:
    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=["django_celery_beat", "milena.django"],
        USE_TZ=True,
        SECRET_KEY="for tests only",
        MILENA_BEAT_JOBS={
            "shop.greet": {"job": "send_email", "positional": ["to", "subject"], "args": {"from": "a@example.com"}}
        },
    )
    django.setup()
    call_command("migrate", verbosity=0)


def make_rows() -> None:
    """Rows of every kind; what is awkward about a row is in its name."""
    from django_celery_beat.models import (
        ClockedSchedule,
        CrontabSchedule,
        IntervalSchedule,
        PeriodicTask,
        SolarSchedule,
    )

    names = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
    for line in CRONTABS.split("\n")[1:-1]:
        *fields, zone = line.split()
        crontab = CrontabSchedule(**dict(zip(names, fields, strict=True)), timezone=ZoneInfo(zone))
        crontab.save()
        make(f"crontab {line}", crontab=crontab)
    for text in INTERVALS.split(","):
        every, period = text.split()
        interval = IntervalSchedule.objects.create(every=int(every), period=period)
        make(f"interval {every} {period}", interval=interval, last_run_at=AFTER)
    both = CrontabSchedule.objects.get(minute="30", hour="6", day_of_month="2,4,5,8")
    daily = CrontabSchedule.objects.get(minute="0", hour="0")
    later = ClockedSchedule.objects.create(clocked_time=datetime(2046, 5, 4, 3, 2, 1, tzinfo=UTC))
    over = ClockedSchedule.objects.create(clocked_time=datetime(2006, 5, 4, tzinfo=UTC))
    make("clocked", clocked=later, one_off=True)
    make("clocked, over", clocked=over, one_off=True)
    make("solar", solar=SolarSchedule.objects.create(event="sunset", latitude=52, longitude=13))
    make("once, both days", crontab=both, one_off=True)
    make("has run once", crontab=both, one_off=True, total_run_count=1)  # beat has not looked at it since
    make("has run once, off", crontab=both, one_off=True)
    # As beat leaves it behind; save() would take back last_run_at.
    ran = PeriodicTask.objects.filter(name="has run once, off")
    ran.update(enabled=False, total_run_count=0, last_run_at=AFTER)
    make("off", crontab=daily, enabled=False)
    bounds: dict[str, Any] = {
        "start_time": datetime(2040, 1, 1, tzinfo=UTC),
        "expires": datetime(2041, 1, 1, tzinfo=UTC),
    }
    make("bounded", crontab=daily, **bounds)
    make("expired", crontab=daily, expires=AFTER - timedelta(days=300))
    make("routed", crontab=daily, queue="slow", priority=3, expire_seconds=60)
    make("named", crontab=daily, args='["ann@example.org", "Hello"]', kwargs='{"text": "Hi"}')
    make("nameless", crontab=daily, args="[1]", task="shop.clean")
    make("args are wrong", crontab=daily, kwargs="{}")
    make("nobody's", crontab=daily, task="shop.unknown")
    make("housekeeping", crontab=daily, task="celery.backend_cleanup")


def make(name: str, *, task: str = "shop.greet", kwargs: str | None = None, **fields: Any) -> None:
    from django_celery_beat.models import PeriodicTask

    mail = '{"to": "ann@example.org", "subject": "Hello", "text": "Hi"}'
    PeriodicTask(name=name, task=task, kwargs=kwargs or mail, **fields).save()


def list_due(row: Any) -> Iterator[datetime]:
    """When Celery would run it next: what beat itself asks of a schedule, from one run to the next."""
    schedule, last = row.schedule, AFTER
    if row.interval:
        yield from (AFTER + schedule.run_every * number for number in range(1, DUE_TIMES + 1))
        return
    for _ in range(DUE_TIMES):
        last = last.astimezone(schedule.tz)
        schedule.nowfun = lambda now=last: now
        start, ends_in, _ = schedule.remaining_delta(last)
        last = start + ends_in
        yield last


def run_import(*options: str) -> dict[str, Any]:
    out, error = io.StringIO(), None
    try:
        call_command("milena_import_beat", *options, stdout=out)
    except CommandError as exc:
        error = str(exc)
    return {"out": out.getvalue(), "error": error}


def report() -> dict[str, Any]:
    from django_celery_beat.models import PeriodicTask

    make_rows()
    named = [row for row in PeriodicTask.objects.all() if row.name.startswith(("crontab", "interval"))]
    due = {row.name: [due.astimezone(UTC).isoformat() for due in list_due(row)] for row in named}
    dry = run_import("--dry-run")
    first = run_import()
    PeriodicTask.objects.filter(name="off").update(enabled=True)
    PeriodicTask.objects.filter(name="bounded").update(start_time=None)
    again = run_import("--job", "shop.clean=shop.clean")
    updated = run_import("--update", "--external")
    return {"after": AFTER.isoformat(), "due": due, "dry": dry, "first": first, "again": again, "updated": updated}


if __name__ == "__main__":
    configure()
    Path(sys.argv[1]).write_text(json.dumps(report()))
