"""Expected failures about API keys."""

from __future__ import annotations

from chassis.errors import NotFound


class KeyNotFound(NotFound):
    """There is no API key with this id."""

    code = "api_key_not_found"
    title = "API key not found"
    remedy = "List the keys. The id is the part of a key between its two underscores."
