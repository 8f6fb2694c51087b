"""What proxies say of the client, believed as far as the deployment has proxies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from werkzeug.middleware.proxy_fix import ProxyFix

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from flask import Flask


def layer(app: Flask, *, hops: int) -> WSGIApplication:
    """Take the client's address from what the nearest `hops` proxies added; 0 believes none."""
    return ProxyFix(app.wsgi_app, x_for=hops, x_proto=0) if hops else app.wsgi_app
