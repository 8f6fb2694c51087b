from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chassis.security import Hashing, PasswordHasher
from userservice.jobs import records
from userservice.jobs.models import UploadFormat
from userservice.jobs.records import MAX_LINE_BYTES, Piece, split
from userservice.jobs.rows import escape, parse, unescape

HASHING = Hashing(8, 1, parallel=2)


class Candidate(NamedTuple):
    line: int
    user: dict[str, str]


def read(data, upload_format=UploadFormat.NDJSON, *, size=None, seconds=60.0):
    """Parse all of an upload in pieces of at most `size` bytes, as the steps of a job do."""
    candidates, refusals, line, header, done = [], [], 1, None, 0
    size = size or max(1, len(data))
    while done < len(data):
        piece = data[done : done + size]
        is_last = done + len(piece) >= len(data)
        batch = parse(Piece(piece, upload_format, line, header, is_last), HASHING, seconds=seconds)
        candidates += unpack(batch)
        refusals += batch.refusals
        line, header = batch.next_line, batch.header
        assert batch.consumed > 0
        done += batch.consumed
        if batch.is_hopeless:
            break
    return candidates, refusals


def unpack(batch):
    """Return the users of a batch with their lines, without the ids, which are random."""
    rows = [dict(zip(batch.users._fields, row, strict=True)) for row in batch.users.rows()]
    assert len({row.pop("id") for row in rows}) == len(rows)
    return [Candidate(*each) for each in zip(batch.lines, rows, strict=True)]


def line_of(number, **members):
    return json.dumps({"email": f"u{number}@example.com", "name": f"User {number}"} | members)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_may_end_in_any_way(end):
    data = end.join(line_of(number) for number in range(3)).encode()

    candidates, refusals = read(data)

    assert [(each.line, each.user["email"]) for each in candidates] == [
        (1, "u0@example.com"),
        (2, "u1@example.com"),
        (3, "u2@example.com"),
    ]
    assert refusals == []


def test_a_refused_line_stops_no_other():
    lines = [line_of(1), "broken", line_of(2, email="nobody"), "[]", "", line_of(3)]

    candidates, refusals = read("\n".join(lines).encode())

    assert [each.line for each in candidates] == [1, 6]
    assert [(each.line, each.pointer) for each in refusals] == [(2, ""), (3, "/email"), (4, "")]


def test_bytes_that_are_not_utf_8_spoil_their_line_only():
    data = line_of(1).encode() + b'\n{"email": "\xff"}\n' + line_of(2).encode()

    candidates, refusals = read(data)

    assert [each.line for each in candidates] == [1, 3]
    assert [(each.line, each.reason) for each in refusals] == [(2, "The line is not valid UTF-8")]


def test_a_line_without_an_end_is_refused_and_the_rest_goes_on():
    data = b"x" * (MAX_LINE_BYTES + 10) + b"\n" + line_of(1).encode()

    candidates, refusals = read(data, size=2 * MAX_LINE_BYTES)

    assert [each.user["email"] for each in candidates] == ["u1@example.com"]
    assert refusals[0].line == 1
    assert "longer than" in refusals[0].reason


@given(st.integers(min_value=120, max_value=400), st.sampled_from(["\n", "\r\n"]))
def test_where_an_upload_is_cut_makes_no_difference(size, end):
    names = ["Ada", 'Ada "the first"', "Ada,\nLovelace", "Üser", "'quoted'"]
    rows = [
        f'u{number}@example.com,"{name.replace(chr(34), chr(34) * 2)}"'
        for number, name in enumerate(names)
    ]
    ndjson = end.join(line_of(number) for number in range(10)).encode()
    table = end.join(["email,name", *rows]).encode()

    assert read(ndjson, size=size) == read(ndjson)
    assert read(table, UploadFormat.CSV, size=size) == read(table, UploadFormat.CSV)


def test_a_cell_that_goes_on_in_the_next_piece_is_no_broken_line():
    table = b'email,name\nu1@example.com,"Ada,\nLovelace"\nu2@example.com,Bob\n'

    read_in_pieces = [read(table, UploadFormat.CSV, size=size) for size in range(40, len(table))]

    assert read_in_pieces == [read(table, UploadFormat.CSV)] * len(read_in_pieces)


@given(st.binary(max_size=600), st.sampled_from(list(UploadFormat)))
def test_any_bytes_are_read_to_their_end(data, upload_format):
    candidates, _ = read(data, upload_format)

    assert candidates == []


