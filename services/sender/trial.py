"""The mail that is sent to try a relay: for whom, from whom, and what it says. Pure but for its date and id."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid

from services.sender.safety import Safety
from shared.addresses import InvalidAddress, check_address

Say = Callable[[str], None]
"""Prints one line."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Whom the mail is from, and who gets it."""

    sender: str
    recipient: str

    @property
    def needs_utf8(self) -> bool:
        """Whether the relay must know SMTPUTF8."""
        return not (self.sender + self.recipient).isascii()


def address_trial(to: str | None, sender: str | None, safety: Safety) -> Envelope:
    """The envelope; what keeps other mail from its recipients holds for this one, too.

    Raises ValueError that says what to write instead.
    """
    if to is None:
        raise ValueError("--to me@example.com is needed: somebody has to get the mail; or say --no-send")
    recipient = _check_option("--to", to)
    for refused in safety.refuse([recipient]).values():
        raise ValueError(f"--to: {refused.diagnostic}")
    return Envelope(_check_option("--from", sender) if sender else recipient, safety.address([recipient])[0])


def _check_option(option: str, address: str) -> str:
    try:
        return check_address(address.strip())
    except InvalidAddress as exc:
        raise ValueError(f"{option}: {exc}") from None


def build_content(envelope: Envelope, host: str) -> bytes:
    """A short mail that says what it is."""
    message = EmailMessage(policy=SMTP.clone(utf8=envelope.needs_utf8))
    message["From"] = envelope.sender
    message["To"] = envelope.recipient
    message["Subject"] = "Milena: this relay works"
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = make_msgid(domain=envelope.sender.rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(f"Sent by `python -m services.sender check` from {host}. Nothing needs to be done.\n")
    return message.as_bytes()
