"""Files of recipients: whatever they are and in whatever parts they come, each row is told for what it is."""

import asyncio
import csv
import io
import json
import tracemalloc
from collections.abc import AsyncIterator, Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.contacts.identity import identify_recipient
from services.scheduler.importing.formulas import guard_cell
from services.scheduler.importing.reading import choose_reader, read_portions
from services.scheduler.importing.recipients import Recipient
from services.scheduler.importing.rows import BadRow, Row, RowReader, UnreadableFile
from services.scheduler.importing.text_lines import LINE_LIMIT
from services.scheduler.lists.receiving import Received
from services.scheduler.mailings.variables import fill_in
from shared.events import BulkEntry

CSV, NDJSON = "text/csv", "application/x-ndjson"
HEAD = b"address,name,plan\n"
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\",;\n'=+"), max_size=12)


def read(media: str, *parts: bytes) -> list[Row | BadRow]:
    reader = choose(media)
    return [row for part in parts for row in reader.feed(part)] + list(reader.end())


def choose(media: str) -> RowReader:
    reader = choose_reader(media)
    assert reader
    return reader


def judge(media: str, *parts: bytes) -> list[Recipient | BadRow]:
    async def chunks() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    async def collect() -> list[Recipient | BadRow]:
        return [row async for portion in read_portions("shop", chunks(), choose(media)) for row in portion]

    return asyncio.run(collect())


def refuse(media: str, body: bytes) -> str:
    with pytest.raises(UnreadableFile) as refused:
        read(media, body)
    return str(refused.value)


def cut(text: bytes, places: Iterable[int]) -> list[bytes]:
    ends = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:end] for start, end in pairwise(ends)]


@given(
    st.lists(st.tuples(texts, texts, texts), max_size=5),
    st.lists(st.integers(0, 500), max_size=8),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_what_is_written_as_csv_is_read_wherever_it_is_cut(
    table: list[tuple[str, str, str]], places: list[int], delimiter: str, encoding: str, end: str
) -> None:
    written = io.StringIO(newline="")
    writer = csv.writer(written, delimiter=delimiter, lineterminator=end)
    writer.writerows([("address", "name", "plan"), *(map(guard_cell, cells) for cells in table)])
    rows = read(CSV, *cut(written.getvalue().encode(encoding), places))
    told = [tuple(cell or "" for cell in row.fields.values()) for row in rows if isinstance(row, Row)]
    assert len(told) == len(rows)
    assert told == [cells for cells in table if any(cells)]


@given(st.binary(max_size=200), st.lists(st.integers(0, 300), max_size=5), st.sampled_from([CSV, NDJSON]))
def test_no_bytes_at_all_are_a_fault_of_ours_and_parts_make_no_difference(
    body: bytes, places: list[int], media: str
) -> None:
    def outcome(*parts: bytes) -> object:
        try:
            return read(media, *parts)
        except UnreadableFile as exc:
            return str(exc)

    assert outcome(*cut(HEAD + body, places)) == outcome(HEAD + body)
    assert outcome(*cut(body, places)) == outcome(body)


def test_fields_are_known_by_the_header_and_others_are_attributes() -> None:
    [ann] = judge(CSV, b'Name;E-Mail;Tags;Plan\nAnn;ann@X.org;"b; a ;;b";pro\n')
    assert ann == Recipient(
        1, 2, identify_recipient("shop", "ann@x.org"), "ann@X.org", "Ann", None, ("a", "b"), {"Plan": "pro"}
    )


def test_a_row_of_ndjson_says_the_same() -> None:
    lines = [
        {"address": "ann@x.org", "name": "Ann", "tags": ["b", "a"], "attributes": {"plan": {"a": [1]}}, "city": None},
        {"email": "bob@x.org", "timezone": None},
        ["ann@x.org"],
        {"address": "cid@x.org", "attributes": {"name": "Cid"}},
        {"address": "dan@x.org", "attributes": ["a"]},
        {"address": 5},
        {"address": "eve@x.org", "tags": [5]},
        {"address": "eve@x.org", "size": "\0"},
        {"address": "eve@x.org", "size": "\\u0000"},
    ]
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines) + b"{"
    ann, bob, *others = judge(NDJSON, body)
    assert isinstance(ann, Recipient) and isinstance(bob, Recipient)
    assert (ann.tags, ann.attributes) == (("a", "b"), {"plan": {"a": [1]}, "city": None})
    assert (bob.name, bob.timezone, bob.attributes) == (None, "", None)
    told = [(each.number, each.field) if isinstance(each, BadRow) else None for each in others]
    fields = [None, "attributes", "attributes", "address", "tags", "attributes"]
    assert told == [*zip(range(3, 9), fields, strict=True), None, (10, None)]


