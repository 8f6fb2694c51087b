"""What is made on first use, in a process of threads: made once, however many ask at once.

`functools.cache` and, from Python 3.12 on, `functools.cached_property` have no lock: threads that
come together make one each, of which all but one are forgotten, and never closed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, cached_property
from threading import RLock
from typing import Any, ParamSpec, Self, TypeVar, cast, overload

P = ParamSpec("P")
T = TypeVar("T")


def once(make: Callable[P, T]) -> Callable[P, T]:
    """Remember what a function returns for each set of arguments, which must be few.

    The lock is taken until the value is there, and never again.
    """
    lock = RLock()
    made = cache(make)

    @cache
    def get(*arguments: Any, **options: Any) -> Any:
        with lock:
            return made(*arguments, **options)

    get.__dict__["__wrapped__"] = make
    return cast("Callable[P, T]", get)


class once_property(cached_property[T]):  # noqa: N801 - read like `property`
    """A `cached_property` that is made under a lock, and costs an attribute from then on."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        super().__init__(make)
        self._lock = RLock()

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type | None = None) -> T: ...

    def __get__(self, instance: object | None, owner: type | None = None) -> Self | T:
        if instance is None:
            return self
        with self._lock:
            return super().__get__(instance, owner)
