"""Lists page by page: the next page begins behind the last row of this one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import quote, urlencode
from uuid import UUID

from flask import Response, request

from chassis.http.context import web_context
from chassis.http.web import PRIVATE, address, json_response, read_query
from chassis.schemas import Page, PageQuery

QueryType = TypeVar("QueryType", bound=PageQuery)

_POSITION = frozenset(PageQuery.model_fields)


class Listed(Protocol):
    """A row of a list in the order of the ids."""

    @property
    def id(self) -> UUID:
        """The row's position in the list."""


@dataclass(frozen=True, slots=True)
class PageRequest(Generic[QueryType]):
    """A page that the caller asks for: the rows behind `after`, the first ones if it is None."""

    query: QueryType
    after: UUID | None

    @property
    def limit(self) -> int:
        """Rows to read: one more than a page holds, to see whether there is a next page."""
        return self.query.page_size + 1

    def response(self, schema: type[Page[Any]], rows: Sequence[Listed]) -> Response:
        """Render at most `limit` rows as the page, with a link to the next one."""
        page = rows[: self.query.page_size]
        token = None
        headers = {"Cache-Control": PRIVATE}
        if len(rows) > len(page):
            token = web_context().page_tokens.sign(page[-1].id, *_filters(self.query))
            parameters = self.query.model_dump(mode="json", exclude_unset=True)
            path = address(quote(request.path))
            query = urlencode(parameters | {"page_token": token})
            headers["Link"] = f'<{path}?{query}>; rel="next"'
        values = {"items": page, "next_page_token": token}
        return json_response(schema.model_validate(values, from_attributes=True), headers=headers)


def read_page(schema: type[QueryType]) -> PageRequest[QueryType]:
    """Read the wanted page of a list from the query parameters.

    All members of `schema` but the position are filters. A page token continues only the list
    with the same filters.

    Raises:
        InvalidRequest: a parameter breaks a rule, or the token is for another list.
    """
    query = read_query(schema)
    if query.page_token is None:
        return PageRequest(query, None)
    return PageRequest(query, web_context().page_tokens.read(query.page_token, *_filters(query)))


def _filters(query: PageQuery) -> list[Any]:
    return list(query.model_dump(mode="json", exclude=set(_POSITION)).values())
