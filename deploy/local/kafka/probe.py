"""Ask a Kafka port whether a broker works there."""

import socket
import struct

_API_VERSIONS, _FIND_COORDINATOR = 18, 10
_CLIENT = b"milena-probe"
_GROUP = b"milena-probe"


def answers(host: str, port: int, *, timeout_s: float = 1.0) -> bool:
    """Say whether a broker answers and can look after consumer groups.

    An open port is not enough: the listener opens before requests are served. Nor is an answer to the first request
    of every client: asking for a group's coordinator makes a fresh broker create the topic that keeps offsets, and
    until it has, every consumer that starts is told that there is none.
    """
    group = struct.pack(f">h{len(_GROUP)}sb", len(_GROUP), _GROUP, 0)
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            versions = _ask(connection, _API_VERSIONS, 0, b"")
            coordinator = _ask(connection, _FIND_COORDINATOR, 1, group)
    except OSError:
        return False
    # Error codes: at the beginning of the one answer, behind the throttle time in the other.
    return versions[:2] == b"\0\0" and coordinator[4:6] == b"\0\0"


def _ask(connection: socket.socket, api: int, version: int, body: bytes) -> bytes:
    """Send one request and give its answer behind the correlation id, as much of it as has come."""
    header = struct.pack(f">hhih{len(_CLIENT)}s", api, version, 1, len(_CLIENT), _CLIENT)
    connection.sendall(struct.pack(">i", len(header) + len(body)) + header + body)
    size = connection.recv(4, socket.MSG_WAITALL)
    if len(size) < 4:
        return b""
    return connection.recv(struct.unpack(">i", size)[0], socket.MSG_WAITALL)[4:]