def test_a_quote_that_is_not_closed_costs_its_own_row_only() -> None:
    rows = read(CSV, HEAD, b'a@x.org,"Ann,pro\nb@x.org,Bob,pro\nc@x.org,"Cid ""the 2nd""",pro\nd@x.org,5" disc,x\n')
    assert [(row.number, row.line, isinstance(row, Row)) for row in rows] == [
        (1, 2, False),
        (2, 3, True),
        (3, 4, True),
        (4, 5, True),
    ]
    assert isinstance(rows[2], Row) and rows[2].fields["name"] == 'Cid "the 2nd"'
    at_the_end = read(CSV, HEAD, b'a@x.org,"Ann,pro\nb@x.org,Bob,pro')
    assert [isinstance(row, Row) for row in at_the_end] == [False, True]


def test_a_row_has_as_many_cells_as_there_are_columns() -> None:
    rows = read(CSV, b"address,name,\n", b"a@x.org,Ann,\nb@x.org\nc@x.org,Cid,,,\nd@x.org,Dan,x\n,,\n\ne@x.org,Eve\n")
    assert [row.detail if isinstance(row, BadRow) else row.fields["name"] for row in rows] == [
        "Ann",
        "has 1 cells, and there are 3 columns",
        "Cid",
        "cell 3 is in no column that has a name; there are 2",
        "Eve",
    ]


def test_bytes_that_are_no_text_cost_their_row_only() -> None:
    body = HEAD + b"a@x.org,M\xfcller,x\nb@x.org,B\xc3\xbcl,x\nc@x.org,\0,x\n"
    told = [(row.number, row.line, isinstance(row, Row)) for row in read(CSV, body)]
    assert told == [(1, 2, False), (2, 3, True), (3, 4, False)]
    [row] = read("text/csv; charset=windows-1252", HEAD + b"a@x.org,M\xfcller,x\n")
    assert isinstance(row, Row) and row.fields["name"] == "Müller"


def test_a_file_that_cannot_be_read_says_why_and_repeats_nothing() -> None:
    told = {
        "empty": refuse(CSV, b""),
        "no names": refuse(CSV, b"ann@example.org,Ann\nbob@example.org,Bob\n"),
        "twice": refuse(CSV, b"address,email\n"),
        "sheet": refuse(CSV, b"PK\x03\x04\x00\x00"),
        "zeros": refuse(CSV, bytes(100_000)),
        "wide": refuse(CSV, b"\xff\xfea\x00\x00\xdc"),
        "quote": refuse(CSV, b'address,"name\n' * 3),
        "many": refuse(CSV, b"address," + b",".join(b"c%d" % n for n in range(300)) + b"\n"),
        "long": refuse(CSV, b"address," + b"n" * 101 + b"\n"),
    }
    assert "no column is named `address` (line 1)" in told["no names"]
    assert "columns 1 and 2 have the same name" in told["twice"]
    assert "save it as CSV" in told["sheet"]
    assert not any("ann@" in each for each in told.values())
    for charset in ("utf-7", "nonsense", "base64", "cp037", "unicode_escape"):
        with pytest.raises(UnreadableFile):
            choose_reader(f"text/csv; charset={charset}")
    assert choose_reader("application/pdf") is None


@pytest.mark.parametrize("charset", ["iso2022_jp", "iso2022_kr", "idna", "utf-16", "shift_jis", "gbk"])
def test_a_file_that_is_not_what_its_charset_says_is_no_fault_of_ours(charset: str) -> None:
    for cell in (b"\x1b$Z", b"\\x", b"\x81\x20", b"\x80\xff"):
        try:
            reader = choose(f"text/csv; charset={charset}")
            rows = [*reader.feed(HEAD + b"a@x.org," + cell + b",x\n"), *reader.end()]
        except UnreadableFile as exc:
            assert "UTF-8" in str(exc)
        else:
            assert len(rows) == 1


