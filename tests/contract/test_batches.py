"""What shared/bounded_batches.py relies on in aiokafka, and what comes of it: all is read as the fetcher reads it."""

import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import READ_COMMITTED, Fetcher, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import bounded_batches
from shared.bounded_batches import guard_batches
from shared.events import RefusedValue, UnreadableEvent, open_record
from tests.support.batches import CODECS, Raw, build_batch

LIMIT = 1024 * 1024
PACKED = [codec for codec in CODECS if codec != "none"]
GOOD = [Raw(b'{"n": %d}' % number, b"key", [(b"ce_type", b"x")]) for number in range(3)]


@pytest.fixture(autouse=True)
def _guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(fetcher, "MemoryRecords", MemoryRecords)
    guard_batches(LIMIT)
    yield


def read(*batches: bytes, aborted: Any = ()) -> list[Any]:
    """As aiokafka's fetcher reads an answer of the broker."""
    data = b"".join(batches)
    records = fetcher.MemoryRecords(data)
    assert records.size_in_bytes() == len(data)
    found = PartitionRecords(TopicPartition("t", 0), records, aborted, 0, None, None, True, READ_COMMITTED)
    return list(found)


def refusal(record: Any) -> str:
    """Why a record was refused, as the consumers learn it."""
    assert isinstance(record.value, RefusedValue)
    with pytest.raises(UnreadableEvent) as caught:
        open_record(record.value, None)
    return str(caught.value)


# What aiokafka does


def test_the_fetcher_finds_its_class_by_a_name_of_its_module() -> None:
    assert "MemoryRecords" in Fetcher._proc_fetch_request.__code__.co_names
    assert fetcher.MemoryRecords.keywords["limit"] == LIMIT + 64 * 1024


def test_aiokafka_alone_stops_at_a_header_name_that_is_not_utf8() -> None:
    batch = MemoryRecords(build_batch([Raw(b"{}", headers=[(b"\xfc", b"")])])).next_batch()
    with pytest.raises((CorruptRecordException, UnicodeDecodeError)):
        list(batch)


def test_of_several_limits_the_largest_counts() -> None:
    guard_batches(10)
    assert fetcher.MemoryRecords.keywords["limit"] == LIMIT + 64 * 1024
    guard_batches(2 * LIMIT)
    assert fetcher.MemoryRecords.keywords["limit"] == 2 * LIMIT + 64 * 1024


# Ordinary batches


@pytest.mark.parametrize("codec", CODECS)
def test_ordinary_batches_are_read_by_aiokafka_itself(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_batches, "_CarefulBatch", None)
    found = read(build_batch(GOOD, codec), build_batch([Raw(bytes(100_000))] * 30, codec, base_offset=3))

    assert [each.offset for each in found] == list(range(33))
    assert [each.value for each in found[:3]] == [each.value for each in GOOD]


