"""Kafka's default partitioner, as the Java client has it: murmur2 of the key, modulo the number of partitions.

The results are those of aiokafka's own, which takes a key byte by byte: this takes less than half the time,
and every record that is published needs one.
"""

import random
from collections.abc import Sequence
from functools import lru_cache
from struct import Struct

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def choose_partition(key: bytes | None, partitions: Sequence[int], available: Sequence[int]) -> int:
    """The partition of a record among all `partitions`, sorted; one without a key goes to any available one."""
    if key is None:
        return random.choice(available or partitions)  # noqa: S311
    return partitions[(compute_murmur2(key) & 0x7FFFFFFF) % len(partitions)]


def compute_murmur2(data: bytes) -> int:
    """MurmurHash2 with the seed of Kafka's clients, 32 bits without sign."""
    length = len(data)
    digest = _SEED ^ length
    # A word that is left unmasked has the same low 32 bits, which are all that count at the end of each round.
    for word in _of_words(length >> 2).unpack_from(data):
        mixed = word * _M & _MASK
        digest = (digest * _M ^ (mixed ^ mixed >> 24) * _M) & _MASK
    if tail := length & 3:
        digest = (digest ^ int.from_bytes(data[-tail:], "little")) * _M & _MASK
    digest = (digest ^ digest >> 13) * _M & _MASK
    return digest ^ digest >> 15


@lru_cache(maxsize=256)
def _of_words(count: int) -> Struct:
    return Struct(f"<{count}I")
