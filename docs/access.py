"""The page about access: which callers each route lets in; generate.py writes it."""  # noqa: INP001 - beside the documents

from __future__ import annotations

import re
from collections.abc import Iterator

from app import create_app
from chassis.http.auth import SCOPED, Access, Guard, access_of
from config import AppConfig
from userservice.scopes import MEANINGS

PAGE = """\
<!-- Written by make docs from the guards above the views; changes belong there. -->
# Access

Each route names above its view the callers that it lets in, and the scope that an API key needs
for it. [Accounts](accounts.md#scopes) says how keys and scopes work.

## Callers

| Callers | Routes | API keys |
|---|---|---|
{guards}

## Scopes

| Scope | Allows |
|---|---|
{scopes}

Superusers, and the key of the environment (`API_KEY`), hold all scopes.

## Routes

*In addition* names the parts of a route's work that need another scope beside the one of the route.
Without it they are refused, or left out of the answer. Scopes are for keys: users without a scope
do the same parts as far as the guard and the view let them.

| Route | Callers | Scope of an API key | In addition |
|---|---|---|---|
{routes}
"""


def page() -> str:
    """Describe the access to every route."""
    accesses = dict(_accesses())
    return PAGE.format(
        guards="\n".join(_guard(each, [*accesses.values()]) for each in Guard),
        scopes="\n".join(f"| `{name}` | {meaning} |" for name, meaning in MEANINGS.items()),
        routes="\n".join(_route(name, access) for name, access in accesses.items()),
    )


def _accesses() -> Iterator[tuple[str, Access]]:
    """Yield method and path of each route, with its callers, in the order of the paths."""
    app = create_app(AppConfig(redis_url=""))
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        access = access_of(app.view_functions[rule.endpoint])
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            if access is not None:  # a test forbids routes without
                yield f"`{method} {path}`", access


def _guard(guard: Guard, accesses: list[Access]) -> str:
    routes = sum(each.guard is guard for each in accesses)
    keys = "by scope" if guard in SCOPED else "everyone" if guard is Guard.PUBLIC else "no"
    return f"| {guard.name}: {guard.value} | {routes} | {keys} |"


def _route(name: str, access: Access) -> str:
    scope = f"`{access.scope}`" if access.scope is not None else ""
    parts = ", ".join(f"`{part}`: `{needed}`" for part, needed in access.parts.items())
    return f"| {name} | {access.guard.name} | {scope} | {parts} |"
