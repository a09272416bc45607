"""Stages of a pipeline: who is taken first (P7, R2)."""

import asyncio

from shared.stage import Stage


def create(allowances: list[int]) -> tuple[Stage[str], list[list[str]]]:
    """A stage in which items beginning with b let all others pass; it has room as the list says, then none."""
    groups: list[list[str]] = []

    async def handle(group: list[str]) -> None:
        groups.append(group)

    def fail(item: str, exc: Exception) -> None:
        raise AssertionError(item) from exc

    stage = Stage[str](
        "s",
        handle,
        fail,
        allowance=lambda: allowances.pop(0) if allowances else 0,
        yields=lambda item: item.startswith("b"),
    )
    return stage, groups


async def run(stage: Stage[str]) -> None:
    stage.start()
    await asyncio.sleep(0.01)
    await stage.stop()


async def test_whoever_does_not_yield_passes_those_who_came_before() -> None:
    stage, groups = create([3, 2])
    stage.put_all(["b1", "b2", "b3"])
    stage.put("s1")
    stage.put("s2")
    assert len(stage) == 5
    await run(stage)
    assert groups == [["s1", "s2", "b1"], ["b2", "b3"]]


async def test_those_who_yield_get_one_place_in_eight_even_where_places_come_one_by_one() -> None:
    stage, groups = create([1] * 24)
    stage.put_all([f"b{number}" for number in range(10)])
    stage.put_all([f"s{number}" for number in range(30)])
    await run(stage)
    taken = [group[0] for group in groups]
    assert [item for item in taken if item.startswith("b")] == ["b0", "b1", "b2"]
    assert len(taken) == 24
    assert sorted(stage) == sorted([f"b{n}" for n in range(3, 10)] + [f"s{n}" for n in range(21, 30)])


async def test_what_is_unwanted_goes_from_both_queues() -> None:
    stage, groups = create([9])
    stage.put_all(["b1", "s1", "b2", "s2"])
    stage.discard(lambda item: item.endswith("1"))
    await run(stage)
    assert groups == [["s2", "b2"]]
