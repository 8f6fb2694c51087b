"""Splits an upload into records; a record does not always end at the end of a line."""

from __future__ import annotations

import csv
import io
import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import NamedTuple

from userservice.jobs.models import UploadFormat

MAX_LINE_BYTES = 64 * 1024
_LINE_END = re.compile(rb"[\r\n]")


class Piece(NamedTuple):
    """A piece of an upload, beginning at a record.

    `is_last` says that no piece follows; otherwise an unfinished record at the end is left for
    the next piece. `header` is the first line of a CSV file, once it is known.
    """

    data: bytes
    format: UploadFormat
    line: int
    header: str | None
    is_last: bool


class Record(NamedTuple):
    """A record, the number of its first line, and the position of its end."""

    line: int
    raw: bytes
    end: int
    lines: int


def split(piece: Piece) -> Iterator[Record]:
    """Split at line ends of any kind; in CSV a quoted cell may hold some.

    The mark of UTF-8 that some editors write before the first record is no part of it.
    """
    records = _lines(piece) if piece.format is UploadFormat.NDJSON else _csv_records(piece)
    for record in records:
        is_first = piece.line == 1 and record.end == len(record.raw)
        yield record._replace(raw=record.raw.removeprefix(BOM_UTF8)) if is_first else record


def _lines(piece: Piece) -> Iterator[Record]:
    start = 0
    ends = _line_ends(piece.data, start, is_last=piece.is_last)
    for line, end in enumerate(ends, start=piece.line):
        yield Record(line, piece.data[start:end], end, 1)
        start = end


def _csv_records(piece: Piece) -> Iterator[Record]:
    start, line = 0, piece.line
    while record := _next_record(piece, start, line):
        yield record
        start, line = record.end, record.line + record.lines


def _next_record(piece: Piece, start: int, line: int) -> Record | None:
    first, quotes, counted = None, 0, start
    ends = _line_ends(piece.data, start, is_last=piece.is_last)
    for lines, end in enumerate(ends, start=1):
        quotes += piece.data.count(b'"', counted, end)
        counted = end
        first = first or Record(line, piece.data[start:end], end, lines)
        # In an open quote the cell goes on in the next line; a huge cell is an unclosed quote.
        if quotes % 2 == 0 or end - start > MAX_LINE_BYTES:
            record = Record(line, piece.data[start:end], end, lines)
            # A stray quote must not make other lines part of this record.
            return record if lines == 1 or _is_one_row(record.raw) else first
    return first if piece.is_last else None


def _is_one_row(raw: bytes) -> bool:
    try:
        return len(read_csv(raw.decode("latin-1"))) == 1  # the encoding does not matter here
    except csv.Error:
        return False


def _line_ends(data: bytes, position: int, *, is_last: bool) -> Iterator[int]:
    """Yield the position behind each line; old Macintosh files end lines with a CR alone."""
    while position < len(data):
        # The nearest of both: the nearest of one kind may be at the end of the piece.
        found = _LINE_END.search(data, position)
        end = found.end() if found else len(data)
        if data[end - 1 : end + 1] == b"\r\n":
            end += 1
        # A CR at the end of a piece may be half of a line end.
        is_whole = found is not None and not (end == len(data) and data.endswith(b"\r"))
        if not is_whole and not is_last and len(data) - position <= MAX_LINE_BYTES:
            return
        yield end
        position = end


def read_csv(text: str) -> list[list[str]]:
    """Read lines of CSV.

    Raises:
        csv.Error: a cell is not well-formed.
    """
    return list(csv.reader(io.StringIO(text.rstrip("\r\n"), newline=""), strict=True))
