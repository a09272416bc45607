"""Where mail waits to be claimed: one door for real mail, one for test mail, which needs no relay."""

from collections.abc import Awaitable, Callable, Iterable

from services.sender.surroundings import OnBug, create_stage
from services.sender.work import Work
from shared.stage import Stage


class Entrance:
    """Two stages that claim in the same way, one to failpoints and metrics.

    Real mail has `room` at the relays; what the scheduler paces (bulk) lets all other mail pass (R2). Without a door of
    its own test mail would stand behind it whenever no relay can be reached.
    """

    def __init__(
        self,
        claim_group: Callable[[list[Work]], Awaitable[None]],
        on_bug: OnBug,
        *,
        room: Callable[[], int],
        test_room: Callable[[], int],
    ) -> None:
        self._real = create_stage("claim", claim_group, on_bug, allowance=room, yields=_is_paced)
        self._test = create_stage("claim", claim_group, on_bug, allowance=test_room)

    @property
    def stages(self) -> tuple[Stage[Work], ...]:
        """To be started and stopped."""
        return self._real, self._test

    @property
    def waiting(self) -> Stage[Work]:
        """Real mail that waits."""
        return self._real

    @property
    def count(self) -> int:
        """How many mails wait."""
        return len(self._real) + len(self._test)

    def put(self, work: Work) -> None:
        """Let one mail wait here."""
        (self._test if work.mail.test else self._real).put(work)

    def put_all(self, works: Iterable[Work]) -> None:
        """Let mails wait here."""
        waiting = list(works)
        if tests := [work for work in waiting if work.mail.test]:
            self._test.put_all(tests)
            waiting = [work for work in waiting if not work.mail.test]
        self._real.put_all(waiting)

    def discard(self, unwanted: Callable[[Work], bool]) -> None:
        """Let go of what waits here and is nobody's any more."""
        for stage in self.stages:
            stage.discard(unwanted)

    def wake(self) -> None:
        """There may be more room at the relays."""
        self._real.wake()


def _is_paced(work: Work) -> bool:
    return work.mail.paced
