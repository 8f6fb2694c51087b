"""The description of a route, above its view."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar

from chassis.errors import (
    AppError,
    Forbidden,
    InvalidRequest,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)
from chassis.http.auth import Guard, guard_of
from chassis.http.web import JSON
from chassis.schemas import Problem, Schema

PROBES = "probes"  # the tag of routes that a platform asks for
View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True)
class Operation:
    """Describes the view below it; path and guard come from elsewhere.

    The view's docstring is the long description.

    Attributes:
        summary: One line.
        tag: Group that lists the operation.
        returns: Status -> schema of the answer, None for an empty one.
        raises: Errors of this route; errors that all such routes share are added.
        body: Schema of the request's body.
        media_types: Content types of that body.
        query: Schema of the query parameters.
        request_headers: Conditional headers that the route honours.
        response_headers: Status -> headers that an answer carries.
        upload: Content types of a file that is the request's body.
        download: Content types of a file that is the answer.
        problem: Schema of the documents about errors.
    """

    summary: str
    _: KW_ONLY
    tag: str
    returns: Mapping[int, type[Schema] | None]
    raises: tuple[type[AppError], ...] = ()
    body: type[Schema] | None = None
    media_types: tuple[str, ...] = (JSON,)
    query: type[Schema] | None = None
    request_headers: tuple[str, ...] = ()
    response_headers: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    upload: tuple[str, ...] = ()
    download: tuple[str, ...] = ()
    problem: type[Problem] = Problem

    def __call__(self, view: View) -> View:
        """Mark a view as described by this."""
        view.__dict__["operation"] = self
        return view

    def models(self) -> set[type[Schema]]:
        """Return the schemas of bodies, of the request and of the answers."""
        models = (*self.returns.values(), self.body, self.problem)
        return {model for model in models if model is not None}

    def error_statuses(self, view: Callable[..., Any], *, has_path: bool) -> set[int]:
        """Return the statuses of the route's own errors, and of those that such routes share."""
        statuses: set[int] = {error.status for error in self.raises}
        if self.tag != PROBES:
            statuses |= {AppError.status, Unavailable.status}
        if self.body is not None:
            statuses |= {
                InvalidRequest.status,
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            }
        if self.query is not None:
            statuses.add(InvalidRequest.status)
        if guard_of(view) is not Guard.PUBLIC:
            statuses |= {Unauthenticated.status, Forbidden.status}
        if "limit" in view.__dict__:
            statuses.add(TooManyRequests.status)
        if has_path:
            statuses.add(HTTPStatus.NOT_FOUND)
        return {int(status) for status in statuses}


def operation_of(view: Callable[..., Any]) -> Operation | None:
    """Return a view's description; None when it has none."""
    return view.__dict__.get("operation")
