"""What a command prints: lines for people, or one JSON object a line for machines."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from milena.status import EmailStatus, Event, ScheduledEmail

# A relay's words, and a subject, are somebody else's: they are not to move the cursor of a terminal.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Screen:
    """Prints to standard output."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def show_accepted(self, email_id: str, retry_of: str | None = None) -> None:
        """A mail has an id."""
        more = {"retry_of": retry_of} if retry_of else {}
        self._say(email_id, {"id": email_id, "status": "queued", **more})

    def show_cancellation(self, email_id: str) -> None:
        """Somebody was told."""
        line = f"asked that {email_id} be not sent; `milena status {email_id}` says whether that came in time"
        self._say(line, {"id": email_id, "status": "cancellation_requested"})

    def show_scheduled(self, mail: ScheduledEmail) -> None:
        """A mail that waits."""
        self._say(f"{mail.send_at:%Y-%m-%d %H:%M:%S %Z}  {mail.state}  {mail.id}", dict(mail.data))

    def show_status(self, status: EmailStatus, timeline: Sequence[Event]) -> None:
        """Where a mail stands."""
        lines = [f"{status.id}  {status.status}"]
        for each in status.recipients:
            words = (each.address, each.state, each.reason, each.response)
            lines.append("  " + "  ".join(word for word in words if word))
        lines += ["", *(_describe(event) for event in timeline)] if timeline else []
        self._say(
            "\n".join(_clean(line) for line in lines), {**status.data, "events": [each.data for each in timeline]}
        )

    def show_event(self, event: Event) -> None:
        """One event of many."""
        seen = event if event.time else replace(event, time=datetime.now(UTC))
        line = f"{_describe(seen)}  {event.email_id or ''}".rstrip()
        content = {"id": event.id, "type": event.type, "position": event.position, "data": event.data}
        self._say(_clean(line), content)

    def _say(self, line: str, content: dict[str, Any]) -> None:
        print(json.dumps(content, ensure_ascii=False) if self._as_json else line, flush=True)


def _describe(event: Event) -> str:
    words = [f"{event.time:%Y-%m-%d %H:%M:%S}" if event.time else " " * 19, event.type]
    words += [str(event.data[name]) for name in ("reason", "response", "relay", "detail") if event.data.get(name)]
    return "  ".join(words)


def _clean(line: str) -> str:
    return _CONTROL.sub(" ", line)
