"""What is written in one turn of the loop goes out together, in its order."""

import asyncio

from shared.serving import JoinedWrites


class Wire(asyncio.Transport):
    """Notes what is handed to the kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.closing = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        assert not self.closing
        self.sent.append(data)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True


async def test_what_one_turn_writes_is_one_write() -> None:
    wire = Wire()
    joined = JoinedWrites(wire)
    joined.write(b"head")
    joined.write(b"body")
    await asyncio.sleep(0)
    joined.write(b"more")
    await asyncio.sleep(0)
    assert wire.sent == [b"headbody", b"more"]


async def test_a_large_piece_does_not_wait() -> None:
    wire = Wire()
    joined = JoinedWrites(wire)
    joined.write(b"head")
    joined.write(b"x" * 20_000)
    joined.write(b"end")
    assert wire.sent == [b"head" + b"x" * 20_000]
    await asyncio.sleep(0)
    assert wire.sent[1:] == [b"end"]


async def test_closing_sends_what_was_written_and_a_lost_connection_gets_nothing() -> None:
    wire, lost = Wire(), Wire()
    for each in (wire, lost):
        joined = JoinedWrites(each)
        joined.write(b"head")
        if each is lost:
            each.closing = True
        joined.close()
        await asyncio.sleep(0)
    assert (wire.sent, lost.sent) == ([b"head"], [])