def test_an_empty_cell_is_no_value() -> None:
    [ann] = judge(CSV, b"address,name,timezone,tags,plan\nann@x.org,,,,\n")
    assert isinstance(ann, Recipient)
    assert ann[4:] == ("", "", (), {"plan": None})


def test_a_row_of_ndjson_has_one_address() -> None:
    [row] = judge(NDJSON, b'{"address": "ann@x.org", "email": "bob@x.org"}\n')
    assert isinstance(row, BadRow) and row.field == "address"


def test_attributes_are_such_that_a_mail_can_have_them_as_variables() -> None:
    deepest: Any = "x"
    for _ in range(31):
        deepest = [deepest]
    fits, no = ({"address": "ann@x.org", "attributes": {"a": value}} for value in (deepest, [deepest]))
    kept, refused = judge(NDJSON, json.dumps(fits).encode() + b"\n" + json.dumps(no).encode())
    assert isinstance(kept, Recipient) and kept.attributes
    BulkEntry.model_validate({"to": kept.address, "variables": fill_in(kept.address, "", kept.attributes)})
    assert isinstance(refused, BadRow) and refused.field == "attributes"


def test_excel_says_its_delimiter_in_a_line_of_its_own() -> None:
    [row] = read(CSV, b"\xef\xbb\xbfsep=;\r\naddress;name\r\na@x.org;Ann, of course\r\n")
    assert isinstance(row, Row) and row.fields["name"] == "Ann, of course"


def test_fields_have_their_limits() -> None:
    bad = [
        {"address": "nobody"},
        {"address": "a@x.org\r\nBcc: b@x.org"},
        {"address": ""},
        {"address": '"<a>"@x.org'},
        {"address": "a@x.org", "name": "n" * 201},
        {"address": "a@x.org", "name": "A\nB"},
        {"address": "a@x.org", "timezone": "../etc/passwd"},
        {"address": "a@x.org", "tags": [f"t{n}" for n in range(51)]},
        {"address": "a@x.org", "tags": ["a;b"]},
        {"address": "a@x.org", "tags": ["t" * 101]},
        {"address": "a@x.org", "attributes": {"": 1}},
        {"address": "a@x.org", "attributes": {"a\n": 1}},
        {"address": "a@x.org", "attributes": {"a": "b" * 17_000}},
        {"address": "a@x.org", "attributes": {f"a{n}": 1 for n in range(201)}},
    ]
    rows = judge(NDJSON, b"".join(json.dumps(each).encode() + b"\n" for each in bad))
    assert [row for row in rows if isinstance(row, Recipient)] == []
    assert not any("nobody" in str(row) or "passwd" in str(row) for row in rows)


@pytest.mark.parametrize(
    ("media", "part"),
    [
        (CSV, b"x" * 65536),
        (CSV, b'"' + b"x" * 65535),
        (CSV, b'a@x.org,"\n' * 4000),
        (CSV, b'""\n,"' * 9000),
        (NDJSON, b"[" * 65536),
    ],
)
def test_whatever_comes_little_is_held(media: str, part: bytes) -> None:
    reader, count = choose(media), 0
    tracemalloc.start()
    list(reader.feed(HEAD))
    for _ in range(8):
        count += sum(1 for _ in reader.feed(part))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * LINE_LIMIT + 20 * len(part)
    assert count >= 0


async def test_rows_before_the_end_of_an_upload_that_is_cut_are_given() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield HEAD + b"a@x.org,Ann,x\nb@x"
        raise ConnectionError

    given_rows: list[Recipient | BadRow] = []
    with pytest.raises(ConnectionError):
        async for portion in read_portions("shop", chunks(), choose(CSV)):
            given_rows += portion
    assert [row.line for row in given_rows] == [2]


def test_tags_are_told_among_the_variables_of_a_list() -> None:
    received = Received()
    received.note(
        [row for row in judge(CSV, b"address,tags,prize\na@x.org,x;y,\n") if isinstance(row, Recipient)], [], []
    )
    assert received.variables == {"prize", "tags"}
