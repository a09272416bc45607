"""Records go where every other Kafka client would put them."""

from random import Random
from uuid import uuid4

import pytest
from aiokafka.partitioner import DefaultPartitioner, murmur2

from shared.partitioning import choose_partition, compute_murmur2

# From Kafka's own UtilsTest, as signed 32-bit numbers.
KAFKAS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "signed"), KAFKAS.items())
def test_the_hash_is_that_of_the_java_client(key: bytes, signed: int) -> None:
    assert compute_murmur2(key) == signed % 2**32


def test_keys_of_every_length_hash_as_with_aiokafka() -> None:
    chance = Random(1)
    for length in [*range(300), 1023, 4096, 70_001]:
        for key in (chance.randbytes(length), bytes(length), b"\xff" * length):
            assert compute_murmur2(key) == murmur2(key), key


def test_a_record_gets_the_partition_aiokafka_would_choose() -> None:
    theirs = DefaultPartitioner()
    for count in (1, 3, 12, 100):
        partitions = list(range(count))
        for key in (b"", *(str(uuid4()).encode() for _ in range(200))):
            assert choose_partition(key, partitions, partitions[:1]) == theirs(key, partitions, partitions[:1])


def test_a_record_without_a_key_goes_to_an_available_partition() -> None:
    assert {choose_partition(None, [0, 1, 2], [2, 1]) for _ in range(100)} == {1, 2}
    assert {choose_partition(None, [0, 1], []) for _ in range(100)} == {0, 1}
