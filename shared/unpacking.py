"""The codecs of Kafka's record batches, piece by piece: how far a payload unpacks, and its content, never whole.

aiokafka unpacks a batch in one call, however large it becomes: one of 1 MiB may hold 34 GiB (zstd). Here nothing
larger than a piece is ever held. Sizes in bytes.
"""

import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from enum import IntEnum

import cramjam

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PIECE = 256 * 1024  # of what gzip and zstd give; lz4 and snappy give their own blocks
_GZIP_RATIO, _SNAPPY_RATIO = 1032, 22  # at most; an lz4 frame and a zstd frame tell by their blocks
_ZSTD_MAGIC, _LZ4_MAGIC, _SKIPPABLE = 0xFD2FB528, 0x184D2204, 0x184D2A5
_ZSTD_BLOCK = 128 * 1024
_ZSTD_WINDOW_LOG = 23  # 8 MiB: what every reader is to support (RFC 8878 §3.1.1.1.2), and Kafka's levels up to 19 need
_XERIAL = b"\x82SNAPPY\x00"
_XERIAL_HEAD = 16


class Codec(IntEnum):
    """The codec in a batch's attributes."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


class CannotUnpack(Exception):
    """The payload is broken, or needs more memory than a reader should give; the message says which."""


def may_exceed(codec: int, payload: memoryview, limit: int) -> bool:
    """Whether the payload may unpack to more than `limit`. Reads headers; only of a large gzip the content."""
    try:
        if codec == Codec.GZIP:
            return len(payload) * _GZIP_RATIO > limit and _gzip_exceeds(payload, limit)
        return _BOUNDS[codec](payload) > limit
    except (struct.error, IndexError, KeyError, CannotUnpack, cramjam.DecompressionError):
        return True  # whatever it is: to be read with care


def unpack(codec: int, payload: memoryview) -> Iterator[bytes]:
    """The content in pieces of at most 4 MiB. Raises CannotUnpack, perhaps after the first pieces."""
    try:
        yield from _UNPACKERS[codec](payload)
    except CannotUnpack:
        raise
    except Exception as exc:  # four libraries, each with errors of its own
        raise CannotUnpack(f"broken {Codec(codec).name.lower()} data") from exc


# --- gzip (RFC 1952) ---


def _gzip_exceeds(payload: memoryview, limit: int) -> bool:
    size = 0
    for piece in unpack(Codec.GZIP, payload):
        size += len(piece)
        if size > limit:
            return True
    return False


def _unpack_gzip(payload: memoryview) -> Iterator[bytes]:
    rest: bytes | memoryview = payload
    while bytes(rest[:2]) == b"\x1f\x8b":
        member = zlib.decompressobj(31)
        while not member.eof:
            piece = member.decompress(rest, PIECE)
            if not piece and not member.eof and not member.unconsumed_tail:
                raise CannotUnpack("gzip data ends too early")
            rest = member.unconsumed_tail
            yield piece
        rest = member.unused_data


# --- snappy, bare or in the frames of xerial's library ---


def _bound_snappy(payload: memoryview) -> int:
    return sum(_measure_snappy(block) for block in _split_snappy(payload))


def _unpack_snappy(payload: memoryview) -> Iterator[bytes]:
    for block in _split_snappy(payload):
        _measure_snappy(block)
        yield bytes(cramjam.snappy.decompress_raw(block))


def _split_snappy(payload: memoryview) -> Iterator[memoryview]:
    if bytes(payload[: len(_XERIAL)]) != _XERIAL:
        yield payload
        return
    position = _XERIAL_HEAD
    while position < len(payload):
        (size,) = struct.unpack_from(">i", payload, position)
        position += 4
        if size < 0 or position + size > len(payload):
            raise CannotUnpack("broken snappy data")
        yield payload[position : position + size]
        position += size


def _measure_snappy(block: memoryview) -> int:
    size = int(cramjam.snappy.decompress_raw_len(block))
    if size > len(block) * _SNAPPY_RATIO + 64:
        raise CannotUnpack("snappy data that cannot be as long as it says")
    return size


# --- lz4 (frame format 1.6; Kafka writes independent blocks) ---


def _bound_lz4(payload: memoryview) -> int:
    return sum(largest if packed else len(block) for block, packed, largest in _split_lz4(payload))


def _unpack_lz4(payload: memoryview) -> Iterator[bytes]:
    for block, packed, largest in _split_lz4(payload):
        if packed:
            piece = bytearray(largest)
            size = cramjam.lz4.decompress_block_into(block, piece)
            yield bytes(memoryview(piece)[:size])
        else:
            yield bytes(block)


def _split_lz4(payload: memoryview) -> Iterator[tuple[memoryview, bool, int]]:
    """Blocks: content, whether packed, and the most it unpacks to."""
    position = 0
    while position < len(payload):
        magic, flags, sizes = struct.unpack_from("<IBB", payload, position)
        if magic != _LZ4_MAGIC or flags >> 6 != 1 or not flags & 0x20:
            raise CannotUnpack("no lz4 frame of independent blocks")
        position += 7 + (8 if flags & 0x08 else 0) + (4 if flags & 0x01 else 0)
        largest = 1 << (8 + 2 * (sizes >> 4 & 0x07))
        while True:
            (size,) = struct.unpack_from("<I", payload, position)
            position += 4
            if size == 0:
                break
            packed, size = not size >> 31, size & 0x7FFFFFFF
            if position + size > len(payload):
                raise CannotUnpack("lz4 data ends too early")
            yield payload[position : position + size], packed, min(largest, size * 255)
            position += size + (4 if flags & 0x10 else 0)
        position += 4 if flags & 0x04 else 0


# --- zstd (RFC 8878) ---


def _bound_zstd(payload: memoryview) -> int:
    position = size = 0
    while position < len(payload):
        (magic,) = struct.unpack_from("<I", payload, position)
        if magic >> 4 == _SKIPPABLE:
            position += 8 + int(struct.unpack_from("<I", payload, position + 4)[0])
        elif magic == _ZSTD_MAGIC:
            position, frame = _walk_zstd(payload, position + 4)
            size += frame
        else:
            raise CannotUnpack("no zstd frame")
    return size


def _walk_zstd(payload: memoryview, position: int) -> tuple[int, int]:
    """Where the frame ends, and the most it unpacks to."""
    flags = payload[position]
    single = flags & 0x20
    position += 1 + (0 if single else 1) + (0, 1, 2, 4)[flags & 3] + (1 if single else 0, 2, 4, 8)[flags >> 6]
    size = last = 0
    while not last:
        head = int.from_bytes(payload[position : position + 3], "little")
        last, kind, length = head & 1, head >> 1 & 3, head >> 3
        if position + 3 > len(payload) or kind == 3:
            raise CannotUnpack("broken zstd data")
        size += _ZSTD_BLOCK if kind == 2 else length
        position += 3 + (1 if kind == 1 else length)
    return position + (4 if flags & 0x04 else 0), size


def _unpack_zstd(payload: memoryview) -> Iterator[bytes]:
    rest = bytes(payload)
    while rest:
        frame = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})
        while not frame.eof:
            if frame.needs_input and not rest:
                raise CannotUnpack("zstd data ends too early")
            piece = frame.decompress(rest, PIECE)
            rest = b""
            yield piece
        rest = frame.unused_data


def _unpack_none(payload: memoryview) -> Iterator[bytes]:
    yield bytes(payload)


_BOUNDS: dict[int, Callable[[memoryview], int]] = {
    Codec.NONE: len,
    Codec.SNAPPY: _bound_snappy,
    Codec.LZ4: _bound_lz4,
    Codec.ZSTD: _bound_zstd,
}
_UNPACKERS: dict[int, Callable[[memoryview], Iterator[bytes]]] = {
    Codec.NONE: _unpack_none,
    Codec.GZIP: _unpack_gzip,
    Codec.SNAPPY: _unpack_snappy,
    Codec.LZ4: _unpack_lz4,
    Codec.ZSTD: _unpack_zstd,
}