def test_csv_takes_quotes_and_line_ends_inside_cells():
    data = b'name,email\r\n"Lovelace, ""Ada""",ada@example.com\r\nBob,bob@example.com\r\n'

    candidates, refusals = read(data, UploadFormat.CSV)

    assert [(each.line, each.user["name"]) for each in candidates] == [
        (2, 'Lovelace, "Ada"'),
        (3, "Bob"),
    ]
    assert refusals == []


@pytest.mark.parametrize(
    ("cell", "is_accepted"),
    [('"Ada', False), ('"Ada"x', False), ('5" screw', True), ('"""', False), ('"A\nda"x', False)],
)
def test_a_quote_where_none_belongs_spoils_no_other_line(cell, is_accepted):
    others = [f"u{number}@example.com,User {number}" for number in range(50)]
    before, after = others[:5], [*others[5:], 'v@example.com,"User, v"', 'w@example.com,7" nail']
    data = "\n".join(["email,name", *before, f"x@example.com,{cell}", *after]).encode()

    candidates, refusals = read(data, UploadFormat.CSV)
    spoilt = [] if is_accepted else [*range(7, 8 + cell.count("\n"))]

    assert [each.line for each in refusals] == spoilt
    assert [each.line for each in candidates] == [
        line for line in range(2, 55 + cell.count("\n")) if line not in spoilt
    ]


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_a_cell_that_looks_like_a_formula_is_refused_unless_it_is_escaped(cell):
    data = f"email,name\nu1@example.com,{cell}\nu2@example.com,{escape(cell)}\n".encode()

    candidates, refusals = read(data, UploadFormat.CSV)

    assert [each.user["name"] for each in candidates] == [cell]
    assert [each.line for each in refusals] == [2]


SEEN_BY_SOME = [
    *(
        "Ada;=1+1",
        "Ada; =1",
        "Ada;;@x",
        "Ada|+1",
        'Ada;"=1+1"',
        "a;b;-1",
        "\uff1d1+1",
        "\uff0b1",
        "\uff20x",
    ),
    *("'=1", "''=1", "Ada;'=1", "Ada;''-1"),
]


@pytest.mark.parametrize("name", SEEN_BY_SOME)
def test_an_exported_cell_is_no_formula_for_any_spreadsheet(name):
    cells = [cell.strip(' "') for cell in re.split("[;|\t,]", escape(name))]

    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\uff1d", "\uff0b"))]


@given(st.text(alphabet="=+-@\uff1d;|'\" aA", min_size=1))
@example("'=1")
def test_what_was_escaped_is_found_as_it_was(name):
    name = "x" + name

    for text in (name, name[1:]):
        assert unescape(escape(text)) == text


@pytest.mark.parametrize("upload_format", UploadFormat)
@pytest.mark.parametrize("size", [None, 47])
def test_the_mark_of_utf_8_at_the_beginning_is_no_part_of_the_first_record(upload_format, size):
    written = {
        UploadFormat.CSV: b"email,name\nada@example.com,Ada\n",
        UploadFormat.NDJSON: b'{"email": "ada@example.com", "name": "Ada"}\n',
    }

    candidates, refusals = read(BOM_UTF8 + written[upload_format], upload_format, size=size)

    assert [each.user["name"] for each in candidates] == ["Ada"]
    assert refusals == []


def test_the_mark_of_utf_8_elsewhere_is_refused():
    line = b'{"email": "ada@example.com", "name": "Ada"}\n'

    candidates, refusals = read(line + BOM_UTF8 + line)

    assert [each.line for each in candidates] == [1]
    assert [each.line for each in refusals] == [2]


