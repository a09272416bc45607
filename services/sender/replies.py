"""From bytes to replies (RFC 5321 §4.2): lines, several of them where they go on with `250-`."""

from functools import lru_cache

from services.sender.classify import Reply

_REPLY_LIMIT = 64 * 1024  # bytes of one reply before it counts as garbage
_REPLY_LINES = 1000


class ReplyReader:
    """Takes what arrives, in whatever pieces, and gives whole replies; code 0 where a line is not SMTP."""

    def __init__(self) -> None:
        self._buffer = b""
        self._lines: list[str] = []

    def feed(self, data: bytes) -> list[Reply]:
        """The replies that `data` completes."""
        replies: list[Reply] = []
        lines = (self._buffer + data if self._buffer else data).split(b"\n")
        self._buffer = lines.pop()
        for line in lines:
            reply = _read_line(line)
            if line[3:4] == b"-":
                self._lines.append(reply.text)
                continue
            if self._lines:
                reply = _join(reply.code, [*self._lines, reply.text])
                self._lines = []
            replies.append(reply)
        return replies

    @property
    def endless(self) -> bool:
        """Whether what is incomplete has outgrown any reply."""
        if not self._buffer and not self._lines:
            return False
        return len(self._buffer) + sum(map(len, self._lines)) > _REPLY_LIMIT or len(self._lines) > _REPLY_LINES


def _join(code: int, texts: list[str]) -> Reply:
    """Several lines as one; an enhanced code that heads each of them (RFC 2034 §4) is kept once."""
    if sum(map(len, texts)) > _REPLY_LIMIT:
        return Reply(0, "a reply of unusual length")
    first = Reply(code, texts[0])
    repeated = f"{first.enhanced} " if first.enhanced else ""
    return Reply(code, " ".join((texts[0], *(each.removeprefix(repeated) for each in texts[1:]))).strip())


@lru_cache(maxsize=64)
def _read_line(line: bytes) -> Reply:
    """One line of a reply; code 0: not SMTP. Kept, because three of four replies are the same mail after mail."""
    words = line[:_REPLY_LIMIT].decode("utf-8", "replace").rstrip()
    if not words.isprintable():  # PostgreSQL keeps no NUL, and no console should see the rest
        words = "".join(each if each.isprintable() else " " for each in words).rstrip()
    digits = words[:3]
    if len(digits) == 3 and digits.isascii() and digits.isdigit() and words[3:4] in ("", " ", "-"):
        return Reply(int(digits), words[4:].strip())
    return Reply(0, words)
