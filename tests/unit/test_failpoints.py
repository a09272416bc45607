"""Faults on purpose: what the setting may say, what each action does, and that the kill matrix leaves no stage out."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from services.sender.pipeline import Pipeline, PipelinePolicy
from services.sender.retries import RetryPolicy
from services.sender.store import SenderStore
from shared import failpoints
from shared.database import Database
from shared.failpoints import (
    DATABASE_ANSWERED,
    AnswerLost,
    FailpointReached,
    arm_failpoints,
    has_failpoint,
    name_points,
    parse_failpoints,
    reach_failpoint,
)
from tests.chaos.cells import MOMENTS, STAGES, WIRE, Fault, Way, list_cells

POINTS = name_points(["claim", "settle"])


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    failpoints._armed.clear()


@pytest.mark.parametrize("spec", ["claim.after", "claim.after=explode", "claim.after=kill@x", "claim.after=hang"])
def test_a_spec_that_means_nothing_is_refused_with_what_to_write(spec: str) -> None:
    with pytest.raises(ValueError, match="write point=kill"):
        parse_failpoints(spec)


def test_a_point_that_does_not_exist_is_refused_and_those_that_do_are_named() -> None:
    with pytest.raises(ValueError, match=r"no point clam\.after; write one of claim\.before, claim\.after"):
        arm_failpoints("claim.before=kill,clam.after=kill", POINTS)
    assert not has_failpoint("claim.before"), "a spec that is wrong arms nothing"


async def test_it_acts_at_the_arrival_it_names_and_only_on_its_mark() -> None:
    arm_failpoints("claim.before[poison]=fail@2", POINTS)
    await reach_failpoint("claim.before", [b"harmless"])
    await reach_failpoint("claim.before", [b"some poison"])
    await reach_failpoint("claim.before", [b"harmless"])
    with pytest.raises(FailpointReached):
        await reach_failpoint("claim.before", [b"harmless", b"poison"])
    await reach_failpoint("claim.before", [b"poison"])


async def test_a_lost_answer_is_an_adapter_that_is_unavailable() -> None:
    arm_failpoints(f"{DATABASE_ANSWERED}=lose@*", POINTS)
    for _ in range(2):
        with pytest.raises(AnswerLost):
            await reach_failpoint(DATABASE_ANSWERED)


_VICTIM = """
import asyncio, signal
from shared.failpoints import arm_failpoints, reach_failpoint
async def live():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: print("asked to end", flush=True))
    arm_failpoints("claim.after=ACTION", ["claim.after"])
    await reach_failpoint("claim.after")
    await asyncio.sleep(0)
    print("went on", flush=True)
asyncio.run(live())
"""


async def run_victim(action: str) -> asyncio.subprocess.Process:
    code = _VICTIM.replace("ACTION", action)
    return await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=subprocess.PIPE)


async def test_killed_it_says_no_more() -> None:
    victim = await run_victim("kill")
    said, _ = await victim.communicate()
    assert (victim.returncode, b"went on" in said) == (-9, False)


async def test_asked_to_end_it_goes_on_to_its_own_end() -> None:
    victim = await run_victim("term")
    said, _ = await victim.communicate()
    assert victim.returncode == 0
    assert b"asked to end" in said
    assert b"went on" in said


async def test_stopped_it_stands_until_somebody_lets_it_go_on() -> None:
    victim = await run_victim("stop")
    process = psutil.Process(victim.pid)
    async with asyncio.timeout(20):
        while process.status() != psutil.STATUS_STOPPED:
            await asyncio.sleep(0.01)
    process.send_signal(signal.SIGCONT)
    said, _ = await victim.communicate()
    assert (victim.returncode, b"went on" in said) == (0, True)


def make_pipeline() -> Pipeline:
    nobody: Any = None
    store = SenderStore(Database("postgresql://nobody@127.0.0.1:1/none", pool_size=1))
    return Pipeline(store, nobody, nobody, PipelinePolicy(RetryPolicy(())), lambda _: None)


async def test_the_kill_matrix_meets_every_stage_of_the_pipeline() -> None:
    points = {point for point in make_pipeline().points if point != DATABASE_ANSWERED}  # test_sender_faults.py has it
    assert points == {moment for moment in MOMENTS if moment not in WIRE}
    assert name_points(STAGES) == make_pipeline().points


def test_only_what_cannot_occur_is_left_out_of_the_kill_matrix() -> None:
    cells = [cell for fault in Fault for cell in list_cells(fault)]
    assert len({cell.mark for cell in cells}) == len(cells)
    assert len(cells) == len(Fault) * (len(Way) * len(MOMENTS) - 4)
    arm_failpoints(",".join(cell.failpoint for cell in cells if not cell.on_wire), make_pipeline().points)
    marks = sorted(cell.mark for cell in cells)
    assert not any(one in other for one in marks for other in marks if one != other), "a mark meets its own cell only"
