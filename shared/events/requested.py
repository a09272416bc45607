"""What may stand on `email.requested`: a mail, or a cancellation; bulk events are in bulk.py."""

import binascii
import hashlib
import re
from typing import Annotated, Any, Literal, Self, TypeVar
from uuid import UUID

import orjson
from pydantic import (
    AfterValidator,
    AnyHttpUrl,
    BeforeValidator,
    Field,
    StringConstraints,
    TypeAdapter,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from shared.addresses import RECIPIENT_LIMIT, drop_duplicates
from shared.events.wire import Address, Count, Instant, MailboxField, MailboxList, WireModel

DEPTH_LIMIT = 32
METADATA_LIMIT = 8 * 1024  # bytes of JSON
TAG_LIMIT, ATTACHMENT_LIMIT = 20, 500
_CALLBACK_KINDS_LIMIT = 10  # repeats are harmless, a megabyte of them is not
_LISTS = ("to", "cc", "bcc", "reply_to")
_TOO_MANY = f"to, cc and bcc together may name at most {RECIPIENT_LIMIT} recipients"
DEFAULT_ACCOUNT = "default"

_OWNED_HEADERS = frozenset(
    {"from", "to", "cc", "bcc", "sender", "reply-to", "subject", "date", "message-id", "mime-version"}
    | {"received", "return-path", "dkim-signature"}
)
_HEADER_NAME = re.compile(r"[!-9;-~]{1,76}")  # RFC 5322 §2.2: printable ASCII without colon
Variables = TypeVar("Variables", bound=dict[str, Any] | None)
_LINE_BREAK = re.compile(r"[\r\n\x00]")
_NO_LINE_BREAKS = "must not contain CR, LF or NUL"
# RFC 2045 §5.1, names after RFC 6838; with parameters, for example `text/calendar; method=REQUEST`
_MEDIA_TYPE = re.compile(
    r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+"
    r"""(?:[ \t]*;[ \t]*[A-Za-z0-9!#$%&'*+.^_`{|}~-]+=(?:[A-Za-z0-9!#$%&'*+.^_`{|}~-]+|"[ !#-\[\]-~]*"))*"""
)
_CONTENT_ID = re.compile(r"[!-;=?-~]{1,200}")
_CONTENT_ID_SCHEMA = {"type": "string", "pattern": r"^[!-;=?-~]{1,200}$"}


def refuse_line_breaks(value: str) -> str:
    """CR, LF or NUL in a header part would let a caller write headers of his own."""
    if _LINE_BREAK.search(value):
        raise ValueError(_NO_LINE_BREAKS)
    return value


def check_headers(headers: dict[str, str]) -> dict[str, str]:
    """Names that are none, names that are ours, and values with line breaks raise."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise point_at(name, "is not a header field name (RFC 5322 §2.2)")
        if name.lower() in _OWNED_HEADERS or name.lower().startswith("content-"):
            raise point_at(name, f"{name} is set by Milena; leave it out")
        if _LINE_BREAK.search(value):
            raise point_at(name, _NO_LINE_BREAKS)
    return headers


def check_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """Raises ValueError beyond METADATA_LIMIT."""
    if metadata and len(_dump(metadata)) > METADATA_LIMIT:
        raise ValueError(f"must not exceed {METADATA_LIMIT} bytes of JSON")
    return metadata


_EXACT = 2**53


def check_variables(variables: Variables) -> Variables:
    """Raises ValueError for what cannot be written as JSON again."""
    if variables and not _is_plain(variables):
        _dump(variables)
    return variables


def _is_plain(variables: Any) -> bool:
    """What most recipients' variables are; known to be JSON without writing it, which took a bulk mail 14 µs."""
    for name, value in variables.items():
        kind = type(value)
        if kind is str:
            plain = value.isascii()
        elif kind is int:
            plain = -_EXACT < value < _EXACT
        else:
            plain = kind is bool or value is None
        if not (plain and name.isascii()):
            return False
    return True


def _dump(value: Any) -> bytes:
    if _is_deeper(value, DEPTH_LIMIT):
        raise ValueError(f"must not be nested deeper than {DEPTH_LIMIT} levels")
    try:
        return orjson.dumps(value)
    except (orjson.JSONEncodeError, RecursionError) as exc:
        raise ValueError("is nested too deeply, or is not JSON") from exc


def _is_deeper(value: Any, levels: int) -> bool:
    """JSON writers and readers stop at depths of their own; ours is below all of them."""
    if not isinstance(value, dict | list):
        return False
    if levels == 0:
        return True
    return any(_is_deeper(each, levels - 1) for each in (value.values() if isinstance(value, dict) else value))


_HTTP = re.compile(r"^[Hh][Tt][Tt][Pp][Ss]?://")
_http_url = TypeAdapter(AnyHttpUrl)


def _check_url(value: str) -> str:
    """Validated as a URL, kept as it was written: a callback's query must arrive unchanged."""
    if not _HTTP.match(value) or re.search(r"[\s\x00-\x1f\x7f]", value):
        raise ValueError("must be an http(s) URL without spaces")
    url = _http_url.validate_python(value)
    if url.username or url.password:
        raise ValueError("must not carry credentials; requests are signed instead")
    return value


def read_callback(value: Any) -> Any:
    """Decide by shape, so that errors speak of one form; pydantic's union would tell those of both."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return _url.validate_python(value)
    if isinstance(value, dict):
        return CallbackSpec.model_validate(value)
    if isinstance(value, CallbackSpec):
        return value
    raise ValueError('write a callback as a URL, or as {"url": …, "on": […]}')


def point_at(pointer: str, detail: str) -> PydanticCustomError:
    """An error of the whole model that belongs to one field; `pointer` is read by shared/problems.py."""
    return PydanticCustomError("field", "{detail}", {"pointer": pointer, "detail": detail})


HeaderText = Annotated[str, AfterValidator(refuse_line_breaks)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(refuse_line_breaks)]
"""What somebody calls a thing of his."""
Url = Annotated[
    str,
    StringConstraints(max_length=2048),
    AfterValidator(_check_url),
    WithJsonSchema({"type": "string", "format": "uri", "maxLength": 2048, "pattern": _HTTP.pattern}),
]
_url = TypeAdapter(Url)
UnsubscribeUrl = Annotated[
    str,
    # Stands between < and > in a header field, on one line (RFC 5322 §2.1.1).
    StringConstraints(max_length=900, pattern=r"^https?://[!-;=?-~]+$"),
    Field(
        description="where this recipient unsubscribes with one click (RFC 8058): the mail gets List-Unsubscribe and "
        "List-Unsubscribe-Post, in place of such in `headers`; templates know it as `unsubscribe_url`"
    ),
]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\s,;\x00-\x1f]+$")]
Account = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]

Reference = Annotated[HeaderText, StringConstraints(max_length=200)]
"""An identifier of somebody else's, kept as it is."""


def _check_content_id(value: str) -> str:
    if not _CONTENT_ID.fullmatch(value):
        raise ValueError("must be 1 to 200 printable ASCII characters without spaces, < and >: write logo for cid:logo")
    return value


def _explain_base64(content: str) -> str:
    """What is most likely wrong."""
    if content[:5].lower() == "data:":
        return "must be base64 alone, without data:…;base64, before it"
    if re.search(r"\s", content):
        return "must be base64 without line breaks and spaces"
    if "-" in content or "_" in content:
        return "must be base64 of the usual alphabet (RFC 4648 §4), with + and / instead of - and _"
    if len(content) % 4:
        return "must be base64 (RFC 4648 §4), filled up with = to a multiple of four characters"
    return "must be base64 (RFC 4648 §4)"


class Attachment(WireModel):
    """One attached file; `content` is base64 (RFC 4648 §4), `content_id` makes it an inline part."""

    filename: Annotated[HeaderText, StringConstraints(min_length=1, max_length=255)]
    content_type: Annotated[str, AfterValidator(refuse_line_breaks), Field(max_length=255)] = "application/octet-stream"
    content: str
    content_id: Annotated[str, AfterValidator(_check_content_id), WithJsonSchema(_CONTENT_ID_SCHEMA)] | None = None

    @model_validator(mode="after")
    def _check_content(self) -> Self:
        if not _MEDIA_TYPE.fullmatch(self.content_type):
            raise point_at("content_type", "must be type/subtype, for example application/pdf (RFC 2045 §5.1)")
        try:
            binascii.a2b_base64(self.content, strict_mode=True)
        except ValueError as exc:
            raise point_at("content", _explain_base64(self.content)) from exc
        return self


def _check_content_ids(attachments: list[Attachment]) -> list[Attachment]:
    """The HTML names a file by its content_id: two of one name, and nobody knows which is shown."""
    seen: set[str] = set()
    for index, each in enumerate(attachments):
        if each.content_id in seen:
            raise point_at(str(index), "has the content_id of an attachment before it")
        if each.content_id:
            seen.add(each.content_id)
    return attachments


Attachments = Annotated[list[Attachment], Field(max_length=ATTACHMENT_LIMIT), AfterValidator(_check_content_ids)]


class TemplateRef(WireModel):
    """Which stored template the content came from; informative, the content itself is in the event."""

    name: str
    version: Count


class CallbackSpec(WireModel):
    """A callback with the kinds of event it wants."""

    url: Url
    on: list[Literal["sent", "failed", "deferred"]] = Field(min_length=1, max_length=_CALLBACK_KINDS_LIMIT)


def _count_addresses(value: Any) -> int:
    """Roughly: in a text a name may hold an address, too."""
    if isinstance(value, str):
        return value.count("@") // 2
    return len(value) if isinstance(value, list) else 0


class EmailFields(WireModel):
    """All that a caller may say of a mail, over HTTP or on the topic.

    Empty defaults come from factories: pydantic copies a mutable default deeply for every mail, half of its cost.
    """

    from_: MailboxField = Field(alias="from")
    to: MailboxList = Field(default_factory=list)
    cc: MailboxList = Field(default_factory=list)
    bcc: MailboxList = Field(default_factory=list)
    reply_to: MailboxList = Field(default_factory=list)
    envelope_from: Address | None = None
    subject: HeaderText
    text: str | None = None
    html: str | None = None
    headers: Annotated[dict[str, str], AfterValidator(check_headers)] = Field(default_factory=dict)
    attachments: Attachments = Field(default_factory=list)
    variables: Annotated[dict[str, Any] | None, AfterValidator(check_variables)] = None
    send_at: Instant | None = None
    expires_at: Instant | None = None
    priority: Literal["normal", "bulk"] = "normal"
    callback: Annotated[Url | CallbackSpec | None, BeforeValidator(read_callback)] = None
    metadata: Annotated[dict[str, Any], AfterValidator(check_metadata)] = Field(default_factory=dict)
    tags: list[Tag] = Field(default_factory=list, max_length=TAG_LIMIT)
    on_unknown: Literal["resend", "hold"] = "resend"

    @model_validator(mode="before")
    @classmethod
    def _bound_effort(cls, data: Any) -> Any:
        """Before any address is looked at: a thousand of another alphabet take seconds."""
        if isinstance(data, dict):
            count = 0
            for name in _LISTS:
                if value := data.get(name):
                    count += _count_addresses(value)
            if count > RECIPIENT_LIMIT:
                raise point_at("to", _TOO_MANY)
        return data

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        count = len(self.to) + len(self.cc) + len(self.bcc)
        if count == 0:
            raise point_at("to", "at least one recipient is needed")
        if count > RECIPIENT_LIMIT:
            raise point_at("to", _TOO_MANY)
        if self.text is None and self.html is None:
            raise point_at("html", "one of html and text is needed")
        return self

    @property
    def recipients(self) -> list[str]:
        """Envelope recipients: the addresses of to, cc and bcc, each once, in that order."""
        if len(self.to) == 1 and not self.cc and not self.bcc:
            return [self.to[0].address]
        return [box.address for box in drop_duplicates((*self.to, *self.cc, *self.bcc))]


class EmailRequested(EmailFields):
    """One mail to send; data of `email.requested`. `id` is None only before the reader has derived it."""

    id: UUID | None = None
    mailing_id: Reference | None = None
    batch_id: Reference | None = None
    template: TemplateRef | None = None
    retry_of: UUID | None = None
    account: Account = DEFAULT_ACCOUNT
    api_key_id: Reference | None = None
    test: bool = False
    requested_at: Instant | None = None
    unsubscribe_url: UnsubscribeUrl | None = None
    paced: bool = Field(default=False, description="the scheduler let it go, and waits for its results (R2)")

    @property
    def own_variables(self) -> dict[str, Any] | None:
        """What its templates are rendered with; None: it has no templates."""
        if self.variables is None or self.unsubscribe_url is None:
            return self.variables
        return {**self.variables, "unsubscribe_url": self.unsubscribe_url}

    def to_json(self) -> bytes:
        """The event's value on the topic: what is not the default, so a plain mail stays small."""
        return self.model_dump_json(by_alias=True, exclude_none=True, exclude_defaults=True).encode()

    def compute_digest(self, content: bytes | None = None) -> str:
        """Fingerprint of the mail (R5): equal for the same mail however it was written or rescheduled.

        Left out are send_at, priority, expires_at and unsubscribe_url, and what is bookkeeping (id, key, times,
        pacing). `content` is what `fingerprint_content` gave for a mail that differs in recipients, variables and
        metadata only.
        """
        own: tuple[Any, ...] = ([str(box) for box in self.to], self.cc, self.bcc, self.variables, self.metadata)
        if self.test:  # another mail than one that is to be sent
            own = (*own, True)
        return _hash(content or self.fingerprint_content(), own).hex()

    def fingerprint_content(self) -> bytes:
        """The part of the digest that all mails of a bulk event share."""
        content = (
            self.account,
            str(self.from_),
            self.reply_to,
            self.envelope_from,
            self.subject,
            self.text,
            self.html,
            self.headers,
            [(a.filename, a.content_type, a.content, a.content_id) for a in self.attachments],
            self.callback.model_dump() if isinstance(self.callback, CallbackSpec) else self.callback,
            self.tags,
            self.on_unknown,
        )
        return _hash(b"", content)


def _hash(before: bytes, content: Any) -> bytes:
    """The bytes are a contract: ledger and read model keep digests for as long as the mail may come again."""
    written = orjson.dumps(content, default=str, option=orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS)
    return hashlib.blake2b(before + written, digest_size=16).digest()


class CancellationRequested(WireModel):
    """Please do not send the mail `id` any more (R7)."""

    id: UUID
    cancel: Literal[True] = True
    account: Account = DEFAULT_ACCOUNT
