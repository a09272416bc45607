"""Records become work: the stages decode and refuse, and who may enter them."""

from services.sender.announcing import Announcer
from services.sender.entrance import Entrance
from services.sender.intake import Cancellation, Intake, Refusal, Skip, locate
from services.sender.store import SenderStore
from services.sender.surroundings import LINGER_S, OnBug, Surroundings
from services.sender.work import Work
from shared.consuming import FaustTicket
from shared.stage import Stage
from shared.turns import take_turns

DECODE_LIMIT = 256
READ_AHEAD = 2000  # mails that wait to be claimed before no further record is read: a bulk event holds hundreds


class Reading:
    """Reads what the lane lets in, and hands works on to `claim`. `on_bug` gets what nobody foresaw."""

    def __init__(
        self,
        around: Surroundings,
        store: SenderStore,
        announcer: Announcer,
        intake: Intake,
        claim: Entrance,
        on_bug: OnBug,
    ) -> None:
        self._around = around
        self._store = store
        self._announcer = announcer
        self._intake = intake
        self._claim = claim
        self._on_bug = on_bug
        self.decode = Stage[FaustTicket](
            "decode",
            self._decode_group,
            self._crash,
            linger_s=LINGER_S,
            allowance=self._room,
            describe=_read_value,
        )
        self.refuse = Stage[Refusal](
            "refuse", self._refuse_group, on_bug, describe=lambda refusal: _read_value(refusal.ticket)
        )

    # --- ways in ---

    def begin(self, ticket: FaustTicket) -> None:
        """A record has entered the lane."""
        if self._around.admission.admit(ticket):
            self.decode.put(ticket)
        else:
            self._around.lane.on_hold.add(ticket.partition)

    def release(self, ticket: FaustTicket) -> None:
        """An operator gives a held record another chance."""
        self._around.lane.on_hold.discard(ticket.partition)
        self.decode.put(ticket)

    def skip(self, ticket: FaustTicket, deaths: int) -> None:
        """An operator has given up a record that was held; it is answered without being read."""
        self._around.lane.on_hold.discard(ticket.partition)
        detail = f"skipped by an operator: {deaths} processes ended while they read this record"
        self.refuse.put(self._intake.refuse(ticket, detail))

    def wake(self) -> None:
        """There may be room again."""
        self.decode.wake()

    def on_abandoned(self) -> None:
        """An assignment has ended: what waits under it is nobody's here, and must not be kept."""
        lane = self._around.lane
        self.decode.discard(lambda ticket: not lane.is_current(ticket))
        self.decode.wake()

    # --- the stages ---

    def _room(self) -> int:
        return DECODE_LIMIT if self._around.may_read and self._claim.count < READ_AHEAD else 0

    async def _decode_group(self, tickets: list[FaustTicket]) -> None:
        lane = self._around.lane
        found: list[Work | list[Work] | Refusal | Cancellation | Skip] = []
        mails, taken = self._claim.count, 0
        async for ticket in take_turns(tickets):  # one mail may take long to read, and leases and relays wait for us
            taken += 1
            if lane.is_current(ticket):
                read = self._intake.read(ticket, locate(ticket))
                found.append(read)
                ticket.read = True
                mails += len(read) if isinstance(read, list) else 1
            if mails >= READ_AHEAD:
                break
        wishes = [each for each in found if isinstance(each, Cancellation)]
        if wishes:  # kept before anything that came with them or after them is claimed: a partition has an order
            await self._store.keep_cancellations([(each.event.id, each.event.account) for each in wishes])
        for read in found:
            if isinstance(read, Work):
                self._claim.put(read)
            elif isinstance(read, list):
                self._claim.put_all(read)
            elif isinstance(read, Refusal):
                self.refuse.put(read)
            else:
                lane.finish(read.ticket)
        self.decode.put_back(tickets[taken:])

    async def _refuse_group(self, refusals: list[Refusal]) -> None:
        await self._announcer.publish_refusals([(each.event, each.record) for each in refusals])
        for each in refusals:
            self._around.lane.finish(each.ticket)

    def _crash(self, item: object, exc: Exception) -> None:
        """Here, and only here, a record can be to blame (R4)."""
        self._around.admission.blame()
        self._on_bug(item, exc)


def _read_value(ticket: FaustTicket) -> bytes:
    return ticket.event.record.value or b""
