"""What a mail is to a caller, and the JSON it becomes (`POST /v1/emails`). Pure, but for reading attached files."""

import base64
import mimetypes
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

Addresses = str | Sequence[str | Mapping[str, str]]
"""`"Ann <ann@example.org>, bob@example.org"`, or several such, or `{"address": …, "name": …}`."""
_DEFAULT_TYPE = "application/octet-stream"


@dataclass(frozen=True)
class Attachment:
    """A file to attach; with `content_id` it is an inline part, for `<img src="cid:…">`."""

    filename: str
    content: bytes = field(repr=False)
    content_type: str | None = None
    content_id: str | None = None

    @classmethod
    def from_file(cls, path: str | PathLike[str], *, content_id: str | None = None) -> "Attachment":
        """Read a file. Raises OSError."""
        path = Path(path)
        return cls(path.name, path.read_bytes(), content_id=content_id)

    def to_json(self) -> dict[str, str]:
        """The attachment as the API takes it."""
        kind = self.content_type or mimetypes.guess_type(self.filename)[0] or _DEFAULT_TYPE
        if kind.startswith("text/") and "charset=" not in kind and not self.content.isascii() and self._is_utf8():
            kind += "; charset=utf-8"  # without it a reader would have to guess
        fields = {"filename": self.filename, "content_type": kind, "content": base64.b64encode(self.content).decode()}
        return fields | ({"content_id": self.content_id} if self.content_id else {})

    def _is_utf8(self) -> bool:
        try:
            self.content.decode()
        except UnicodeDecodeError:
            return False
        return True


class Mail(TypedDict, total=False):
    """All that may be said of a mail. One of `text` and `html` is needed, and somebody in `to`, `cc` or `bcc`.

    `from_` may be left out where the key has exactly one sender. Times must have a zone.
    """

    from_: str
    to: Addresses
    cc: Addresses
    bcc: Addresses
    reply_to: Addresses
    envelope_from: str
    subject: str
    text: str
    html: str
    headers: Mapping[str, str]
    attachments: Iterable[Attachment | str | PathLike[str]]
    template: str | Mapping[str, Any]
    variables: Mapping[str, Any]
    send_at: datetime | str
    expires_at: datetime | str
    priority: Literal["normal", "bulk"]
    callback: str | Mapping[str, Any]
    metadata: Mapping[str, Any]
    tags: Sequence[str]
    on_unknown: Literal["resend", "hold"]


class Recipient(TypedDict, total=False):
    """Who gets one content with others (`send_bulk`); `to` is needed, `name` is for the To header and `{{ name }}`."""

    to: str | Mapping[str, str]
    name: str
    variables: Mapping[str, Any]
    metadata: Mapping[str, Any]


def compose(mail: Mail | Mapping[str, Any]) -> dict[str, Any]:
    """The mail as the API takes it; what is None is left out. Raises ValueError for a time without a zone, OSError."""
    given = {name: value for name, value in cast(Mapping[str, Any], mail).items() if value is not None}
    if "from_" in given:
        given["from"] = given.pop("from_")
    if attached := list(given.pop("attachments", ())):
        given["attachments"] = [_attach(each) for each in attached]
    if isinstance(given.get("template"), str):
        given["template"] = {"name": given["template"]}
    return {name: write_time(name, value) if isinstance(value, datetime) else value for name, value in given.items()}


def _attach(attachment: Attachment | str | PathLike[str] | Mapping[str, str]) -> Mapping[str, str]:
    if isinstance(attachment, Mapping):
        return attachment
    if isinstance(attachment, Attachment):
        return attachment.to_json()
    return Attachment.from_file(attachment).to_json()


def write_time(name: str, time: datetime) -> str:
    """As the API reads it. Raises ValueError for a time without a zone."""
    if time.tzinfo is None:
        raise ValueError(f"{name} needs a time zone: datetime.now(UTC) + …")
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def name_filters(filters: Mapping[str, str]) -> dict[str, str]:
    """Query parameters, as Python can write them: `from_` is `from`."""
    return {name.rstrip("_"): value for name, value in filters.items()}
