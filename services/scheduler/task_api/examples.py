"""Examples for the API's documentation of tasks."""

from typing import Any

RUN_ID = "01a2b3c4-d5e6-7f80-9a1b-2c3d4e5f6071"
_ONE_OFF: dict[str, Any] = {
    "name": "Policy Change Email To Users",
    "job_name": "send_email",
    "recurring_interval": "ONE_OFF",
    "recurring_details": '{"day_of_month": "2,4,5,8", "day_of_week": "1", "month_of_year": "*", "minute": "*", '
    '"hour": "*"}',
}
_QUARTERLY: dict[str, Any] = {
    "job_name": "send_email",
    "recurring_interval": "EVERY_QUARTER",
    "recurring_details": {
        "month_of_year": "2,4,5,8",
        "day_of_week": "*",
        "day_of_month": "1",
        "minute": "*",
        "hour": "*",
    },
}
_ARGS = {
    "from": "no-reply@example.com",
    "to": ["ann@example.org"],
    "subject": "Good morning",
    "text": "It is half past eight.",
}
_MORNING: dict[str, Any] = {
    "name": "Morning report",
    "job_name": "send_email",
    "args": _ARGS,
    "cron": "30 8 * * 1-5",
    "timezone": "Europe/Berlin",
    "misfire": "skip",
    "retries": 3,
    "backoff_s": 60,
}
_DAILY = {
    "recurring_interval": "EVERY_DAY",
    "recurring_details": {"hour": "8", "minute": "30"},
    "timezone": "Europe/Berlin",
}

NEW_TASK = {
    "working days": {"summary": "A mail on working days", "value": _MORNING},
    "one off": {"summary": "Once, at the next match", "value": _ONE_OFF},
    "run at": {
        "summary": "Once, at a time",
        "value": {"name": "Reminder", "job_name": "send_email", "args": _ARGS, "run_at": "2030-01-31T09:00:00Z"},
    },
}
UPDATE = {"quarterly": {"summary": "Another schedule", "value": {"id": 1, **_QUARTERLY}}}
CHANGES = {
    "quarterly": {"summary": "Another schedule", "value": _QUARTERLY},
    "pause": {"summary": "No more for now", "value": {"enabled": False}},
}
CHOICE = {"task": {"summary": "Task 1", "value": {"id": 1}}}
PAGE = {"page": {"summary": "The first hundred", "value": {"limit": 100}}}
PREVIEW = {"daily": {"summary": "Every day at half past eight", "value": {**_DAILY, "count": 3}}}
JOB_RUN = {"mail": {"summary": "Now, once", "value": {"args": _ARGS}}}

TASK: dict[str, Any] = {
    "id": 1,
    "name": "Morning report",
    "job_name": "send_email",
    "status": "SUCCEEDED",
    "created_at": "2030-01-30T15:04:05Z",
    "updated_at": "2030-01-30T15:04:05Z",
    "recurring_interval": None,
    "recurring_details": None,
    "cron": "30 8 * * 1-5",
    "run_at": None,
    "timezone": "Europe/Berlin",
    "start_at": None,
    "end_at": None,
    "schedule": {
        "cron": "30 8 * * 1-5",
        "run_at": None,
        "timezone": "Europe/Berlin",
        "day_fields": None,
        "text": "At 08:30 on Monday through Friday",
    },
    "args": _ARGS,
    "enabled": True,
    "misfire": "skip",
    "overlap": "allow",
    "retries": 3,
    "backoff_s": 60,
    "time_limit_s": None,
    "creator": {"key_id": "01a2b3c4-d5e6-7f80-9a1b-2c3d4e5f6072", "name": "back office"},
    "test": False,
    "next_due_at": "2030-02-01T07:30:00Z",
    "upcoming": ["2030-02-01T08:30:00+01:00", "2030-02-04T08:30:00+01:00"],
}
RUN: dict[str, Any] = {
    "id": RUN_ID,
    "task_id": 1,
    "name": "Morning report",
    "job_name": "send_email",
    "status": "SUCCEEDED",
    "by_hand": False,
    "due_at": "2030-01-31T07:30:00Z",
    "started_at": "2030-01-31T07:30:00.112Z",
    "finished_at": "2030-01-31T07:30:00.127Z",
    "attempts": 1,
    "next_attempt_at": None,
    "result": {"email_id": "5f0c3f0e-2b6c-5d0a-9a77-5a2d7f3b1c11"},
    "error": None,
}
