"""The kill matrix: every fault at every moment of a mail's way, and each mail's end afterwards.

One stack serves the cells of one fault. Every cell has mails of its own, published into partitions of the process that
is to be hurt; what happened is read from the relay, the topics and the ledger.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import asdict

from pydantic import Field

from shared.settings import EnvironmentSettings
from tests.chaos.cells import AT_DOT, Cell, Fault, Way, list_cells
from tests.chaos.course import PATIENCE_S, CellVerdict, Course, judge_cell
from tests.chaos.ground import BYSTANDER, LEASE_S, VICTIM, Ground, freeze, open_ground, wake
from tests.chaos.judging import judge, reconcile
from tests.chaos.mails import Asked, ask
from tests.chaos.results import FOLDER
from tests.chaos.rig import Rig
from tests.chaos.scene import Whims
from tests.chaos.verdict import Verdict

_STRIKE_S = 20.0
_TRIES = 3
_PAUSE_S = 0.5
_FREEZE_S = (LEASE_S + 1.5, 8.0)  # at least, so that the lease is over; at most, so that the group still knows it
_SLOW_S = 0.3
_LOOKS_AWAY_S = 7.0
_IN_VAIN_S = 2.0
_QUEUE_S = 2.7  # an answer's time that lets the last of a queue wait for more than five seconds, at eight connections


class MatrixSettings(EnvironmentSettings):
    """Which cells run: those whose name has all of these words, `claim.before bulk`."""

    chaos_cells: str = Field(default="")


async def run_matrix(
    rig: Rig, *, fault: Fault, cells: Sequence[Cell] | None = None, reconciled: bool = True
) -> Verdict:
    """All cells of one fault, one after another; a cell that fails is named, and does not stop the others."""
    words = MatrixSettings().chaos_cells.split()
    chosen = list(cells or ()) or [cell for cell in list_cells(fault) if all(word in cell.name for word in words)]
    found = []
    async with open_ground(rig, Whims(), chosen) as ground:
        for cell in chosen:
            found.append(await _run_cell(ground, cell))
        await ground.ensure_victim()
        verdict = await judge(rig, f"kill matrix, {fault.label}: {len(found)} cells")
        verdict.cells = [asdict(each) for each in found]
        verdict.kills = sum(1 for each in found if each.fault == Fault.KILL)
        for each in found:
            for fact in each.broken:
                verdict.require(False, f"{each.fault} {each.moment} {each.way}: {fact}")
        verdict.require(not ground.bystander.exits, f"the other sender ended by itself: {ground.bystander.exits}")
        if fault.spares_outcomes:
            verdict.require_no_double()
    if reconciled:
        await reconcile(rig, verdict)
    return verdict


async def _run_cell(ground: Ground, cell: Cell) -> CellVerdict:
    course, verdict = Course(cell), CellVerdict(cell.fault, cell.moment, cell.way)
    try:
        await ground.ensure_victim()
        await _strike(ground, course)
        await _mend(ground, course)
        over = await ground.wait_over(course.asked.due, course.places, PATIENCE_S)
        await judge_cell(ground, course, verdict, over=over)
    except (AssertionError, TimeoutError, OSError) as exc:
        verdict.broken.append(f"could not be judged: {exc!r}"[:1000])
    finally:
        ground.whims.calm_down()
        wake(ground.bystander.process.pid)
    if cell in ground.armed:
        ground.armed.remove(cell)
    verdict.seconds = time.monotonic() - course.began
    if verdict.broken:
        _keep_logs(ground, cell)
        await ground.drop_victim()
    return verdict


# --- the fault ---


async def _strike(ground: Ground, course: Course) -> None:
    """Publish, until the fault has happened: a group may have been given to the other process just then."""
    for _ in range(_TRIES):
        asked = ask(course.cell)
        _set_the_scene(ground, course.cell)
        signalling = asyncio.create_task(_signal_on_wire(ground, course.cell)) if course.cell.on_wire else None
        try:
            await _let_in(ground, course, asked)
            if await _wait_struck(ground, asked):
                return
            ground.whims.calm_down()
        except AssertionError:
            ground.whims.calm_down()
        finally:
            wake(ground.bystander.process.pid)
            if signalling:
                signalling.cancel()
                await asyncio.gather(signalling, return_exceptions=True)
    raise AssertionError(f"the fault did not happen in {_TRIES} tries")


def _set_the_scene(ground: Ground, cell: Cell) -> None:
    whims = ground.whims
    if cell.on_wire:
        whims.content_s, whims.dot_s = (0.0, _SLOW_S) if cell.moment == AT_DOT else (_SLOW_S, 0.0)
    elif cell.stage == "park":
        whims.dot_s = _QUEUE_S
    elif cell.stage == "release" and cell.way is not Way.DUE:
        whims.refusing = True


async def _let_in(ground: Ground, course: Course, asked: Asked) -> None:
    """Hand the mails to the victim. Those of the due way the other one has tried once; then it looks away."""
    rig, course.published = ground.rig, time.monotonic()
    course.asked.due |= asked.due
    course.asked.records += asked.records
    course.asked.bad += asked.bad
    rig.accepted |= {email_id: (to,) for email_id, to in asked.due.items()}
    if course.cell.way is Way.DUE:
        ground.whims.busy |= set(asked.due.values())
        await ground.publish(asked.records, BYSTANDER)
        await ground.wait_deferred(asked.due)
        freeze(ground.bystander.process.pid)
        ground.whims.refusing = course.cell.stage == "release"
        with contextlib.suppress(AssertionError):
            await ground.wait_taken_on(asked.due, timeout_s=_LOOKS_AWAY_S)
        wake(ground.bystander.process.pid)  # longer, and its group would give it up
        return
    await ground.publish(asked.records, VICTIM)
    course.places += await ground.publish(asked.bad, VICTIM)


async def _signal_on_wire(ground: Ground, cell: Cell) -> None:
    met = 20 if cell.way is Way.BULK else 3
    await ground.whims.wait_met(cell.moment, met, _STRIKE_S)
    await asyncio.sleep(_SLOW_S / 4)
    if cell.fault is Fault.KILL:
        await asyncio.to_thread(ground.victim.kill)
    elif cell.fault is Fault.TERM:
        ground.victim.terminate()
    else:
        freeze(ground.victim.pid)


async def _wait_struck(ground: Ground, asked: Asked) -> bool:
    """False once all of it has ended, and still nothing has happened: the mails were in other hands."""
    deadline, ended = time.monotonic() + _STRIKE_S, 0.0
    while time.monotonic() < deadline:
        if ground.is_struck:
            return True
        if not ended and asked.due.keys() <= ground.ends.by_id.keys():
            ended = time.monotonic()
        if ended and time.monotonic() - ended > _IN_VAIN_S:
            return False
        await asyncio.sleep(0.01)
    return False


async def _mend(ground: Ground, course: Course) -> None:
    """What follows a fault: a new process, or the old one going on; the relay is as it should be again."""
    cell, victim = course.cell, ground.victim
    if cell in ground.armed:
        ground.armed.remove(cell)
    ground.whims.calm_down()
    if cell.fault in (Fault.KILL, Fault.TERM):
        expected = -9 if cell.fault is Fault.KILL else 0
        assert victim.returncode == expected, f"the process ended with {victim.returncode}, not with {expected}"
        ground.start_victim()
        return
    if cell.fault is Fault.PAUSE:
        await asyncio.sleep(_PAUSE_S)
    else:
        await _outlast_the_lease(ground, course)
    wake(victim.pid)
    await asyncio.sleep(0.1)
    assert victim.returncode is None, f"the process did not survive: {victim.returncode}"


async def _outlast_the_lease(ground: Ground, course: Course) -> None:
    """The same mails come to the other process meanwhile, which takes over what it may."""
    least, most = _FREEZE_S
    began = time.monotonic()
    if course.cell.way is not Way.DUE:
        await ground.publish(course.asked.records, BYSTANDER)
    await ground.wait_over(course.asked.due, (), most - (time.monotonic() - began))
    await asyncio.sleep(max(0.0, least - (time.monotonic() - began)))


def _keep_logs(ground: Ground, cell: Cell) -> None:
    folder = FOLDER / "cells"
    folder.mkdir(parents=True, exist_ok=True)
    latest = [*ground.victims[-2:], ground.bystander.process]
    logs = "\n".join(f"--- {each.name} {each.pid}\n{each.read_log()}" for each in latest)
    (folder / f"{cell.name.replace(' ', '_')}.log").write_text(logs)
