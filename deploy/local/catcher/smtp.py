"""The catcher's SMTP side."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from aiosmtpd.smtp import SMTP

from deploy.local.catcher.mailbox import Envelope, Mailbox

LARGEST_MAIL = 32 * 1024 * 1024  # bytes


class Keeper:
    """What the SMTP server asks: it accepts everything and keeps it."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def handle_EHLO(  # noqa: N802 - aiosmtpd names its hooks after the commands
        self, _server: Any, session: Any, _envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        """Announce PIPELINING as well: the server reads commands from a stream, so it has it all along."""
        session.host_name = hostname
        return [*responses[:-1], "250-PIPELINING", responses[-1]]

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        """Keep one mail. A full disk is a 452, so that the sender keeps it and tries again."""
        kept = Envelope(envelope.mail_from or "", tuple(envelope.rcpt_tos), datetime.now(UTC))
        try:
            number = self._mailbox.add(envelope.original_content, kept)
        except OSError as exc:
            return f"452 4.3.1 could not be kept: {exc.strerror}"
        return f"250 2.0.0 kept as {number}"


def create_protocol(mailbox: Mailbox, loop: asyncio.AbstractEventLoop) -> SMTP:
    """Build the protocol of one connection."""
    return SMTP(
        Keeper(mailbox),
        hostname="mail.milena.local",
        ident="Milena mail catcher",
        data_size_limit=LARGEST_MAIL,
        enable_SMTPUTF8=True,
        decode_data=False,
        loop=loop,
    )
