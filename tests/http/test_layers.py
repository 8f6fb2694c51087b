"""The layers around Flask: their order is written once, and the documentation quotes it."""

from __future__ import annotations

import re
import sys
from dataclasses import replace

import pytest
from flask import Flask

from app import layers
from chassis.http.layers import wrap
from config import AppConfig
from tests.conftest import make_app
from tests.support.factories import ADA
from tests.support.processes import ROOT

ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
WAY = ARCHITECTURE.partition("## The way of POST /users")[2].partition("```text\n")[2]
WAY = WAY.partition("```")[0]
# "trace": what the documentation says of a layer -> the module whose code it is.
DOCUMENTED = {name: module for module, name in re.findall(r'└── (\w+) +"(\w+)":', WAY)}
# Modules that take a request as a layer does, before all layers and behind them.
NO_LAYERS = {"werkzeug.test", "flask.testing", "flask.app", "chassis.http.flask_app"}


@pytest.fixture
def app(config, services):
    """The application behind a proxy, so that no layer is left out."""
    return make_app(replace(config, trusted_proxy_hops=1), services)


def is_wsgi(frame):
    """Tell whether a function was called as a WSGI application is, whatever its parameters."""
    count = frame.f_code.co_argcount
    given = [frame.f_locals.get(name) for name in frame.f_code.co_varnames[:count]][-2:]
    return (
        len(given) == 2
        and isinstance(given[0], dict)
        and "wsgi.input" in given[0]
        and callable(given[1])
    )


def entered(app, call):
    """Return the modules of layers in the order in which a request enters them."""
    seen = []

    def note(frame, event, _argument):
        name = frame.f_globals.get("__name__")
        called = "chassis.http.proxies" if name == "werkzeug.middleware.proxy_fix" else name
        is_layer = event == "call" and called not in NO_LAYERS and is_wsgi(frame)
        if (is_layer or called == "userservice.users.routes") and called not in seen:
            seen.append(called)

    sys.setprofile(note)
    try:
        call(app.test_client())
    finally:
        sys.setprofile(None)
    return [name.removeprefix("chassis.http.") for name in seen]


def test_the_documentation_quotes_the_list_of_layers():
    assert list(DOCUMENTED) == list(layers(AppConfig(), None))


def test_a_request_enters_the_layers_in_the_order_that_is_documented(app):
    order = entered(app, lambda client: client.post("/users", json=ADA))

    assert order == [*DOCUMENTED.values(), "userservice.users.routes"]


def test_a_layer_that_is_not_in_the_list_would_be_seen(app):
    inner = app.wsgi_app

    def unlisted(variables, respond):
        return inner(variables, respond)

    app.wsgi_app = unlisted
    order = entered(app, lambda client: client.post("/users", json=ADA))

    assert order == [__name__, *DOCUMENTED.values(), "userservice.users.routes"]


def test_the_first_layer_of_a_list_is_the_outermost():
    app = Flask("test")
    passed = []

    def layer(name):
        def around(app):
            inner = app.wsgi_app

            def named(environ, start_response):
                passed.append(name)
                return inner(environ, start_response)

            return named

        return around

    wrap(app, [layer("outer"), layer("inner")])
    app.test_client().get("/")

    assert passed == ["outer", "inner"]
