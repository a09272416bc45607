"""What has been looked up lately; how long it is believed is tested with keys (test_access.py)."""

from shared.recent import Recent


async def test_the_heaviest_do_not_fill_the_memory_and_a_new_value_takes_the_place_of_the_old() -> None:
    asked: list[str] = []
    now = 0.0

    async def ask(key: str) -> str | None:
        asked.append(key)
        return None if key == "none" else key * 4

    recent = Recent(ask, capacity=10, weigh=len, clock=lambda: now)
    assert [await recent.find(each) for each in ("a", "b", "a", "none", "b")] == ["aaaa", "bbbb", "aaaa", None, "bbbb"]
    assert asked == ["a", "b", "none"]
    await recent.find("c")
    assert asked == ["a", "b", "none", "c"]
    await recent.find("b")
    await recent.find("a")
    assert asked == ["a", "b", "none", "c", "a"], "12 are too many: the one unused for longest was forgotten"
    for _ in range(3):
        now += 4
        assert await recent.find("a") == "aaaa"
    await recent.find("b")
    assert asked[5:] == ["a", "a", "a", "b"], "asked again, and weighed once"
