"""Options of gunicorn that the worker does not carry out, and that nobody may rely on."""

from __future__ import annotations

from typing import Any

from gunicorn.config import Config

# TLS is a proxy's business, as are other protocols than HTTP/1; limits are the worker's own.
_SECTIONS = frozenset({"SSL", "HTTP/2", "Security"})
_NAMES = frozenset(
    {
        *("ssl_context", "proxy_protocol", "protocol", "root_path", "header_map", "sendfile"),
        *("permit_obsolete_folding", "strip_header_spaces", "casefold_http_method"),
        *("permit_unconventional_http_method", "permit_unconventional_http_version"),
    }
)


def unsupported_options(given: Config) -> list[str]:
    """Return the names of options that were given a value, and would have no effect."""
    usual = Config().settings
    return [
        name
        for name, setting in sorted(given.settings.items())
        if (setting.section in _SECTIONS or name in _NAMES) and _differs(setting, usual[name])
    ]


def _differs(setting: Any, usual: Any) -> bool:
    return bool(setting.get() != usual.get())
