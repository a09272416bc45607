"""One cell of the kill matrix under way, and its judgement: from the relay, the topics and the ledger."""

import time
from dataclasses import dataclass, field

from tests.chaos.cells import Cell
from tests.chaos.ground import Ground
from tests.chaos.mails import Asked
from tests.chaos.rig import message_id

PATIENCE_S = 60.0
"""Within which every mail has its end, whatever happened."""


@dataclass
class CellVerdict:
    """What one cell found. `slowest_s`: from its (last try's) first mail's acceptance to its last mail's end."""

    fault: str
    moment: str
    way: str
    mails: int = 0
    doubles: int = 0
    unknowns: int = 0
    slowest_s: float = 0.0
    seconds: float = 0.0
    broken: list[str] = field(default_factory=list)


@dataclass
class Course:
    """One cell under way. `places`: of records that must be refused; `published`: when its first mails were."""

    cell: Cell
    asked: Asked = field(default_factory=Asked)
    places: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    published: float = 0.0


async def judge_cell(ground: Ground, course: Course, verdict: CellVerdict, *, over: bool) -> None:
    """Count, and note what is broken. `over`: whether all of it had ended in time."""
    asked, ends = course.asked, ground.ends
    verdict.mails = len(asked.due) + len(course.places)
    unknowns = await ground.read_unknowns(asked.due)
    verdict.unknowns = len(unknowns)
    copies = {each: ground.rig.relay.counts[message_id(each), to] for each, to in asked.due.items()}
    verdict.doubles = sum(max(0, count - 1) for count in copies.values())
    known = {*asked.due, *course.places} & ends.by_id.keys()
    verdict.slowest_s = max((ends.by_id[each].at - course.published for each in known), default=0.0)
    facts = {
        f"not over {PATIENCE_S:.0f} s after the fault": not over,
        "lost": [each for each, count in copies.items() if not count],
        "doubled and not called unknown": [each for each, n in copies.items() if n > 1 and each not in unknowns],
        "without an end": [*({*asked.due, *course.places} - known)],
        "not sent": [each for each in known & asked.due.keys() if not ends.by_id[each].sent],
        "not refused": [each for each in known & set(course.places) if ends.by_id[each].sent],
        "with several ends": [each for each in known if len(ends.told[each]) > 1],
    }
    if course.cell.fault.spares_outcomes:
        facts["called unknown without need"] = [*unknowns]
        facts["doubled"] = [each for each, count in copies.items() if count > 1]
    verdict.broken += [f"{what}: {_name(which)}" for what, which in facts.items() if which]


def _name(which: object) -> str:
    return f"{len(which)} ({', '.join(which[:3])})" if isinstance(which, list) else "yes"
