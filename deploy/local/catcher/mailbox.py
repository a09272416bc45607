"""Where caught mails lie: one ``.eml`` file a mail, the newest thousand of them."""

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True)
class Envelope:
    """What SMTP said around a mail; ``recipients`` includes the blind copies."""

    sender: str
    recipients: tuple[str, ...]
    received_at: datetime


class Mailbox:
    """A directory of caught mails, numbered as they came.

    A mail is exactly the bytes that were sent, so the envelope is kept apart, in ``<directory>-envelopes``.
    One process writes; anybody may read.
    """

    def __init__(self, directory: Path, limit: int = 1000) -> None:
        self.directory = directory
        self._envelopes = directory.with_name(f"{directory.name}-envelopes")
        self._limit = limit
        for place in (directory, self._envelopes):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = (path.stem for path in directory.glob("*.eml"))
        self._numbers = deque(sorted(int(stem) for stem in found if stem.isdigit()))
        self._next = self._numbers[-1] + 1 if self._numbers else 1

    def add(self, content: bytes, envelope: Envelope) -> int:
        """Keep one mail, dropping the oldest beyond the limit, and give its number."""
        number = self._next
        self._next += 1
        facts = {
            "sender": envelope.sender,
            "recipients": envelope.recipients,
            "received_at": envelope.received_at.isoformat(),
        }
        self._envelope_path(number).write_text(json.dumps(facts))
        # Renamed into place: whoever watches the directory never reads half a mail.
        fresh = self._envelopes / f"{number}.part"
        fresh.write_bytes(content)
        fresh.rename(self._path(number))
        self._numbers.append(number)
        while len(self._numbers) > self._limit:
            self._drop(self._numbers.popleft())
        return number

    def numbers(self) -> Sequence[int]:
        """Give the numbers of the mails that are kept, newest first."""
        return tuple(reversed(self._numbers))

    def read(self, number: int) -> tuple[bytes, Envelope] | None:
        """Give one mail and its envelope, None where there is no such mail (any more)."""
        try:
            return self._path(number).read_bytes(), self._read_envelope(number)
        except FileNotFoundError:
            return None

    def _read_envelope(self, number: int) -> Envelope:
        try:
            facts = json.loads(self._envelope_path(number).read_text())
            received_at = datetime.fromisoformat(facts["received_at"])
            return Envelope(facts["sender"], tuple(facts["recipients"]), received_at)
        except (OSError, ValueError, KeyError):
            received_at = datetime.fromtimestamp(self._path(number).stat().st_mtime, UTC)
            return Envelope("", (), received_at)

    def _drop(self, number: int) -> None:
        self._path(number).unlink(missing_ok=True)
        self._envelope_path(number).unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self.directory / f"{number:06d}.eml"

    def _envelope_path(self, number: int) -> Path:
        return self._envelopes / f"{number:06d}.json"
