"""Values that are made on first use, once only, however many threads ask at the same time.

`functools.cache` and, from Python 3.12 on, `functools.cached_property` have no lock: threads that
ask at the same time make a value each. All values but one are forgotten and never closed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, cached_property
from threading import RLock
from typing import Any, ParamSpec, Self, TypeVar, cast, overload

P = ParamSpec("P")
T = TypeVar("T")


def once(make: Callable[P, T]) -> Callable[P, T]:
    """Remember the result of a function for each set of arguments, which must be few.

    Calls take a lock until the value exists, and none after that.
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
    """A `cached_property` made under a lock; later reads cost as much as an attribute."""

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
