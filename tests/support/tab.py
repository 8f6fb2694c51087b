"""One tab of a browser: opened, read, typed into and clicked as by a person."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.support.chromium import Chromium
from tests.support.waiting import eventually

KEYS = {"Tab": 9, "Enter": 13, "Space": 32}
TEXTS = {"Enter": "\r", "Space": " "}


class Asked(NamedTuple):
    """A request that a page made."""

    method: str
    path: str
    body: str
    url: str
    headers: dict[str, str]


class Tab:
    """A tab with cookies and storage of its own."""

    def __init__(self, browser: Chromium, *, width: int = 1000, height: int = 800) -> None:
        self._browser = browser
        self._context = browser.call("Target.createBrowserContext")["browserContextId"]
        target = browser.call(
            "Target.createTarget", url="about:blank", browserContextId=self._context
        )["targetId"]
        self._session: str = browser.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command to this tab."""
        return self._browser.call(method, self._session, **parameters)

    def events(self, *methods: str) -> list[dict[str, Any]]:
        """Return the parameters of the events of some kinds, in their order."""
        return self._browser.events(self._session, *methods)

    def close(self) -> None:
        """Close it, and forget all that its pages have stored."""
        self._browser.call("Target.disposeBrowserContext", browserContextId=self._context)

    def resize(self, width: int, height: int = 800, *, scale: float = 1) -> None:
        """Give pages this size, in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 500,
        )

    def open(self, address: str) -> None:
        """Go to an address, and wait until the page has been loaded."""
        before = self._loads()
        self.call("Page.navigate", url=address)
        eventually(lambda: self._loads() > before)

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def text(self, selector: str) -> str:
        """Return the text that a person sees in an element; empty where it is not shown."""
        found = self.evaluate(
            f"(() => {{ const found = document.querySelector({json.dumps(selector)});"
            "return found?.checkVisibility() ? found.innerText : '' })()"
        )
        return str(found).strip()

    def fill(self, selector: str, text: str) -> None:
        """Type into a field that is shown, in place of the text in it."""
        self.click(selector)
        self.evaluate(f"document.querySelector({json.dumps(selector)}).select()")
        self.call("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        """Click with the mouse on the middle of an element."""
        box = self.evaluate(
            f"(() => {{ const found = document.querySelector({json.dumps(selector)});"
            "found.scrollIntoView({block: 'nearest'});"
            "const {x, y, width, height} = found.getBoundingClientRect();"
            "return {x: x + width / 2, y: y + height / 2, isShown: width > 0} })()"
        )
        assert box["isShown"], selector
        at = {"x": box["x"], "y": box["y"], "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, **at)

    def press(self, key: str) -> None:
        """Press a key of the keyboard."""
        named = {"key": TEXTS.get(key, key), "code": key, "windowsVirtualKeyCode": KEYS[key]}
        text = {"text": TEXTS[key]} if key in TEXTS else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **named, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    @property
    def address(self) -> str:
        """The address as the address bar shows it."""
        return self.history[-1]

    @property
    def history(self) -> list[str]:
        """The addresses of the pages up to this one, oldest first."""
        found = self.call("Page.getNavigationHistory")
        return [each["url"] for each in found["entries"][: found["currentIndex"] + 1]]

    @property
    def asked(self) -> list[Asked]:
        """The requests that pages in this tab made, in order."""
        sent = [each["request"] for each in self.events("Network.requestWillBeSent")]
        return [
            Asked(
                each["method"],
                urlsplit(each["url"]).path,
                each.get("postData", ""),
                each["url"],
                {name.lower(): value for name, value in each["headers"].items()},
            )
            for each in sent
        ]

    @property
    def complaints(self) -> list[str]:
        """Lines in the console, but for requests that were answered with an error."""
        logged = self.events("Log.entryAdded")
        lines = [each["entry"] for each in logged]
        thrown = self._browser.events(
            self._session, "Runtime.exceptionThrown", "Runtime.consoleAPICalled"
        )
        return [each["text"] for each in lines if each["source"] != "network"] + [
            json.dumps(each) for each in thrown
        ]

    def screenshot(self) -> bytes:
        """Return a picture of the page, as PNG."""
        return b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def save_screenshot(self, file: Path) -> None:
        """Write a picture of the page to a file."""
        file.write_bytes(self.screenshot())

    def _loads(self) -> int:
        return len(self.events("Page.loadEventFired"))
