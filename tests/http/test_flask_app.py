"""The slim Flask answers as Flask does; both are given the same requests."""

from __future__ import annotations

import ast
import inspect
from io import BytesIO, RawIOBase

import pytest
from flask import Flask, Response, abort, request, session, url_for

from chassis.http import flask_app
from chassis.http.flask_app import PlainFlask, PlainResponse

LIMIT = 40
ID = "018f0000-0000-7000-8000-000000000000"


class Trickle(RawIOBase):
    """A body that arrives in pieces."""

    def __init__(self, content):
        super().__init__()
        self._content = BytesIO(content)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self._content.readinto(memoryview(buffer)[:7])


def make(kind, response):
    """Make an application with a view for each kind of answer."""
    app = kind("test", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LIMIT
    app.secret_key = None
    app.closed = []
    app.add_url_rule("/text", "text", lambda: response("<é>", 200, {"X-Own": "1"}))
    app.add_url_rule("/json", "json", lambda: response(b"{}", 201, mimetype="application/json"))
    app.add_url_rule("/dictionary", "dictionary", lambda: {"a": [1]})
    app.add_url_rule("/nothing", "nothing", lambda: response(status=204))
    app.add_url_rule("/empty", "empty", lambda: response(""))
    app.add_url_rule("/unchanged", "unchanged", lambda: response("x", 304, {"ETag": '"1"'}))
    app.add_url_rule("/parts", "parts", lambda: response(["a", "é"]))
    app.add_url_rule("/stream", "stream", lambda: response(iter(["a", "b"])))
    app.add_url_rule("/flasks", "flasks", lambda: Response("Flask's own"))
    app.add_url_rule("/away", "away", lambda: response("", 303, {"Location": "/a b/é?x=<y>"}))
    app.add_url_rule("/there", "there", lambda: response("", 201, {"Location": f"/things/{ID}"}))
    app.add_url_rule("/tree/", "tree", lambda: "slash")
    app.add_url_rule("/teapot", "teapot", lambda: abort(418))
    app.add_url_rule("/form", "form", lambda: dict(request.form), methods=["POST"])
    app.add_url_rule("/things/<uuid:each>", "thing", lambda each: url_for("thing", each=each))
    app.add_url_rule("/path/<path:each>", "path", lambda each: each)
    app.add_url_rule("/absolute", "absolute", lambda: url_for("text", _external=True))
    app.add_url_rule("/session", "session", lambda: str(dict(session)))

    @app.post("/body")
    def body():
        return request.get_data()

    @app.get("/closed")
    def closed():
        answer = response("closes")
        answer.call_on_close(lambda: app.closed.append(1))
        return answer

    @app.get("/wrapped")
    def wrapped():
        answer = Response("closes, too")
        answer.call_on_close(lambda: app.closed.append(1))
        return answer

    return app


@pytest.fixture(scope="module")
def plain():
    return make(PlainFlask, PlainResponse)


@pytest.fixture(scope="module")
def reference():
    return make(Flask, Response)


def answer_of(app, request_):
    """Return status, headers, body and how often something was told of the answer's end."""
    app.closed.clear()
    options = dict(request_)
    if body := options.pop("body", None):
        options["environ_overrides"] = arriving(**body)
    answer = app.test_client().open(**options)
    found = answer.status, sorted(answer.headers), answer.get_data()
    answer.close()
    return *found, len(app.closed)


def arriving(content, stream=BytesIO, **more):
    """Return what a server says of a body whose end it knows."""
    return {"wsgi.input": stream(content), "wsgi.input_terminated": True, **more}


WHOLE = b"x" * LIMIT
LONG = WHOLE + b"x"
POST = {"path": "/body", "method": "POST"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PATHS = [
    *("/text", "/json", "/dictionary", "/nothing", "/empty", "/unchanged", "/parts", "/stream"),
    *("/flasks", "/away", "/there", "/tree", "/tree/", "/teapot", "/closed", "/wrapped"),
    *("/absolute", "/session", f"/things/{ID}", "/things/1", "/path/a%2Fb/%C3%A9", "/path/%ff"),
    *("//text", "/text/", "/nope?a=b", "/text?a=b", ""),
]
REQUESTS = [
    *({"path": path, "method": method} for path in PATHS for method in ("GET", "HEAD")),
    {"path": "/text", "method": "OPTIONS"},
    {"path": "/text", "method": "DELETE"},
    {"path": "/text", "method": "get"},
    {"path": "/absolute", "base_url": "https://api.example.com:8443/prefix"},
    {"path": "/tree?a=b", "base_url": "https://api.example.com/prefix"},
    {"path": f"/things/{ID}", "base_url": "http://[::1]:81/prefix"},
    POST | {"data": b""},
    POST | {"data": b"body"},
    POST | {"data": WHOLE},
    POST | {"data": LONG},
    POST | {"body": {"content": b"body"}},
    POST | {"body": {"content": WHOLE}},
    POST | {"body": {"content": b"body", "CONTENT_LENGTH": "4"}},
    POST | {"body": {"content": LONG, "CONTENT_LENGTH": str(len(LONG))}},
    POST | {"body": {"content": b"body, and more", "stream": Trickle}},
    {"path": "/form", "method": "POST", "data": {"a": "1", "b": "é"}},
    {"path": "/form", "method": "POST", "headers": FORM, "body": {"content": b"a=1&b=2"}},
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda each: str(each)[:70])
def test_it_answers_as_flask_does(plain, reference, request_):
    assert answer_of(plain, request_) == answer_of(reference, request_)


def test_a_body_that_is_too_large_is_refused_rather_than_cut(plain):
    answer = plain.test_client().open(**POST, environ_overrides=arriving(LONG))

    assert answer.status_code == 413


def test_a_gathered_body_and_a_plain_answer_are_handed_on_as_they_are(plain):
    given = arriving(b"{}")

    with plain.test_request_context("/body", method="POST", environ_overrides=given):
        assert request.stream is given["wsgi.input"]
        answer = PlainResponse("{}", 201, {"Location": f"/things/{ID}"})
        assert answer(request.environ, lambda *_: lambda _: None) is answer.response


def test_any_host_is_served_and_an_upgrade_is_not_heard(plain):
    headers = {"Connection": "upgrade", "Upgrade": "websocket", "Host": "xn--/.\N{DEGREE SIGN}"}

    assert plain.test_client().get("/text", headers=headers).status_code == 200


def test_there_are_no_sessions(plain):
    with plain.test_request_context("/text"), pytest.raises(RuntimeError, match="secret key"):
        session["a"] = 1


def test_no_private_name_of_flask_or_werkzeug_is_used():
    tree = ast.parse(inspect.getsource(flask_app))
    defined = {
        each.name for each in ast.walk(tree) if isinstance(each, ast.ClassDef | ast.FunctionDef)
    }
    defined |= {
        each.id
        for each in ast.walk(tree)
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    }
    used = {each.attr for each in ast.walk(tree) if isinstance(each, ast.Attribute)}
    private = {name for name in used if name.startswith("_") and not name.endswith("__")}

    assert private <= defined
    assert not {name for name in private if hasattr(Flask, name) or hasattr(Response, name)}


@pytest.mark.parametrize("path", ["//text", "///text", "//"])
def test_two_slashes_at_the_beginning_name_no_route(plain, path):
    answer = plain.test_client().get("/text", environ_overrides={"PATH_INFO": path})

    assert answer.status_code == 404
