"""A small resource on what chassis/http offers: notes, each of which belongs to a user."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import NamedTuple
from uuid import UUID

from flask import Blueprint

from chassis.errors import NotFound
from chassis.http.auth import Guard, caller_id, requires
from chassis.http.conditions import conditional_response, expected_versions, versioned_response
from chassis.http.context import backing_services
from chassis.http.pages import read_page
from chassis.http.replays import create_once
from chassis.http.web import read_body
from chassis.schemas import Page, PageQuery, Schema
from chassis.storage.ids import uuid7


class Note(NamedTuple):
    id: UUID
    owner_id: UUID
    text: str
    version: int
    updated_at: datetime


class NoteWrite(Schema):
    text: str


class NoteRead(Schema):
    id: UUID
    text: str


class NotePage(Page[NoteRead]):
    """A page of notes."""


class NoteQuery(PageQuery):
    text: str | None = None
    is_short: bool | None = None


class Notes:
    """Keeps notes in memory; what comes before an insert is a transaction of the database."""

    def __init__(self):
        self.rows = {}
        self.looked_up = []

    def find_owner(self, note_id):
        self.looked_up.append(note_id)
        note = self.rows.get(note_id)
        return note.owner_id if note is not None else None

    def get(self, note_id):
        if note_id not in self.rows:
            raise NotFound
        return self.rows[note_id]

    def add(self, owner_id, text, *, in_transaction=None):
        note = Note(uuid7(), owner_id, text, 1, datetime.now(UTC))
        with backing_services().database.transaction() as connection:
            if in_transaction is not None:
                in_transaction(connection, note)
        self.rows[note.id] = note
        return note

    def list(self, query, *, after, limit):
        found = [
            note
            for note in sorted(self.rows.values())
            if (after is None or note.id > after) and query.text in {None, note.text}
        ]
        return found[:limit]

    def change(self, note_id, text, versions):
        note = self.get(note_id)
        if versions is None or note.version in versions:
            self.rows[note_id] = note._replace(text=text, version=note.version + 1)
        return self.rows[note_id]


def blueprint_of(notes):
    """Return the routes of /notes."""
    blueprint = Blueprint("notes", __name__, url_prefix="/notes")
    owned = requires(Guard.OWNER, "notes:read", find_owner=notes.find_owner)

    @blueprint.post("")
    @requires(Guard.USER)
    def create_note():
        add = partial(notes.add, caller_id(), read_body(NoteWrite).text)
        return create_once(add, partial(versioned_response, NoteRead, status=HTTPStatus.CREATED))

    @blueprint.get("")
    @requires(Guard.USER)
    def list_notes():
        page = read_page(NoteQuery)
        return page.response(NotePage, notes.list(page.query, after=page.after, limit=page.limit))

    @blueprint.get("/<uuid:note_id>")
    @owned
    def get_note(note_id):
        return conditional_response(NoteRead, notes.get(note_id))

    @blueprint.put("/<uuid:note_id>")
    @owned
    def replace_note(note_id):
        text = read_body(NoteWrite).text
        versions = expected_versions(partial(notes.get, note_id))
        return versioned_response(NoteRead, notes.change(note_id, text, versions))

    return blueprint
