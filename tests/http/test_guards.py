"""Every route has a guard, however the route was added."""

from __future__ import annotations

import ast
from pathlib import Path

from flask import Flask

from app import create_app
from chassis.http.auth import Guard, guard_of, public, requires
from config import AppConfig
from tests.support.factories import bearer_of, make_user

ROOT = Path(__file__).resolve().parent.parent.parent
SECRETS = frozenset(
    {"api_key", "password", "password_hash", "refresh_token", "secret", "token", "jwt_secret"}
)


def unguarded_rules(app):
    """Return the routes that do not say who may call them."""
    return [
        rule.rule
        for rule in app.url_map.iter_rules()
        if rule.endpoint != "static" and guard_of(app.view_functions[rule.endpoint]) is None
    ]


def compared_secrets(source):
    """Return the lines that compare a secret with == or !=, which stops at the first difference."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Compare)
        and any(isinstance(operator, ast.Eq | ast.NotEq) for operator in node.ops)
        and any(name_of(each) in SECRETS for each in (node.left, *node.comparators))
    ]


def name_of(node):
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.lower().lstrip("_")
        case _:
            return None


def test_every_route_says_who_may_call_it():
    app = create_app(AppConfig(redis_url=""))

    assert unguarded_rules(app) == []
    assert len(list(app.url_map.iter_rules())) > 10


def test_a_route_that_does_not_is_found():
    app = Flask("test", static_folder=None)
    app.add_url_rule("/guarded", view_func=public(lambda: ""), endpoint="guarded")
    app.add_url_rule("/open", view_func=lambda: "", endpoint="open")

    assert unguarded_rules(app) == ["/open"]


def test_a_guard_shows_through_the_decorators_above_it():
    app = create_app(AppConfig(redis_url=""))

    guards = {
        rule.rule: guard_of(app.view_functions[rule.endpoint]) for rule in app.url_map.iter_rules()
    }

    assert guards["/users"] in {Guard.REGISTRAR, Guard.ADMINISTRATOR}
    assert guards["/users/<uuid:user_id>"] is Guard.OWNER
    assert guards["/users/me"] is Guard.USER
    assert guards["/auth/token"] is Guard.PUBLIC


def test_a_guard_is_looked_at_before_anything_else(app, client):
    """Nothing of the request has been read when a caller is refused."""
    asked = []
    guarded = requires(Guard.ADMINISTRATOR, "things:read")(lambda: asked.append("view"))
    app.add_url_rule("/guarded", view_func=guarded)

    response = client.get("/guarded")

    assert response.status_code == 401
    assert asked == []


def test_a_thing_is_for_the_user_whose_it_is_and_for_administrators(
    app, client, service_client, config, database
):
    user, other = make_user(database), make_user(database, email="other@example.com")
    owners = {"own": user.id, "others": other.id, "nobodys": None}
    guarded = requires(Guard.OWNER, "things:read", find_owner=lambda name: owners[name])(
        lambda name: name
    )
    app.add_url_rule("/things/<name>", view_func=guarded)
    bearer = bearer_of(database, config, user)

    for_user = [client.get(f"/things/{name}", headers=bearer).status_code for name in owners]
    for_service = [service_client.get(f"/things/{name}").status_code for name in owners]

    assert for_user == [200, 403, 403]
    assert for_service == [200, 200, 200]


def test_no_secret_is_compared_in_a_way_that_takes_longer_the_more_is_right():
    files = [
        *(ROOT / "chassis").rglob("*.py"),
        *(ROOT / "userservice").rglob("*.py"),
        *(ROOT / name for name in ("app.py", "admin.py", "bootstrap.py", "workers.py")),
    ]
    # In SQL a comparison is of hashes, and says nothing of the value.
    compared = {
        str(file.relative_to(ROOT)): compared_secrets(file.read_text(encoding="utf-8"))
        for file in files
        if not file.name.endswith("queries.py")
    }

    assert len(compared) > 100
    assert {path: lines for path, lines in compared.items() if lines} == {}


def test_a_comparison_that_does_is_found():
    source = "ok = given == self.api_key\nfine = compare_digest(given, self.api_key)\n"

    assert compared_secrets(source) == [1]
