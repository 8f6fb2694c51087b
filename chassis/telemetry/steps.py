"""Generators and awaitables whose steps run in a context other than their consumer's."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from contextvars import Context
from functools import partial
from types import coroutine
from typing import Any


def steps_within(own: Context, generator: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Delegate to a generator, as `yield from` does, with each step in the context `own`."""
    step = partial(generator.send, None)
    while True:
        try:
            item = own.run(step)
        except StopIteration as end:
            return end.value
        try:
            step = partial(generator.send, (yield item))
        except GeneratorExit:
            own.run(generator.close)
            raise
        except BaseException as error:  # noqa: BLE001 - the generator's to handle
            step = partial(generator.throw, error)


@coroutine
def await_within(own: Context, awaitable: Awaitable[Any]) -> Generator[Any, Any, Any]:
    """Wait for an awaitable, as `await` does, with each step in the context `own`."""
    result: Any = yield from steps_within(own, awaitable.__await__())
    return result
