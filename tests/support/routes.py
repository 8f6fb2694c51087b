"""Routes: their callers, and those that the description of the API leaves out."""

from __future__ import annotations

from uuid import uuid4

# Rule -> why the description of the API does not have it.
UNDESCRIBED = {
    "/openapi.json": "it is the description",
    "/": "leads people to that page",
    "/docs": "a page for people, which shows the description",
    "/docs/": "leads there",
    "/docs/<asset>": "a part of that page",
    "/problems/<name>": "pages for people, to which the type of a problem leads",
    "/account": "a page for people, to which the links in e-mails lead",
    "/account/": "leads to that page",
    "/account/<asset>": "a part of that page",
    "/metrics": "Prometheus knows what it reads, and is told by the deployment where",
}


def accesses(app):
    """Return method and rule -> the callers that the route names above its view."""
    return {
        (method, rule.rule): app.view_functions[rule.endpoint].__dict__["access"]
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"OPTIONS"}
    }


def access_to(app, route):
    """Return the callers of a route as the table of tests/http/test_auth.py writes it."""
    method, path = route
    routes = app.url_map.bind("localhost")
    user_id = uuid4()
    path = path.partition("?")[0].format(id=user_id, key=user_id.hex)
    where = path.replace("<", "").replace(">", "")
    rule, _ = routes.match(where, method, return_rule=True)
    return accesses(app)[method, rule.rule]
