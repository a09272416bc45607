"""Ask a Kafka port whether a broker answers there."""

import socket
import struct

_API_VERSIONS = 18
_CORRELATION_ID = 7


def answers(host: str, port: int, *, timeout_s: float = 1.0) -> bool:
    """Send one ApiVersions request (the first thing every client sends) and say whether it was answered.

    A port that is merely open is not enough: the listener opens before the broker serves requests.
    """
    client_id = b"milena-probe"
    header = struct.pack(f">hhih{len(client_id)}s", _API_VERSIONS, 0, _CORRELATION_ID, len(client_id), client_id)
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            connection.sendall(struct.pack(">i", len(header)) + header)
            answer = connection.recv(10, socket.MSG_WAITALL)
    except OSError:
        return False
    if len(answer) < 10:
        return False
    _, correlation_id, error_code = struct.unpack(">iih", answer)
    return bool(correlation_id == _CORRELATION_ID and error_code == 0)
