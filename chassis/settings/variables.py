"""Settings as fields of a dataclass, each of which is read from the variable of its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import Field, field, fields
from inspect import get_annotations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chassis.settings.kinds import Kind
from chassis.settings.url_options import Refused

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class ConfigError(ValueError):
    """The configuration cannot be used; `problems` holds one sentence for each reason."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def setting(
    default: Any,
    kind: Kind,
    doc: str,
    *,
    secret: bool = False,
    empty: Any = None,
) -> Any:
    """Declare a setting; its variable is the field's name in capitals.

    Args:
        default: Value when the variable is absent.
        kind: The accepted texts.
        doc: A sentence for the configuration table.
        secret: The value is never shown, and `<variable>_FILE` may name a file that holds it.
        empty: Value of a variable that is set but empty; the default unless it says "none".
    """
    empty = default if empty is None else empty
    return field(
        default=default, metadata={"kind": kind, "doc": doc, "secret": secret, "empty": empty}
    )


def settings_of(config: type[DataclassInstance]) -> list[Field[Any]]:
    """Return the fields that a class declares itself, then those of its bases, in their order."""
    place = {
        name: place
        for place, declaring in reversed(list(enumerate(config.__mro__)))
        for name in get_annotations(declaring)
    }
    return sorted(fields(config), key=lambda each: place[each.name])


def read(
    settings: Iterable[Field[Any]], variables: Mapping[str, str], *, folder: Path = Path()
) -> tuple[dict[str, Any], list[str]]:
    """Return the given texts by field name, and sentences about files that cannot be read.

    Args:
        settings: The fields to read.
        variables: The environment.
        folder: Where the relative path of a secret's file begins, in every process.
    """
    given: dict[str, Any] = {}
    problems = []
    for each in settings:
        variable = each.name.upper()
        value = variables.get(variable)
        if value is not None and each.metadata["secret"]:
            value = value.rstrip("\r\n")  # as in a file
        path = variables.get(f"{variable}_FILE") if each.metadata["secret"] else None
        if value and path:
            problems.append(f"{variable} and {variable}_FILE are both set; keep one of them")
        elif path:
            try:
                value = (folder / path).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "not UTF-8 text"
                shown = path if path.isprintable() else repr(path)
                problems.append(f"{variable}_FILE must name a readable file: {shown}: {reason}")
        if value is not None:
            given[each.name] = value
    return given, problems


def convert_all(config: DataclassInstance) -> list[str]:
    """Replace the text of each setting by its value, even if frozen; return all problems."""
    problems = []
    for each in settings_of(type(config)):
        # A wrong value leaves the default in place, so that other rules can still be checked.
        value = each.default
        try:
            value = _convert(each, getattr(config, each.name))
        except ValueError as error:
            problems.append(str(error))
        object.__setattr__(config, each.name, value)
    return problems


def mask(each: Field[Any], value: object) -> str:
    """Return a setting's value as text that is fit for logs."""
    shown = _text(value)
    return each.metadata["kind"].mask(shown) if each.metadata["secret"] and shown else shown


def _text(value: object) -> str:
    if isinstance(value, frozenset):
        return ",".join(sorted(value))
    return "" if value is None else str(value)


def _convert(each: Field[Any], value: Any) -> Any:
    """Return a setting's value, which may be given as such, or as the text of its variable.

    Raises:
        ValueError: with a sentence that names the variable and says which text it accepts.
    """
    kind: Kind = each.metadata["kind"]
    raw = _text(value)
    try:
        return kind.parse(raw) if raw else each.metadata["empty"]
    except Refused as refused:
        raise ValueError(f"{each.name.upper()} {refused}") from None
    except ValueError:
        shown = "" if each.metadata["secret"] else f", not {raw!r}"
        # Without a cause: a traceback must not show a secret.
        raise ValueError(f"{each.name.upper()} must be {kind.accepts}{shown}") from None
