"""The SMTP conversation on one open connection: pipelined (RFC 2920) where the relay announces it.

With pipelining the end of one mail and the envelope of the next leave in one write, and four replies come back in
one read: a twelfth of the CPU of a command-by-command client (docs/performance.md). The connection itself
(TLS, EHLO, AUTH) has been made by aiosmtplib, see connecting.py.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from services.sender.abilities import Abilities
from services.sender.classify import Reply
from services.sender.exchange import Exchange, Step
from services.sender.parcel import Ending, Parcel
from services.sender.replies import ReplyReader

__all__ = ["FAREWELL_S", "Abilities", "Conversation", "Timeouts"]

FAREWELL_S = 2.0
"""For the answer to QUIT, on which nothing depends. Postfix answers late, one second, where it has refused much."""

_MAIL, _RCPT, _DATA = Step.MAIL, Step.RCPT, Step.DATA  # an enum's member takes Python 3.11 as long as a call to find


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds (P12): up to the 354, and for the reply after the final dot (RFC 5321 §4.5.3.2.6)."""

    command_s: float = 10.0
    final_dot_s: float = 300.0
    idle_s: float = 30.0


class Conversation(asyncio.Protocol):
    """Sends parcels one after another. `next_parcel` gives the next one or None; `on_idle`, `on_lost` tell the pool."""

    def __init__(
        self,
        relay: str,
        abilities: Abilities,
        timeouts: Timeouts,
        next_parcel: Callable[[], Parcel | None],
        on_idle: Callable[["Conversation"], None],
        on_lost: Callable[["Conversation", list[Parcel]], None],
    ) -> None:
        self._relay = relay
        self._abilities = abilities
        self._pipelining = abilities.pipelining
        self._timeouts = timeouts
        self._next_parcel = next_parcel
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._reader = ReplyReader()
        self._expected: deque[tuple[Exchange | None, Step]] = deque()
        self._deadline = time.monotonic() + timeouts.idle_s
        self._closing = False  # no mail begins any more
        self._over = False  # nor is any reply read
        self._why_closed = ""
        self.farewell: Reply | None = None
        """The 421 with which the relay ended the connection, where it did."""

    @property
    def closing(self) -> bool:
        """No mail can begin here any more."""
        return self._closing

    # --- the pool calls these ---

    def take_over(self, transport: asyncio.Transport) -> None:
        """Speak on `transport` from now on."""
        self._transport = transport
        transport.set_protocol(self)

    def begin(self, parcel: Parcel) -> None:
        """Start with a parcel on an idle connection."""
        if self._can_carry(parcel):
            self._write(self._envelope(Exchange(parcel)))
        else:
            self._go_on()

    def check(self, now: float) -> None:
        """Called every second: a relay that hangs is dropped, an idle connection is closed politely."""
        if now < self._deadline:
            return
        if self._closing or self._expected:
            waiting_for = self._expected[0][1].value if self._expected else "the end"
            self._abort(f"no reply to {waiting_for} in time")
        else:
            self.quit()

    def silent_s(self, now: float) -> float:
        """How long the answer to a command has been awaited; 0.0 while idle, at the final dot and after QUIT."""
        if not self._expected or self._expected[0][1] in (Step.DOT, Step.QUIT):
            return 0.0
        return now - (self._deadline - self._timeouts.command_s)

    @property
    def at_work(self) -> bool:
        """Whether a mail is on it. What answers a RSET, or a lone dot, belongs to none."""
        return any(exchange for exchange, _ in self._expected)

    def quit(self) -> None:
        """End a connection that no mail is on: at once, or when a relay that is to be asked singly has answered."""
        self._closing = True
        if self._pipelining or not self._expected:
            self._say_quit()

    def close(self) -> None:
        """Drop the connection, whatever is going on."""
        self._abort("the sender is shutting down")

    # --- asyncio calls these ---

    def data_received(self, data: bytes) -> None:
        """Hand each reply to the step it answers."""
        if self._over:
            return  # TLS may still hand over what came before we closed
        replies = self._reader.feed(data)
        if replies:
            self._deadline = time.monotonic() + self._timeouts.command_s
            for reply in replies:
                if not self._answer(reply):
                    return
        elif self._reader.endless:
            self._abort("the relay's reply has no end")

    def eof_received(self) -> bool:
        """The relay has closed its side; connection_lost follows."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Every mail on this connection gets its ending; those not begun go back to the pool."""
        self._closing = True
        why = self._why_closed or "the relay closed the connection"
        exchanges = dict.fromkeys(exchange for exchange, _ in self._expected if exchange is not None)
        untouched = [exchange.parcel for exchange in exchanges if exchange.end_broken(why)]
        self._expected.clear()
        self._on_lost(self, untouched)

    # --- the conversation ---

    def _envelope(self, exchange: Exchange) -> bytes:
        parcel = exchange.parcel
        parcel.relay = self._relay
        recipients = parcel.recipients
        expect = self._expected
        expect.append((exchange, _MAIL))
        parameters = self._abilities.write_parameters(parcel)
        if not self._pipelining:
            return b"MAIL FROM:<%b>%b\r\n" % (parcel.sender, parameters)
        if len(recipients) == 1:
            expect.append((exchange, _RCPT))
            expect.append((exchange, _DATA))
            return b"MAIL FROM:<%b>%b\r\nRCPT TO:<%b>\r\nDATA\r\n" % (parcel.sender, parameters, recipients[0])
        expect.extend([(exchange, _RCPT)] * len(recipients))
        expect.append((exchange, _DATA))
        asked = b"".join(b"RCPT TO:<%b>\r\n" % each for each in recipients)
        return b"MAIL FROM:<%b>%b\r\n%bDATA\r\n" % (parcel.sender, parameters, asked)

    def _answer(self, reply: Reply) -> bool:
        """One reply. Returns False when the conversation is over."""
        expected = self._expected
        if not expected:
            self.farewell = reply if reply.code == 421 else None
            self._abort(f"unasked reply {reply}")
            return False
        exchange, step = expected[0]
        if not step.takes(reply.code):
            self._abort(f"the relay's answer to {step.value} is not SMTP: {reply}")
            return False
        expected.popleft()
        if reply.code == 421:
            self._closing = self._over = True
            self._why_closed, self.farewell = str(reply), reply
        if exchange is None:
            self._on_formality(step)
        elif step is _MAIL:
            self._on_mail(exchange, reply)
        elif step is _RCPT:
            self._on_rcpt(exchange, reply)
        elif step is _DATA:
            self._on_data(exchange, reply)
        else:
            self._on_dot(exchange, reply)
        if self._over or step is Step.QUIT:
            self._hang_up()
            return False
        return True

    def _hang_up(self) -> None:
        """After QUIT's reply or a 421 no more is to come; connection_lost tells the rest, soon if mail waits for it."""
        self._over = True
        if self._transport:
            if self._expected:
                self._transport.abort()
            else:
                self._transport.close()

    def _on_formality(self, step: Step) -> None:
        """An answer that no mail waits for."""
        if step is not Step.QUIT and not self._expected:
            self._go_on()

    def _on_mail(self, exchange: Exchange, reply: Reply) -> None:
        exchange.hear_mail(reply)
        if self._pipelining:
            return
        if reply.code >= 300:
            self._refuse(exchange, reply)
        else:
            self._ask_rcpt(exchange)

    def _on_rcpt(self, exchange: Exchange, reply: Reply) -> None:
        exchange.hear_rcpt(reply)
        if self._pipelining:
            return
        if len(exchange.rcpt_replies) < len(exchange.parcel.recipients):
            self._ask_rcpt(exchange)
        elif exchange.accepted:
            self._expected.append((exchange, Step.DATA))
            self._write(b"DATA\r\n")
        else:
            self._refuse(exchange, reply)

    def _ask_rcpt(self, exchange: Exchange) -> None:
        recipient = exchange.parcel.recipients[len(exchange.rcpt_replies)]
        self._expected.append((exchange, Step.RCPT))
        self._write(b"RCPT TO:<" + recipient + b">\r\n")

    def _on_data(self, exchange: Exchange, reply: Reply) -> None:
        if reply.code != 354:
            self._refuse(exchange, reply)
        elif not exchange.may_have_content:
            exchange.end_refused(reply)
            if exchange.accepted:  # refused the sender, took recipients: a dot might send them an empty mail
                self._abort("the relay wants the content of a mail that it has refused")
                return
            # RFC 2920 §3.1: a 354 without any valid recipient is answered by a single dot.
            self._expected.append((None, Step.DOT))
            self._write(b".\r\n" + self._following())
        elif not exchange.parcel.may_write():
            exchange.parcel.end(Ending.FORBIDDEN, "the claim's lease has run out")
            self._abort("a claim's lease has run out")
        else:
            self._expected.append((exchange, Step.DOT))
            exchange.written = self._write(b"%b.\r\n%b" % (exchange.parcel.content, self._following()))
            self._deadline = time.monotonic() + self._timeouts.final_dot_s

    def _on_dot(self, exchange: Exchange, reply: Reply) -> None:
        exchange.end_answered(reply)
        if not self._expected:
            self._go_on()

    def _refuse(self, exchange: Exchange, reply: Reply) -> None:
        """The mail ended before its content; the transaction on the relay must end too."""
        exchange.end_refused(reply)
        self._expected.append((None, Step.RSET))
        self._write(b"RSET\r\n" + self._following())

    def _following(self) -> bytes:
        """With pipelining: the envelope of the next mail, to leave in the same write."""
        if self._closing or not self._pipelining:
            return b""
        parcel = self._pull()
        return self._envelope(Exchange(parcel)) if parcel else b""

    def _pull(self) -> Parcel | None:
        while (parcel := self._next_parcel()) and not self._can_carry(parcel):
            pass
        return parcel

    def _can_carry(self, parcel: Parcel) -> bool:
        """Whether the relay could take it at all; otherwise the mail has its end, and the relay hears nothing of it."""
        obstacle = self._abilities.find_obstacle(parcel)
        if obstacle is None:
            return True
        parcel.relay = self._relay
        parcel.replies = [obstacle] * len(parcel.recipients)
        parcel.end(Ending.ANSWERED)
        return False

    def _say_quit(self) -> None:
        self._expected.append((None, Step.QUIT))
        self._write(b"QUIT\r\n")
        self._deadline = time.monotonic() + min(FAREWELL_S, self._timeouts.command_s)

    def _go_on(self) -> None:
        if self._over:
            return
        if self._closing:
            self._say_quit()
            return
        parcel = self._pull()
        if parcel:
            self._write(self._envelope(Exchange(parcel)))
        else:
            self._deadline = time.monotonic() + self._timeouts.idle_s
            self._on_idle(self)

    def _write(self, data: bytes) -> bool:
        """False where the connection is going already; connection_lost is about to follow."""
        if not self._transport or self._transport.is_closing():
            return False
        self._transport.write(data)
        self._deadline = time.monotonic() + self._timeouts.command_s
        return True

    def _abort(self, why: str) -> None:
        self._closing = self._over = True
        self._why_closed = self._why_closed or why
        if self._transport:
            self._transport.abort()