SLOW = {
    "one open quote": lambda size: b'"\n' + b"a\n" * (size // 2),
    "quotes that close late": lambda size: (b'"\n' + b"a\n" * 8_000 + b'"\n') * (size // 16_000),
    "open quotes": lambda size: b'"a\n' * (size // 3),
    "quotes that close wrongly": lambda size: (b'"\n' + b"a\n" * 4_000 + b'"x\n') * (size // 8_000),
    "carriage returns": lambda size: b"a\r" * (size // 2),
}


class Examined(bytes):
    """The bytes of an upload; counts those that are copied or looked at, again and again."""

    work = 0

    def __getitem__(self, key):
        part = super().__getitem__(key)
        self.work += len(part) if isinstance(part, bytes) else 1
        return part

    def count(self, part, start=0, end=None, /):
        self.work += (len(self) if end is None else end) - start
        return super().count(part, start, end)

    def find(self, part, start=0, end=None, /):
        found = super().find(part, start, end)
        self.work += (len(self) if found < 0 else found) - start
        return found


class ExaminedLineEnds:
    """The pattern of line ends; adds the bytes that it looks at to those of the upload."""

    def __init__(self, pattern):
        self._pattern = pattern

    def search(self, data, position):
        found = self._pattern.search(data, position)
        data.work += (found.end() if found else len(data)) - position
        return found


@pytest.fixture
def examined(monkeypatch):
    """Call that makes the bytes of an upload whose reading is counted."""
    monkeypatch.setattr(records, "_LINE_END", ExaminedLineEnds(records._LINE_END))  # noqa: SLF001
    return Examined


@pytest.mark.parametrize("upload", SLOW.values(), ids=SLOW)
def test_records_are_found_with_work_that_grows_with_the_upload_alone(upload, examined):
    def work(size):
        data = examined(upload(size))
        piece = Piece(data, UploadFormat.CSV, 2, "email,name", is_last=True)
        assert sum(record.lines for record in split(piece)) > 1
        return data.work

    # Twice as much takes about twice the work, and four times if it is quadratic.
    few, many = work(32_000), work(64_000)
    assert 32_000 < few < many < 2.5 * few


def test_a_piece_of_one_open_quote_is_split_at_once(examined):
    data = examined(b'"\n' + b"a\n" * 131_000)

    first = next(split(Piece(data, UploadFormat.CSV, 2, "email,name", is_last=False)))

    assert first.lines == 1
    assert data.work < 5 * MAX_LINE_BYTES  # searched, counted, copied; far more if quadratic


@pytest.mark.parametrize(
    "header",
    [b"name\n", b"email,email,name\n", b"\xff\n", b'"email\n', b"email,name,\0\n", b"email;name\n"],
)
def test_a_table_that_does_not_name_its_columns_is_hopeless(header):
    data = header + b"ada@example.com,Ada\n"

    candidates, refusals = read(data, UploadFormat.CSV)

    assert candidates == []
    assert len(refusals) == 1


def test_a_row_with_another_number_of_cells_is_refused():
    data = b"email,name\nada@example.com\nada@example.com,Ada,more\nbob@example.com,Bob\n"

    candidates, refusals = read(data, UploadFormat.CSV)

    assert [each.line for each in candidates] == [4]
    assert [each.line for each in refusals] == [2, 3]


def test_passwords_are_hashed_and_not_kept():
    data = line_of(1, password="correct horse battery").encode()

    candidates, _ = read(data)

    assert candidates[0].user["password_hash"].startswith("$argon2id$")
    assert "correct horse" not in repr(candidates)


def test_many_passwords_are_hashed_side_by_side_and_each_stays_with_its_user():
    data = "\n".join(line_of(n, password=f"correct horse {n}") for n in range(7)).encode()

    candidates, _ = read(data)

    hasher = PasswordHasher(**HASHING._asdict())
    hashes = [each.user["password_hash"] for each in candidates]
    assert all(hasher.verify(each, f"correct horse {n}") for n, each in enumerate(hashes))


def test_a_batch_ends_when_its_time_is_over_and_has_at_least_one_record():
    lines = [line_of(number, password="correct horse battery") for number in range(3)]
    data = "\n".join(lines).encode()

    batch = parse(Piece(data, UploadFormat.NDJSON, 1, None, is_last=True), HASHING, seconds=0)

    assert [each.line for each in unpack(batch)] == [1]
    assert (batch.consumed, batch.next_line) == (len(lines[0]) + 1, 2)


@pytest.mark.parametrize("upload_format", list(UploadFormat))
def test_how_much_time_a_batch_has_makes_no_difference(upload_format):
    ndjson = "\n".join([line_of(1), "broken", "", line_of(2)]).encode()
    table = b'email,name\nada@example.com,"Ada\nLovelace"\nbroken\nbob@example.com,Bob\n'
    data = {UploadFormat.NDJSON: ndjson, UploadFormat.CSV: table}[upload_format]

    assert read(data, upload_format, seconds=0) == read(data, upload_format)
