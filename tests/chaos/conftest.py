"""Every verdict is printed, kept and held against the promises."""

from collections.abc import Awaitable, Callable, Mapping

import pytest

from tests.chaos.results import keep
from tests.chaos.rig import Rig, open_rig
from tests.chaos.verdict import Verdict
from tests.support.servers import RealServers

Scenario = Callable[[Rig], Awaitable[Verdict]]
Run = Callable[..., Awaitable[Verdict]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run one scenario on ground of its own, print and keep its verdict, and fail when a promise was broken."""

    async def run_scenario(
        key: str, servers: RealServers, scenario: Scenario, env: Mapping[str, str] | None = None
    ) -> Verdict:
        async with open_rig(servers, env=env) as rig:
            try:
                verdict = await scenario(rig)
            except Exception as exc:
                verdict = Verdict(key, mails=len(rig.accepted), faults=[f"could not be judged: {exc!r}"[:2000]])
                keep(key, verdict, rig.services.describe_logs())
                raise
            keep(key, verdict, rig.services.describe_logs())
        with capsys.disabled():
            print(f"\n{verdict.describe()}")
        assert not verdict.faults, verdict.faults
        return verdict

    return run_scenario
