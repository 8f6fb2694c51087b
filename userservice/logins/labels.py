"""Labels of log-ins, by which people tell their devices apart: a closed set, never raw text."""

from __future__ import annotations

LABEL_LENGTH = 32

# Name -> a part of the header that only its kind sends. The first that is found counts: most
# browsers claim to be those below them, too.
_BROWSERS = {
    "Edge": ("Edg/", "EdgA/", "EdgiOS/", "Edge/"),
    "Opera": ("OPR/", "OPiOS/", "OPT/"),
    "Samsung Internet": ("SamsungBrowser/",),
    "Firefox": ("Firefox/", "FxiOS/"),
    "Chrome": ("Chrome/", "CriOS/"),
    "Safari": ("Safari/",),
}
_SYSTEMS = {
    "Android": ("Android",),
    "iPadOS": ("iPad",),
    "iOS": ("iPhone", "iPod"),
    "Windows": ("Windows",),
    "ChromeOS": ("CrOS",),
    "macOS": ("Macintosh",),
    "Linux": ("Linux",),
}
LABELS = frozenset(f"{browser} on {system}" for browser in _BROWSERS for system in _SYSTEMS)


def label_of(user_agent: str) -> str | None:
    """Return the label for the header User-Agent; None unless browser and system are known."""
    browser, system = _first(_BROWSERS, user_agent), _first(_SYSTEMS, user_agent)
    return f"{browser} on {system}" if browser and system else None


def _first(names: dict[str, tuple[str, ...]], user_agent: str) -> str | None:
    found = (name for name, parts in names.items() if any(part in user_agent for part in parts))
    return next(found, None)
