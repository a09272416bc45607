"""Record batches written by hand: what no client of ours would write, and a broker takes all the same."""

import struct
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cramjam
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.util import calc_crc32c

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Header = tuple[bytes, bytes | None]
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


@dataclass(frozen=True)
class Raw:
    """One record. `zeros`: bytes of 0 behind the value, however many, that are never held in memory."""

    value: bytes | None = None
    key: bytes | None = None
    headers: Sequence[Header] = ()
    zeros: int = 0
    time_delta: int = 0


def build_batch(
    records: Sequence[Raw],
    codec: str = "none",
    *,
    base_offset: int = 0,
    timestamp: int = 1_700_000_000_000,
    spoil: Callable[[bytes], bytes] = lambda payload: payload,
) -> bytes:
    """A batch of format version 2; `spoil` may change its compressed payload before the checksum is taken."""
    payload = spoil(_compress(records, codec))
    latest = timestamp + max((each.time_delta for each in records), default=0)
    head = struct.pack(">hiqqqhii", CODECS[codec], len(records) - 1, timestamp, latest, -1, -1, -1, len(records))
    checksum = calc_crc32c(head + payload)
    body = struct.pack(">ibI", -1, 2, checksum) + head + payload
    return struct.pack(">qi", base_offset, len(body)) + body


async def publish_batches(bootstrap_servers: str, topic: str, *batches: tuple[int, bytes]) -> list[int]:
    """Hand (partition, batch) one after the other to their leaders as they stand; returns their first offsets."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap_servers)
    await client.bootstrap()
    try:
        await client.set_topics([topic])
        return [await _produce(client, topic, partition, batch) for partition, batch in batches]
    finally:
        await client.close()


async def _produce(client: AIOKafkaClient, topic: str, partition: int, batch: bytes) -> int:
    leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
    request = ProduceRequest(
        transactional_id=None, required_acks=-1, timeout=10_000, topics=[(topic, [(partition, batch)])]
    )
    response = await client.send(leader, request)
    ((_, ((_, code, offset, *_),)),) = response.topics
    if code:
        raise for_code(code)
    return int(offset)


def encode_varint(number: int) -> bytes:
    """Zigzag, seven bits a byte."""
    value = (number << 1) ^ (number >> 63)
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _encode_bytes(content: bytes | None) -> bytes:
    return encode_varint(-1) if content is None else encode_varint(len(content)) + content


def _write(record: Raw, delta: int) -> Iterator[bytes]:
    """A record, its zeros a mebibyte at a time."""
    before = b"\x00" + encode_varint(record.time_delta) + encode_varint(delta) + _encode_bytes(record.key)
    before += encode_varint(-1 if record.value is None else len(record.value) + record.zeros) + (record.value or b"")
    behind = encode_varint(len(record.headers))
    behind += b"".join(_encode_bytes(name) + _encode_bytes(content) for name, content in record.headers)
    yield encode_varint(len(before) + record.zeros + len(behind)) + before
    mebibyte = bytes(1 << 20)
    for left in range(record.zeros, 0, -len(mebibyte)):
        yield mebibyte[:left]
    yield behind


def _compress(records: Sequence[Raw], codec: str) -> bytes:
    parts = (part for delta, record in enumerate(records) for part in _write(record, delta))
    if codec == "none":
        return b"".join(parts)
    if codec == "snappy":
        return bytes(cramjam.snappy.compress_raw(b"".join(parts)))
    if codec == "lz4":
        framer = cramjam.lz4.Compressor(level=1, content_checksum=False, block_linked=False)
        for part in parts:
            framer.compress(part)
        return bytes(framer.finish())
    packer = zlib.compressobj(6, zlib.DEFLATED, 31) if codec == "gzip" else zstd.ZstdCompressor()
    return b"".join([*map(packer.compress, parts), packer.flush()])
