"""Base of the schemas that validate untrusted input, and the texts of its refusals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Generic, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import ErrorDetails, from_json

from chassis.errors import FieldError, InvalidRequest

NOT_AN_OBJECT = "The request body must be a JSON object"
MALFORMED = "The request body is not valid JSON"
TIME_LENGTH = 64  # longer than any time that is written as ISO 8601 has it
MAX_PAGE_TOKEN = 1024  # longer than any of ours


class Schema(BaseModel):
    """Base of every document that crosses the border of the process."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    @classmethod
    def load(cls, body: bytes) -> Self:
        """Read a JSON document.

        Raises:
            InvalidRequest: naming every member that is wrong; the first decides `detail`.
        """
        try:
            document = from_json(body, allow_inf_nan=False)
        except ValueError:
            raise InvalidRequest(MALFORMED) from None
        return cls.load_values(document)

    @classmethod
    def load_values(cls, values: Mapping[str, str]) -> Self:
        """Read values that are parsed already, such as a query or a form.

        Raises:
            InvalidRequest: as for `load`.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise refusal(_details(error)) from None


class FieldProblem(Schema):
    """The fault of one member of the input."""

    pointer: str
    detail: str


class Problem(Schema):
    """An error (RFC 9457); clients branch on `code`."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    error: str
    code: str
    errors: list[FieldProblem]
    request_id: str
    trace_id: str


def _time(value: object) -> datetime:
    try:
        text = value if isinstance(value, str) and len(value) <= TIME_LENGTH else ""
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):  # no time, or beyond the years that there are
        pass
    raise ValueError("must be a time with its zone, such as 2030-01-31T00:00:00Z")


# A point in time with its zone, brought into UTC.
Time = Annotated[
    datetime,
    BeforeValidator(_time),
    WithJsonSchema({"type": "string", "format": "date-time", "maxLength": TIME_LENGTH}),
]
ItemType = TypeVar("ItemType", bound=Schema)
PageSize = Annotated[int, Field(ge=1, le=200)]


class PageQuery(Schema):
    """The query for a page of a list; subclasses add filters."""

    page_size: PageSize = Field(50, description="Items on a page.")
    page_token: str | None = Field(
        None,
        max_length=MAX_PAGE_TOKEN,
        description="The next_page_token of the page before.",
    )


class Page(Schema, Generic[ItemType]):
    """A page of a list."""

    items: list[ItemType]
    next_page_token: str | None = Field(description="Give it as page_token; null on the last page.")


def refusal(details: Sequence[ErrorDetails]) -> InvalidRequest:
    """Turn the validator's findings into the error that callers see, without their input."""
    errors = [FieldError(_pointer(each["loc"]), _sentence(each)) for each in details]
    first = errors[0].detail
    if details[0]["type"] == "model_type":
        return InvalidRequest(first)
    return InvalidRequest(first, errors=errors)


def _details(error: ValidationError) -> list[ErrorDetails]:
    return error.errors(include_url=False, include_input=False)


def _pointer(location: tuple[int | str, ...]) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


def _sentence(error: ErrorDetails) -> str:
    """Return one sentence about the fault, beginning with the member's name."""
    if error["type"] == "model_type":
        return NOT_AN_OBJECT
    name = str(error["loc"][-1]).replace("_", " ").capitalize() if error["loc"] else "The body"
    return f"{name} {_predicate(error)}"


def _predicate(error: ErrorDetails) -> str:
    template = _PREDICATES.get(error["type"], "is not valid")
    return template.format_map(error.get("ctx", {}))


# Error type of the validator -> our own text; the error's context fills the gaps.
_PREDICATES = {
    "missing": "is required",
    "value_error": "{error}",
    "string_type": "must be a string",
    "string_too_short": "must have at least {min_length} characters",
    "too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_long": "must have at most {max_length} characters",
    "extra_forbidden": "is unknown or cannot be changed",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
}
