"""Spans of the program's own functions, through the OpenTelemetry API only."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context, copy_context
from functools import wraps
from http import HTTPStatus
from typing import Any, TypeVar, cast

from opentelemetry import baggage, context, trace
from opentelemetry.trace import NonRecordingSpan, Span, Status, StatusCode

from chassis.errors import AppError
from chassis.telemetry.steps import await_within, steps_within

Function = TypeVar("Function", bound=Callable[..., Any])

tracer = trace.get_tracer("chassis")

_settings = {"personal_data": False}


def allow_personal_data(*, allowed: bool) -> None:
    """Set whether telemetry may hold e-mail addresses; it may not unless the operator says so."""
    _settings["personal_data"] = allowed


def is_personal_data_allowed() -> bool:
    """Tell whether telemetry may hold e-mail addresses."""
    return _settings["personal_data"]


def personal(attributes: Mapping[str, str]) -> Mapping[str, str]:
    """Return the given attributes, or none where personal data is not allowed."""
    return attributes if is_personal_data_allowed() else {}


def trace_id() -> str:
    """Return the current trace's id in hexadecimal, zeros outside a span."""
    return trace.format_trace_id(trace.get_current_span().get_span_context().trace_id)


def set_attributes(attributes: Mapping[str, Any]) -> None:
    """Set attributes on the current span, if it is recorded."""
    trace.get_current_span().set_attributes(attributes)


@contextmanager
def baggage_item(name: str, value: str) -> Iterator[None]:
    """Put a value into the baggage of the block and of the services that it calls."""
    token = context.attach(baggage.set_baggage(name, value))
    try:
        yield
    finally:
        context.detach(token)


@contextmanager
def span(name: str, attributes: Mapping[str, Any] | None = None) -> Iterator[Span]:
    """Run a block in a span; an exception is recorded once, on the first span that it leaves.

    In a request that is not recorded this does nothing. The sampler decides about work that
    comes from another process, such as a message.
    """
    if is_unrecorded():
        yield trace.get_current_span()
        return
    with tracer.start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as started:
        try:
            yield started
        except Exception as error:
            if not isinstance(error, AppError) or error.status >= HTTPStatus.BAD_REQUEST:
                record_failure(started, error)
            raise
        else:
            started.set_attribute("function.result", "success")


class Unrecorded(NonRecordingSpan):
    """The ids of a trace that this process decided not to record."""


def is_unrecorded() -> bool:
    """Tell whether this process decided not to record the current trace."""
    current = trace.get_current_span()
    if type(current) is Unrecorded:  # so is most of what is asked about
        return True
    caller = current.get_span_context()
    return caller.is_valid and not caller.is_remote and not current.is_recording()


def record_failure(failed: Span, error: BaseException) -> None:
    """Record on a span why it failed.

    The text of an expected failure is safe to show. Any other error's text may quote the data
    that caused it, so only the error's type and place are recorded. A refusal does not make the
    span an error.
    """
    message = error.detail if isinstance(error, AppError) else type(error).__name__
    failed.set_attributes(
        {
            "function.result": "error",
            "error.type": type(error).__qualname__,
            "error.message": message,
        }
    )
    # A refusal is no fault of ours: the answer below 500 says all of it.
    if not isinstance(error, AppError) or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        failed.set_status(Status(StatusCode.ERROR, message))
    if not error.__dict__.get("is_recorded"):
        error.__dict__["is_recorded"] = True
        stack = "".join(traceback.format_tb(error.__traceback__))
        failed.add_event(
            "exception",
            {
                "exception.type": type(error).__qualname__,
                "exception.message": message,
                "exception.stacktrace": stack,
            },
        )


def trace_function(
    span_name: str | None = None, attributes: Mapping[str, Any] | None = None
) -> Callable[[Function], Function]:
    """Give each call of a function a span: plain and async functions, generators of both kinds.

    Args:
        span_name: The function's module and name when omitted.
        attributes: Set on each span.
    """

    def decorate(function: Function) -> Function:
        name = span_name or f"{function.__module__}.{function.__name__}"
        fixed = {
            "function.name": function.__name__,
            "function.module": function.__module__,
            **(attributes or {}),
        }
        return cast("Function", wraps(function)(_traced(function, name, fixed)))

    return decorate


def _traced(
    function: Callable[..., Any], name: str, fixed: Mapping[str, Any]
) -> Callable[..., Any]:
    if inspect.isasyncgenfunction(function):
        return _traced_async_generator(function, name, fixed)
    if inspect.iscoroutinefunction(function):

        async def traced_coroutine(*args: Any, **kwargs: Any) -> Any:
            with span(name, fixed):
                return await function(*args, **kwargs)

        return traced_coroutine
    if inspect.isgeneratorfunction(function):

        def traced_generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            with _span_apart(name, fixed) as own:
                result: Any = yield from steps_within(own, function(*args, **kwargs))
                return result

        return traced_generator

    def traced(*args: Any, **kwargs: Any) -> Any:
        if is_unrecorded():  # as `span` does, without the cost of a context manager
            return function(*args, **kwargs)
        with span(name, fixed):
            return function(*args, **kwargs)

    return traced


def _traced_async_generator(
    function: Callable[..., Any], name: str, fixed: Mapping[str, Any]
) -> Callable[..., Any]:
    async def traced_async_generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        with _span_apart(name, fixed) as own:
            steps = function(*args, **kwargs)
            step = steps.asend(None)
            while True:
                try:
                    item = await await_within(own, step)
                except StopAsyncIteration:
                    return
                try:
                    step = steps.asend((yield item))
                except GeneratorExit:
                    await await_within(own, steps.aclose())
                    raise
                except BaseException as error:  # noqa: BLE001 - the generator's to handle
                    step = steps.athrow(error)

    return traced_async_generator


@contextmanager
def _span_apart(name: str, fixed: Mapping[str, Any]) -> Iterator[Context]:
    """Open a span in a context of its own, for code that is left and entered again.

    The span is current in that context, but not in the code that runs between two steps.
    """
    own = copy_context()
    entered = span(name, fixed)
    own.run(entered.__enter__)
    try:
        yield own
    except BaseException as error:
        own.run(entered.__exit__, type(error), error, error.__traceback__)
        raise
    own.run(entered.__exit__, None, None, None)