TEXT = st.text(st.characters(exclude_categories=["Cs"])).map(str.encode)
BYTES = st.none() | st.binary(max_size=40)
RECORDS = st.lists(
    st.builds(
        Raw,
        value=BYTES,
        key=BYTES,
        headers=st.lists(st.tuples(TEXT, BYTES), max_size=3),
        time_delta=st.integers(-(2**40), 2**40),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=50)
@given(RECORDS, st.sampled_from(list(CODECS)), st.integers(0, 2**62), st.integers(0, 2**62))
def test_what_is_read_with_care_is_what_aiokafka_reads(
    records: list[Raw], codec: str, base_offset: int, timestamp: int
) -> None:
    batch = build_batch(records, codec, base_offset=base_offset, timestamp=timestamp)
    plain = list(MemoryRecords(batch).next_batch())
    careful = list(bounded_batches._CarefulBatch(memoryview(batch), LIMIT).read(0))

    for ours, theirs in zip(careful, plain, strict=True):
        for name in ("offset", "timestamp", "timestamp_type", "key", "value", "checksum"):
            assert getattr(ours, name) == getattr(theirs, name)
        assert list(ours.headers) == list(theirs.headers)


# Bombs


@pytest.mark.parametrize(("codec", "zeros"), [("gzip", 300_000_000), ("zstd", 300_000_000), ("lz4", 200_000_000)])
def test_a_bomb_is_refused_unpacked_nowhere_and_its_neighbours_are_read(codec: str, zeros: int) -> None:
    batch = build_batch([*GOOD, Raw(b"", zeros=zeros), *GOOD], codec, base_offset=3)
    assert len(batch) < 1_100_000
    tracemalloc.start()
    found = read(
        build_batch(GOOD), batch.replace(batch[:8], (3).to_bytes(8, "big"), 1), build_batch(GOOD, base_offset=10)
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert [each.offset for each in found] == list(range(13))
    assert [each.offset for each in found if isinstance(each.value, RefusedValue)] == [6, 7, 8, 9]
    assert "the limit is 1114112" in refusal(found[6])
    assert "behind" in refusal(found[7])
    assert peak < 20_000_000


@pytest.mark.parametrize("codec", PACKED)
def test_a_record_that_is_only_too_large_costs_its_batch_nothing_else(codec: str) -> None:
    found = read(build_batch([*GOOD, Raw(b"", b"k" * 100, zeros=6_000_000), *GOOD], codec))

    assert [each.value for each in (*found[:3], *found[4:])] == [each.value for each in (*GOOD, *GOOD)]
    assert (found[3].offset, found[3].timestamp) == (3, 1_700_000_000_000)
    assert "unpacks to 600" in refusal(found[3])


@pytest.mark.parametrize("codec", ["gzip", "zstd", "lz4"])
def test_many_records_that_are_fine_are_read_however_far_they_unpack(codec: str) -> None:
    found = fetcher.MemoryRecords(build_batch([Raw(b"{}", zeros=1_000_000)] * 100, codec)).next_batch()
    tracemalloc.start()
    sizes = [len(record.value) for record in found]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert sizes == [1_000_002] * 100
    assert peak < 20_000_000


# What nobody can read


@pytest.mark.parametrize("codec", CODECS)
def test_a_header_name_that_is_not_utf8_is_read_with_its_record(codec: str) -> None:
    bad = Raw(b"{}", headers=[(b"ce_type", b"x"), (b"Gr\xfc\xdfe", b"\xff")])
    found = read(build_batch([*GOOD, bad, *GOOD], codec))

    assert [each.offset for each in found] == list(range(7))
    assert found[3].headers == (("ce_type", b"x"), ("Gr\ufffd\ufffde", b"\xff"))
    assert [each.value for each in found] == [each.value for each in (*GOOD, bad, *GOOD)]


@pytest.mark.parametrize("codec", PACKED)
@pytest.mark.parametrize("spoil", [lambda data: data[:-90], lambda data: data[:3], lambda data: b"\x00" * 40])
def test_a_payload_that_cannot_be_unpacked_is_refused_record_by_record(codec: str, spoil: Any) -> None:
    many = [Raw(b'{"n": %d}' % number, b"key") for number in range(1000)]
    found = read(build_batch(many, codec, spoil=spoil), build_batch(GOOD, codec, base_offset=1000))

    assert [each.offset for each in found] == list(range(1003))
    refused = [each for each in found if isinstance(each.value, RefusedValue)]
    assert refused
    assert "cannot be read" in refusal(refused[0])
    assert all(each.value == b'{"n": %d}' % each.offset for each in found[:1000] if each not in refused)


def test_a_snappy_length_that_leads_nowhere_ends() -> None:
    found = read(build_batch(GOOD, "snappy", spoil=lambda _: b"\x82SNAPPY\x00" + bytes(8) + b"\xff\xff\xff\xfcx"))
    assert [each.offset for each in found] == [0, 1, 2]


@settings(max_examples=200)
@given(st.sampled_from(list(CODECS)), st.binary(max_size=60), st.integers(0, 60))
def test_no_payload_stops_its_partition(codec: str, junk: bytes, at: int) -> None:
    def spoil(payload: bytes) -> bytes:
        return payload[:at] + junk + payload[at + len(junk) :]

    found = read(build_batch(GOOD, codec, spoil=spoil), build_batch(GOOD, base_offset=3))
    assert [each.offset for each in found[-3:]] == [3, 4, 5]
    assert len(found) <= 6
