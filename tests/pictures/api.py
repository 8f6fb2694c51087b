"""Photograph /docs in a real browser: `make screenshot` writes docs/api.png."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tests.account.screenshot import compressed
from tests.support.chromium import Chromium
from tests.support.ports import HOST
from tests.support.processes import ROOT
from tests.support.serving import serving
from tests.support.tab import Tab
from tests.support.waiting import eventually

PICTURE = ROOT / "docs" / "api.png"
WIDTH, HEIGHT = 1000, 720
OPEN = ("api-keys", "audit")  # all routes together would be a long page
CLOSE_OTHERS = """(open => {
  for (const each of document.querySelectorAll(".opblock-tag"))
    if (!open.includes(each.dataset.tag)) each.click();
})"""
# Below them stands the list of schemas.
HEIGHT_OF_ROUTES = "Math.floor(document.querySelector('.models').getBoundingClientRect().top)"
COUNT_OPEN = "document.querySelectorAll('.opblock-tag[data-is-open=true]').length"


def main() -> None:
    """Photograph the page with its groups of routes, of which two are open."""
    with (
        tempfile.TemporaryDirectory() as data,
        tempfile.TemporaryDirectory() as profile,
        serving(Path(data), DATABASE_URL=f"sqlite:///{data}/app.db") as service,
        Chromium(Path(profile)) as browser,
    ):
        tab = Tab(browser, width=WIDTH, height=HEIGHT)
        tab.open(f"http://{HOST}:{service.port}/docs")
        eventually(lambda: tab.text(".opblock"))
        close_groups(tab)
        tab.resize(WIDTH, tab.evaluate(HEIGHT_OF_ROUTES))
        PICTURE.write_bytes(compressed(tab.screenshot()))


def close_groups(tab: Tab) -> None:
    """Close all groups but those in OPEN, and wait until their routes are gone."""
    tab.evaluate(f"{CLOSE_OTHERS}({json.dumps(OPEN)})")
    eventually(lambda: tab.evaluate(COUNT_OPEN) == len(OPEN))


if __name__ == "__main__":
    main()
