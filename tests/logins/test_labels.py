"""Labels of devices: a closed set."""

from __future__ import annotations

import pytest

from userservice.logins.labels import LABEL_LENGTH, LABELS, label_of

WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
KNOWN = {
    f"Mozilla/5.0 (X11; Linux x86_64) {WEBKIT} Chrome/142.0.0.0 Safari/537.36": "Chrome on Linux",
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0": "Firefox on Linux",
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/142.0 Safari/537.36 Edg/142.0": (
        "Edge on Windows"
    ),
    f"Mozilla/5.0 (Windows NT 10.0) {WEBKIT} Chrome/142.0 Safari/537.36 OPR/125.0": (
        "Opera on Windows"
    ),
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {WEBKIT} Version/26.1 Safari/605.1.15": (
        "Safari on macOS"
    ),
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) {WEBKIT} Mobile Safari/604.1": (
        "Safari on iOS"
    ),
    f"Mozilla/5.0 (iPad; CPU OS 18_7 like Mac OS X) {WEBKIT} CriOS/142.0 Mobile Safari/604.1": (
        "Chrome on iPadOS"
    ),
    f"Mozilla/5.0 (Linux; Android 10; K) {WEBKIT} SamsungBrowser/29.0 Chrome/136.0 Safari/537.36": (
        "Samsung Internet on Android"
    ),
    f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {WEBKIT} Chrome/142.0 Safari/537.36": (
        "Chrome on ChromeOS"
    ),
}


@pytest.mark.parametrize(("user_agent", "label"), KNOWN.items())
def test_browser_and_system_are_named(user_agent, label):
    assert label_of(user_agent) == label
    assert label in LABELS


@pytest.mark.parametrize(
    "user_agent",
    ["", "curl/8.14.1", "python-requests/2.32", "Mozilla/5.0 (X11; Linux x86_64)", "Firefox/145.0"],
)
def test_nothing_is_said_unless_both_are_known(user_agent):
    assert label_of(user_agent) is None


def test_every_label_fits_its_column():
    assert max(map(len, LABELS)) <= LABEL_LENGTH
