"""Splits an upload into records; a record does not always end at the end of a line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import NamedTuple

from userservice.jobs.models import UploadFormat

MAX_LINE_BYTES = 64 * 1024


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
    """Split at line ends of any kind; in CSV a quoted cell may hold some."""
    return _lines(piece) if piece.format is UploadFormat.NDJSON else _csv_records(piece)


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
    first = None
    ends = _line_ends(piece.data, start, is_last=piece.is_last)
    for lines, end in enumerate(ends, start=1):
        record = Record(line, piece.data[start:end], end, lines)
        first = first or record
        if not _is_open(record.raw):
            # A stray quote must not make other lines part of this record.
            return record if lines == 1 or _is_one_row(record.raw) else first
    return first if piece.is_last else None


def _is_open(raw: bytes) -> bool:
    """Tell whether a quoted cell goes on in the next line; a huge cell is an unclosed quote."""
    return raw.count(b'"') % 2 == 1 and len(raw) <= MAX_LINE_BYTES


def _is_one_row(raw: bytes) -> bool:
    try:
        return len(read_csv(raw.decode("latin-1"))) == 1  # the encoding does not matter here
    except csv.Error:
        return False


def _line_ends(data: bytes, position: int, *, is_last: bool) -> Iterator[int]:
    while position < len(data):
        newline = data.find(b"\n", position)
        end = newline + 1 if newline >= 0 else len(data)
        if newline < 0 and not is_last and len(data) - position <= MAX_LINE_BYTES:
            return
        # Old Macintosh files end lines with a carriage return alone.
        carriage = data.find(b"\r", position, end)
        if 0 <= carriage < end - 2 or (newline < 0 and 0 <= carriage < end - 1):
            end = carriage + 1
        yield end
        position = end


def read_csv(text: str) -> list[list[str]]:
    """Read lines of CSV.

    Raises:
        csv.Error: a cell is not well-formed.
    """
    return list(csv.reader(io.StringIO(text.rstrip("\r\n"), newline=""), strict=True))
