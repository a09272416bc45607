"""What the stack prints: its own lines, and those of its processes behind their names."""

import asyncio
import re
import sys
from typing import IO, TextIO

_COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)
# Every control sequence but colours (which end in m), every control character but the tab.
_CURSOR = re.compile(r"\x1b\[[0-9;?]*[A-Za-ln-z]|[\x00-\x08\x0a-\x1a]")
_LONGEST_LINE = 64 * 1024  # bytes; what is longer is printed in pieces


class Output:
    """Lines on one stream, in colour where that is a terminal; ``also`` gets the stack's own lines too."""

    def __init__(self, stream: TextIO | None = None, *, width: int = 16, also: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._colours = self._stream.isatty()
        self._width = width
        self._also = also
        self._names: dict[str, int] = {}
        self._last_words: dict[str, str] = {}

    def say(self, text: str = "", *, kept: str | None = None) -> None:
        """Print a line of the stack's own; with a second stream, ``kept`` stands in its place on the first, a file."""
        self._write(text if kept is None or self._also is None else kept)
        if self._also is not None:
            self._also.write(text + "\n")
            self._also.flush()

    def forget_second_stream(self) -> None:
        """Print the stack's own lines on the one stream only from now on."""
        self._also = None

    def say_for(self, name: str, text: str) -> None:
        """Print a line of one process; what it would do to the cursor of a terminal is left out."""
        shown = _CURSOR.sub("", text)
        if shown != text and not shown.strip():
            return
        label = f"{name:<{self._width}} |"
        if self._colours:
            colour = _COLOURS[self._names.setdefault(name, len(self._names)) % len(_COLOURS)]
            label = f"\033[{colour}m{label}\033[0m"
        self._write(f"{label} {shown}")

    def last_words(self, name: str) -> str:
        """Give the last line that a process has written, empty where it has not."""
        return self._last_words.get(name, "")

    def emphasise(self, text: str) -> str:
        """Give the text in bold, where that can be shown."""
        return f"\033[1m{text}\033[0m" if self._colours else text

    async def copy(self, name: str, pipe: IO[bytes] | None) -> None:
        """Print everything a process writes into ``pipe``, until it is closed on the other side."""
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            await self._copy_lines(name, reader)
        finally:
            transport.close()

    async def _copy_lines(self, name: str, reader: asyncio.StreamReader) -> None:
        rest = b""
        while chunk := await reader.read(_LONGEST_LINE):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._pass_on(name, line)
            if len(rest) > _LONGEST_LINE:
                self._pass_on(name, rest)
                rest = b""
        if rest:
            self._pass_on(name, rest)

    def _pass_on(self, name: str, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip("\r")
        if text.strip():
            self._last_words[name] = text.strip()
        self.say_for(name, text)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass  # whoever read our output has gone, or the terminal; the stack goes on
