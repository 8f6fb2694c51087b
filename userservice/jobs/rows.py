"""Turns the records of an upload into users; a process of the pool does so piece by piece."""

from __future__ import annotations

import csv
import json
import re
import time
from collections import Counter, deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Self

from chassis.errors import InvalidRequest
from chassis.schemas import MALFORMED, NOT_AN_OBJECT
from chassis.security import Hashing, PasswordHasher
from userservice.jobs.models import UploadFormat
from userservice.jobs.records import MAX_LINE_BYTES, Piece, read_csv, split
from userservice.jobs.schemas import UserLine
from userservice.users.transfer import Known, pack_users
from userservice.users.transfer_queries import NewUsers

# A batch ends after this time, even within a piece. So it takes far less than
# OUTBOX_LEASE_SECONDS, even if passwords are expensive to hash.
BATCH_SECONDS = 1.0
# Text about a request -> text about a line.
_OF_A_LINE = {
    MALFORMED: "The line is not valid JSON",
    NOT_AN_OBJECT: "The line must be a JSON object",
}
# A job names so many members that no user has, and counts the others together.
SHOWN_MEMBERS = 20
OTHERS = "(others)"
# Names that are shown; any other text may be data in a wrong place.
_MEMBER = re.compile(r"[\w.:-]{1,64}", re.ASCII)
# A spreadsheet takes a cell that begins with one of these for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")
# The same in a cell that only some spreadsheets see: behind another separator, with quotes or
# blanks before it, or with the signs of East Asian keyboards.
_SEEN_BY_SOME = re.compile("((?:^|[;|\t])[ \"]*)('*[=+@\t\r\uff1d\uff0b\uff0d\uff20-])")
_ESCAPED = re.compile(_SEEN_BY_SOME.pattern.replace("('*", "'('*"))


class Refusal(NamedTuple):
    """A line that was refused, and the reason."""

    line: int
    pointer: str
    reason: str


class Batch(NamedTuple):
    """The results of a piece of an upload: users, the line of each, and refused lines."""

    users: NewUsers
    lines: list[int]
    refusals: list[Refusal]
    ignored: Mapping[str, int]
    """Member that no user has -> number of lines with it."""
    next_line: int
    consumed: int
    header: str | None
    is_hopeless: bool = False
    """Whether no line of the upload can be read."""


def parse(piece: Piece, hashing: Hashing, *, seconds: float = BATCH_SECONDS) -> Batch:
    """Read and validate a piece, and hash its passwords.

    Args:
        piece: The piece of the upload.
        hashing: The parameters of the password hashes.
        seconds: No record is read after this time, but at least one is.
    """
    deadline = time.monotonic() + seconds
    refusals: list[Refusal] = []
    header, consumed, line = piece.header, 0, piece.line
    with _Candidates(hashing) as candidates:
        for record in split(piece):
            if consumed and time.monotonic() >= deadline:
                break
            consumed, line = record.end, record.line + record.lines
            if not record.raw.strip():
                continue
            try:
                if piece.format is UploadFormat.CSV and header is None:
                    header = _check_header(record.raw)
                    continue
                document = _document(record.raw, piece.format, header)
                candidates.add(record.line, UserLine.load(document))
            except InvalidRequest as error:
                pointer = error.errors[0].pointer if error.errors else ""
                reason = _OF_A_LINE.get(error.detail, error.detail)
                refusals.append(Refusal(record.line, pointer, reason))
                if header is None and piece.format is UploadFormat.CSV:
                    return Batch(
                        *candidates.collect(), refusals, {}, line, consumed, None, is_hopeless=True
                    )
        users, lines = candidates.collect()
        ignored = merge_ignored({}, candidates.ignored)
        return Batch(users, lines, refusals, ignored, line, consumed, header)


def merge_ignored(known: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    """Add up how many lines have which member; names beyond SHOWN_MEMBERS become one."""
    merged = Counter(known)
    for name, number in more.items():
        is_shown = name in merged or len(merged) < SHOWN_MEMBERS
        merged[name if is_shown and _MEMBER.fullmatch(name) else OTHERS] += number
    return dict(merged)


class _Candidates:
    """Gathers users while threads hash their passwords; hashing releases the GIL."""

    def __init__(self, hashing: Hashing) -> None:
        self._hasher = PasswordHasher(**hashing._asdict())
        self._parallel = hashing.parallel
        self._threads = ThreadPoolExecutor(hashing.parallel)
        self._in_works: deque[Future[str]] = deque()
        self._lines: list[int] = []
        self._users: list[UserLine] = []
        self._hashes: list[Future[str] | None] = []
        self.ignored: Counter[str] = Counter()

    def add(self, line: int, new: UserLine) -> None:
        """Add a user; wait while the largest number of passwords is being hashed."""
        self._lines.append(line)
        self._users.append(new)
        self._hashes.append(self._hash(new.password.get_secret_value()) if new.password else None)
        self.ignored.update((new.model_extra or {}).keys())

    def collect(self) -> tuple[NewUsers, list[int]]:
        """Return all users, once their passwords are hashed, and their lines."""
        hashed = [each.result() if each else None for each in self._hashes]
        return pack_users(self._users, map(_known, self._users, hashed)), self._lines

    def _hash(self, password: str) -> Future[str]:
        if len(self._in_works) == self._parallel:
            self._in_works.popleft().result()
        self._in_works.append(self._threads.submit(self._hasher.hash, password))
        return self._in_works[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._threads.shutdown(cancel_futures=True)


def _known(new: UserLine, hashed: str | None) -> Known:
    given = new.password_hash.get_secret_value() if new.password_hash else None
    return Known(hashed or given, is_verified=bool(new.email_verified))


def _document(raw: bytes, upload_format: UploadFormat, header: str | None) -> bytes:
    """Return a record as the JSON document that POST /users would take."""
    if len(raw) > MAX_LINE_BYTES:
        raise InvalidRequest(f"The line is longer than {MAX_LINE_BYTES} bytes")
    text = _decode(raw)
    if upload_format is UploadFormat.NDJSON:
        return text.strip().encode()
    names = _cells(header or "")
    values = _cells(text)
    if len(values) != len(names):
        raise InvalidRequest(f"The line has {len(values)} cells, the header has {len(names)}")
    row = {name: _read_cell(value) for name, value in zip(names, values, strict=True) if value}
    return json.dumps(row).encode()


def _check_header(raw: bytes) -> str:
    text = _decode(raw)
    if "\x00" in text:
        raise InvalidRequest("The line must not contain null characters")
    names = _cells(text)
    if not {"email", "name"} <= set(names) or len(set(names)) != len(names):
        raise InvalidRequest("The first line must name the columns, email and name among them")
    return text


def _decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest("The line is not valid UTF-8") from None


def _cells(text: str) -> list[str]:
    try:
        rows = read_csv(text)
    except csv.Error:
        raise InvalidRequest("The line is not valid CSV") from None
    return rows[0] if rows else []


def _read_cell(value: str) -> str:
    if value.startswith(FORMULA):
        raise InvalidRequest("A cell must not begin like a formula; put an apostrophe before it")
    return unescape(value)


def unescape(value: str) -> str:
    """Return the text that `escape` was given."""
    return _ESCAPED.sub(r"\1\2", value)


def escape(value: str) -> str:
    """Put an apostrophe before whatever a spreadsheet would take for a formula.

    One is added to those that are there already, so that an import finds the text as it was.
    """
    return _SEEN_BY_SOME.sub(r"\1'\2", value)
