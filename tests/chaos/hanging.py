"""A relay that falls silent: before it has a mail's content, and after it has taken it."""

from collections import Counter
from dataclasses import dataclass, field

from tests.chaos.judging import judge, reconcile
from tests.chaos.rig import Rig
from tests.chaos.verdict import Verdict
from tests.support.smtp import Script

_BEFORE = ("mail", "rcpt", "data")
_UNKNOWN = "SELECT message_id FROM sender.ledger WHERE unknowns > 0"


@dataclass
class Silence:
    """Hangs at every `rarely`th MAIL, RCPT, DATA and final dot. `at_dot`: the mails that it took without a word."""

    rarely: int
    before: int = 0
    at_dot: set[str] = field(default_factory=set)
    _counts: Counter[str] = field(default_factory=Counter)

    def answer(self, step: str, argument: str) -> str | None:
        """For the relay's script. A mail hangs at its dot once at most: after several times an operator is asked."""
        self._counts[step] += 1
        if step not in (*_BEFORE, "dot") or self._counts[step] % self.rarely or argument in self.at_dot:
            return None
        if step == "dot":
            self.at_dot.add(argument)
        else:
            self.before += 1
        return "HANG"


async def fall_silent(
    rig: Rig,
    *,
    mails: int = 2000,
    rarely: int = 60,
    command_s: float = 2.0,
    dot_s: float = 4.0,
    patience_s: float = 180.0,
    reconciled: bool = True,
) -> Verdict:
    """Two senders that wait `command_s` for an answer before the content and `dot_s` for the last one.

    What hangs before the content is known not to have been sent; what hangs at the dot, and nothing else, is unknown.
    """
    silence = Silence(rarely)
    rig.relay.script = Script(silence.answer, dot_delay_s=0.02)
    patience = {"MILENA_SMTP_COMMAND_TIMEOUT": str(command_s), "MILENA_SMTP_FINAL_DOT_TIMEOUT": str(dot_s)}
    for slot in range(2):
        await rig.start_sender(slot, **patience)
    await rig.publish(mails, over_s=10)
    finished = await rig.wait_finished(patience_s)
    unknown = {row["message_id"] for row in await rig.fetch(_UNKNOWN)}
    verdict = await judge(rig, "a relay falls silent now and then, before the content and after the final dot")
    verdict.notes.append(f"silent {silence.before} times before the content, {len(silence.at_dot)} times after the dot")
    verdict.require(finished, f"not finished within {patience_s:.0f} s")
    verdict.require(verdict.restarts == 0, f"{verdict.restarts} processes ended by themselves")
    verdict.require(silence.before > 0 and bool(silence.at_dot), "the relay was never silent: this proves nothing")
    verdict.require(
        unknown <= silence.at_dot, f"{len(unknown - silence.at_dot)} mails unknown that never hung at the dot"
    )
    verdict.require(unknown >= silence.at_dot, f"{len(silence.at_dot - unknown)} hung at the dot and were not unknown")
    if reconciled:
        await reconcile(rig, verdict)
    return verdict
