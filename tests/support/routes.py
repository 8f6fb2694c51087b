"""Routes: their callers, and those that the description of the API leaves out."""

from __future__ import annotations

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
