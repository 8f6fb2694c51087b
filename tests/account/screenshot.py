"""Photograph the page /account in a real browser: `make screenshot` writes docs/account.png."""

from __future__ import annotations

import json
import struct
import tempfile
import zlib
from base64 import b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.account.conftest import PASSWORD, People, people_of
from tests.support.chromium import Chromium
from tests.support.tab import Tab
from tests.support.waiting import eventually

PICTURE = Path(__file__).resolve().parent.parent.parent / "docs" / "account.png"
WIDTH, HEIGHT, GAP = 360, 680, 12
EMAIL = "ada@example.com"
SIDE_BY_SIDE = """(async (pictures) => {
  document.body.style = "margin: 0; display: flex; gap: %dpx";
  for (const each of pictures) {
    const image = new Image();
    image.src = "data:image/png;base64," + each;
    await image.decode();
    document.body.append(image);
  }
})(%s)"""


def main() -> None:
    """Photograph a password that is refused, and a log-in that confirms an address."""
    with (
        tempfile.TemporaryDirectory() as data,
        tempfile.TemporaryDirectory() as profile,
        people_of(Path(data)) as people,
        Chromium(Path(profile)) as browser,
    ):
        tab = Tab(browser, width=WIDTH, height=HEIGHT)
        people.register(EMAIL)
        pictures = [refused_password(tab, people), log_in(tab, people)]
        PICTURE.write_bytes(compressed(side_by_side(tab, pictures)))


def refused_password(tab: Tab, people: People) -> bytes:
    """Ask for a link, open it, and choose a password that is easy to guess."""
    people.service.client.post("/auth/password/forgot", json={"email": EMAIL})
    tab.open(people.link(EMAIL, "reset_password"))
    tab.fill("#choose-address", EMAIL)
    tab.fill("#choose-password", "password")
    tab.press("Enter")
    eventually(lambda: tab.text("#alert"))
    return tab.screenshot()


def log_in(tab: Tab, people: People) -> bytes:
    """Open a link that confirms an address, where people want dark pages."""
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    tab.call("Emulation.setEmulatedMedia", features=[dark])
    tab.open(people.link(EMAIL, "verify_email"))
    tab.fill("#confirm-address", EMAIL)
    tab.fill("#confirm-password", PASSWORD)
    return tab.screenshot()


def side_by_side(tab: Tab, pictures: Sequence[bytes]) -> bytes:
    """Return one picture of several."""
    tab.open("about:blank")
    tab.resize(len(pictures) * (WIDTH + GAP) - GAP, HEIGHT)
    encoded = json.dumps([b64encode(each).decode() for each in pictures])
    tab.evaluate(SIDE_BY_SIDE % (GAP, encoded))
    return tab.screenshot()


def compressed(picture: bytes) -> bytes:
    """Return a PNG in fewer bytes: browsers compress for speed, and in many pieces."""
    chunks = list(chunks_of(picture))
    pixels = zlib.decompress(b"".join(content for kind, content in chunks if kind == b"IDAT"))
    head = next(content for kind, content in chunks if kind == b"IHDR")
    kept = ((b"IHDR", head), (b"IDAT", zlib.compress(pixels, 9)), (b"IEND", b""))
    return picture[:8] + b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in kept
    )


def chunks_of(picture: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the chunks of a PNG, each as its kind and its content."""
    at = 8
    while at < len(picture):
        (length,) = struct.unpack_from(">I", picture, at)
        yield picture[at + 4 : at + 8], picture[at + 8 : at + 8 + length]
        at += length + 12


if __name__ == "__main__":
    main()
