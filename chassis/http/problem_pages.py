"""/problems/{code}: a short page about each code that a problem document may have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from http import HTTPStatus
from inspect import cleandoc
from typing import NamedTuple

from flask import Blueprint, Response
from werkzeug.exceptions import NotFound

from chassis.errors import AppError
from chassis.http.auth import public
from chassis.http.problem import PROBLEMS, names_of
from chassis.once import once

blueprint = Blueprint("problems", __name__, url_prefix=PROBLEMS)

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
</head>
<body>
<h1>{title}</h1>
<p>Status {status}, code <code>{code}</code></p>
<h2>Meaning</h2>
{meaning}
<h2>Remedy</h2>
{remedy}
</body>
</html>
"""
BUG = "Nothing the caller did: a defect in the service, which has been logged."
# Refusals of HTTP itself, before a route is reached.
REMEDIES = {
    HTTPStatus.METHOD_NOT_ALLOWED: "Use one of the methods that the header Allow names.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Send a smaller body.",
    HTTPStatus.REQUEST_URI_TOO_LONG: "Send a shorter address.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "Send fewer or shorter headers.",
    HTTPStatus.REQUEST_TIMEOUT: "Send the whole request sooner.",
}
OTHER_REMEDY = "Correct the request. Sent again as it is, it is refused again."
REFUSED = "The request was refused before a route was reached."


class Explanation(NamedTuple):
    """The texts about a code: several, if it has several kinds."""

    status: HTTPStatus
    code: str
    titles: tuple[str, ...]
    meanings: tuple[str, ...]
    remedies: tuple[str, ...]


@blueprint.get("/<name>")
@public
def get_problem(name: str) -> Response:
    """Explain the code of a problem; dashes stand for its underscores."""
    explanation = explanations().get(name.replace("-", "_"))
    if explanation is None or "_" in name:
        raise NotFound
    return Response(
        _page(explanation), headers={"Cache-Control": "public, max-age=3600"}, mimetype="text/html"
    )


@once
def explanations() -> Mapping[str, Explanation]:
    """Return code -> its explanation, of each error class and each status of HTTP."""
    statuses = [each for each in HTTPStatus if each >= HTTPStatus.BAD_REQUEST]
    return {names_of(each)[1]: _of_http(each) for each in statuses} | explain(failures())


def explain(errors: Iterable[type[AppError]]) -> dict[str, Explanation]:
    """Return code -> the explanation of the errors that have it, the most general one first."""
    kinds: dict[str, list[type[AppError]]] = {}
    for error in sorted(set(errors), key=lambda each: (len(each.__mro__), each.__name__)):
        kinds.setdefault(error.code, []).append(error)
    return {code: _of_errors(code, alike) for code, alike in kinds.items()}


def failures(error: type[AppError] = AppError) -> Iterator[type[AppError]]:
    """Yield a class, and all that inherit from it, as far as their modules are loaded."""
    # Below this status an AppError is a shortcut, such as to an answer that was given before.
    if error.status >= HTTPStatus.BAD_REQUEST:
        yield error
    for each in error.__subclasses__():
        yield from failures(each)


def meaning_of(error: type[AppError]) -> str:
    """Return a docstring's first paragraph, for callers; later ones are for programmers."""
    if error is AppError:
        return BUG
    return " ".join(cleandoc(error.__doc__ or error.title).partition("\n\n")[0].split())


def _of_errors(code: str, alike: list[type[AppError]]) -> Explanation:
    return Explanation(
        alike[0].status,
        code,
        tuple(dict.fromkeys(each.title for each in alike)),
        tuple(dict.fromkeys(map(meaning_of, alike))),
        tuple(dict.fromkeys(each.remedy for each in alike)),
    )


def _of_http(status: HTTPStatus) -> Explanation:
    title, code = names_of(status)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Explanation(status, code, (title,), (BUG,), (AppError.remedy,))
    remedy = REMEDIES.get(status, OTHER_REMEDY)
    return Explanation(status, code, (title,), (REFUSED,), (remedy,))


def _page(explanation: Explanation) -> str:
    return PAGE.format(
        title=escape(explanation.titles[0]),
        status=int(explanation.status),
        code=escape(explanation.code),
        meaning=_paragraphs(explanation.meanings),
        remedy=_paragraphs(explanation.remedies),
    )


def _paragraphs(texts: tuple[str, ...]) -> str:
    return "\n".join(f"<p>{escape(text)}</p>" for text in texts)
