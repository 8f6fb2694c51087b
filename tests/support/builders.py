"""Applications of one process share the functions that build the addresses of their routes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from werkzeug.routing import Rule


def share_builders() -> None:
    """Let Werkzeug compile the functions of a rule once, instead of for each application.

    They follow from the text of the rule, and take nine tenths of the time that an application
    takes to be made; tests make thousands.
    """
    compile_builder: Callable[[Rule, bool], Any] = Rule._compile_builder  # noqa: SLF001 - no other way

    known: dict[tuple[object, ...], Any] = {}

    def share(rule: Rule, append_unknown: bool = True) -> Any:  # noqa: FBT001, FBT002 - Werkzeug's
        if rule.defaults:  # become a part of the code
            return compile_builder(rule, append_unknown)
        text = (rule.rule, rule.subdomain, rule.host, rule.merge_slashes, append_unknown)
        if text not in known:
            known[text] = compile_builder(rule, append_unknown)
        return known[text]

    Rule._compile_builder = share  # type: ignore[method-assign,assignment]  # noqa: SLF001
