"""So that a staging system, fed with real data, writes to nobody it should not: two settings, either or both. Pure.

`MILENA_REDIRECT_ALL_TO`: every mail goes to this address and to nobody else; its headers stay as they are, and
`X-Milena-Original-Recipients` has those it was for. `MILENA_ALLOWED_RECIPIENT_DOMAINS`: recipients elsewhere get
nothing, and fail for good. Where both are set everything is redirected, and nobody has to be refused. Statuses and
events name the real recipients in any case.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from services.sender.classify import Failed
from services.sender.message import BuiltMessage
from shared.states import FailureReason

HEADER = "X-Milena-Original-Recipients"
REDIRECT, DOMAINS = "MILENA_REDIRECT_ALL_TO", "MILENA_ALLOWED_RECIPIENT_DOMAINS"
_REFUSAL = f"not sent: the recipient's domain is not among those of {DOMAINS}"


@dataclass(frozen=True, slots=True)
class Safety:
    """What is in force. A domain is written `example.org`; `*.example.org` stands for all below it."""

    redirect_to: str | None = None
    allowed_domains: frozenset[str] = frozenset()

    def list_notes(self) -> dict[str, str]:
        """What an operator must not overlook, by setting."""
        notes = {}
        if self.redirect_to:
            notes[REDIRECT] = "every mail goes to this one address, not to its recipients"
        elif self.allowed_domains:
            notes[DOMAINS] = f"only recipients at {', '.join(sorted(self.allowed_domains))} get mail"
        return notes

    async def warn(self) -> str | None:
        """For /readyz: the same as one sentence."""
        return "; ".join(f"{setting}: {meaning}" for setting, meaning in self.list_notes().items()) or None

    def refuse(self, recipients: Iterable[str]) -> dict[str, Failed]:
        """Those who must get nothing, and why."""
        if self.redirect_to or not self.allowed_domains:
            return {}
        refused = Failed(None, _REFUSAL, FailureReason.SUPPRESSED)
        return {each: refused for each in recipients if not allows(self.allowed_domains, each)}

    def address(self, recipients: list[str]) -> list[str]:
        """Who is named to the relay for these recipients."""
        return [self.redirect_to] if self.redirect_to else recipients

    def mark(self, message: BuiltMessage, recipients: Iterable[str]) -> BuiltMessage:
        """The message as it goes out: redirected, it says whom it was for."""
        if not self.redirect_to:
            return message
        told = ",\r\n ".join(recipients)  # a line for each: none may grow beyond 998 octets
        return message._replace(content=f"{HEADER}: {told}\r\n".encode() + message.content)


OFF = Safety()


def allows(domains: Collection[str], address: str) -> bool:
    """Whether the address lies at one of the domains, or below one written `*.example.org`."""
    domain = address.rpartition("@")[2].lower()
    above = domain.split(".")
    return domain in domains or any(f"*.{'.'.join(above[n:])}" in domains for n in range(1, len(above)))
