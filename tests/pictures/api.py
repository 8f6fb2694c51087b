"""Photograph /docs in a real browser: `make screenshot` writes docs/api.png."""

from __future__ import annotations

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


def main() -> None:
    """Photograph the page as a person meets it."""
    with (
        tempfile.TemporaryDirectory() as data,
        tempfile.TemporaryDirectory() as profile,
        serving(Path(data), DATABASE_URL=f"sqlite:///{data}/app.db") as service,
        Chromium(Path(profile)) as browser,
    ):
        tab = Tab(browser, width=WIDTH, height=HEIGHT)
        tab.open(f"http://{HOST}:{service.port}/docs")
        eventually(lambda: tab.text(".opblock"))
        PICTURE.write_bytes(compressed(tab.screenshot()))


if __name__ == "__main__":
    main()
